"""Locally connected layer: a convolution whose filters are not shared by all places."""

import numpy as np

from fastconv import _checks, _geometry
from fastconv._geometry import freeze
from fastconv.reference._windows import (
    channels_first,
    float64,
    ieee,
    in_layout,
    pad,
    padded_size,
    unpadded,
)


@ieee
def local_conv2d(x, w, b=None, *, stride=1, padding=0, dilation=1, layout="NCHW"):
    """Convolution with filters of their own at each place: the locally connected layer.

    ::

        y[n, o, oh, ow] = b[oh, ow, o] + sum over c, kh, kw of
            w[oh, ow, o, c, kh, kw] * x[n, c, oh * SH - PH + kh * DH, ow * SW - PW + kw * DW]

    What the lecture calls parameter sharing is left out; faces, centred in the image, are its
    example of where that makes sense. AlexNet's first layer would have 105,705,600 parameters.

    References
    ----------
    CS231n, "Convolutional Networks", section "Convolutional Layer", "Parameter Sharing".

    Examples
    --------
    Two places, each with a 1x1 filter of its own:

    >>> x, w = np.ones((1, 1, 1, 2)), np.array([3.0, 5.0]).reshape(1, 2, 1, 1, 1, 1)
    >>> local_conv2d(x, w)
    array([[[[3., 5.]]]])
    """
    op = "local_conv2d"
    dtype = _checks.check_arrays(op, x=x, w=w, b=b)
    g = _places(op, x, w, stride, padding, dilation, layout)
    _checks.check_local_bias(op, b, w)
    padded, w = pad(channels_first(x, layout), g), float64(w)
    y = np.zeros((g.N, g.OC, *g.out_size))
    for oh, ow in np.ndindex(*g.out_size):
        seen = padded[_field(oh, ow, g)]
        y[:, :, oh, ow] = np.tensordot(seen, w[oh, ow], ([1, 2, 3], [1, 2, 3]))
        if b is not None:
            y[:, :, oh, ow] += b[oh, ow]
    return in_layout(y, dtype, layout)


@ieee
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
    >>> dy, x = np.array([[[[1.0, 10.0]]]]), np.array([[[[2.0, 4.0]]]])
    >>> dx, dw, db = local_conv2d_backward(dy, x, np.full((1, 2, 1, 1, 1, 1), 3.0))
    >>> dx.ravel(), dw.ravel(), db.ravel()
    (array([ 3., 30.]), array([ 2., 40.]), array([ 1., 10.]))
    """
    op = "local_conv2d_backward"
    dtype = _checks.check_arrays(op, dy=dy, x=x, w=w)
    g = _places(op, x, w, stride, padding, dilation, layout)
    needs = _checks.check_needs(op, needs)
    reason = f"x of shape {x.shape} with w of shape {w.shape}"
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)
    dy, w, padded = channels_first(dy, layout), float64(w), pad(channels_first(x, layout), g)
    dpadded, dw = np.zeros((g.N, g.C, *padded_size(g))), np.zeros(w.shape)
    for oh, ow in np.ndindex(*g.out_size):
        field, slope = _field(oh, ow, g), dy[:, :, oh, ow]
        dw[oh, ow] = np.tensordot(slope, padded[field], (0, 0))
        dpadded[field] += np.tensordot(slope, w[oh, ow], (1, 0))
    dx = in_layout(dpadded[unpadded(g)], dtype, layout) if "x" in needs else None
    db = np.moveaxis(dy.sum(axis=0), 0, -1).astype(dtype, order="C") if "b" in needs else None
    return dx, dw.astype(dtype) if "w" in needs else None, db


def _places(op, x, w, stride, padding, dilation, layout):
    """The geometry of the convolution with one place's filters, checked against w."""
    _checks.check_rank(op, "w", w, "(OH, OW, OC, C, KH, KW)")
    g = _geometry.conv_geometry(
        x.shape,
        w.shape[2:],
        stride=freeze(stride),
        padding=freeze(padding),
        dilation=freeze(dilation),
        layout=freeze(layout),
        op=op,
    )
    _checks.check_places(op, x, w, g.out_size)
    return g


def _field(oh, ow, g):
    """Index of the cells of the padded image that the filters at (oh, ow) see."""
    starts = [o * s for o, s in zip((oh, ow), g.stride, strict=True)]
    spans = zip(starts, g.kernel, g.dilation, strict=True)
    return (..., *[slice(start, start + (k - 1) * d + 1, d) for start, k, d in spans])
