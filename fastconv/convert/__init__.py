"""Fully-connected layers as convolutions and back (CS231n, "Converting FC layers to CONV layers").

A neuron of either kind is a dot product; only what it sees differs. A fully-connected layer is a
convolution whose filters are as large as the image, and a convolution is a fully-connected layer
with a large matrix, mostly zeros, in which the same numbers come back again and again. A net whose
fully-connected layers are convolutions takes images of any size, and gives scores for every window
of a larger one in a single pass.
"""

from fastconv.convert.dense import dense_scores
from fastconv.convert.fully_convolutional import to_fully_convolutional
from fastconv.convert.linear import conv_to_linear, linear_to_conv

__all__ = ["conv_to_linear", "dense_scores", "linear_to_conv", "to_fully_convolutional"]
