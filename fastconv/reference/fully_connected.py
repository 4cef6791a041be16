"""Fully connected layer."""

from fastconv import _checks
from fastconv.reference._windows import float64, ieee


@ieee
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
    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([0.0, 1.0]))
    array([[11., 18.]])
    """
    dtype = _checks.check_arrays("linear", x=x, w=w, b=b)
    _check_linear("linear", x, w)
    _checks.check_bias("linear", b, w.shape[0], w.shape)
    y = float64(x) @ float64(w).T
    return (y if b is None else y + b).astype(dtype)


@ieee
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
    >>> x, w = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    >>> linear_backward(np.array([[10.0]]), x, w)
    (array([[30., 40.]]), array([[10., 20.]]), array([10.]))
    """
    op = "linear_backward"
    dtype = _checks.check_arrays(op, dy=dy, x=x, w=w)
    _check_linear(op, x, w)
    reason = f"x of shape {x.shape} with w of shape {w.shape}"
    _checks.check_shape(op, "dy", dy.shape, (x.shape[0], w.shape[0]), reason)
    needs = _checks.check_needs(op, needs)
    dy, x, w = float64(dy), float64(x), float64(w)
    dx = (dy @ w).astype(dtype) if "x" in needs else None
    dw = (dy.T @ x).astype(dtype) if "w" in needs else None
    db = dy.sum(axis=0).astype(dtype) if "b" in needs else None
    return dx, dw, db


def _check_linear(op, x, w):
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(
            f"{op}: x must be (N, IN) and w (OUT, IN), got x of shape {x.shape} and w of shape "
            f"{w.shape}"
        )
