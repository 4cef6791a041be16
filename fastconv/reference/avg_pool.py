"""Average pooling and its gradient."""

import numpy as np

from fastconv import _checks
from fastconv.reference._windows import (
    channels_first,
    ieee,
    in_layout,
    pad,
    padded_size,
    pool_geometry,
    real_cells,
    seen_by,
    sum_windows,
    taps,
    unpadded,
)


def _spread_windows(dy, g):
    """Gradient of `sum_windows`: each output hands its gradient to all cells of its window."""
    padded = np.zeros((g.N, g.C, *padded_size(g)))
    for tap in taps(g):
        padded[seen_by(tap, g)] += dy
    return padded[unpadded(g)]


def _window_counts(g, count_include_pad):
    """By how many cells each window's sum is divided; cells beyond the padding never count."""
    counted = real_cells(g)
    if count_include_pad:
        ends = [sum(sizes) for sizes in zip(g.pad_begin, g.in_size, g.pad_end, strict=True)]
        counted[tuple([slice(end) for end in ends])] = True
    return sum_windows(counted.astype(np.float64), g)


@ieee
def pool_avg(op, x, kernel_size, stride, padding, ceil_mode, fit, count_include_pad, layout):
    dtype = _checks.check_arrays(op, x=x)
    g = pool_geometry(op, x.shape, kernel_size, stride, padding, 1, ceil_mode, fit, layout)
    sums = sum_windows(pad(channels_first(x, layout), g), g)
    return in_layout(sums / _window_counts(g, count_include_pad), dtype, layout)


@ieee
def pool_avg_backward(
    op, dy, x_shape, kernel_size, stride, padding, ceil_mode, fit, count_include_pad, layout
):
    dtype = _checks.check_arrays(op, dy=dy)
    g = pool_geometry(op, x_shape, kernel_size, stride, padding, 1, ceil_mode, fit, layout)
    reason = f"x_shape {g.x_shape} with kernel {g.kernel}"
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)
    shares = channels_first(dy, layout) / _window_counts(g, count_include_pad)
    return in_layout(_spread_windows(shares, g), dtype, layout)


def avg_pool2d(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    ceil_mode=False,
    fit="floor",
    count_include_pad=True,
    layout="NCHW",
):
    """Mean of each window of each channel.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    kernel_size, stride, padding, ceil_mode, fit, layout
        As in `max_pool2d`; cells of the padding are zeros.
    count_include_pad : bool, optional
        Divide by the number of cells of the window inside image and padding; otherwise inside the
        image. Cells beyond the padding, which `ceil_mode` may reach, never count.

    Returns
    -------
    ndarray, (N, C, OH, OW)

    References
    ----------
    CS231n, "Convolutional Networks", section "Pooling Layer", "General pooling".

    Examples
    --------
    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    return pool_avg(
        "avg_pool2d", x, kernel_size, stride, padding, ceil_mode, fit, count_include_pad, layout
    )


def avg_pool1d(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    ceil_mode=False,
    fit="floor",
    count_include_pad=True,
    layout="NCW",
):
    """Mean of each window of a sequence; see `avg_pool2d`."""
    return pool_avg(
        "avg_pool1d", x, kernel_size, stride, padding, ceil_mode, fit, count_include_pad, layout
    )


def avg_pool3d(
    x,
    kernel_size,
    *,
    stride=None,
    padding=0,
    ceil_mode=False,
    fit="floor",
    count_include_pad=True,
    layout="NCDHW",
):
    """Mean of each window of a volume; see `avg_pool2d`."""
    return pool_avg(
        "avg_pool3d", x, kernel_size, stride, padding, ceil_mode, fit, count_include_pad, layout
    )


def avg_pool2d_backward(
    dy,
    x_shape,
    kernel_size,
    *,
    stride=None,
    padding=0,
    ceil_mode=False,
    fit="floor",
    count_include_pad=True,
    layout="NCHW",
):
    """Gradient of `avg_pool2d`: each output spreads its gradient evenly over its window.

    Parameters
    ----------
    dy : ndarray, (N, C, OH, OW)
        Gradient of the loss for the output, in the order of `layout`.
    x_shape : tuple of int
        Shape of the pooling's input.
    kernel_size, stride, padding, ceil_mode, fit, count_include_pad, layout
        As in `avg_pool2d`.

    Returns
    -------
    ndarray of shape `x_shape`

    Examples
    --------
    >>> avg_pool2d_backward(np.full((1, 1, 1, 1), 8.0), (1, 1, 2, 2), 2)[0, 0]
    array([[2., 2.],
           [2., 2.]])
    """
    return pool_avg_backward(
        "avg_pool2d_backward",
        dy,
        x_shape,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        fit,
        count_include_pad,
        layout,
    )


def avg_pool1d_backward(
    dy,
    x_shape,
    kernel_size,
    *,
    stride=None,
    padding=0,
    ceil_mode=False,
    fit="floor",
    count_include_pad=True,
    layout="NCW",
):
    """Gradient of `avg_pool1d`; see `avg_pool2d_backward`."""
    return pool_avg_backward(
        "avg_pool1d_backward",
        dy,
        x_shape,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        fit,
        count_include_pad,
        layout,
    )


def avg_pool3d_backward(
    dy,
    x_shape,
    kernel_size,
    *,
    stride=None,
    padding=0,
    ceil_mode=False,
    fit="floor",
    count_include_pad=True,
    layout="NCDHW",
):
    """Gradient of `avg_pool3d`; see `avg_pool2d_backward`."""
    return pool_avg_backward(
        "avg_pool3d_backward",
        dy,
        x_shape,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        fit,
        count_include_pad,
        layout,
    )
