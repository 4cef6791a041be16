"""Receptive fields as columns of a matrix, and back."""

import numpy as np

from fastconv import _checks, _geometry
from fastconv._geometry import freeze
from fastconv.reference._windows import ieee, pad, padded_size, seen_by, taps, unpadded


def _im2col_geometry(op, x_shape, kernel_size, stride, padding, dilation):
    return _geometry.im2col_geometry(
        freeze(x_shape),
        freeze(kernel_size),
        stride=freeze(stride),
        padding=freeze(padding),
        dilation=freeze(dilation),
        op=op,
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

    >>> im2col(np.zeros((1, 3, 227, 227), np.float32), 11, stride=4).shape
    (1, 363, 3025)
    """
    dtype = _checks.check_arrays("im2col", x=x)
    g = _im2col_geometry("im2col", x.shape, kernel_size, stride, padding, dilation)
    padded = pad(x, g)
    cols = np.empty((g.N, g.C, *g.kernel, *g.out_size))
    for tap in taps(g):
        cols[(slice(None), slice(None), *tap)] = padded[seen_by(tap, g)]
    return cols.reshape(_cols_shape(g)).astype(dtype)


@ieee
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

    >>> col2im(np.ones((1, 4, 4)), (1, 1, 3, 3), 2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    dtype = _checks.check_arrays("col2im", cols=cols)
    g = _im2col_geometry("col2im", x_shape, kernel_size, stride, padding, dilation)
    reason = f"x_shape {g.x_shape} with kernel {g.kernel}"
    _checks.check_shape("col2im", "cols", cols.shape, _cols_shape(g), reason)
    cells = cols.reshape(g.N, g.C, *g.kernel, *g.out_size)
    padded = np.zeros((g.N, g.C, *padded_size(g)))
    for tap in taps(g):
        padded[seen_by(tap, g)] += cells[(slice(None), slice(None), *tap)]
    return padded[unpadded(g)].astype(dtype)


def _cols_shape(g):
    return (g.N, g.C * int(np.prod(g.kernel)), int(np.prod(g.out_size)))
