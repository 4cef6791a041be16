"""Pooling over whole images: a window as large as the image."""

from fastconv import _checks, _geometry
from fastconv._geometry import freeze
from fastconv.reference.avg_pool import pool_avg, pool_avg_backward
from fastconv.reference.max_pool import pool_max, pool_max_backward


def global_avg_pool2d(x, *, layout="NCHW"):
    """Mean of each channel.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes of x and y.

    Returns
    -------
    ndarray, (N, C, 1, 1) or (N, 1, 1, C)

    Examples
    --------
    >>> global_avg_pool2d(np.arange(8.0).reshape(1, 2, 2, 2))[0, :, 0, 0]
    array([1.5, 5.5])
    """
    op = "global_avg_pool2d"
    _checks.check_arrays(op, x=x)
    size = _geometry.image_sizes(x.shape, layout=freeze(layout), op=op)[2]
    return pool_avg(op, x, size, None, 0, False, "floor", True, layout)


def global_avg_pool2d_backward(dy, x_shape, *, layout="NCHW"):
    """Gradient of `global_avg_pool2d`: dy / (H * W) in every cell.

    Parameters
    ----------
    dy : ndarray, (N, C, 1, 1) or (N, 1, 1, C)
        Gradient of the loss for the output.
    x_shape : tuple of int
        Shape of the pooling's input.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes.

    Returns
    -------
    ndarray of shape `x_shape`

    Examples
    --------
    >>> global_avg_pool2d_backward(np.full((1, 1, 1, 1), 8.0), (1, 1, 2, 2))[0, 0]
    array([[2., 2.],
           [2., 2.]])
    """
    op = "global_avg_pool2d_backward"
    _checks.check_arrays(op, dy=dy)
    size = _geometry.image_sizes(freeze(x_shape), layout=freeze(layout), op=op)[2]
    return pool_avg_backward(op, dy, x_shape, size, None, 0, False, "floor", True, layout)


def global_max_pool2d(x, *, layout="NCHW"):
    """Maximum of each channel; a NaN wins over numbers.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes of x and y.

    Returns
    -------
    ndarray, (N, C, 1, 1) or (N, 1, 1, C)

    Examples
    --------
    >>> global_max_pool2d(np.arange(8.0).reshape(1, 2, 2, 2))[0, :, 0, 0]
    array([3., 7.])
    """
    op = "global_max_pool2d"
    _checks.check_arrays(op, x=x)
    size = _geometry.image_sizes(x.shape, layout=freeze(layout), op=op)[2]
    return pool_max(op, x, size, None, 0, 1, False, "floor", layout, False)


def global_max_pool2d_backward(dy, x, *, layout="NCHW"):
    """Gradient of `global_max_pool2d`: all of it goes to the cell `max_pool2d` would pick.

    Parameters
    ----------
    dy : ndarray, (N, C, 1, 1) or (N, 1, 1, C)
        Gradient of the loss for the output.
    x : ndarray
        Input of the pooling.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes.

    Returns
    -------
    ndarray of the shape of x

    Examples
    --------
    >>> x = np.array([[[[1.0, 3.0], [3.0, 2.0]]]])
    >>> global_max_pool2d_backward(np.full((1, 1, 1, 1), 5.0), x)[0, 0]
    array([[0., 5.],
           [0., 0.]])
    """
    op = "global_max_pool2d_backward"
    _checks.check_arrays(op, dy=dy, x=x)
    size = _geometry.image_sizes(x.shape, layout=freeze(layout), op=op)[2]
    y, indices = pool_max(op, x, size, None, 0, 1, False, "floor", layout, True)
    _checks.check_shape(op, "dy", dy.shape, y.shape, f"x of shape {x.shape}")
    return pool_max_backward(op, dy, indices, x.shape, layout)
