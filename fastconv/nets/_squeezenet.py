"""SqueezeNet (CS231n, "Convolutional Networks", "Case studies")."""

import numpy as np

from fastconv.layers import Concat, Dropout, Flatten, GlobalAvgPool2d, MaxPool2d, ReLU, Sequential
from fastconv.nets._parts import Parts

# Filters of the fire modules, squeezed and expanded; None is a pooling layer.
FIRES = (*[(16, 64)] * 2, None, *[(32, 128)] * 2, None, *[(48, 192)] * 2, *[(64, 256)] * 2)


def squeezenet1_1(*, classes=1000, dtype=np.float32, rng=None):
    """SqueezeNet 1.1: AlexNet's accuracy with a fiftieth of its parameters, 1,235,496.

    Fire modules squeeze the channels by 1x1 filters before 1x1 and 3x3 filters expand them, side
    by side. Parameters are named as in torchvision, whose weights load.

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
    F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016;
    version 1.1 is that of the authors' repository, with 2.4 times less computation.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.squeezenet1_1(rng=0)
    >>> net(np.zeros((1, 3, 224, 224), np.float32)).shape
    (1, 1000)
    >>> sum(p.size for p in net.params.values())
    1235496
    """
    parts = Parts(dtype, rng)
    features = [parts.conv(3, 64, 3, 2, bias=True, padding=0), ReLU(), _pool()]
    C = 64
    for fire in FIRES:
        if fire is None:
            features.append(_pool())
            continue
        squeezed, expanded = fire
        features.append(_fire(parts, C, squeezed, expanded))
        C = 2 * expanded
    scores = parts.conv(C, classes, 1, bias=True)
    classifier = Sequential(Dropout(0.5, rng=parts.rng), scores, ReLU(), GlobalAvgPool2d())
    return Sequential(
        {"features": Sequential(*features), "classifier": classifier, "flatten": Flatten()}
    )


def _pool():
    return MaxPool2d(3, 2, ceil_mode=True)


def _fire(parts, C, squeezed, expanded):
    return Sequential(
        {
            "squeeze": parts.conv(C, squeezed, 1, bias=True),
            "relu": ReLU(),
            "": Concat(
                {
                    "expand1x1": _rectified(parts.conv(squeezed, expanded, 1, bias=True)),
                    "expand3x3": _rectified(parts.conv(squeezed, expanded, 3, bias=True)),
                }
            ),
        }
    )


def _rectified(conv):
    """A convolution and a ReLU that leave the names of the convolution's parameters alone."""
    return Sequential({"": conv, "relu": ReLU()})
