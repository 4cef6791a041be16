"""Matrix products: the project's own GEMM where it beats NumPy's BLAS.

A fully connected layer is a 1x1 convolution of images of one pixel, whose batch the C code walks
as one row of pixels.
"""

from functools import lru_cache

import numpy as np

from fastconv import _core, _geometry

# Below this many multiply-adds NumPy's smaller cost of a call decides. From about here on OpenBLAS
# uses several threads, which fight with ours for the processors and then spin for a while.
OWN_GEMM = 250_000


@lru_cache(maxsize=4096)
def _shape(N, IN, OUT):
    return _core.Conv(_geometry.conv_geometry((N, IN, 1), (OUT, IN, 1), layout="NCW", op="linear"))


def use_own(N, IN, OUT):
    """Whether the own GEMM multiplies (N, IN) by (IN, OUT)."""
    return N >= 8 and N * IN * OUT >= OWN_GEMM


def multiply(x, w, b=None):
    """x w^T + b for x (N, IN), w (OUT, IN), b (OUT,)."""
    (N, IN), OUT = x.shape, w.shape[0]
    if use_own(N, IN, OUT):
        y = _core.conv_forward(_shape(N, IN, OUT), x[:, :, None], w[:, :, None], b)
        return y.reshape(N, OUT)
    y = np.matmul(x, w.T)
    if b is not None:
        y += np.asarray(b)
    return y


def multiply_transposed(dy, x):
    """dy^T x for dy (N, OUT), x (N, IN)."""
    (N, OUT), IN = dy.shape, x.shape[1]
    if use_own(N, IN, OUT):
        # As the forward product of the transposes, which takes any strides: the pixels' sum of a
        # weight gradient would be cut and packed for images, which these are not.
        dw = _core.conv_forward(_shape(OUT, N, IN), dy.T[:, :, None], x.T[:, :, None], None)
        return dw.reshape(OUT, IN)
    return np.matmul(dy.T, x)
