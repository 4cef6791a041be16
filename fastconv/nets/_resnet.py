"""ResNets (CS231n, "Convolutional Networks", "Case studies")."""

import numpy as np


def resnet18(*, classes=1000, dtype=np.float32, rng=None):
    """ResNet with 18 layers, in blocks of two 3x3 convolutions. 11,689,512 parameters.

    Parameters and buffers of all ResNets here are named as in torchvision, whose weights load.

    Parameters
    ----------
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Sequential
        For images of shape (3, 224, 224); larger ones are welcome, too.

    References
    ----------
    K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.resnet18(classes=10, rng=0).eval()
    >>> net(np.zeros((1, 3, 64, 64), np.float32)).shape
    (1, 10)
    >>> net["layer2"][0].shortcut
    Sequential(
      (0): Conv2d(64, 128, kernel_size=(1, 1), stride=(2, 2), bias=False)
      (1): BatchNorm2d(128, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
    )
    """
    return _ResNet(_basic, 1, classes, dtype, rng).build((2, 2, 2, 2))


def resnet34(*, classes=1000, dtype=np.float32, rng=None):
    """ResNet with 34 layers, in blocks as those of `resnet18`. 21,797,672 parameters.

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
    As for `resnet18`.

    Examples
    --------
    >>> from fastconv import nets
    >>> len(nets.resnet34(rng=0)["layer3"])
    6
    """
    return _ResNet(_basic, 1, classes, dtype, rng).build((3, 4, 6, 3))


def resnet50(*, classes=1000, dtype=np.float32, rng=None):
    """ResNet with 50 layers, in blocks with a bottleneck of 1x1 convolutions. 25,557,032 parameters.

    As in torchvision, the 3x3 convolution of a block has its stride; in the paper the first 1x1
    convolution had it, which drops three of four pixels unseen.

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
    As for `resnet18`.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.resnet50(rng=0).eval()
    >>> net[:-3].output_shape((1, 3, 224, 224))
    (1, 2048, 7, 7)
    """
    return _ResNet(_bottleneck, 4, classes, dtype, rng).build((3, 4, 6, 3))


def resnet101(*, classes=1000, dtype=np.float32, rng=None):
    """ResNet with 101 layers, in blocks as those of `resnet50`. 44,549,160 parameters.

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
    As for `resnet18`.

    Examples
    --------
    >>> from fastconv import nets
    >>> len(nets.resnet101(classes=10, rng=0)["layer3"])
    23
    """
    return _ResNet(_bottleneck, 4, classes, dtype, rng).build((3, 4, 23, 3))
