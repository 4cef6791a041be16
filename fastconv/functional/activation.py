"""Activation functions."""

import numpy as np

from fastconv import _checks, _core


def relu(x):
    """Rectified linear unit, max(x, 0), of an array of any shape; NaN stays NaN.

    The result is a new array in C order.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    _checks.check_arrays("relu", x=x)
    return _core.relu(np.ascontiguousarray(x).reshape(-1)).reshape(x.shape)


def relu_backward(dy, x_or_y):
    """Gradient of `relu`: dy, but 0 where the input, or equally the output, is 0 or less.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.relu_backward(np.array([5.0, 5.0]), np.array([-1.0, 2.0]))
    array([0., 5.])
    """
    _checks.check_arrays("relu_backward", dy=dy, x_or_y=x_or_y)
    reason = f"x_or_y of shape {x_or_y.shape}"
    _checks.check_shape("relu_backward", "dy", dy.shape, x_or_y.shape, reason)
    dy, x_or_y = np.ascontiguousarray(dy), np.ascontiguousarray(x_or_y)
    return _core.relu_grad(dy.reshape(-1), x_or_y.reshape(-1)).reshape(dy.shape)


def relu_backward_in_place(dy, y):
    """The same, for a dy that nobody else holds: it is changed and returned."""
    if not (dy.flags.c_contiguous and y.flags.c_contiguous):
        return relu_backward(dy, y)
    _core.relu_grad(dy.reshape(-1), y.reshape(-1), out=dy.reshape(-1))
    return dy
