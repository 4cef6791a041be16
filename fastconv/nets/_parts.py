"""Parts that the nets with batch normalization have in common."""

import numpy as np

from fastconv.layers import BatchNorm2d, Conv2d, Linear


class Parts:
    """Makes layers of one dtype whose weights come from one source.

    Parameters
    ----------
    dtype : {numpy.float32, numpy.float64}
        Type of the parameters.
    rng : None, int or numpy.random.Generator
        Source of the initial weights.
    """

    def __init__(self, dtype, rng):
        self.dtype = dtype
        self.rng = np.random.default_rng(rng)
        self.given = {"dtype": dtype, "rng": self.rng}

    def conv(self, C, OC, kernel, stride=1, *, padding=None, groups=1, bias=False):
        """A convolution, usually without a bias, as the batch normalization behind it has one.

        By default with the padding that keeps the size at stride 1.
        """
        padding = (kernel - 1) // 2 if padding is None else padding
        return Conv2d(C, OC, kernel, stride, padding, groups=groups, bias=bias, **self.given)

    def norm(self, C, eps=1e-5):
        """Batch normalization."""
        return BatchNorm2d(C, eps, dtype=self.dtype)

    def linear(self, IN, OUT):
        """A fully-connected layer."""
        return Linear(IN, OUT, **self.given)
