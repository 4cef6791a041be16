"""Max pooling and its gradient."""

from functools import lru_cache

import numpy as np

from fastconv import _checks, _core, _geometry
from fastconv._geometry import freeze
from fastconv.functional._pool_shape import pool_shape

_INT64 = np.dtype(np.int64)


def _pool_max(
    op, x, kernel_size, stride, padding, dilation, ceil_mode, fit, layout, return_indices
):
    _checks.check_arrays(op, x=x)
    g = pool_shape(op, x.shape, kernel_size, stride, padding, dilation, ceil_mode, fit, layout)
    y, indices = _core.max_pool(g, x, indices=return_indices)
    return (y, indices) if return_indices else y


@lru_cache(maxsize=4096, typed=True)
def _unpool_shape(op, x_shape, y_shape, layout):
    """Planes of x_shape and of y_shape; how the windows lay is not known and does not matter."""
    N, C, size = _geometry.image_sizes(x_shape, layout=layout, op=op)
    channel_axis = len(size) + 1 if layout.endswith("C") else 1
    if len(y_shape) != len(size) + 2 or (y_shape[0], y_shape[channel_axis]) != (N, C):
        raise ValueError(
            f"{op}: dy has shape {y_shape}, but x_shape {x_shape} calls for {len(size) + 2} "
            f"dimensions with {N} images and {C} channels ({layout})"
        )
    out = y_shape[1:-1] if layout.endswith("C") else y_shape[2:]
    if 0 in out:
        raise ValueError(f"{op}: dy of shape {y_shape} has no outputs")
    one, zero = (1,) * len(size), (0,) * len(size)
    return _core.Pool(
        _geometry.PoolGeometry(len(size), layout, N, C, size, one, one, one, zero, zero, out, False)
    )


def _pool_max_backward(op, dy, indices, x_shape, layout):
    _checks.check_arrays(op, dy=dy)
    g = _unpool_shape(op, freeze(x_shape), dy.shape, freeze(layout))
    _checks.check_indices(op, "indices", indices, _INT64, dy.shape, f"dy of shape {dy.shape}")
    try:
        return _core.unpool(g, dy, indices)
    except ValueError:
        size = int(np.prod(g.geometry.in_size))
        _checks.check_range(op, "indices", indices, size, f"x_shape {g.x_shape}")
        raise


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

    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    >>> y, indices = fastconv.max_pool2d(x.reshape(1, 1, 4, 4), 2, return_indices=True)
    >>> y[0, 0]
    array([[6., 8.],
           [3., 4.]])
    >>> indices[0, 0]
    array([[ 5,  7],
           [ 8, 15]])
    """
    return _pool_max(
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
    return _pool_max(
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
    return _pool_max(
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
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> y, indices = fastconv.max_pool2d(x, 2, return_indices=True)
    >>> fastconv.max_pool2d_backward(np.full_like(y, 5.0), indices, x.shape)[0, 0]
    array([[0., 0.],
           [0., 5.]])
    """
    return _pool_max_backward("max_pool2d_backward", dy, indices, x_shape, layout)


def max_pool1d_backward(dy, indices, x_shape, *, layout="NCW"):
    """Gradient of `max_pool1d`; see `max_pool2d_backward`."""
    return _pool_max_backward("max_pool1d_backward", dy, indices, x_shape, layout)


def max_pool3d_backward(dy, indices, x_shape, *, layout="NCDHW"):
    """Gradient of `max_pool3d`; see `max_pool2d_backward`."""
    return _pool_max_backward("max_pool3d_backward", dy, indices, x_shape, layout)


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
    >>> import numpy as np
    >>> import fastconv
    >>> y, offsets = fastconv.max_pool_window(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    >>> offsets[0, 0]
    array([[3, 3],
           [3, 3]], dtype=uint8)
    """
    op = "max_pool_window"
    _checks.check_arrays(op, x=x)
    g = pool_shape(op, x.shape, kernel_size, stride, padding, dilation, ceil_mode, fit, layout)
    return _core.max_pool(g, x, offsets=True)


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
        If shapes do not suit each other. (An offset that names no cell of the image, which
        `max_pool_window` never gives, hands its gradient to nobody.)

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> y, offsets = fastconv.max_pool_window(np.arange(4.0).reshape(1, 1, 2, 2), 2)
    >>> fastconv.max_pool_window_backward(np.full_like(y, 5.0), offsets, (1, 1, 2, 2), 2)[0, 0]
    array([[0., 0.],
           [0., 5.]])
    """
    op = "max_pool_window_backward"
    _checks.check_arrays(op, dy=dy)
    g = pool_shape(
        op, freeze(x_shape), kernel_size, stride, padding, dilation, ceil_mode, fit, layout
    )
    reason = f"x_shape {g.x_shape} with kernel {g.geometry.kernel}"
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, reason)
    _checks.check_indices(op, "offsets", offsets, g.offset_dtype, g.y_shape, reason)
    return _core.max_pool_backward(g, dy, offsets)
