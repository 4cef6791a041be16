"""Transposed convolution and its gradients: a convolution with input and output swapped."""

from functools import lru_cache

from fastconv import _checks, _core, _geometry, _tuned
from fastconv._geometry import freeze


@lru_cache(maxsize=4096, typed=True)
def _cached(op, x_shape, w_shape, stride, padding, output_padding, dilation, groups, layout):
    return _core.Conv(
        _geometry.conv_transpose_geometry(
            x_shape,
            w_shape,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            dilation=dilation,
            groups=groups,
            layout=layout,
            op=op,
        )
    )


def _shape(op, x, w, stride, padding, output_padding, dilation, groups, layout):
    return _cached(
        op,
        x.shape,
        w.shape,
        freeze(stride),
        freeze(padding),
        freeze(output_padding),
        freeze(dilation),
        freeze(groups),
        freeze(layout),
    )


def _conv_transpose(op, x, w, b, stride, padding, output_padding, dilation, groups, layout, out):
    dtype = _checks.check_arrays(op, x=x, w=w, b=b)
    g = _shape(op, x, w, stride, padding, output_padding, dilation, groups, layout)
    _checks.check_bias(op, b, g.C, w.shape)
    _checks.check_out(op, out, g.x_shape, dtype, x=x, w=w, b=b)
    algo = _tuned.choose("input_grad", g, dtype) if _tuned.active else "auto"
    return _core.conv_input_grad(g, x, w, b, algo=algo, out=out)


def _conv_transpose_backward(
    op, dy, x, w, stride, padding, output_padding, dilation, groups, layout, needs
):
    dtype = _checks.check_arrays(op, dy=dy, x=x, w=w)
    g = _shape(op, x, w, stride, padding, output_padding, dilation, groups, layout)
    reason = f"x of shape {x.shape} with w of shape {w.shape}"
    _checks.check_shape(op, "dy", dy.shape, g.x_shape, reason)
    needs = _checks.check_needs(op, needs)
    dx = None
    if "x" in needs:
        algo = _tuned.choose("forward", g, dtype) if _tuned.active else "auto"
        dx = _core.conv_forward(g, dy, w, algo=algo)
    dw = _core.conv_weight_grad(g, x, dy) if "w" in needs else None
    db = _core.input_bias_grad(g, dy) if "b" in needs else None
    return dx, dw, db


def conv_transpose2d(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    out=None,
):
    """Transposed convolution: the input gradient of a convolution, used as a layer that upsamples.

    ::

        y[n, o, h, w] = b[o] + sum over c, kh, kw and over all cells (ih, iw) of x with
            h = ih * SH - PH + kh * DH  and  w = iw * SW - PW + kw * DW
            of  w[c, o, kh, kw] * x[n, c, ih, iw]

    There are OH = (H - 1) * SH - 2 * PH + DH * (KH - 1) + output_padding + 1 outputs.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    w : ndarray, (C, OC // groups, KH, KW)
        Filters of the convolution that this one transposes: its outputs are the C channels here.
    b : ndarray, (OC,), optional
        Biases.
    stride, dilation, groups, layout
        Those of the transposed convolution.
    padding : int, (int, int) or ((int, int), (int, int)), optional
        Cells cut off around the output.
    output_padding : int or (int, int), optional
        Cells added at the end of the output, fewer than the stride or the dilation: with a stride
        several sizes of an image give the same size of output, this tells which is meant.
    out : ndarray, optional
        Where to write the result.

    Returns
    -------
    ndarray, (N, OC, OH, OW) or (N, OH, OW, OC)

    References
    ----------
    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> fastconv.conv_transpose2d(x, np.ones((1, 1, 2, 2)), stride=2)[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]])
    """
    return _conv_transpose(
        "conv_transpose2d", x, w, b, stride, padding, output_padding, dilation, groups, layout, out
    )


def conv_transpose1d(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    out=None,
):
    """Transposed convolution of sequences; see `conv_transpose2d`."""
    return _conv_transpose(
        "conv_transpose1d", x, w, b, stride, padding, output_padding, dilation, groups, layout, out
    )


def conv_transpose3d(
    x,
    w,
    b=None,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCDHW",
    out=None,
):
    """Transposed convolution of volumes; see `conv_transpose2d`."""
    return _conv_transpose(
        "conv_transpose3d", x, w, b, stride, padding, output_padding, dilation, groups, layout, out
    )


def conv_transpose2d_backward(
    dy,
    x,
    w,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    needs=("x", "w", "b"),
):
    """All gradients of `conv_transpose2d`: those of a convolution with input and output swapped.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for the output.
    x, w : ndarray
        Input and filters of the transposed convolution.
    stride, padding, output_padding, dilation, groups, layout
        As in `conv_transpose2d`.
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
    >>> x, w = np.ones((1, 3, 2, 2)), np.ones((3, 1, 2, 2))
    >>> dy = fastconv.conv_transpose2d(x, w, stride=2)
    >>> dx, dw, db = fastconv.conv_transpose2d_backward(dy, x, w, stride=2)
    >>> dx.shape, dw.shape, db
    ((1, 3, 2, 2), (3, 1, 2, 2), array([48.]))
    """
    return _conv_transpose_backward(
        "conv_transpose2d_backward",
        dy,
        x,
        w,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        layout,
        needs,
    )


def conv_transpose1d_backward(
    dy,
    x,
    w,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCW",
    needs=("x", "w", "b"),
):
    """All gradients of `conv_transpose1d`; see `conv_transpose2d_backward`."""
    return _conv_transpose_backward(
        "conv_transpose1d_backward",
        dy,
        x,
        w,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        layout,
        needs,
    )


def conv_transpose3d_backward(
    dy,
    x,
    w,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCDHW",
    needs=("x", "w", "b"),
):
    """All gradients of `conv_transpose3d`; see `conv_transpose2d_backward`."""
    return _conv_transpose_backward(
        "conv_transpose3d_backward",
        dy,
        x,
        w,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        layout,
        needs,
    )
