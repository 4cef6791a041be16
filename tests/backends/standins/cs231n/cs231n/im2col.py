"""Receptive fields as columns, in the order (oh, ow, n)."""

import numpy as np


def _places(x_shape, HH, WW, padding, stride):
    H, W = (size + 2 * padding for size in x_shape[2:])
    assert (H - HH) % stride == 0 and (W - HH) % stride == 0
    return [(y, x) for y in range(0, H - HH + 1, stride) for x in range(0, W - WW + 1, stride)]


def im2col_indices(x, field_height, field_width, padding=1, stride=1):
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    cols = [
        padded[n, :, i : i + field_height, j : j + field_width].ravel()
        for i, j in _places(x.shape, field_height, field_width, padding, stride)
        for n in range(len(x))
    ]
    return np.ascontiguousarray(np.array(cols).T)


def col2im_indices(cols, x_shape, field_height=3, field_width=3, padding=1, stride=1):
    N, C, H, W = x_shape
    padded = np.zeros((N, C, H + 2 * padding, W + 2 * padding), cols.dtype)
    fields = iter(cols.T)
    for i, j in _places(x_shape, field_height, field_width, padding, stride):
        for n in range(N):
            field = next(fields).reshape(C, field_height, field_width)
            padded[n, :, i : i + field_height, j : j + field_width] += field
    return padded[:, :, padding : H + padding, padding : W + padding]
