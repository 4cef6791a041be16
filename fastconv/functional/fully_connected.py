"""Fully connected layer: a 1x1 convolution of one-pixel images, or NumPy's product."""

import numpy as np

from fastconv import _checks
from fastconv.functional._product import multiply, multiply_transposed


def linear(x, w, b=None):
    """Fully connected layer, y = x w^T + b.

    Parameters
    ----------
    x : ndarray, (N, IN)
        One row for each example, float32 or float64.
    w : ndarray, (OUT, IN)
        Weights.
    b : ndarray, (OUT,), optional
        Biases.

    Returns
    -------
    ndarray, (N, OUT)

    References
    ----------
    CS231n, "Convolutional Networks", section "Fully-connected layer".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> w, b = np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([0.0, 1.0])
    >>> fastconv.linear(np.array([[1.0, 2.0]]), w, b)
    array([[11., 18.]])
    """
    _checks.check_arrays("linear", x=x, w=w, b=b)
    _check_linear("linear", x, w)
    _checks.check_bias("linear", b, w.shape[0], w.shape)
    return multiply(np.asarray(x), np.asarray(w), b)


def linear_backward(dy, x, w, needs=("x", "w", "b")):
    """All gradients of `linear`: dx = dy w, dw = dy^T x, db = sum of dy over the rows.

    Parameters
    ----------
    dy : ndarray, (N, OUT)
        Gradient of the loss for the output.
    x : ndarray, (N, IN)
        Input of the layer.
    w : ndarray, (OUT, IN)
        Weights of the layer.
    needs : iterable of {"x", "w", "b"}, optional
        The gradients to compute.

    Returns
    -------
    (dx, dw, db)
        None for what is not in `needs`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x, w = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    >>> fastconv.linear_backward(np.array([[10.0]]), x, w)
    (array([[30., 40.]]), array([[10., 20.]]), array([10.]))
    """
    op = "linear_backward"
    _checks.check_arrays(op, dy=dy, x=x, w=w)
    _check_linear(op, x, w)
    reason = f"x of shape {x.shape} with w of shape {w.shape}"
    _checks.check_shape(op, "dy", dy.shape, (x.shape[0], w.shape[0]), reason)
    needs = _checks.check_needs(op, needs)
    dy, x, w = np.asarray(dy), np.asarray(x), np.asarray(w)
    dx = multiply(dy, w.T) if "x" in needs else None
    dw = multiply_transposed(dy, x) if "w" in needs else None
    db = dy.sum(axis=0) if "b" in needs else None
    return dx, dw, db


def _check_linear(op, x, w):
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(
            f"{op}: x must be (N, IN) and w (OUT, IN), got x of shape {x.shape} and w of shape "
            f"{w.shape}"
        )
