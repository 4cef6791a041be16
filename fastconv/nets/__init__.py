"""Nets: the layer patterns of the lecture, and its case studies (CS231n, "ConvNet Architectures").

`build` makes a net of a pattern such as ``INPUT -> [CONV -> RELU -> POOL]*2 -> FC``; the other
functions build the nets that the lecture tells of. `NAMES` has all of these by name.
"""

from fastconv.nets._alexnet import alexnet
from fastconv.nets._all_cnn import all_cnn_c
from fastconv.nets._build import Net, build
from fastconv.nets._language import PatternError
from fastconv.nets._lenet import lenet5
from fastconv.nets._names import NAMES
from fastconv.nets._vgg import vgg16, vgg19

__all__ = [
    "NAMES",
    "Net",
    "PatternError",
    "alexnet",
    "all_cnn_c",
    "build",
    "lenet5",
    "vgg16",
    "vgg19",
]
