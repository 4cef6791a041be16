"""Max pooling and its gradient."""

import numpy as np

from fastconv import _checks, _geometry
from fastconv._geometry import freeze
from fastconv.reference._windows import (
    channels_first,
    ieee,
    in_layout,
    pad,
    pool_geometry,
    real_cells,
    seen_by,
    taps,
)


@ieee
def _maxima(x, g):
    """The maximum of each window and the number of the kernel cell that holds it.

    Cells outside the image count as -inf. The first maximum wins, and a NaN wins over everything
    before it: of several NaNs it is the last one, as in PyTorch.
    """
    padded = pad(x, g, fill=-np.inf)
    real = real_cells(g)
    best = np.full((g.N, g.C, *g.out_size), -np.inf)
    winner = np.full(best.shape, -1)
    for number, tap in enumerate(taps(g)):
        cell = padded[seen_by(tap, g)]
        # A window of nothing but -inf gets its first cell of the image.
        better = (cell > best) | np.isnan(cell) | (winner < 0)
        better &= real[seen_by(tap, g)]
        best[better] = cell[better]
        winner[better] = number
    return best, winner


def _cells_of_winners(winner, g):
    """Coordinates in the image of the kernel cells `winner` (N, C, spatial...), axis by axis."""
    coordinates = []
    for axis, tap in enumerate(np.unravel_index(winner, g.kernel)):
        output = np.arange(g.out_size[axis]).reshape(-1, *[1] * (g.ndim - 1 - axis))
        start = output * g.stride[axis] - g.pad_begin[axis]
        coordinates.append(start + tap * g.dilation[axis])
    return coordinates


def _scatter(dy, plane_index, size):
    """Add each element of dy (N, C, ...) to cell `plane_index` of its plane of zeros."""
    N, C = dy.shape[:2]
    planes = np.zeros((N * C, int(np.prod(size))))
    rows = np.arange(N * C)[:, np.newaxis]
    outputs = int(np.prod(dy.shape[2:]))
    np.add.at(planes, (rows, plane_index.reshape(N * C, outputs)), dy.reshape(N * C, outputs))
    return planes.reshape(N, C, *size)


def pool_max(op, x, kernel_size, stride, padding, dilation, ceil_mode, fit, layout, return_indices):
    dtype = _checks.check_arrays(op, x=x)
    g = pool_geometry(op, x.shape, kernel_size, stride, padding, dilation, ceil_mode, fit, layout)
    best, winner = _maxima(channels_first(x, layout), g)
    y = in_layout(best, dtype, layout)
    if not return_indices:
        return y
    indices = np.ravel_multi_index(_cells_of_winners(winner, g), g.in_size)
    return y, in_layout(indices, np.int64, layout)


@ieee
def pool_max_backward(op, dy, indices, x_shape, layout):
    dtype = _checks.check_arrays(op, dy=dy)
    N, C, size = _geometry.image_sizes(freeze(x_shape), layout=freeze(layout), op=op)
    channel_axis = len(size) + 1 if layout.endswith("C") else 1
    if dy.ndim != len(size) + 2 or (dy.shape[0], dy.shape[channel_axis]) != (N, C):
        raise ValueError(
            f"{op}: dy has shape {dy.shape}, but x_shape {tuple(x_shape)} calls for "
            f"{len(size) + 2} dimensions with {N} images and {C} channels ({layout})"
        )
    reason = f"dy of shape {dy.shape}"
    _checks.check_indices(op, "indices", indices, np.dtype(np.int64), dy.shape, reason)
    _checks.check_range(op, "indices", indices, int(np.prod(size)), f"x_shape {tuple(x_shape)}")
    dy, plane_index = channels_first(dy, layout), np.moveaxis(indices, channel_axis, 1)
    return in_layout(_scatter(dy, plane_index, size), dtype, layout)


def max_pool2d(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    fit="floor",
    layout="NCHW",
    return_indices=False,
):
    """Maximum of each window of each channel, the POOL layer.

    ::

        y[n, c, oh, ow] = max over kh, kw of x[n, c, oh * SH - PH + kh * DH, ow * SW - PW + kw * DW]

    Cells outside the image count as -inf. The first maximum of a window wins; a NaN wins over
    numbers (the last NaN, if there are several).

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    kernel_size : int or (int, int)
        Size of the window.
    stride : int or (int, int), optional
        Step of the window; None means `kernel_size`.
    padding : optional
        As in `conv2d`, but less than the window covers.
    dilation : int or (int, int), optional
        Distance between the cells of a window.
    ceil_mode : bool, optional
        Round the output size up; a window that would start in the end padding is dropped.
    fit : {"floor", "strict", "pad"}, optional
        If (H - F + 2P) / S is not whole: drop the rest, raise a ValueError, or round up as with
        `ceil_mode`.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes of x and y.
    return_indices : bool, optional
        Return also where the maxima are.

    Returns
    -------
    y : ndarray, (N, C, OH, OW)
    indices : ndarray of int64, (N, C, OH, OW)
        h * W + w of the maximum; only with `return_indices`.

    References
    ----------
    CS231n, "Convolutional Networks", section "Pooling Layer".

    Examples
    --------
    The figure of the lecture:

    >>> x = np.array([[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    >>> y, indices = max_pool2d(x.reshape(1, 1, 4, 4), 2, return_indices=True)
    >>> y[0, 0]
    array([[6., 8.],
           [3., 4.]])
    >>> indices[0, 0]
    array([[ 5,  7],
           [ 8, 15]])
    """
    return pool_max(
        "max_pool2d",
        x,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        fit,
        layout,
        return_indices,
    )


def max_pool1d(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    fit="floor",
    layout="NCW",
    return_indices=False,
):
    """Maximum of each window of a sequence; see `max_pool2d`."""
    return pool_max(
        "max_pool1d",
        x,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        fit,
        layout,
        return_indices,
    )


def max_pool3d(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    fit="floor",
    layout="NCDHW",
    return_indices=False,
):
    """Maximum of each window of a volume; indices are flat in (D, H, W). See `max_pool2d`."""
    return pool_max(
        "max_pool3d",
        x,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        fit,
        layout,
        return_indices,
    )


def max_pool2d_backward(dy, indices, x_shape, *, layout="NCHW"):
    """Gradient of `max_pool2d`: each output hands its gradient to the cell that held the maximum.

    Parameters
    ----------
    dy : ndarray, (N, C, OH, OW)
        Gradient of the loss for the output, in the order of `layout`.
    indices : ndarray of int64, (N, C, OH, OW)
        From `max_pool2d` with return_indices=True; a cell in several windows gets a sum.
    x_shape : tuple of int
        Shape of the pooling's input.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes.

    Returns
    -------
    ndarray of shape `x_shape`

    Raises
    ------
    ValueError
        If shapes do not suit each other or an index is outside the plane of the image.

    References
    ----------
    CS231n, "Convolutional Networks", section "Pooling Layer", "Backpropagation".

    Examples
    --------
    >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> y, indices = max_pool2d(x, 2, return_indices=True)
    >>> max_pool2d_backward(np.full_like(y, 5.0), indices, x.shape)[0, 0]
    array([[0., 0.],
           [0., 5.]])
    """
    return pool_max_backward("max_pool2d_backward", dy, indices, x_shape, layout)


def max_pool1d_backward(dy, indices, x_shape, *, layout="NCW"):
    """Gradient of `max_pool1d`; see `max_pool2d_backward`."""
    return pool_max_backward("max_pool1d_backward", dy, indices, x_shape, layout)


def max_pool3d_backward(dy, indices, x_shape, *, layout="NCDHW"):
    """Gradient of `max_pool3d`; see `max_pool2d_backward`."""
    return pool_max_backward("max_pool3d_backward", dy, indices, x_shape, layout)


def max_pool_window(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    fit="floor",
    layout="NCHW",
):
    """Max pooling that says in one byte where in its window each maximum is.

    Layers use it in place of the eight bytes an index takes.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, fit
        As in `max_pool2d`; 1-D and 3-D by their `layout`.
    layout : str, optional
        "NCW", "NCHW", "NCDHW" or the same with C last.

    Returns
    -------
    y : ndarray
        The maxima, as from `max_pool2d`.
    offsets : ndarray of uint8, or int32 if the kernel has more than 255 cells
        Number kh * KW + kw of the kernel cell that met the maximum.

    Examples
    --------
    >>> y, offsets = max_pool_window(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    >>> offsets[0, 0]
    array([[3, 3],
           [3, 3]], dtype=uint8)
    """
    op = "max_pool_window"
    dtype = _checks.check_arrays(op, x=x)
    g = pool_geometry(op, x.shape, kernel_size, stride, padding, dilation, ceil_mode, fit, layout)
    best, winner = _maxima(channels_first(x, layout), g)
    return in_layout(best, dtype, layout), in_layout(winner, _offset_dtype(g), layout)


def _offset_dtype(g):
    return np.dtype(np.uint8 if np.prod(g.kernel) <= 255 else np.int32)


@ieee
def max_pool_window_backward(
    dy,
    offsets,
    x_shape,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    fit="floor",
    layout="NCHW",
):
    """Gradient of `max_pool_window`.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for the output.
    offsets : ndarray of uint8 or int32
        From `max_pool_window`.
    x_shape : tuple of int
        Shape of the pooling's input.
    kernel_size, stride, padding, dilation, ceil_mode, fit, layout
        As in `max_pool_window`.

    Returns
    -------
    ndarray of shape `x_shape`

    Raises
    ------
    ValueError
        If shapes do not suit each other or an offset does not name a cell of the image.

    Examples
    --------
    >>> y, offsets = max_pool_window(np.arange(4.0).reshape(1, 1, 2, 2), 2)
    >>> max_pool_window_backward(np.full_like(y, 5.0), offsets, (1, 1, 2, 2), 2)[0, 0]
    array([[0., 0.],
           [0., 5.]])
    """
    op = "max_pool_window_backward"
    dtype = _checks.check_arrays(op, dy=dy)
    g = pool_geometry(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode, fit, layout)
    reason = f"x_shape {g.x_shape} with kernel {g.kernel}"
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)
    _checks.check_indices(op, "offsets", offsets, _offset_dtype(g), g.y_shape, reason)
    _checks.check_range(op, "offsets", offsets, int(np.prod(g.kernel)), f"kernel {g.kernel}")
    winner = np.moveaxis(offsets, -1, 1) if g.channels_last else offsets
    coordinates = _cells_of_winners(winner.astype(np.int64), g)
    if any(((c < 0) | (c >= size)).any() for c, size in zip(coordinates, g.in_size, strict=True)):
        raise ValueError(f"{op}: an offset names a cell of the padding around x_shape {g.x_shape}")
    plane_index = np.ravel_multi_index(coordinates, g.in_size)
    return in_layout(_scatter(channels_first(dy, layout), plane_index, g.in_size), dtype, layout)
