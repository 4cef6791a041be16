"""The nets by name, for the command line and for whoever wants all of them."""

from collections.abc import Callable
from dataclasses import dataclass

from fastconv.nets._alexnet import alexnet, alexnet_2012
from fastconv.nets._all_cnn import all_cnn_c
from fastconv.nets._googlenet import googlenet
from fastconv.nets._lenet import lenet5
from fastconv.nets._mobilenet import mobilenet_v1, mobilenet_v2
from fastconv.nets._resnet import resnet18, resnet34, resnet50, resnet101
from fastconv.nets._squeezenet import squeezenet1_1
from fastconv.nets._vgg import vgg16, vgg19
from fastconv.nets._zfnet import zfnet


@dataclass(frozen=True, slots=True)
class Entry:
    """A net of the registry.

    Attributes
    ----------
    build : callable
        Builds the net, with the keyword arguments `classes`, `dtype` and `rng`.
    input_shape : (C, H, W)
        The images that it is for.
    """

    build: Callable
    input_shape: tuple[int, int, int]


IMAGENET = (3, 224, 224)

NAMES = {
    "lenet5": Entry(lenet5, (1, 32, 32)),
    "alexnet": Entry(alexnet, IMAGENET),
    "alexnet_2012": Entry(alexnet_2012, (3, 227, 227)),
    "zfnet": Entry(zfnet, IMAGENET),
    "vgg16": Entry(vgg16, IMAGENET),
    "vgg19": Entry(vgg19, IMAGENET),
    "googlenet": Entry(googlenet, IMAGENET),
    "resnet18": Entry(resnet18, IMAGENET),
    "resnet34": Entry(resnet34, IMAGENET),
    "resnet50": Entry(resnet50, IMAGENET),
    "resnet101": Entry(resnet101, IMAGENET),
    "all_cnn_c": Entry(all_cnn_c, (3, 32, 32)),
    "squeezenet1_1": Entry(squeezenet1_1, IMAGENET),
    "mobilenet_v1": Entry(mobilenet_v1, IMAGENET),
    "mobilenet_v2": Entry(mobilenet_v2, IMAGENET),
}
