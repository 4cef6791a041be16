"""Local response normalization: the sums over channels as a loop over the window."""

import numpy as np

from fastconv import _checks
from fastconv.reference._windows import channels_first, ieee, in_layout


@ieee
def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0, *, layout="NCHW"):
    """Local response normalization: each number divided by a norm of its neighbours' channels.

    ::

        y[c] = x[c] / s[c]^beta,  s[c] = k + alpha/size * sum over c' of x[c']^2

    for the `size` channels c' from c - size // 2 on, at the same pixel, as far as they exist.
    (AlexNet's paper has alpha for alpha/size here, which is PyTorch's meaning: its size=5,
    alpha=1e-4, beta=0.75, k=2 is ``size=5, alpha=5e-4, k=2`` here.)

    References
    ----------
    CS231n, "Convolutional Networks", section "Normalization Layer"; A. Krizhevsky et al., "ImageNet
    Classification with Deep Convolutional Neural Networks", NIPS 2012, section 3.3.

    Examples
    --------
    >>> x = np.array([3.0, 4.0, 0.0]).reshape(1, 3, 1, 1)
    >>> local_response_norm(x, 3, alpha=3.0, beta=0.5, k=0.0).ravel()
    array([0.6, 0.8, 0. ])
    """
    op = "local_response_norm"
    dtype = _checks.check_arrays(op, x=x)
    size, alpha, beta, k = _checks.check_response_norm(op, x, size, alpha, beta, k, layout)
    x = channels_first(x, layout)
    return in_layout(x / _norms(x, size, alpha, k) ** beta, dtype, layout)


@ieee
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
    >>> dy, x = np.full((1, 1, 1, 1), 8.0), np.ones((1, 1, 1, 1))
    >>> local_response_norm_backward(dy, x, 1, alpha=1.0, beta=1.0, k=3.0)
    array([[[[1.]]]])
    """
    op = "local_response_norm_backward"
    dtype = _checks.check_arrays(op, dy=dy, x=x)
    size, alpha, beta, k = _checks.check_response_norm(op, x, size, alpha, beta, k, layout)
    _checks.check_same_shape(op, "dy", dy, "x", x)
    dy, x = channels_first(dy, layout), channels_first(x, layout)
    s = _norms(x, size, alpha, k)
    dx = dy / s**beta
    for c in range(x.shape[1]):
        near = _window(c, size)
        slope = -2 * alpha * beta / size * dy[:, c] * x[:, c] / s[:, c] ** (beta + 1)
        dx[:, near] += slope[:, np.newaxis] * x[:, near]
    return in_layout(dx, dtype, layout)


def _window(c, size):
    """The channels that channel c is divided by; a slice may reach beyond the last."""
    return slice(max(0, c - size // 2), c + (size - 1) // 2 + 1)


def _norms(x, size, alpha, k):
    """s[c] = k + alpha/size * sum of the squares of the channels near c."""
    s = np.empty(x.shape)
    for c in range(x.shape[1]):
        s[:, c] = k + alpha / size * (x[:, _window(c, size)] ** 2).sum(axis=1)
    return s
