"""All-CNN-C (CS231n, "Convolutional Networks", "Getting rid of pooling")."""

import numpy as np

from fastconv.nets._build import build
from fastconv.nets._classes import count_of


def all_cnn_c(*, classes=10, dtype=np.float32, rng=None):
    """All-CNN-C: no pooling, convolutions of stride 2 instead. 1,369,738 parameters.

    Parameters
    ----------
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Net
        For images of shape (3, 32, 32), such as CIFAR-10's.

    References
    ----------
    J. T. Springenberg et al., "Striving for Simplicity: The All Convolutional Net", ICLR 2015
    workshop, tables 1 and 2.

    Examples
    --------
    >>> from fastconv import nets
    >>> nets.all_cnn_c(rng=0)(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 10)
    """
    classes = count_of(classes)
    return build(
        "INPUT(3x32x32) -> DROPOUT(0.2) -> "
        "[CONV(96) -> RELU]*2 -> CONV(96, s2) -> RELU -> DROPOUT(0.5) -> "
        "[CONV(192) -> RELU]*2 -> CONV(192, s2) -> RELU -> DROPOUT(0.5) -> "
        f"CONV(192, p0) -> RELU -> CONV(192, 1x1) -> RELU -> CONV({classes}, 1x1) -> RELU -> "
        "GAP -> FLATTEN",
        dtype=dtype,
        rng=rng,
    )
