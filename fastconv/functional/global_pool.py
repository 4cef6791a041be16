"""Pooling over whole images: a reduction, which NumPy does well; C finds where a maximum is."""

import numpy as np

from fastconv import _checks, _core, _geometry
from fastconv._geometry import freeze
from fastconv.functional._pool_shape import pool_shape

# Inf - Inf is a NaN by IEEE arithmetic: no cause to warn.
_ieee = np.errstate(all="ignore")


def _spatial_axes(layout):
    return (1, 2) if layout.endswith("C") else (2, 3)


@_ieee
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
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.global_avg_pool2d(np.arange(8.0).reshape(1, 2, 2, 2))[0, :, 0, 0]
    array([1.5, 5.5])
    """
    op = "global_avg_pool2d"
    _checks.check_arrays(op, x=x)
    _geometry.image_sizes(x.shape, layout=freeze(layout), op=op)
    return np.asarray(x).mean(axis=_spatial_axes(layout), keepdims=True)


@_ieee
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
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.global_avg_pool2d_backward(np.full((1, 1, 1, 1), 8.0), (1, 1, 2, 2))[0, 0]
    array([[2., 2.],
           [2., 2.]])
    """
    op = "global_avg_pool2d_backward"
    _checks.check_arrays(op, dy=dy)
    x_shape = freeze(x_shape)
    size = _geometry.image_sizes(x_shape, layout=freeze(layout), op=op)[2]
    g = pool_shape(op, x_shape, size, None, 0, 1, False, "floor", layout)
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, f"x_shape {x_shape}")
    return _core.sum_pool_backward(g, dy, "average")


@_ieee
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
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.global_max_pool2d(np.arange(8.0).reshape(1, 2, 2, 2))[0, :, 0, 0]
    array([3., 7.])
    """
    op = "global_max_pool2d"
    _checks.check_arrays(op, x=x)
    _geometry.image_sizes(x.shape, layout=freeze(layout), op=op)
    return np.asarray(x).max(axis=_spatial_axes(layout), keepdims=True)


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
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[[[1.0, 3.0], [3.0, 2.0]]]])
    >>> fastconv.global_max_pool2d_backward(np.full((1, 1, 1, 1), 5.0), x)[0, 0]
    array([[0., 5.],
           [0., 0.]])
    """
    op = "global_max_pool2d_backward"
    _checks.check_arrays(op, dy=dy, x=x)
    size = _geometry.image_sizes(x.shape, layout=freeze(layout), op=op)[2]
    g = pool_shape(op, x.shape, size, None, 0, 1, False, "floor", layout)
    _checks.check_shape(op, "dy", dy.shape, g.y_shape, f"x of shape {x.shape}")
    return _core.max_pool_backward(g, dy, _core.max_pool(g, x, offsets=True)[1])
