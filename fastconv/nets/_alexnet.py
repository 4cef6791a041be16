"""AlexNet (CS231n, "Convolutional Networks", "Case studies")."""

import numpy as np

from fastconv.layers import Flatten, Sequential
from fastconv.nets._build import row
from fastconv.nets._classes import count_of


def alexnet(*, classes=1000, dtype=np.float32, rng=None):
    """AlexNet as torchvision has it: one tower, no normalization. 61,100,840 parameters.

    Parameters are named as in torchvision, whose weights load. `alexnet_2012` is the net of the
    original paper.

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
    A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.alexnet(rng=0)
    >>> net(np.zeros((1, 3, 224, 224), np.float32)).shape
    (1, 1000)
    >>> sum(p.size for p in net.params.values())
    61100840
    """
    given = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    return Sequential(
        {
            "features": row(
                "INPUT(3x224x224) -> CONV(64, 11x11, s4, p2) -> RELU -> POOL(3x3) -> "
                "CONV(192, 5x5) -> RELU -> POOL(3x3) -> "
                "CONV(384) -> RELU -> [CONV(256) -> RELU]*2 -> POOL(3x3)",
                **given,
            ),
            "flatten": Flatten(),
            "classifier": _classifier(classes, given),
        }
    )


def alexnet_2012(*, classes=1000, dtype=np.float32, rng=None):
    """AlexNet as it won in 2012: groups and local response normalization. 60,965,224 parameters.

    The second, fourth and fifth convolution see half of the channels each, since the net was cut
    in two for two GPUs. Images are 227x227, with which the first convolution fits: the paper says
    224x224, which cannot be.

    Parameters
    ----------
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Sequential
        For images of shape (3, 227, 227), with layers named as those of `alexnet`.

    Notes
    -----
    The paper's alpha of 1e-4 is for the sum over five channels; `LocalResponseNorm` takes their
    mean, hence 5e-4 here.

    References
    ----------
    A. Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NIPS
    2012, section 3.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.alexnet_2012(rng=0)
    >>> net["features"][:1].output_shape((1, 3, 227, 227))
    (1, 96, 55, 55)
    >>> sum(p.size for p in net.params.values())
    60965224
    """
    given = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    return Sequential(
        {
            "features": row(
                "INPUT(3x227x227) -> CONV(96, 11x11, s4, p0) -> RELU -> LRN -> POOL(3x3) -> "
                "CONV(256, 5x5, g2) -> RELU -> LRN -> POOL(3x3) -> "
                "CONV(384) -> RELU -> CONV(384, g2) -> RELU -> CONV(256, g2) -> RELU -> POOL(3x3)",
                **given,
            ),
            "flatten": Flatten(),
            "classifier": _classifier(classes, given),
        }
    )


def _classifier(classes, given):
    classes = count_of(classes)
    return row(
        f"INPUT({256 * 6 * 6}) -> [DROPOUT -> FC(4096) -> RELU]*2 -> FC({classes})",
        **given,
    )
