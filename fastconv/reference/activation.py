"""Activation functions."""

import numpy as np

from fastconv import _checks


def relu(x):
    """Rectified linear unit, max(x, 0), of an array of any shape; NaN stays NaN.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions".

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    _checks.check_arrays("relu", x=x)
    return np.asarray(np.maximum(np.asarray(x), x.dtype.type(0)))


def relu_backward(dy, x_or_y):
    """Gradient of `relu`: dy, but 0 where the input, or equally the output, is 0 or less.

    Examples
    --------
    >>> relu_backward(np.array([5.0, 5.0]), np.array([-1.0, 2.0]))
    array([0., 5.])
    """
    _checks.check_arrays("relu_backward", dy=dy, x_or_y=x_or_y)
    reason = f"x_or_y of shape {x_or_y.shape}"
    _checks.check_shape("relu_backward", "dy", dy.shape, x_or_y.shape, reason)
    return np.where(np.asarray(x_or_y) <= 0, dy.dtype.type(0), np.asarray(dy))
