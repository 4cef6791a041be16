"""Dropout: regularization by switching units off (CS231n, "Neural Networks Part 2")."""

import numpy as np

from fastconv import _checks
from fastconv import functional as F
from fastconv.layers.base import Layer


class Dropout(Layer):
    """Inverted dropout: while training, each number is dropped with probability p.

    The others grow by 1 / (1 - p). In evaluation mode, and in ``layer(x)``, nothing happens: the
    output is the input itself.

    Parameters
    ----------
    p : float
        Probability of dropping a number, from 0 to 1. (The lecture's p is that of keeping it.)
    rng : None, int or numpy.random.Generator
        Source of the choice.

    References
    ----------
    CS231n, "Neural Networks Part 2", section "Regularization", "Dropout".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Dropout
    >>> layer = Dropout(0.5, rng=0)
    >>> layer.forward(np.ones((1, 5), np.float32))
    array([[2., 2., 2., 0., 0.]], dtype=float32)
    >>> layer(np.ones((1, 5), np.float32))
    array([[1., 1., 1., 1., 1.]], dtype=float32)
    """

    def __init__(self, p=0.5, *, rng=None):
        super().__init__()
        self.p = _checks.check_probability("Dropout", "p", p)
        self.rng = np.random.default_rng(rng)

    def _forward(self, x):
        # what backward needs is never None, which would say that forward was not called
        return F.dropout(x, self.p, rng=self.rng) if self.training else (x, x.shape)

    def _infer(self, x):
        return x

    def _backward(self, dy, kept, need_dx):
        if not need_dx:
            return None
        if isinstance(kept, tuple):  # forward ran in evaluation mode
            _checks.check_shape("Dropout.backward", "dy", dy.shape, kept, f"x of shape {kept}")
            return dy
        return F.dropout_backward(dy, kept, self.p)

    def output_shape(self, in_shape):
        return tuple(in_shape)

    def _repr_arguments(self):
        return f"p={self.p}"
