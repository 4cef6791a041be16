"""Convolution of 1-D, 2-D and 3-D images, and its gradients."""

from functools import lru_cache

from fastconv import _checks, _core, _geometry, _tuned
from fastconv._geometry import freeze
from fastconv.functional import _im2col
from fastconv.functional.activation import relu_backward_in_place


@lru_cache(maxsize=4096, typed=True)
def _cached(op, x_shape, w_shape, stride, padding, dilation, groups, layout, fit):
    return _core.Conv(
        _geometry.conv_geometry(
            x_shape,
            w_shape,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            layout=layout,
            fit=fit,
            op=op,
        )
    )


def conv_shape(op, x_shape, w_shape, stride, padding, dilation, groups, layout, fit):
    """The checked shapes of a convolution, made once for each set of arguments."""
    return _cached(
        op,
        x_shape,
        w_shape,
        freeze(stride),
        freeze(padding),
        freeze(dilation),
        freeze(groups),
        freeze(layout),
        freeze(fit),
    )


def _conv(op, x, w, b, stride, padding, dilation, groups, layout, activation, fit, algo, out):
    dtype = _checks.check_arrays(op, x=x, w=w, b=b)
    g = conv_shape(op, x.shape, w.shape, stride, padding, dilation, groups, layout, fit)
    _checks.check_algo(op, algo)
    _checks.check_suits(op, algo, g)
    relu = _checks.check_activation(op, activation)
    if b is not None:
        _checks.check_bias(op, b, g.OC, w.shape)
    if out is not None:
        _checks.check_out(op, out, g.y_shape, dtype, x=x, w=w, b=b)
    if algo == "auto" and _tuned.active:
        algo = _tuned.choose("forward", g, dtype)
    if algo == "im2col":
        return _im2col.forward(g, x, w, b, relu, out)
    return _core.conv_forward(g, x, w, b, relu, algo, out)


def _input_grad(g, dy, w, algo):
    if algo == "auto" and _tuned.active:
        algo = _tuned.choose("input_grad", g, dy.dtype)
    if algo == "im2col":
        return _im2col.input_grad(g, dy, w)
    return _core.conv_input_grad(g, dy, w, algo=algo)


def _input_grad_relu(g, dy, w, x, algo):
    """The same for the input of a ReLU whose output x was."""
    if algo == "auto" and _tuned.active:
        algo = _tuned.choose("input_grad", g, dy.dtype)
    if algo in ("im2col", "naive") or not x.flags.c_contiguous:
        return relu_backward_in_place(_input_grad(g, dy, w, algo), x)
    return _core.conv_input_grad_relu(g, dy, w, x, algo)


def _weight_grad(g, dy, x, algo):
    if algo == "im2col":
        return _im2col.weight_grad(g, dy, x)
    return _core.conv_weight_grad(g, dy, x, algo)


def _check_dy(op, dy, g):
    if dy.shape != g.y_shape:
        reason = f"x of shape {g.x_shape} with w of shape {g.w_shape}"
        _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)


def _conv_input_grad(op, dy, w, x_shape, stride, padding, dilation, groups, layout, fit, algo):
    _checks.check_arrays(op, dy=dy, w=w)
    x_shape = freeze(x_shape)
    g = conv_shape(op, x_shape, w.shape, stride, padding, dilation, groups, layout, fit)
    _checks.check_algo(op, algo)
    _checks.check_suits(op, algo, g)
    _check_dy(op, dy, g)
    return _input_grad(g, dy, w, algo)


def _conv_weight_grad(op, dy, x, w_shape, stride, padding, dilation, groups, layout, fit, algo):
    _checks.check_arrays(op, dy=dy, x=x)
    w_shape = freeze(w_shape)
    g = conv_shape(op, x.shape, w_shape, stride, padding, dilation, groups, layout, fit)
    _checks.check_algo(op, algo)
    _checks.check_suits(op, algo, g)
    _check_dy(op, dy, g)
    return _weight_grad(g, dy, x, algo)


def _conv_backward(
    op, dy, x, w, stride, padding, dilation, groups, layout, fit, algo, needs, relu=False
):
    _checks.check_arrays(op, dy=dy, x=x, w=w)
    g = conv_shape(op, x.shape, w.shape, stride, padding, dilation, groups, layout, fit)
    _checks.check_algo(op, algo)
    _checks.check_suits(op, algo, g)
    needs = _checks.check_needs(op, needs)
    _check_dy(op, dy, g)
    # First what takes no time but that of reading dy, which may still be in the caches; last what
    # the caller will read next.
    db = _core.bias_grad(g, dy) if "b" in needs else None
    dw = _weight_grad(g, dy, x, algo) if "w" in needs else None
    dx = None
    if "x" in needs:
        dx = _input_grad_relu(g, dy, w, x, algo) if relu else _input_grad(g, dy, w, algo)
    return dx, dw, db


def conv2d_relu_backward(
    dy,
    x,
    w,
    *,
    stride,
    padding,
    dilation,
    groups,
    layout,
    fit="floor",
    algo="auto",
    needs=("x", "w", "b"),
):
    """All gradients of `conv2d` behind a ReLU that gave x: dx is that of the ReLU's input."""
    op = "conv2d_backward"
    return _conv_backward(
        op, dy, x, w, stride, padding, dilation, groups, layout, fit, algo, needs, relu=True
    )


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
    It costs N * OC * OH * OW * C/groups * KH * KW multiply-adds.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64, of any strides; it is only read.
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
        Applied to the result while it is in registers.
    fit : {"floor", "strict", "pad"}, optional
        If (H - F + 2P) / S is not whole: drop the rest, raise a ValueError, or pad at the end.
    algo : {"auto", "gemm", "winograd", "im2col", "naive"}, optional
        Implicit GEMM with bounded scratch memory; Winograd's algorithm, for 3x3 and 5x5 filters
        without stride or dilation, with a quarter of the multiplications and about twice the
        rounding error; im2col and NumPy's BLAS, with KH * KW times the image in columns; the plain
        loops; or whichever of the first two should be faster.
    out : ndarray, (N, OC, OH, OW), optional
        Where to write the result; it may not share memory with the inputs.

    Returns
    -------
    ndarray, (N, OC, OH, OW) or (N, OH, OW, OC)

    Raises
    ------
    TypeError
        If dtypes differ or are not float32 or float64.
    ValueError
        If shapes do not suit each other; the message names them.

    See Also
    --------
    fastconv.reference.conv2d : The same as readable loops.

    References
    ----------
    CS231n, "Convolutional Networks", section "Convolutional Layer".

    Examples
    --------
    The first layer of AlexNet: 96 filters 11x11x3 at stride 4 on a 227x227 image.

    >>> import numpy as np
    >>> import fastconv
    >>> x = np.ones((1, 3, 227, 227), np.float32)
    >>> w = np.ones((96, 3, 11, 11), np.float32)
    >>> fastconv.conv2d(x, w, stride=4).shape
    (1, 96, 55, 55)
    """
    return _conv(
        "conv2d", x, w, b, stride, padding, dilation, groups, layout, activation, fit, algo, out
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
    """Convolution of sequences: x (N, C, W) with w (OC, C // groups, KW); see `conv2d`."""
    return _conv(
        "conv1d", x, w, b, stride, padding, dilation, groups, layout, activation, fit, algo, out
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
        "conv3d", x, w, b, stride, padding, dilation, groups, layout, activation, fit, algo, out
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
    """Gradient of `conv2d` for its input: a convolution of dy with the flipped filters.

    ::

        dx[n, c, ih, iw] = sum over o, kh, kw of w[o, c, kh, kw] * dy[n, o, oh, ow]
            for oh * SH - PH + kh * DH = ih and ow * SW - PW + kw * DW = iw

    Parameters
    ----------
    dy : ndarray, (N, OC, OH, OW)
        Gradient of the loss for the output, in the order of `layout`.
    w : ndarray, (OC, C // groups, KH, KW)
        Filters.
    x_shape : tuple of int
        Shape of the input, which dy's shape does not determine if there is a stride.
    stride, padding, dilation, groups, layout, fit, algo
        As in `conv2d`.

    Returns
    -------
    ndarray of shape `x_shape`

    References
    ----------
    CS231n, "Convolutional Networks", section "Convolutional Layer", "Backpropagation".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> w = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> fastconv.conv2d_input_grad(np.ones((1, 1, 1, 1)), w, (1, 1, 3, 3))[0, 0]
    array([[0., 1., 2.],
           [3., 4., 5.],
           [6., 7., 8.]])
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
    """Gradient of `conv1d` for its input; see `conv2d_input_grad`."""
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
    """Gradient of `conv3d` for its input; see `conv2d_input_grad`."""
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
    """Gradient of `conv2d` for its filters: a convolution of x with dy.

    ::

        dw[o, c, kh, kw] = sum over n, oh, ow of
            dy[n, o, oh, ow] * x[n, c, oh * SH - PH + kh * DH, ow * SW - PW + kw * DW]

    Parameters
    ----------
    dy : ndarray, (N, OC, OH, OW)
        Gradient of the loss for the output, in the order of `layout`.
    x : ndarray, (N, C, H, W)
        Input of the convolution.
    w_shape : tuple of int
        Shape of the filters, (OC, C // groups, KH, KW).
    stride, padding, dilation, groups, layout, fit, algo
        As in `conv2d`. For 5x5 filters the gradient of the filters has no Winograd form here, and
        algo="winograd" takes the implicit GEMM for it.

    Returns
    -------
    ndarray of shape `w_shape`

    References
    ----------
    CS231n, "Convolutional Networks", section "Convolutional Layer", "Backpropagation".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> fastconv.conv2d_weight_grad(np.ones((1, 1, 2, 2)), x, (1, 1, 2, 2))[0, 0]
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
    """Gradient of `conv1d` for its filters; see `conv2d_weight_grad`."""
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
    """Gradient of `conv3d` for its filters; see `conv2d_weight_grad`."""
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
        Gradient of the loss for the output, in the order of `layout`.
    x, w : ndarray
        Input and filters of the convolution.
    stride, padding, dilation, groups, layout, fit, algo
        As in `conv2d`. For 5x5 filters the gradient of the filters has no Winograd form here, and
        algo="winograd" takes the implicit GEMM for it.
    needs : iterable of {"x", "w", "b"}, optional
        The gradients to compute; a first layer has no use for dx.

    Returns
    -------
    (dx, dw, db)
        None for what is not in `needs`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x, w = np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3))
    >>> dy = fastconv.conv2d(x, w)
    >>> dx, dw, db = fastconv.conv2d_backward(dy, x, w, needs=("w", "b"))
    >>> dx, dw.shape, db
    (None, (4, 3, 3, 3), array([486., 486., 486., 486.]))
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
