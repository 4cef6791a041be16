"""Activation functions: the same for every number, but for softmax, which compares."""

import numpy as np

from fastconv import _checks, _core

# Inf - Inf is a NaN by IEEE arithmetic, exp may overflow: no cause to warn.
_ieee = np.errstate(all="ignore")

# Numbers that are treated at a time, so that temporaries stay in the first caches.
BLOCK = 16384


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
    flat = [np.ascontiguousarray(array).reshape(-1) for array in (dy, x_or_y)]
    return _core.relu_grad(*flat).reshape(dy.shape)


def relu_backward_in_place(dy, y):
    """The same, for a dy that nobody else holds: it is changed and returned."""
    if not (dy.flags.c_contiguous and y.flags.c_contiguous):
        return relu_backward(dy, y)
    _core.relu_grad(dy.reshape(-1), y.reshape(-1), out=dy.reshape(-1))
    return dy


def relu6(x):
    """ReLU that saturates at 6, min(max(x, 0), 6); NaN stays NaN.

    References
    ----------
    M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, sec. 3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.relu6(np.array([-1.0, 2.0, 9.0]))
    array([0., 2., 6.])
    """
    _checks.check_arrays("relu6", x=x)
    flat = np.ascontiguousarray(x).reshape(-1)
    return _core.relu(flat, _checks.ACTIVATIONS["relu6"]).reshape(x.shape)


def relu6_backward(dy, x_or_y):
    """Gradient of `relu6`: dy where the input, or equally the output, is between 0 and 6, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.relu6_backward(np.array([5.0, 5.0, 5.0]), np.array([-1.0, 2.0, 9.0]))
    array([0., 5., 0.])
    """
    op = "relu6_backward"
    _checks.check_arrays(op, dy=dy, x_or_y=x_or_y)
    _checks.check_shape(op, "dy", dy.shape, x_or_y.shape, f"x_or_y of shape {x_or_y.shape}")
    dx = relu_backward(dy, x_or_y)
    dx[np.asarray(x_or_y) >= 6] = 0
    return dx


def leaky_relu(x, negative_slope=0.01):
    """Leaky ReLU: x where x is positive, negative_slope * x elsewhere.

    A unit of this kind cannot "die": where a ReLU hands back no gradient, it hands back a little.

    Parameters
    ----------
    x : ndarray of any shape
        Float32 or float64; it is only read.
    negative_slope : float, optional
        The small slope of the negative side.

    Returns
    -------
    ndarray of the shape of x, in C order

    Raises
    ------
    TypeError
        If x is not float32 or float64, or the slope is no number.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions", "Leaky ReLU".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.leaky_relu(np.array([-1.0, 2.0]), 0.25)
    array([-0.25,  2.  ])
    """
    _checks.check_arrays("leaky_relu", x=x)
    slope = _checks.check_number("leaky_relu", "negative_slope", negative_slope)
    x = np.asarray(x)
    return _bend(x, x, x.dtype.type(slope))


def leaky_relu_backward(dy, x, negative_slope=0.01):
    """Gradient of `leaky_relu`: dy where x is positive, negative_slope * dy elsewhere.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.leaky_relu_backward(np.array([4.0, 4.0]), np.array([-1.0, 2.0]), 0.25)
    array([1., 4.])
    """
    op = "leaky_relu_backward"
    _checks.check_arrays(op, dy=dy, x=x)
    _checks.check_same_shape(op, "dy", dy, "x", x)
    slope = _checks.check_number(op, "negative_slope", negative_slope)
    return _bend(np.asarray(dy), np.asarray(x), dy.dtype.type(slope))


def prelu(x, w, *, layout="NCHW"):
    """Parametric ReLU: leaky ReLU whose slopes are learned, one for all channels or one for each.

    ``y[n, c] = x[n, c]`` where that is positive, ``w[c] * x[n, c]`` elsewhere.

    Parameters
    ----------
    x : ndarray, (N, C), (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Float32 or float64.
    w : ndarray, (C,) or (1,)
        Slopes of the negative side.
    layout : {"NCHW", "NHWC"}, optional
        Where the channels are: the second axis, or the last one.

    Returns
    -------
    ndarray of the shape of x

    Raises
    ------
    TypeError
        If dtypes differ or are not float32 or float64.
    ValueError
        If w has neither one slope nor one for each channel.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions"; K. He et al., "Delving
    Deep into Rectifiers", ICCV 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.prelu(np.array([[-1.0, -1.0], [2.0, -4.0]]), np.array([0.25, 0.5]))
    array([[-0.25, -0.5 ],
           [ 2.  , -2.  ]])
    """
    _checks.check_arrays("prelu", x=x, w=w)
    axis = _checks.check_slopes("prelu", x, w, layout)
    x = np.asarray(x)
    return _bend(x, x, _along(w, axis, x.ndim))


def prelu_backward(dy, x, w, *, layout="NCHW", needs=("x", "w")):
    """Gradients of `prelu`: for the input as of a leaky ReLU, and for the slopes.

    ::

        dw[c] = sum over n, h, w of  dy * x  where x is not positive

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for the output.
    x, w : ndarray
        Input and slopes.
    layout : {"NCHW", "NHWC"}, optional
        Where the channels are.
    needs : iterable of {"x", "w"}, optional
        The gradients to compute.

    Returns
    -------
    (dx, dw)
        None for what is not in `needs`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> dy, x, w = np.array([[4.0, 4.0]]), np.array([[-1.0, 2.0]]), np.array([0.25])
    >>> fastconv.prelu_backward(dy, x, w)
    (array([[1., 4.]]), array([-4.]))
    """
    op = "prelu_backward"
    _checks.check_arrays(op, dy=dy, x=x, w=w)
    axis = _checks.check_slopes(op, x, w, layout)
    _checks.check_same_shape(op, "dy", dy, "x", x)
    needs = _checks.check_needs(op, needs)
    dy, x, w = np.asarray(dy), np.asarray(x), np.asarray(w)
    dx = _bend(dy, x, _along(w, axis, x.ndim)) if "x" in needs else None
    return dx, _slope_grad(dy, x, w, axis) if "w" in needs else None


@_ieee
def _slope_grad(dy, x, w, axis):
    slopes = np.where(x > 0, x.dtype.type(0), dy * x)
    others = tuple(i for i in range(x.ndim) if i != axis or w.size == 1)
    return slopes.sum(axis=others).reshape(w.shape)


def sigmoid(x):
    """Logistic function 1 / (1 + exp(-x)), of an array of any shape: numbers between 0 and 1.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions", "Sigmoid".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.sigmoid(np.array([0.0, np.inf]))
    array([0.5, 1. ])
    """
    _checks.check_arrays("sigmoid", x=x)
    y = _negative_exp(x)
    y += 1
    return np.reciprocal(y, out=y)


@_ieee
def sigmoid_backward(dy, y):
    """Gradient of `sigmoid`, from its output: dy * y * (1 - y).

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.sigmoid_backward(np.array([8.0]), np.array([0.5]))
    array([2.])
    """
    _checks.check_arrays("sigmoid_backward", dy=dy, y=y)
    _checks.check_same_shape("sigmoid_backward", "dy", dy, "y", y)
    dy, y = np.asarray(dy), np.asarray(y)
    dx = _result(np.subtract, 1, y)
    dx *= y
    dx *= dy
    return dx


def tanh(x):
    """Hyperbolic tangent of an array of any shape: a sigmoid scaled to lie between -1 and 1.

    References
    ----------
    CS231n, "Neural Networks", section "Commonly used activation functions", "Tanh".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.tanh(np.array([0.0, np.inf]))
    array([0., 1.])
    """
    _checks.check_arrays("tanh", x=x)
    return _result(np.tanh, np.asarray(x))


@_ieee
def tanh_backward(dy, y):
    """Gradient of `tanh`, from its output: dy * (1 - y^2).

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.tanh_backward(np.array([8.0]), np.array([0.5]))
    array([6.])
    """
    _checks.check_arrays("tanh_backward", dy=dy, y=y)
    _checks.check_same_shape("tanh_backward", "dy", dy, "y", y)
    dy, y = np.asarray(dy), np.asarray(y)
    dx = _result(np.multiply, y, y)
    np.subtract(1, dx, out=dx)
    dx *= dy
    return dx


@_ieee
def softmax(x, *, axis=1):
    """Softmax: exp(x) / sum of exp(x) along an axis, the scores of classes made probabilities.

    The largest score is subtracted first, which changes nothing but that exp cannot overflow.

    Parameters
    ----------
    x : ndarray
        Scores, float32 or float64: (N, classes), or (N, classes, H, W) for dense scores.
    axis : int, optional
        The axis of the classes.

    Returns
    -------
    ndarray of the shape of x, in C order

    Raises
    ------
    ValueError
        If x has no such axis.

    See Also
    --------
    softmax_loss : The loss of a softmax classifier and its gradient in one.

    References
    ----------
    CS231n, "Linear classification", section "Softmax classifier", "Practical issues: Numeric
    stability".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.softmax(np.log([[1.0, 2.0, 5.0]]))
    array([[0.125, 0.25 , 0.625]])
    """
    _checks.check_arrays("softmax", x=x)
    axis = _checks.check_axis("softmax", axis, x.ndim, x.shape)
    x = np.asarray(x)
    if x.size == 0:
        return np.empty_like(x, order="C")
    y = _result(np.subtract, x, x.max(axis=axis, keepdims=True))
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)
    return y


@_ieee
def softmax_backward(dy, y, *, axis=1):
    """Gradient of `softmax`, from its output: y * (dy - sum of dy * y along the axis).

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.softmax_backward(np.array([[8.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 2., -2.]])
    """
    op = "softmax_backward"
    _checks.check_arrays(op, dy=dy, y=y)
    _checks.check_same_shape(op, "dy", dy, "y", y)
    axis = _checks.check_axis(op, axis, y.ndim, y.shape)
    dy, y = np.asarray(dy), np.asarray(y)
    dx = _result(np.multiply, dy, y)
    mean = dx.sum(axis=axis, keepdims=True)
    np.subtract(dy, mean, out=dx)
    dx *= y
    return dx


# ---- helpers ------------------------------------------------------------------------------------


def _result(ufunc, *operands):
    """The ufunc's result as a new array in C order, of any shape, () included."""
    shape = np.broadcast_shapes(*map(np.shape, operands))
    out = np.empty(shape, operands[-1].dtype)
    return ufunc(*operands, out=out)


@_ieee
def _bend(values, x, slope):
    """values where x is positive, slope * values elsewhere (where x is NaN, too)."""
    y = np.empty(values.shape, values.dtype)
    if np.ndim(slope) == 0 and values.flags.c_contiguous and x.flags.c_contiguous:
        flat = values.reshape(-1), x.reshape(-1), y.reshape(-1)
        for start in range(0, y.size, BLOCK):
            v, xs, to = (array[start : start + BLOCK] for array in flat)
            _bend_into(to, v, xs, slope)
    else:
        _bend_into(y, values, x, slope)
    return y


def _bend_into(y, values, x, slope):
    # Chosen by bits: np.where and masked copies branch at each number, and which way is random.
    np.multiply(slope, values, out=y)
    bits = y.view(f"i{y.itemsize}")
    positive = np.greater(x, 0, out=np.empty(y.shape, bool)).view(np.int8)
    positive = np.negative(positive, dtype=bits.dtype, casting="unsafe", out=np.empty_like(bits))
    positive &= np.bitwise_xor(bits, values.view(bits.dtype))
    bits ^= positive


@_ieee
def _negative_exp(x):
    y = _result(np.negative, np.asarray(x))
    return np.exp(y, out=y)


def _along(w, axis, ndim):
    """Slopes as an array that is broadcast along `axis`; a single one goes to all."""
    w = np.asarray(w)
    return w.reshape(-1, *[1] * (ndim - 1 - axis)) if w.size > 1 else w.reshape(())
