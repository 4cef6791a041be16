"""`conv2d` and `max_pool2d` as primitives of autograd; imports autograd."""

import autograd.numpy as anp
import numpy as np
from autograd.extend import Box, def_linear, defjvp, defvjp, primitive

import fastconv

_input_grad = primitive(
    lambda dy, w, x_shape, **case: fastconv.conv2d_input_grad(_as(dy, w), w, x_shape, **case)
)
_weight_grad = primitive(
    lambda dy, x, w_shape, **case: fastconv.conv2d_weight_grad(_as(dy, x), x, w_shape, **case)
)


def conv2d(x, w, b=None, *, stride=1, padding=0, dilation=1, groups=1, layout="NCHW", fit="floor"):
    """`fastconv.conv2d` that autograd can differentiate, as often as one likes.

    Parameters
    ----------
    x, w, b, stride, padding, dilation, groups, layout, fit
        As in `fastconv.conv2d`.

    Returns
    -------
    ndarray, (N, OC, OH, OW) or (N, OH, OW, OC)

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad  # doctest: +SKIP
    >>> from fastconv.backends.autograd import conv2d  # doctest: +SKIP
    >>> loss = lambda w: (conv2d(np.ones((1, 1, 4, 4)), w) ** 2).sum()  # doctest: +SKIP
    >>> grad(loss)(np.ones((1, 1, 3, 3))).shape  # doctest: +SKIP
    (1, 1, 3, 3)
    """
    case = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "layout": layout,
        "fit": fit,
    }
    return _conv2d(x, w, b, **case)


def max_pool2d(
    x, kernel_size, *, stride=None, padding=0, dilation=1, ceil_mode=False, layout="NCHW"
):
    """`fastconv.max_pool2d` that autograd can differentiate; the first maximum takes the gradient.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, layout
        As in `fastconv.max_pool2d`.

    Returns
    -------
    ndarray, (N, C, OH, OW) or (N, OH, OW, C)

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad  # doctest: +SKIP
    >>> from fastconv.backends.autograd import max_pool2d  # doctest: +SKIP
    >>> grad(lambda x: max_pool2d(x, 2).sum())(np.ones((1, 1, 2, 2)))[0, 0]  # doctest: +SKIP
    array([[1., 0.],
           [0., 0.]])
    """
    value = x
    while isinstance(value, Box):  # one for each derivative that is being taken
        value = value._value
    y = fastconv.max_pool2d(
        value,
        kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
        return_indices=value is not x,
    )
    return y if value is x else _picked(x, indices=y[1], layout=layout, y=y[0])


@primitive
def _conv2d(x, w, b, **case):
    return fastconv.conv2d(x, w, b, **case)


def _bias_grad(g, layout):
    return anp.sum(g, axis=(0, 2, 3) if layout == "NCHW" else (0, 1, 2))


def _bias_jvp(g, ans, x, w, b, **case):
    shape = (-1, 1, 1) if case["layout"] == "NCHW" else (-1,)
    return anp.reshape(g, shape) + np.zeros(ans.shape, ans.dtype)


defvjp(
    _conv2d,
    lambda ans, x, w, b, **case: lambda g: _input_grad(g, w, x_shape=x.shape, **case),
    lambda ans, x, w, b, **case: lambda g: _weight_grad(g, x, w_shape=w.shape, **case),
    lambda ans, x, w, b, **case: lambda g: _bias_grad(g, case["layout"]),
)
defjvp(
    _conv2d,
    lambda g, ans, x, w, b, **case: _conv2d(g, w, None, **case),
    lambda g, ans, x, w, b, **case: _conv2d(x, g, None, **case),
    _bias_jvp,
)


def _conv(x, w, *, x_shape=None, w_shape=None, **case):
    return _conv2d(x, w, None, **case)


defvjp(
    _input_grad,
    lambda ans, dy, w, **case: lambda g: _conv(g, w, **case),
    lambda ans, dy, w, x_shape, **case: lambda g: _weight_grad(dy, g, w_shape=w.shape, **case),
)
defvjp(
    _weight_grad,
    lambda ans, dy, x, **case: lambda g: _conv(x, g, **case),
    lambda ans, dy, x, w_shape, **case: lambda g: _input_grad(dy, g, x_shape=x.shape, **case),
)
def_linear(_input_grad)  # in each of the two
def_linear(_weight_grad)


@primitive
def _picked(x, *, indices, layout, y=None):
    """The cells of x that pooling has chosen: y if that is known already."""
    if y is not None:
        return y
    N, C = x.shape[0], x.shape[1 if layout == "NCHW" else 3]
    shape = (N, C, -1) if layout == "NCHW" else (N, -1, C)
    cells = np.take_along_axis(x.reshape(shape), indices.reshape(shape), axis=shape.index(-1))
    return cells.reshape(indices.shape)


@primitive
def _unpicked(dy, *, indices, layout, x_shape, dtype):
    return fastconv.max_pool2d_backward(_as(dy, dtype), indices, x_shape, layout=layout)


defvjp(
    _picked,
    lambda ans, x, indices, layout, y=None: (
        lambda g: _unpicked(g, indices=indices, layout=layout, x_shape=x.shape, dtype=x.dtype)
    ),
)
defjvp(
    _picked,
    lambda g, ans, x, indices, layout, y=None: _picked(g, indices=indices, layout=layout),
)
defvjp(
    _unpicked,
    lambda ans, dy, indices, layout, x_shape, dtype: (
        lambda g: _picked(g, indices=indices, layout=layout)
    ),
)
def_linear(_unpicked)


def _as(dy, like):
    """Gradients of a float32 net may arrive in float64."""
    return np.asarray(dy, getattr(like, "dtype", like))
