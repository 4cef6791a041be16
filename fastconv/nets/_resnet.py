"""ResNets (CS231n, "Convolutional Networks", "Case studies")."""

import numpy as np

from fastconv.layers import Flatten, GlobalAvgPool2d, MaxPool2d, ReLU, Residual, Sequential
from fastconv.nets._parts import Parts


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
    return _resnet(_basic, 1, (2, 2, 2, 2), classes, dtype, rng)


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
    return _resnet(_basic, 1, (3, 4, 6, 3), classes, dtype, rng)


def resnet50(*, classes=1000, dtype=np.float32, rng=None):
    """ResNet with 50 layers, in blocks with a bottleneck of 1x1 filters. 25,557,032 parameters.

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
    return _resnet(_bottleneck, 4, (3, 4, 6, 3), classes, dtype, rng)


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
    return _resnet(_bottleneck, 4, (3, 4, 23, 3), classes, dtype, rng)


def _resnet(block, expansion, depths, classes, dtype, rng):
    """Four stages of blocks; `block` makes one, whose output has `expansion` times its width."""
    parts = Parts(dtype, rng)
    net = {
        "conv1": parts.conv(3, 64, 7, stride=2),
        "bn1": parts.norm(64),
        "relu": ReLU(),
        "maxpool": MaxPool2d(3, 2, 1),
    }
    C = 64
    for stage, depth in enumerate(depths):
        blocks = []
        width = 64 << stage
        for i in range(depth):
            stride = 2 if stage > 0 and i == 0 else 1
            blocks.append(block(parts, C, width, stride))
            C = width * expansion
        net[f"layer{stage + 1}"] = Sequential(*blocks)
    net |= {"avgpool": GlobalAvgPool2d(), "flatten": Flatten(), "fc": parts.linear(C, classes)}
    return Sequential(net)


def _basic(parts, C, width, stride):
    body = {
        "conv1": parts.conv(C, width, 3, stride),
        "bn1": parts.norm(width),
        "relu": ReLU(),
        "conv2": parts.conv(width, width, 3),
        "bn2": parts.norm(width),
    }
    return Residual(Sequential(body), _shortcut(parts, C, width, stride), activation="relu")


def _bottleneck(parts, C, width, stride):
    OC = 4 * width
    body = {
        "conv1": parts.conv(C, width, 1),
        "bn1": parts.norm(width),
        "relu1": ReLU(),
        "conv2": parts.conv(width, width, 3, stride),
        "bn2": parts.norm(width),
        "relu2": ReLU(),
        "conv3": parts.conv(width, OC, 1),
        "bn3": parts.norm(OC),
    }
    return Residual(Sequential(body), _shortcut(parts, C, OC, stride), activation="relu")


def _shortcut(parts, C, OC, stride):
    """None where the block's input has the shape of its output."""
    if C == OC and stride == 1:
        return None
    return Sequential(parts.conv(C, OC, 1, stride), parts.norm(OC))
