"""Convolution and its gradients."""

from fastconv import _checks, _geometry
from fastconv._geometry import freeze
from fastconv.reference._activations import ACTIVATIONS
from fastconv.reference._loops import (
    correlate,
    correlate_input_grad,
    correlate_weight_grad,
    per_channel,
    sum_over_positions,
)
from fastconv.reference._windows import channels_first, ieee, in_layout


def _conv_geometry(op, x_shape, w_shape, stride, padding, dilation, groups, layout, fit, algo):
    _checks.check_algo(op, algo)
    return _geometry.conv_geometry(
        freeze(x_shape),
        freeze(w_shape),
        stride=freeze(stride),
        padding=freeze(padding),
        dilation=freeze(dilation),
        groups=freeze(groups),
        layout=freeze(layout),
        fit=freeze(fit),
        op=op,
    )


@ieee
def _conv(
    op, x, w, b, stride, padding, dilation, groups, layout, fit, algo, activation=None, out=None
):
    dtype = _checks.check_arrays(op, x=x, w=w, b=b)
    g = _conv_geometry(op, x.shape, w.shape, stride, padding, dilation, groups, layout, fit, algo)
    _checks.check_bias(op, b, g.OC, w.shape)
    _checks.check_activation(op, activation)
    _checks.check_out(op, out, g.y_shape, dtype, x=x, w=w, b=b)
    y = correlate(channels_first(x, layout), w, g)
    if b is not None:
        y += per_channel(b, g)
    y = ACTIVATIONS[activation](y)
    return in_layout(y, dtype, layout, out)


@ieee
def _conv_input_grad(op, dy, w, x_shape, stride, padding, dilation, groups, layout, fit, algo):
    dtype = _checks.check_arrays(op, dy=dy, w=w)
    g = _conv_geometry(op, x_shape, w.shape, stride, padding, dilation, groups, layout, fit, algo)
    _check_dy(op, dy, g)
    return in_layout(correlate_input_grad(channels_first(dy, layout), w, g), dtype, layout)


@ieee
def _conv_weight_grad(op, dy, x, w_shape, stride, padding, dilation, groups, layout, fit, algo):
    dtype = _checks.check_arrays(op, dy=dy, x=x)
    g = _conv_geometry(op, x.shape, w_shape, stride, padding, dilation, groups, layout, fit, algo)
    _check_dy(op, dy, g)
    dw = correlate_weight_grad(channels_first(dy, layout), channels_first(x, layout), g)
    return dw.astype(dtype)


@ieee
def _conv_backward(op, dy, x, w, stride, padding, dilation, groups, layout, fit, algo, needs):
    dtype = _checks.check_arrays(op, dy=dy, x=x, w=w)
    g = _conv_geometry(op, x.shape, w.shape, stride, padding, dilation, groups, layout, fit, algo)
    _check_dy(op, dy, g)
    needs = _checks.check_needs(op, needs)
    dx = dw = db = None
    dy = channels_first(dy, layout)
    if "x" in needs:
        dx = in_layout(correlate_input_grad(dy, w, g), dtype, layout)
    if "w" in needs:
        dw = correlate_weight_grad(dy, channels_first(x, layout), g).astype(dtype)
    if "b" in needs:
        db = sum_over_positions(dy).astype(dtype)
    return dx, dw, db


def _check_dy(op, dy, g):
    reason = f"x of shape {g.x_shape} with w of shape {g.w_shape}"
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)


def conv2d(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    activation=None,
    fit="floor",
    algo="auto",
    out=None,
):
    """Convolution of images with filters, the CONV layer.

    ::

        y[n, o, oh, ow] = b[o] + sum over c, kh, kw of
            w[o, c, kh, kw] * x[n, c, oh * SH - PH + kh * DH, ow * SW - PW + kw * DW]

    where x is zero outside the image. (The kernel is not flipped: mathematically a correlation.)
    There are OH = (H - F + 2P) / S + 1 outputs, with F = DH * (KH - 1) + 1, and likewise OW.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    w : ndarray, (OC, C // groups, KH, KW)
        Filters, in that order for both layouts, same dtype.
    b : ndarray, (OC,), optional
        Biases.
    stride, dilation : int or (int, int), optional
        Step of the kernel, and distance between its cells.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower", optional
        Zeros around the image: everywhere, (rows, columns), ((top, bottom), (left, right)), none,
        or as many as give ceil(size / stride) outputs, the odd one at the end or at the start.
    groups : int, optional
        Groups of channels that do not see each other; groups=C is a depthwise convolution.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes of x and y.
    activation : {None, "relu", "relu6"}, optional
        Applied to the result.
    fit : {"floor", "strict", "pad"}, optional
        If (H - F + 2P) / S is not whole: drop the rest, raise a ValueError, or pad at the end.
    algo : {"auto", "gemm", "im2col", "naive"}, optional
        Checked, but of no effect here.
    out : ndarray, (N, OC, OH, OW), optional
        Where to write the result.

    Returns
    -------
    ndarray, (N, OC, OH, OW) or (N, OH, OW, OC)

    Raises
    ------
    TypeError
        If dtypes differ or are not float32 or float64.
    ValueError
        If shapes do not suit each other; the message names them.

    References
    ----------
    CS231n, "Convolutional Networks", section "Convolutional Layer".

    Examples
    --------
    A 3x3 box filter on an image of ones, padded with a border of zeros:

    >>> x = np.ones((1, 1, 3, 3))
    >>> w = np.ones((1, 1, 3, 3))
    >>> conv2d(x, w, padding=1)[0, 0]
    array([[4., 6., 4.],
           [6., 9., 6.],
           [4., 6., 4.]])
    """
    return _conv(
        "conv2d", x, w, b, stride, padding, dilation, groups, layout, fit, algo, activation, out
    )


def conv1d(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    activation=None,
    fit="floor",
    algo="auto",
    out=None,
):
    """Convolution of sequences: x (N, C, W) with w (OC, C // groups, KW); see `conv2d`.

    Examples
    --------
    >>> x = np.array([[[1.0, 2.0, 4.0, 8.0]]])
    >>> conv1d(x, np.array([[[-1.0, 1.0]]]))
    array([[[1., 2., 4.]]])
    """
    return _conv(
        "conv1d", x, w, b, stride, padding, dilation, groups, layout, fit, algo, activation, out
    )


def conv3d(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCDHW",
    activation=None,
    fit="floor",
    algo="auto",
    out=None,
):
    """Convolution of volumes: x (N, C, D, H, W), w (OC, C // groups, KD, KH, KW); see `conv2d`."""
    return _conv(
        "conv3d", x, w, b, stride, padding, dilation, groups, layout, fit, algo, activation, out
    )


def conv2d_input_grad(
    dy,
    w,
    x_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    fit="floor",
    algo="auto",
):
    """Gradient of `conv2d` for x: every output hands its gradient to all the cells it has seen.

    ::

        dx[n, c, h, w] = sum over o, kh, kw and over all outputs (oh, ow) with
            h = oh * SH - PH + kh * DH  and  w = ow * SW - PW + kw * DW
            of  w[o, c, kh, kw] * dy[n, o, oh, ow]

    Parameters
    ----------
    dy : ndarray, (N, OC, OH, OW)
        Gradient of the loss for the output, in the order of `layout`.
    w : ndarray, (OC, C // groups, KH, KW)
        Filters of the convolution.
    x_shape : tuple of int
        Shape of the convolution's input; dy alone does not tell it when the stride is not 1.
    stride, padding, dilation, groups, layout, fit, algo
        As in `conv2d`.

    Returns
    -------
    ndarray of shape `x_shape`

    References
    ----------
    CS231n, "Convolutional Networks", "Implementation as Matrix Multiplication": the backward pass
    of a convolution is a convolution too, with spatially flipped filters.

    Examples
    --------
    >>> conv2d_input_grad(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), (1, 1, 3, 3))[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])

    With stride 1 it is the convolution of dy with the flipped filters, input and output channels
    exchanged, and a padding of F - 1 - P zeros; whole numbers show it exactly:

    >>> w = np.arange(2.0 * 3 * 3 * 3).reshape(2, 3, 3, 3)
    >>> dy = np.arange(2.0 * 5 * 5).reshape(1, 2, 5, 5)
    >>> flipped = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    >>> dx = conv2d_input_grad(dy, w, (1, 3, 5, 5), padding=1)
    >>> bool((conv2d(dy, flipped, padding=3 - 1 - 1) == dx).all())
    True
    """
    return _conv_input_grad(
        "conv2d_input_grad", dy, w, x_shape, stride, padding, dilation, groups, layout, fit, algo
    )


def conv1d_input_grad(
    dy,
    w,
    x_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    fit="floor",
    algo="auto",
):
    """Gradient of `conv1d` for x; see `conv2d_input_grad`."""
    return _conv_input_grad(
        "conv1d_input_grad", dy, w, x_shape, stride, padding, dilation, groups, layout, fit, algo
    )


def conv3d_input_grad(
    dy,
    w,
    x_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCDHW",
    fit="floor",
    algo="auto",
):
    """Gradient of `conv3d` for x; see `conv2d_input_grad`."""
    return _conv_input_grad(
        "conv3d_input_grad", dy, w, x_shape, stride, padding, dilation, groups, layout, fit, algo
    )


def conv2d_weight_grad(
    dy,
    x,
    w_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    fit="floor",
    algo="auto",
):
    """Gradient of `conv2d` for w: every weight collects all the cells it has met.

    ::

        dw[o, c, kh, kw] = sum over n, oh, ow of
            dy[n, o, oh, ow] * x[n, c, oh * SH - PH + kh * DH, ow * SW - PW + kw * DW]

    Parameters
    ----------
    dy : ndarray, (N, OC, OH, OW)
        Gradient of the loss for the output, in the order of `layout`.
    x : ndarray, (N, C, H, W)
        Input of the convolution, in the order of `layout`.
    w_shape : tuple of int
        Shape of the filters, (OC, C // groups, KH, KW).
    stride, padding, dilation, groups, layout, fit, algo
        As in `conv2d`.

    Returns
    -------
    ndarray of shape `w_shape`

    References
    ----------
    CS231n, "Convolutional Networks", section "Convolutional Layer".

    Examples
    --------
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d_weight_grad(np.ones((1, 1, 2, 2)), x, (1, 1, 2, 2))[0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    return _conv_weight_grad(
        "conv2d_weight_grad", dy, x, w_shape, stride, padding, dilation, groups, layout, fit, algo
    )


def conv1d_weight_grad(
    dy,
    x,
    w_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    fit="floor",
    algo="auto",
):
    """Gradient of `conv1d` for w; see `conv2d_weight_grad`."""
    return _conv_weight_grad(
        "conv1d_weight_grad", dy, x, w_shape, stride, padding, dilation, groups, layout, fit, algo
    )


def conv3d_weight_grad(
    dy,
    x,
    w_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCDHW",
    fit="floor",
    algo="auto",
):
    """Gradient of `conv3d` for w; see `conv2d_weight_grad`."""
    return _conv_weight_grad(
        "conv3d_weight_grad", dy, x, w_shape, stride, padding, dilation, groups, layout, fit, algo
    )


def conv2d_backward(
    dy,
    x,
    w,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    fit="floor",
    algo="auto",
    needs=("x", "w", "b"),
):
    """All gradients of `conv2d`.

    Parameters
    ----------
    dy : ndarray, (N, OC, OH, OW)
        Gradient of the loss for the output (before the activation, if one was fused).
    x, w : ndarray
        Input and filters of the convolution.
    stride, padding, dilation, groups, layout, fit, algo
        As in `conv2d`.
    needs : iterable of {"x", "w", "b"}, optional
        The gradients to compute.

    Returns
    -------
    (dx, dw, db)
        `conv2d_input_grad`, `conv2d_weight_grad` and the sum of dy over all but its channels; None
        for what is not in `needs`.

    References
    ----------
    CS231n, "Convolutional Networks", section "Convolutional Layer".

    Examples
    --------
    >>> x, w = np.ones((1, 1, 3, 3)), np.ones((2, 1, 2, 2))
    >>> dx, dw, db = conv2d_backward(conv2d(x, w), x, w, needs=("w", "b"))
    >>> dx is None, dw.shape, db
    (True, (2, 1, 2, 2), array([16., 16.]))
    """
    return _conv_backward(
        "conv2d_backward", dy, x, w, stride, padding, dilation, groups, layout, fit, algo, needs
    )


def conv1d_backward(
    dy,
    x,
    w,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    fit="floor",
    algo="auto",
    needs=("x", "w", "b"),
):
    """All gradients of `conv1d`; see `conv2d_backward`."""
    return _conv_backward(
        "conv1d_backward", dy, x, w, stride, padding, dilation, groups, layout, fit, algo, needs
    )


def conv3d_backward(
    dy,
    x,
    w,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCDHW",
    fit="floor",
    algo="auto",
    needs=("x", "w", "b"),
):
    """All gradients of `conv3d`; see `conv2d_backward`."""
    return _conv_backward(
        "conv3d_backward", dy, x, w, stride, padding, dilation, groups, layout, fit, algo, needs
    )
