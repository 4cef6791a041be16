"""Activation layers: the same function for every number (CS231n, "RELU layer")."""

from fastconv import functional as F
from fastconv.layers.base import Layer


class ReLU(Layer):
    """max(0, x), number by number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import ReLU
    >>> ReLU()(np.array([-1, 0, 2], np.float32))
    array([0., 0., 2.], dtype=float32)
    """

    def _forward(self, x):
        # The output is positive where the input is, so the input need not stay alive.
        y = F.relu(x)
        return y, y

    def _backward(self, dy, y, need_dx):
        return F.relu_backward(dy, y) if need_dx else None

    def output_shape(self, in_shape):
        return tuple(in_shape)
