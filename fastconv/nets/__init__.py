"""Nets: the layer patterns of the lecture, and its case studies (CS231n, "ConvNet Architectures").

`build` makes a net of a pattern such as ``INPUT -> [CONV -> RELU -> POOL]*2 -> FC``; the other
functions build the nets that the lecture tells of. `NAMES` has all of these by name.
"""

from fastconv.nets._alexnet import alexnet, alexnet_2012
from fastconv.nets._all_cnn import all_cnn_c
from fastconv.nets._build import Net, build
from fastconv.nets._googlenet import googlenet
from fastconv.nets._language import PatternError
from fastconv.nets._lenet import lenet5
from fastconv.nets._mobilenet import mobilenet_v1, mobilenet_v2
from fastconv.nets._names import NAMES
from fastconv.nets._resnet import resnet18, resnet34, resnet50, resnet101
from fastconv.nets._squeezenet import squeezenet1_1
from fastconv.nets._vgg import vgg16, vgg19
from fastconv.nets._zfnet import zfnet

__all__ = [
    "NAMES",
    "Net",
    "PatternError",
    "alexnet",
    "alexnet_2012",
    "all_cnn_c",
    "build",
    "googlenet",
    "lenet5",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "squeezenet1_1",
    "vgg16",
    "vgg19",
    "zfnet",
]
