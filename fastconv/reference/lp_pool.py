"""Lp pooling, L2 pooling among them, and its gradient."""

import numpy as np

from fastconv import _checks
from fastconv.reference._windows import (
    channels_first,
    ieee,
    in_layout,
    pad,
    pool_geometry,
    seen_by,
    sum_windows,
    taps,
    unpadded,
)


@ieee
def lp_pool2d(
    x, norm_type, kernel_size, *, stride=None, ceil_mode=False, fit="floor", layout="NCHW"
):
    """Lp norm of each window of each channel: (sum of |x|^p)^(1/p); L2 pooling for p = 2.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    norm_type : float
        The exponent p, finite and at least 1.
    kernel_size, stride, ceil_mode, fit, layout
        As in `max_pool2d`.

    Returns
    -------
    ndarray, (N, C, OH, OW)

    References
    ----------
    CS231n, "Convolutional Networks", section "Pooling Layer", "General pooling".

    Examples
    --------
    >>> lp_pool2d(np.array([[[[3.0, 0.0], [0.0, -4.0]]]]), 2, 2)
    array([[[[5.]]]])
    """
    op = "lp_pool2d"
    dtype = _checks.check_arrays(op, x=x)
    p = _checks.check_norm_type(op, norm_type)
    g = pool_geometry(op, x.shape, kernel_size, stride, 0, 1, ceil_mode, fit, layout)
    sums = sum_windows(pad(np.abs(channels_first(x, layout)) ** p, g), g)
    return in_layout(sums ** (1 / p), dtype, layout)


@ieee
def lp_pool2d_backward(
    dy, x, y, norm_type, kernel_size, *, stride=None, ceil_mode=False, fit="floor", layout="NCHW"
):
    """Gradient of `lp_pool2d`.

    ::

        dx = sum over all windows of  dy * sign(x) * (|x| / y)^(p - 1)

    and a window of zeros, where the norm has no derivative, adds zero.

    Parameters
    ----------
    dy : ndarray, (N, C, OH, OW)
        Gradient of the loss for the output, in the order of `layout`.
    x, y : ndarray
        Input and output of the pooling.
    norm_type, kernel_size, stride, ceil_mode, fit, layout
        As in `lp_pool2d`.

    Returns
    -------
    ndarray of the shape of x

    Examples
    --------
    >>> x = np.array([[[[3.0, 0.0], [0.0, -4.0]]]])
    >>> lp_pool2d_backward(np.ones((1, 1, 1, 1)), x, lp_pool2d(x, 2, 2), 2, 2)[0, 0]
    array([[ 0.6,  0. ],
           [ 0. , -0.8]])
    """
    op = "lp_pool2d_backward"
    dtype = _checks.check_arrays(op, dy=dy, x=x, y=y)
    p = _checks.check_norm_type(op, norm_type)
    g = pool_geometry(op, x.shape, kernel_size, stride, 0, 1, ceil_mode, fit, layout)
    reason = f"x of shape {g.x_shape} with kernel {g.kernel}"
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)
    _checks.check_shape(op, "y", y.shape, g.y_shape, reason)
    dy, y = channels_first(dy, layout), channels_first(y, layout)
    padded = pad(channels_first(x, layout), g)
    dpadded = np.zeros_like(padded)
    for tap in taps(g):
        cell = padded[seen_by(tap, g)]
        slope = np.sign(cell) * (np.abs(cell) / y) ** (p - 1)
        dpadded[seen_by(tap, g)] += dy * np.where(y == 0, 0, slope)
    return in_layout(dpadded[unpadded(g)], dtype, layout)
