"""Receptive fields as columns of a matrix, and back."""

from functools import lru_cache

from fastconv import _checks, _core, _geometry
from fastconv._geometry import freeze


@lru_cache(maxsize=4096, typed=True)
def _cached(op, x_shape, kernel_size, stride, padding, dilation):
    return _core.Conv(
        _geometry.im2col_geometry(
            x_shape, kernel_size, stride=stride, padding=padding, dilation=dilation, op=op
        )
    )


def _shape(op, x_shape, kernel_size, stride, padding, dilation):
    return _cached(
        op, x_shape, freeze(kernel_size), freeze(stride), freeze(padding), freeze(dilation)
    )


def im2col(x, kernel_size, *, stride=1, padding=0, dilation=1):
    """Stretch out every receptive field of an image into a column of a matrix.

    A convolution then is one matrix product: `w.reshape(OC, -1) @ im2col(x, ...)`. The matrix
    repeats every cell of the image up to KH * KW times, which is the price of the method.

    Parameters
    ----------
    x : ndarray, (N, C, W), (N, C, H, W) or (N, C, D, H, W)
        Images, float32 or float64.
    kernel_size : int or tuple of int
        Size of the receptive field.
    stride, padding, dilation : optional
        As in `conv2d`.

    Returns
    -------
    ndarray, (N, C * KH * KW, OH * OW)
        Rows in the order c, kh, kw; columns in the order oh, ow.

    References
    ----------
    CS231n, "Convolutional Networks", "Implementation as Matrix Multiplication".

    Examples
    --------
    The lecture's example: a 227x227x3 image, 11x11 filters at stride 4, gives 3025 columns of 363.

    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.im2col(np.zeros((1, 3, 227, 227), np.float32), 11, stride=4).shape
    (1, 363, 3025)
    """
    _checks.check_arrays("im2col", x=x)
    return _core.im2col(_shape("im2col", x.shape, kernel_size, stride, padding, dilation), x)


def col2im(cols, x_shape, kernel_size, *, stride=1, padding=0, dilation=1):
    """Add every column of `im2col`'s matrix back onto the cells it came from.

    It is the transpose of `im2col` as a linear map, <im2col(x), c> = <x, col2im(c)>, so it carries
    the gradient of the columns to the image. Cells in several receptive fields get a sum.

    Parameters
    ----------
    cols : ndarray, (N, C * KH * KW, OH * OW)
        Columns, float32 or float64.
    x_shape : tuple of int
        Shape of the image, (N, C, W), (N, C, H, W) or (N, C, D, H, W).
    kernel_size, stride, padding, dilation
        As in `im2col`.

    Returns
    -------
    ndarray of shape `x_shape`

    References
    ----------
    CS231n, "Convolutional Networks", "Implementation as Matrix Multiplication".

    Examples
    --------
    How many 2x2 receptive fields see each cell of a 3x3 image:

    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.col2im(np.ones((1, 4, 4)), (1, 1, 3, 3), 2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    _checks.check_arrays("col2im", cols=cols)
    g = _shape("col2im", freeze(x_shape), kernel_size, stride, padding, dilation)
    reason = f"x_shape {g.x_shape} with kernel {g.geometry.kernel}"
    _checks.check_shape("col2im", "cols", cols.shape, g.cols_shape, reason)
    return _core.col2im(g, cols)
