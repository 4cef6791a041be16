"""Receptive fields as rows, as plain loops; always float64."""

import numpy as np


def im2col(input_data, filter_h, filter_w, stride=1, pad=0):
    padded = np.pad(input_data, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    N, _, H, W = padded.shape
    OH, OW = (H - filter_h) // stride + 1, (W - filter_w) // stride + 1
    rows = [
        padded[n, :, y : y + filter_h, x : x + filter_w].ravel()
        for n in range(N)
        for y in range(0, H - filter_h + 1, stride)
        for x in range(0, W - filter_w + 1, stride)
    ]
    return np.array(rows, dtype=np.float64).reshape(N * OH * OW, -1)  # fails without rows


def col2im(col, input_shape, filter_h, filter_w, stride=1, pad=0):
    N, C, H, W = input_shape
    padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    OH, OW = padded.shape[2] - filter_h, padded.shape[3] - filter_w
    OH, OW = OH // stride + 1, OW // stride + 1
    rows = iter(col.reshape(N * OH * OW, C, filter_h, filter_w))
    for n in range(N):
        for y in range(0, H + 2 * pad - filter_h + 1, stride):
            for x in range(0, W + 2 * pad - filter_w + 1, stride):
                padded[n, :, y : y + filter_h, x : x + filter_w] += next(rows)
    return padded[:, :, pad : H + pad, pad : W + pad]
