"""VGG nets (CS231n, "Convolutional Networks", "Case studies": VGGNet)."""

import numpy as np

from fastconv.layers import Flatten, Sequential
from fastconv.nets._build import row
from fastconv.nets._classes import count_of


def vgg16(*, classes=1000, dtype=np.float32, rng=None):
    """VGG-16, configuration D: nothing but 3x3 convolutions and 2x2 pooling.

    138,357,544 parameters, most of them in the first fully-connected layer. Parameters are named
    as in torchvision, whose weights load.

    Parameters
    ----------
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Sequential
        For images of shape (3, 224, 224).

    References
    ----------
    K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", ICLR 2015, table 1.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.vgg16(rng=0)
    >>> net["features"].output_shape((1, 3, 224, 224))
    (1, 512, 7, 7)
    >>> [name for name in net.params if name.startswith("classifier") and "weight" in name]
    ['classifier.0.weight', 'classifier.3.weight', 'classifier.6.weight']
    """
    return _vgg("[[CONV -> RELU]*2 -> POOL]*2 -> [[CONV -> RELU]*3 -> POOL]*3", classes, dtype, rng)


def vgg19(*, classes=1000, dtype=np.float32, rng=None):
    """VGG-19, configuration E: `vgg16` with a fourth convolution in the last three stages.

    143,667,240 parameters, named as in torchvision.

    Parameters
    ----------
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Sequential
        For images of shape (3, 224, 224).

    References
    ----------
    As for `vgg16`.

    Examples
    --------
    >>> from fastconv import nets
    >>> nets.NAMES["vgg19"].build is nets.vgg19, nets.NAMES["vgg19"].input_shape
    (True, (3, 224, 224))
    """
    return _vgg("[[CONV -> RELU]*2 -> POOL]*2 -> [[CONV -> RELU]*4 -> POOL]*3", classes, dtype, rng)


def _vgg(features, classes, dtype, rng):
    given = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    classes = count_of(classes)
    return Sequential(
        {
            "features": row(
                f"INPUT(3x224x224) -> {features}", filters=(64, 128, 256, 512, 512), **given
            ),
            "flatten": Flatten(),
            "classifier": row(
                f"INPUT({512 * 7 * 7}) -> [FC(4096) -> RELU -> DROPOUT]*2 -> FC({classes})",
                **given,
            ),
        }
    )
