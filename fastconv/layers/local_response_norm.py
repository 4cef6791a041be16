"""Normalization without parameters (CS231n, "Convolutional Networks", "Normalization Layer")."""

from fastconv import _checks, _geometry
from fastconv import functional as F
from fastconv.layers.base import Layer, any_images


class LocalResponseNorm(Layer):
    """Each number divided by a norm of the channels around it, at the same pixel.

    AlexNet has it behind its first two ReLUs; later nets have found that it helps little.

    Parameters
    ----------
    size : int
        Channels that a window covers.
    alpha, beta, k : float
        As in `fastconv.local_response_norm`.
    layout : {"NCHW", "NHWC"}
        Order of the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import LocalResponseNorm
    >>> LocalResponseNorm(5, alpha=5e-4, k=2.0)(np.ones((1, 96, 55, 55), np.float32)).shape
    (1, 96, 55, 55)
    """

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0, *, layout="NCHW"):
        super().__init__()
        self.size = _geometry._integer("LocalResponseNorm", "size", size, 1)
        names = (("alpha", alpha), ("beta", beta), ("k", k))
        numbers = [_checks.check_number("LocalResponseNorm", *pair) for pair in names]
        self.alpha, self.beta, self.k = numbers
        self.layout = layout
        self.output_shape(any_images(1, layout))

    def _forward(self, x):
        return F.local_response_norm(x, *self._how(), layout=self.layout), x

    def _backward(self, dy, x, need_dx):
        if not need_dx:
            return None
        return F.local_response_norm_backward(dy, x, *self._how(), layout=self.layout)

    def _how(self):
        return self.size, self.alpha, self.beta, self.k

    def output_shape(self, in_shape):
        in_shape = _geometry.freeze(in_shape)
        _geometry.image_sizes(in_shape, layout=self.layout, op="LocalResponseNorm")
        return in_shape

    def _repr_arguments(self):
        layout = "" if self.layout == "NCHW" else f", layout={self.layout!r}"
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}{layout}"
