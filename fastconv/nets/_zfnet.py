"""ZFNet (CS231n, "Convolutional Networks", "Case studies": ZF Net)."""

import numpy as np

from fastconv.layers import Flatten, Sequential
from fastconv.nets._build import row
from fastconv.nets._classes import count_of


def zfnet(*, middle=(512, 1024, 512), classes=1000, dtype=np.float32, rng=None):
    """ZFNet: AlexNet with smaller filters and steps first, and more filters in the middle.

    The lecture tells of both changes, so they are the default, with 107,627,624 parameters; with
    ``middle=(384, 384, 256)`` it is the net of the paper's figure 3, with 62,357,608.

    Parameters
    ----------
    middle : (int, int, int)
        Filters of the third, fourth and fifth convolution.
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Sequential
        For images of shape (3, 224, 224).

    Notes
    -----
    Local response normalization stands for the paper's contrast normalization across channels.

    References
    ----------
    M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
    figure 3 and table 3.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.zfnet(middle=(384, 384, 256), rng=0)
    >>> net["features"].output_shape((1, 3, 224, 224))
    (1, 256, 6, 6)
    >>> sum(p.size for p in net.params.values())
    62357608
    """
    given = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    third, fourth, fifth = middle
    classes = count_of(classes)
    return Sequential(
        {
            "features": row(
                "INPUT(3x224x224) -> CONV(96, 7x7, s2, p1) -> RELU -> POOL(3x3, p1) -> LRN -> "
                "CONV(256, 5x5, s2, p0) -> RELU -> POOL(3x3, p1) -> LRN -> "
                f"CONV({third}) -> RELU -> CONV({fourth}) -> RELU -> CONV({fifth}) -> RELU -> "
                "POOL(3x3)",
                **given,
            ),
            "flatten": Flatten(),
            "classifier": row(
                f"INPUT({fifth * 6 * 6}) -> [FC(4096) -> RELU -> DROPOUT]*2 -> FC({classes})",
                **given,
            ),
        }
    )
