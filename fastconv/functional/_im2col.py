"""algo="im2col": the lecture's method, columns by C and the product by NumPy's BLAS.

It is kept as the baseline that the other algorithms must beat. Its price is memory: the columns are
KH * KW times as large as the image.
"""

import numpy as np

from fastconv import _checks, _core

# Inf - Inf is a NaN by IEEE arithmetic: no cause to warn.
_ieee = np.errstate(all="ignore")


def _columns(g, x):
    """Columns (N, G, C/G * taps, pixels)."""
    groups = g.geometry.groups
    _, rows, pixels = g.cols_shape
    return _core.im2col(g, x).reshape(g.N, groups, rows // groups, pixels)


def _filters(g, w):
    """Filters (G, OC/G, C/G * taps)."""
    groups = g.geometry.groups
    return np.asarray(w).reshape(groups, g.OC // groups, -1)


def _outputs(g, dy):
    """dy as (N, G, OC/G, pixels)."""
    groups = g.geometry.groups
    dy = np.moveaxis(dy, -1, 1) if g.channels_last else np.asarray(dy)
    return dy.reshape(g.N, groups, g.OC // groups, g.cols_shape[2])


@_ieee
def forward(g, x, w, b, relu, out):
    y = np.matmul(_filters(g, w), _columns(g, x)).reshape(g.N, g.OC, *g.geometry.out_size)
    if b is not None:
        y += np.asarray(b).reshape(-1, *[1] * g.geometry.ndim)
    if relu:
        np.maximum(y, 0, out=y)
    if relu == _checks.ACTIVATIONS["relu6"]:
        np.minimum(y, 6, out=y)
    if g.channels_last:
        y = np.moveaxis(y, 1, -1)
    if out is None:
        return np.ascontiguousarray(y)
    out[...] = y
    return out


@_ieee
def input_grad(g, dy, w):
    cols = np.matmul(_filters(g, w).swapaxes(1, 2), _outputs(g, dy))
    return _core.col2im(g, cols.reshape(g.cols_shape))


@_ieee
def weight_grad(g, dy, x):
    groups = g.geometry.groups
    dw = np.zeros((groups, g.OC // groups, g.cols_shape[1] // groups), x.dtype)
    for dy_n, cols_n in zip(_outputs(g, dy), _columns(g, x), strict=True):
        dw += np.matmul(dy_n, cols_n.swapaxes(1, 2))
    return dw.reshape(g.w_shape)
