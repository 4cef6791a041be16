"""What the compiled module ``cs231n.im2col_cython`` has, without compiling it.

A matrix of columns has the order (c, kh, kw) in its rows. In its columns there are two orders: most
functions of the course have the images last, (oh, ow, n), `col2im_6d_cython` has them first.
"""

import numpy as np

import fastconv


def im2col_cython(x, field_height, field_width, padding, stride):
    """Receptive fields as columns, in the order (oh, ow, n)."""
    # With the images as a third axis, over which a window of 1 slides, they come out last.
    volume = x.transpose(1, 2, 3, 0)[None]
    return fastconv.im2col(
        volume,
        (field_height, field_width, 1),
        stride=(stride, stride, 1),
        padding=(padding, padding, 0),
    )[0]


def col2im_cython(cols, N, C, H, W, field_height, field_width, padding, stride):
    """The transpose of `im2col_cython`: columns added back onto the cells that they came from."""
    volume = fastconv.col2im(
        cols[None],
        (1, C, H, W, N),
        (field_height, field_width, 1),
        stride=(stride, stride, 1),
        padding=(padding, padding, 0),
    )
    return np.ascontiguousarray(volume[0].transpose(3, 0, 1, 2))


def col2im_6d_cython(cols, N, C, H, W, HH, WW, pad, stride):
    """The same for columns of the shape (C, HH, WW, N, oh, ow)."""
    volume = fastconv.col2im(
        cols.reshape(1, C * HH * WW, -1),
        (1, C, N, H, W),
        (1, HH, WW),
        stride=(1, stride, stride),
        padding=(0, pad, pad),
    )
    return np.ascontiguousarray(volume[0].transpose(1, 0, 2, 3))
