"""Activation functions: the same for every number, but for softmax, which compares."""

import numpy as np

from fastconv import _checks
from fastconv.reference._windows import float64, ieee


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


def relu6(x):
    """ReLU that saturates at 6, min(max(x, 0), 6); NaN stays NaN.

    References
    ----------
    M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, sec. 3.

    Examples
    --------
    >>> relu6(np.array([-1.0, 2.0, 9.0]))
    array([0., 2., 6.])
    """
    _checks.check_arrays("relu6", x=x)
    zero, six = x.dtype.type(0), x.dtype.type(6)
    return np.asarray(np.minimum(np.maximum(np.asarray(x), zero), six))


def relu6_backward(dy, x_or_y):
    """Gradient of `relu6`: dy where the input, or equally the output, is between 0 and 6, else 0.

    Examples
    --------
    >>> relu6_backward(np.array([5.0, 5.0, 5.0]), np.array([-1.0, 2.0, 9.0]))
    array([0., 5., 0.])
    """
    op = "relu6_backward"
    _checks.check_arrays(op, dy=dy, x_or_y=x_or_y)
    _checks.check_shape(op, "dy", dy.shape, x_or_y.shape, f"x_or_y of shape {x_or_y.shape}")
    x_or_y = np.asarray(x_or_y)
    return np.where((x_or_y <= 0) | (x_or_y >= 6), dy.dtype.type(0), np.asarray(dy))


@ieee
def leaky_relu(x, negative_slope=0.01):
    """Leaky ReLU: x where x is positive, negative_slope * x elsewhere.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions", "Leaky ReLU".

    Examples
    --------
    >>> leaky_relu(np.array([-1.0, 2.0]), 0.25)
    array([-0.25,  2.  ])
    """
    dtype = _checks.check_arrays("leaky_relu", x=x)
    slope = _checks.check_number("leaky_relu", "negative_slope", negative_slope)
    x = float64(x)
    return np.asarray(np.where(x > 0, x, slope * x), dtype)


@ieee
def leaky_relu_backward(dy, x, negative_slope=0.01):
    """Gradient of `leaky_relu`: dy where x is positive, negative_slope * dy elsewhere.

    Examples
    --------
    >>> leaky_relu_backward(np.array([4.0, 4.0]), np.array([-1.0, 2.0]), 0.25)
    array([1., 4.])
    """
    op = "leaky_relu_backward"
    dtype = _checks.check_arrays(op, dy=dy, x=x)
    _checks.check_same_shape(op, "dy", dy, "x", x)
    slope = _checks.check_number(op, "negative_slope", negative_slope)
    return np.asarray(float64(dy) * np.where(float64(x) > 0, 1, slope), dtype)


@ieee
def prelu(x, w, *, layout="NCHW"):
    """Parametric ReLU: leaky ReLU whose slopes are learned, one for all channels or one for each.

    ``y[n, c] = x[n, c]`` where that is positive, ``w[c] * x[n, c]`` elsewhere.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions"; K. He et al., "Delving
    Deep into Rectifiers", ICCV 2015.

    Examples
    --------
    >>> prelu(np.array([[-1.0, -1.0], [2.0, -4.0]]), np.array([0.25, 0.5]))
    array([[-0.25, -0.5 ],
           [ 2.  , -2.  ]])
    """
    dtype = _checks.check_arrays("prelu", x=x, w=w)
    axis = _checks.check_slopes("prelu", x, w, layout)
    y = np.empty(x.shape, dtype)
    for channel, slope in _channels_and_slopes(x, w, axis):
        values = float64(x[channel])
        y[channel] = np.where(values > 0, values, slope * values)
    return y


@ieee
def prelu_backward(dy, x, w, *, layout="NCHW", needs=("x", "w")):
    """Gradients of `prelu`: for the input as of a leaky ReLU, and for the slopes.

    ::

        dw[c] = sum over n, h, w of  dy * x  where x is not positive

    Returns
    -------
    (dx, dw)
        None for what is not in `needs`.

    Examples
    --------
    >>> prelu_backward(np.array([[4.0, 4.0]]), np.array([[-1.0, 2.0]]), np.array([0.25]))
    (array([[1., 4.]]), array([-4.]))
    """
    op = "prelu_backward"
    dtype = _checks.check_arrays(op, dy=dy, x=x, w=w)
    axis = _checks.check_slopes(op, x, w, layout)
    _checks.check_same_shape(op, "dy", dy, "x", x)
    needs = _checks.check_needs(op, needs)
    dx, dw = np.empty(x.shape, dtype), np.empty(w.shape, dtype)
    for c, (channel, slope) in enumerate(_channels_and_slopes(x, w, axis)):
        positive, back = float64(x[channel]) > 0, float64(dy[channel])
        dx[channel] = np.where(positive, back, slope * back)
        dw[c] = np.where(positive, 0, back * float64(x[channel])).sum()
    return dx if "x" in needs else None, dw if "w" in needs else None


def _channels_and_slopes(x, w, axis):
    """The index of each channel with its slope, or of everything where there is one slope."""
    if w.size == 1:
        yield (...,), float(w[0])
    else:
        for c, slope in enumerate(w):
            yield (*[slice(None)] * axis, c), float(slope)


@ieee
def sigmoid(x):
    """Logistic function 1 / (1 + exp(-x)), of an array of any shape: numbers between 0 and 1.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions", "Sigmoid".

    Examples
    --------
    >>> sigmoid(np.array([0.0, np.inf]))
    array([0.5, 1. ])
    """
    dtype = _checks.check_arrays("sigmoid", x=x)
    return np.asarray(1 / (1 + np.exp(-float64(x))), dtype)


@ieee
def sigmoid_backward(dy, y):
    """Gradient of `sigmoid`, from its output: dy * y * (1 - y).

    Examples
    --------
    >>> sigmoid_backward(np.array([8.0]), np.array([0.5]))
    array([2.])
    """
    dtype = _checks.check_arrays("sigmoid_backward", dy=dy, y=y)
    _checks.check_same_shape("sigmoid_backward", "dy", dy, "y", y)
    dy, y = float64(dy), float64(y)
    return np.asarray(dy * (y * (1 - y)), dtype)


@ieee
def tanh(x):
    """Hyperbolic tangent of an array of any shape: a sigmoid scaled to lie between -1 and 1.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions", "Tanh".

    Examples
    --------
    >>> tanh(np.array([0.0, np.inf]))
    array([0., 1.])
    """
    dtype = _checks.check_arrays("tanh", x=x)
    return np.asarray(np.tanh(float64(x)), dtype)


@ieee
def tanh_backward(dy, y):
    """Gradient of `tanh`, from its output: dy * (1 - y^2).

    Examples
    --------
    >>> tanh_backward(np.array([8.0]), np.array([0.5]))
    array([6.])
    """
    dtype = _checks.check_arrays("tanh_backward", dy=dy, y=y)
    _checks.check_same_shape("tanh_backward", "dy", dy, "y", y)
    return np.asarray(float64(dy) * (1 - float64(y) ** 2), dtype)


@ieee
def softmax(x, *, axis=1):
    """Softmax: exp(x) / sum of exp(x) along an axis, the scores of classes made probabilities.

    The largest score is subtracted first, which changes nothing but that exp cannot overflow.

    References
    ----------
    CS231n, "Linear classification", section "Softmax classifier", "Practical issues: Numeric
    stability".

    Examples
    --------
    >>> softmax(np.log([[1.0, 2.0, 5.0]]))
    array([[0.125, 0.25 , 0.625]])
    """
    dtype = _checks.check_arrays("softmax", x=x)
    axis = _checks.check_axis("softmax", axis, x.ndim, x.shape)
    if x.size == 0:
        return np.empty(x.shape, dtype)
    x = float64(x)
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    return (exponentials / exponentials.sum(axis=axis, keepdims=True)).astype(dtype)


@ieee
def softmax_backward(dy, y, *, axis=1):
    """Gradient of `softmax`, from its output: y * (dy - sum of dy * y along the axis).

    Each probability rises with its own score and falls with all others: the derivative of y[i] for
    x[j] is y[i] * (1 - y[i]) where i = j, and -y[i] * y[j] elsewhere.

    Examples
    --------
    >>> softmax_backward(np.array([[8.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 2., -2.]])
    """
    op = "softmax_backward"
    dtype = _checks.check_arrays(op, dy=dy, y=y)
    _checks.check_same_shape(op, "dy", dy, "y", y)
    axis = _checks.check_axis(op, axis, y.ndim, y.shape)
    dy, y = float64(dy), float64(y)
    return (y * (dy - (dy * y).sum(axis=axis, keepdims=True))).astype(dtype)
