"""GoogLeNet (CS231n, "Convolutional Networks", "Case studies")."""

import numpy as np

from fastconv.layers import (
    AvgPool2d,
    Concat,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    ReLU,
    Sequential,
)
from fastconv.layers.container import Container
from fastconv.nets._parts import Parts

# Filters of the branches: 1x1; 1x1 then 3x3; 1x1 then 3x3 ("5x5" in the paper); pooling then 1x1.
# A number is the window of a pooling layer.
INCEPTIONS = {
    "inception3a": (64, (96, 128), (16, 32), 32),
    "inception3b": (128, (128, 192), (32, 96), 64),
    "maxpool3": 3,
    "inception4a": (192, (96, 208), (16, 48), 64),
    "inception4b": (160, (112, 224), (24, 64), 64),
    "inception4c": (128, (128, 256), (24, 64), 64),
    "inception4d": (112, (144, 288), (32, 64), 64),
    "inception4e": (256, (160, 320), (32, 128), 128),
    "maxpool4": 2,
    "inception5a": (256, (160, 320), (32, 128), 128),
    "inception5b": (384, (192, 384), (48, 128), 128),
}
EPS = 1e-3  # of the batch normalization


def googlenet(*, aux_heads=False, classes=1000, dtype=np.float32, rng=None):
    """GoogLeNet, Inception v1: filters of several sizes side by side. 6,624,904 parameters.

    As in torchvision, whose weights load: each convolution has batch normalization, which the
    paper had not, and what are 5x5 filters in the paper are 3x3 here.

    Parameters
    ----------
    aux_heads : bool
        Whether to have the two auxiliary classifiers in the middle of the net, too, which carry
        gradients to its early layers. Then ``scores, aux2, aux1 = net.forward(images)`` in
        training mode, and ``net.backward`` takes the three gradients as a tuple; the paper adds
        the losses of both heads to that of the scores with a weight of 0.3. Evaluation leaves the
        heads out: ``net(images)`` returns the scores. 13,004,888 parameters.
    classes, dtype, rng
        As for `lenet5`.

    Returns
    -------
    Sequential, or GoogLeNet with `aux_heads`
        For images of shape (3, 224, 224); without heads larger ones are welcome, too.

    Notes
    -----
    The heads pool 5x5 windows with stride 3, as in the paper; torchvision's pool adaptively, 14x14
    to 4x4, which gives windows of 4x4 pixels.

    References
    ----------
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.googlenet(classes=10, rng=0).eval()
    >>> net(np.zeros((1, 3, 64, 64), np.float32)).shape
    (1, 10)
    >>> net[:-4].output_shape((1, 3, 224, 224))
    (1, 1024, 7, 7)
    """
    parts = Parts(dtype, rng)
    trunk = _trunk(parts, classes)
    if not aux_heads:
        return Sequential(trunk)
    return GoogLeNet(trunk, _head(parts, 512, classes), _head(parts, 528, classes))


class GoogLeNet(Container):
    """GoogLeNet with its auxiliary heads; see `googlenet`.

    Parameters
    ----------
    trunk : dict of str to Layer
        The net without heads.
    aux1, aux2 : Layer
        The heads: for the outputs of the layers "inception4a" and "inception4d" of the trunk.

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.googlenet(aux_heads=True, classes=10, rng=0)
    >>> images = np.zeros((2, 3, 224, 224), np.float32)
    >>> [scores.shape for scores in net.forward(images)]
    [(2, 10), (2, 10), (2, 10)]
    >>> gradient = np.ones((2, 10), np.float32)
    >>> net.backward((gradient, 0.3 * gradient, 0.3 * gradient)).shape
    (2, 3, 224, 224)
    """

    def __init__(self, trunk, aux1, aux2):
        super().__init__(trunk | {"aux1": aux1, "aux2": aux2})
        self.trunk = Sequential(trunk)
        self.aux1, self.aux2 = aux1, aux2
        first, second = (list(trunk).index(f"inception4{x}") + 1 for x in "ad")
        self.stages = self.trunk[:first], self.trunk[first:second], self.trunk[second:]

    def _forward(self, x):
        if not self.training:
            return self.trunk.forward(x), "trunk"
        early, middle, late = self.stages
        a = early.forward(x)
        d = middle.forward(a)
        return (late.forward(d), self.aux2.forward(d), self.aux1.forward(a)), "heads"

    def _infer(self, x):
        return self.trunk(x)

    def _backward(self, dy, kept, need_dx):
        if kept == "trunk":
            return self.trunk.backward(dy, need_dx=need_dx)
        if not isinstance(dy, tuple) or len(dy) != 3:
            raise TypeError(
                "GoogLeNet.backward: expected the gradients of (scores, aux2, aux1) as a tuple, as "
                f"forward returns them in training mode, got {type(dy).__name__}"
            )
        early, middle, late = self.stages
        dscores, daux2, daux1 = dy
        dd = late.backward(dscores) + self.aux2.backward(daux2)
        da = middle.backward(dd) + self.aux1.backward(daux1)
        return early.backward(da, need_dx=need_dx)

    def prepare(self, x_shape=None):
        """Make the net ready for inference, which leaves the heads out; see `Layer.prepare`."""
        return self.trunk.prepare(x_shape)

    def output_shape(self, in_shape):
        """Shape of the scores for images of shape `in_shape`."""
        return self.trunk.output_shape(in_shape)


def _trunk(parts, classes):
    trunk = {
        "conv1": _conv(parts, 3, 64, 7, 2),
        "maxpool1": _pool(3),
        "conv2": _conv(parts, 64, 64, 1),
        "conv3": _conv(parts, 64, 192, 3),
        "maxpool2": _pool(3),
    }
    C = 192
    for name, filters in INCEPTIONS.items():
        if isinstance(filters, int):
            trunk[name] = _pool(filters)
        else:
            trunk[name], C = _inception(parts, C, *filters)
    return trunk | {
        "avgpool": GlobalAvgPool2d(),
        "flatten": Flatten(),
        "dropout": Dropout(0.2, rng=parts.rng),
        "fc": parts.linear(C, classes),
    }


def _conv(parts, C, OC, kernel, stride=1):
    return Sequential(
        {"conv": parts.conv(C, OC, kernel, stride), "bn": parts.norm(OC, EPS), "relu": ReLU()}
    )


def _pool(window):
    return MaxPool2d(window, 2, ceil_mode=True)


def _inception(parts, C, one, three, five, pooled):
    """An inception block and its number of output channels."""
    block = Concat(
        {
            "branch1": _conv(parts, C, one, 1),
            "branch2": Sequential(_conv(parts, C, three[0], 1), _conv(parts, *three, 3)),
            "branch3": Sequential(_conv(parts, C, five[0], 1), _conv(parts, *five, 3)),
            "branch4": Sequential(MaxPool2d(3, 1, 1), _conv(parts, C, pooled, 1)),
        }
    )
    return block, one + three[1] + five[1] + pooled


def _head(parts, C, classes):
    return Sequential(
        {
            "pool": AvgPool2d(5, 3),
            "conv": _conv(parts, C, 128, 1),
            "flatten": Flatten(),
            "fc1": parts.linear(128 * 4 * 4, 1024),
            "relu": ReLU(),
            "dropout": Dropout(0.7, rng=parts.rng),
            "fc2": parts.linear(1024, classes),
        }
    )
