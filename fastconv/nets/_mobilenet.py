"""MobileNets (CS231n, "Convolutional Networks", "Case studies": efficient networks)."""

import numpy as np

from fastconv.layers import (
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    ReLU,
    ReLU6,
    Residual,
    Sequential,
)
from fastconv.nets._parts import Parts

# output channels and stride of each depthwise separable convolution
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5)
SEPARABLE += ((1024, 2), (1024, 1))

# expansion, output channels, number and first stride of the inverted residuals
INVERTED = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v1(*, classes=1000, dtype=np.float32, rng=None):
    """MobileNet v1: depthwise 3x3 filters, then 1x1 filters across channels. 4,231,976 parameters.

    Parameters
    ----------
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Sequential
        For images of shape (3, 224, 224); others are welcome, too.

    References
    ----------
    A. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications", 2017, table 1.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.mobilenet_v1(rng=0).eval()
    >>> net(np.zeros((1, 3, 64, 64), np.float32)).shape
    (1, 1000)
    >>> sum(p.size for p in net.params.values())
    4231976
    """
    parts = Parts(dtype, rng)
    blocks = [_convolved(parts, 3, 32, 3, 2, activation=ReLU)]
    C = 32
    for OC, stride in SEPARABLE:
        blocks.append(_convolved(parts, C, C, 3, stride, groups=C, activation=ReLU))
        blocks.append(_convolved(parts, C, OC, 1, activation=ReLU))
        C = OC
    return Sequential(
        {
            "features": Sequential(*blocks),
            "avgpool": GlobalAvgPool2d(),
            "flatten": Flatten(),
            "fc": parts.linear(C, classes),
        }
    )


def mobilenet_v2(*, classes=1000, dtype=np.float32, rng=None):
    """MobileNet v2: residual blocks that are narrow outside and wide inside. 3,504,872 parameters.

    Parameters and buffers are named as in torchvision, whose weights load.

    Parameters
    ----------
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Sequential
        For images of shape (3, 224, 224); others are welcome, too.

    References
    ----------
    M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
    table 2.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.mobilenet_v2(rng=0).eval()
    >>> net(np.zeros((1, 3, 64, 64), np.float32)).shape
    (1, 1000)
    >>> sum(p.size for p in net.params.values())
    3504872
    """
    parts = Parts(dtype, rng)
    blocks = [_convolved(parts, 3, 32, 3, 2)]
    C = 32
    for expansion, OC, number, first_stride in INVERTED:
        for i in range(number):
            blocks.append(_inverted(parts, C, expansion, OC, 1 if i else first_stride))
            C = OC
    blocks.append(_convolved(parts, C, 1280, 1))
    return Sequential(
        {
            "features": Sequential(*blocks),
            "avgpool": GlobalAvgPool2d(),
            "flatten": Flatten(),
            "classifier": Sequential(Dropout(0.2, rng=parts.rng), parts.linear(1280, classes)),
        }
    )


def _convolved(parts, C, OC, kernel, stride=1, groups=1, activation=ReLU6):
    conv = parts.conv(C, OC, kernel, stride, groups=groups)
    return Sequential(conv, parts.norm(OC), activation())


def _inverted(parts, C, expansion, OC, stride):
    wide = C * expansion
    body = [] if expansion == 1 else [_convolved(parts, C, wide, 1)]
    body.append(_convolved(parts, wide, wide, 3, stride, groups=wide))
    body += [parts.conv(wide, OC, 1), parts.norm(OC)]
    conv = Sequential(*body)
    if C == OC and stride == 1:
        return Residual(conv, names=("conv", "shortcut"))
    return Sequential({"conv": conv})
