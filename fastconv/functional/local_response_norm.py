"""Local response normalization: the sums over channels by C, the rest by NumPy."""

import numpy as np

from fastconv import _checks, _core
from fastconv.functional._pool_shape import pool_shape

# Inf / Inf is a NaN by IEEE arithmetic: no cause to warn.
_ieee = np.errstate(all="ignore")


@_ieee
def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0, *, layout="NCHW"):
    """Local response normalization: each number divided by a norm of its neighbours' channels.

    ::

        y[c] = x[c] / s[c]^beta,  s[c] = k + alpha/size * sum over c' of x[c']^2

    for the `size` channels c' from c - size // 2 on, at the same pixel, as far as they exist.
    (AlexNet's paper has alpha for alpha/size here, which is PyTorch's meaning: its size=5,
    alpha=1e-4, beta=0.75, k=2 is ``size=5, alpha=5e-4, k=2`` here.)

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    size : int
        Channels that a window covers.
    alpha, beta, k : float, optional
        Weight of the sum, exponent, and what keeps the norm from 0.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes of x and y.

    Returns
    -------
    ndarray of the shape of x

    Raises
    ------
    TypeError
        If x is not float32 or float64, or a parameter no number.
    ValueError
        If x is no batch of images, or size is below 1.

    References
    ----------
    CS231n, "Convolutional Networks", section "Normalization Layer"; A. Krizhevsky et al., "ImageNet
    Classification with Deep Convolutional Neural Networks", NIPS 2012, section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([3.0, 4.0, 0.0]).reshape(1, 3, 1, 1)
    >>> fastconv.local_response_norm(x, 3, alpha=3.0, beta=0.5, k=0.0).ravel()
    array([0.6, 0.8, 0. ])
    """
    op = "local_response_norm"
    _checks.check_arrays(op, x=x)
    size, alpha, beta, k = _checks.check_response_norm(op, x, size, alpha, beta, k, layout)
    planes = _planes(x, layout)
    y = _norms(planes, size, alpha, k, layout)
    _divide(planes, y, beta, out=y)
    return y.reshape(x.shape)


@_ieee
def local_response_norm_backward(dy, x, size, alpha=1e-4, beta=0.75, k=1.0, *, layout="NCHW"):
    """Gradient of `local_response_norm`.

    ::

        dx[c] = dy[c] / s[c]^beta - 2 alpha beta / size * x[c] * sum over c" of
            dy[c"] * x[c"] / s[c"]^(beta + 1)

    for the channels c" whose window holds c.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for the output.
    x : ndarray
        Input of the normalization.
    size, alpha, beta, k, layout
        As in `local_response_norm`.

    Returns
    -------
    ndarray of the shape of x

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> dy, x = np.full((1, 1, 1, 1), 8.0), np.ones((1, 1, 1, 1))
    >>> fastconv.local_response_norm_backward(dy, x, 1, alpha=1.0, beta=1.0, k=3.0)
    array([[[[1.]]]])
    """
    op = "local_response_norm_backward"
    _checks.check_arrays(op, dy=dy, x=x)
    size, alpha, beta, k = _checks.check_response_norm(op, x, size, alpha, beta, k, layout)
    _checks.check_same_shape(op, "dy", dy, "x", x)
    planes, slopes = _planes(x, layout), _planes(dy, layout)
    s = _norms(planes, size, alpha, k, layout)
    dx = np.empty_like(s)
    _divide(slopes, s, beta, out=dx)
    np.divide(dx, s, out=s)
    s *= planes
    # a channel is in the windows of those that come as far before it as its own window reaches on
    shared = _sums(s, size, layout, mirrored=True)
    shared *= x.dtype.type(-2 * alpha * beta / size)
    shared *= planes
    dx += shared
    return dx.reshape(x.shape)


def _planes(x, layout):
    """x with all pixels of an image in one axis: (N, 1, C, H*W) or (N, 1, H*W, C)."""
    N, *sizes = x.shape
    if layout == "NHWC":
        return np.asarray(x).reshape(N, 1, sizes[0] * sizes[1], sizes[2])
    return np.asarray(x).reshape(N, 1, sizes[0], sizes[1] * sizes[2])


def _norms(planes, size, alpha, k, layout):
    """s[c] = k + alpha/size * sum of the squares of the channels near c."""
    s = _sums(planes * planes, size, layout)
    s *= s.dtype.type(alpha / size)
    s += s.dtype.type(k)
    return s


def _sums(planes, size, layout, mirrored=False):
    """Sums along the channels: those of a pooling with windows of one pixel."""
    most = planes.shape[3 if layout == "NHWC" else 2] - 1
    before, after = min(size // 2, most), min((size - 1) // 2, most)
    padding = (after, before) if mirrored else (before, after), (0, 0)
    kernel = before + 1 + after, 1
    if layout == "NHWC":
        padding, kernel = padding[::-1], kernel[::-1]
    g = pool_shape(
        "local_response_norm", planes.shape, kernel, 1, padding, 1, False, "floor", "NCHW"
    )
    return _core.sum_pool(g, planes, "sum")


def _divide(x, s, beta, out):
    """x / s^beta; the usual exponent, 3/4, by square roots, which every processor has."""
    if beta == 0.75:
        root = np.sqrt(s)
        fourth = np.sqrt(root)
        root *= fourth
        np.divide(x, root, out=out)
    else:
        np.divide(x, np.power(s, s.dtype.type(beta)), out=out)
