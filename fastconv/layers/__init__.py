"""Layers: the functions of `fastconv.functional` with their parameters and their memory.

A layer has ``forward(x)``, which keeps what ``backward(dy)`` needs, ``params`` and ``grads``;
``layer(x)`` evaluates and keeps nothing. Names, arguments, initial shapes and state dictionaries
are those of ``torch.nn``.
"""

from fastconv.layers.activation import LeakyReLU, PReLU, ReLU, ReLU6, Sigmoid, Softmax, Tanh
from fastconv.layers.base import Layer
from fastconv.layers.container import Concat, Residual, Sequential
from fastconv.layers.conv import Conv2d, ConvTranspose2d
from fastconv.layers.dropout import Dropout
from fastconv.layers.linear import Flatten, Linear
from fastconv.layers.local_response_norm import LocalResponseNorm
from fastconv.layers.locally_connected import LocallyConnected2d
from fastconv.layers.normalization import BatchNorm2d
from fastconv.layers.pooling import AvgPool2d, GlobalAvgPool2d, LPPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "LPPool2d",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LocallyConnected2d",
    "MaxPool2d",
    "PReLU",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
