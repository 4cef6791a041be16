"""Locally connected layer: a convolution whose filters are not shared by all places."""

import numpy as np

from fastconv import _checks, _core
from fastconv.functional.conv import conv_shape

# Inf - Inf is a NaN by IEEE arithmetic: no cause to warn.
_ieee = np.errstate(all="ignore")


@_ieee
def local_conv2d(x, w, b=None, *, stride=1, padding=0, dilation=1, layout="NCHW"):
    """Convolution with filters of their own at each place: the locally connected layer.

    ::

        y[n, o, oh, ow] = b[oh, ow, o] + sum over c, kh, kw of
            w[oh, ow, o, c, kh, kw] * x[n, c, oh * SH - PH + kh * DH, ow * SW - PW + kw * DW]

    What the lecture calls parameter sharing is left out; faces, centred in the image, are its
    example of where that makes sense. AlexNet's first layer would have 105,705,600 parameters.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    w : ndarray, (OH, OW, OC, C, KH, KW)
        The filters of each place, in that order for both layouts.
    b : ndarray, (OH, OW, OC), optional
        Biases, not shared either.
    stride, padding, dilation : optional
        As in `conv2d`.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes of x and y.

    Returns
    -------
    ndarray, (N, OC, OH, OW) or (N, OH, OW, OC)

    Raises
    ------
    TypeError
        If dtypes differ or are not float32 or float64.
    ValueError
        If w does not have filters for just the places that there are; the message says how many.

    Notes
    -----
    As many multiply-adds as the convolution, but every weight is read for N of them only: for few
    images it runs at the speed of memory. The columns of `im2col` are held meanwhile.

    References
    ----------
    CS231n, "Convolutional Networks", section "Convolutional Layer", "Parameter Sharing".

    Examples
    --------
    Two places, each with a 1x1 filter of its own:

    >>> import numpy as np
    >>> import fastconv
    >>> x, w = np.ones((1, 1, 1, 2)), np.array([3.0, 5.0]).reshape(1, 2, 1, 1, 1, 1)
    >>> fastconv.local_conv2d(x, w)
    array([[[[3., 5.]]]])
    """
    op = "local_conv2d"
    _checks.check_arrays(op, x=x, w=w, b=b)
    g = _shape(op, x, w, stride, padding, dilation, layout)
    _checks.check_local_bias(op, b, w)
    y = np.matmul(_filters(w), _columns(g, x).swapaxes(1, 2))  # (places, OC, N)
    if b is not None:
        y += np.asarray(b).reshape(*y.shape[:2], 1)
    OH, OW, OC = w.shape[:3]
    y = y.reshape(OH, OW, OC, g.N)
    return np.ascontiguousarray(y.transpose((3, 0, 1, 2) if g.channels_last else (3, 2, 0, 1)))


@_ieee
def local_conv2d_backward(
    dy, x, w, *, stride=1, padding=0, dilation=1, layout="NCHW", needs=("x", "w", "b")
):
    """All gradients of `local_conv2d`.

    Parameters
    ----------
    dy : ndarray, (N, OC, OH, OW)
        Gradient of the loss for the output, in the order of `layout`.
    x, w : ndarray
        Input and filters.
    stride, padding, dilation, layout
        As in `local_conv2d`.
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
    >>> dy, x = np.array([[[[1.0, 10.0]]]]), np.array([[[[2.0, 4.0]]]])
    >>> dx, dw, db = fastconv.local_conv2d_backward(dy, x, np.full((1, 2, 1, 1, 1, 1), 3.0))
    >>> dx.ravel(), dw.ravel(), db.ravel()
    (array([ 3., 30.]), array([ 2., 40.]), array([ 1., 10.]))
    """
    op = "local_conv2d_backward"
    _checks.check_arrays(op, dy=dy, x=x, w=w)
    g = _shape(op, x, w, stride, padding, dilation, layout)
    needs = _checks.check_needs(op, needs)
    reason = f"x of shape {x.shape} with w of shape {w.shape}"
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)
    OH, OW, OC = w.shape[:3]
    by_place = np.asarray(dy).transpose((1, 2, 3, 0) if g.channels_last else (2, 3, 1, 0))
    dx = dw = db = None
    if "b" in needs:
        db = by_place.sum(axis=3)
    by_place = np.ascontiguousarray(by_place).reshape(OH * OW, OC, g.N)
    if "w" in needs:
        dw = np.matmul(by_place, _columns(g, x)).reshape(w.shape)
    if "x" in needs:
        cols = np.matmul(_filters(w).swapaxes(1, 2), by_place)  # (places, C * KH * KW, N)
        dx = _core.col2im(g, np.ascontiguousarray(cols.transpose(2, 1, 0)))
    return dx, dw, db


def _shape(op, x, w, stride, padding, dilation, layout):
    """The shapes of the convolution with one place's filters, checked against w."""
    _checks.check_rank(op, "w", w, "(OH, OW, OC, C, KH, KW)")
    g = conv_shape(op, x.shape, w.shape[2:], stride, padding, dilation, 1, layout, "floor")
    _checks.check_places(op, x, w, g.geometry.out_size)
    return g


def _filters(w):
    """(places, OC, C * KH * KW)"""
    OH, OW, OC, *field = w.shape
    return np.asarray(w).reshape(OH * OW, OC, np.prod(field))


def _columns(g, x):
    """What each place sees, (places, N, C * KH * KW): the columns of `im2col`, place by place."""
    return np.ascontiguousarray(_core.im2col(g, x).transpose(2, 0, 1))
