"""Lp pooling, L2 pooling among them, and its gradient: powers by NumPy, sums by C."""

import numpy as np

from fastconv import _checks, _core
from fastconv.functional._pool_shape import pool_shape


def _power(x, p):
    """|x|^p, for the usual exponents without the slow power function."""
    if p == 2:
        return x * x
    return np.abs(x) if p == 1 else np.abs(x) ** x.dtype.type(p)


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
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.lp_pool2d(np.array([[[[3.0, 0.0], [0.0, -4.0]]]]), 2, 2)
    array([[[[5.]]]])
    """
    op = "lp_pool2d"
    _checks.check_arrays(op, x=x)
    p = _checks.check_norm_type(op, norm_type)
    g = pool_shape(op, x.shape, kernel_size, stride, 0, 1, ceil_mode, fit, layout)
    return pool_lp(g, np.asarray(x), p)


def pool_lp(g, x, p):
    """Norms of the windows of a `_core.Pool`, whose padding adds nothing to them."""
    with np.errstate(all="ignore"):
        sums = _core.sum_pool(g, _power(x, p), "sum")
        return np.sqrt(sums, out=sums) if p == 2 else np.power(sums, 1 / p, out=sums)


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
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[[[3.0, 0.0], [0.0, -4.0]]]])
    >>> y = fastconv.lp_pool2d(x, 2, 2)
    >>> fastconv.lp_pool2d_backward(np.ones_like(y), x, y, 2, 2)[0, 0]
    array([[ 0.6,  0. ],
           [ 0. , -0.8]])
    """
    op = "lp_pool2d_backward"
    _checks.check_arrays(op, dy=dy, x=x, y=y)
    p = _checks.check_norm_type(op, norm_type)
    g = pool_shape(op, x.shape, kernel_size, stride, 0, 1, ceil_mode, fit, layout)
    reason = f"x of shape {g.x_shape} with kernel {g.geometry.kernel}"
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)
    _checks.check_shape(op, "y", y.shape, g.y_shape, reason)
    dy, x, y = np.asarray(dy), np.asarray(x), np.asarray(y)
    # dy / y^(p-1) goes to all cells of a window, whose own factor is sign(x) |x|^(p-1)
    with np.errstate(all="ignore"):
        shares = np.where(y == 0, y.dtype.type(0), dy / _power(y, p - 1))
        dx = _core.sum_pool_backward(g, shares, "sum")
        dx *= x if p == 2 else np.sign(x) * _power(x, p - 1)
    return dx
