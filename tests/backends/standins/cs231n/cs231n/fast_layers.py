"""Convolution and max pooling with the caches of the course's."""

from contextlib import suppress

import numpy as np

with suppress(ImportError):
    from .im2col_cython import col2im_6d_cython, col2im_cython, im2col_cython  # noqa: F401

from .im2col import *  # noqa: F403
from .im2col import col2im_indices, im2col_indices


def conv_forward_strides(x, w, b, conv_param):
    N, F, (HH, WW) = len(x), len(w), w.shape[2:]
    stride, pad = conv_param["stride"], conv_param["pad"]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    H, W = padded.shape[2:]
    places = [(i, j) for i in range(0, H - HH + 1, stride) for j in range(0, W - WW + 1, stride)]
    x_cols = np.array(
        [padded[n, :, i : i + HH, j : j + WW].ravel() for n in range(N) for i, j in places]
    ).T
    res = w.reshape(F, -1) @ x_cols + b.reshape(-1, 1)
    out = res.reshape(F, N, (H - HH) // stride + 1, -1).transpose(1, 0, 2, 3)
    return np.ascontiguousarray(out), (x, w, b, conv_param, x_cols)


def conv_backward_strides(dout, cache):
    x, w, _, conv_param, x_cols = cache
    F, stride, pad = len(w), conv_param["stride"], conv_param["pad"]
    rows = dout.transpose(1, 0, 2, 3).reshape(F, -1)
    cols6d = (w.reshape(F, -1).T @ rows).reshape(*w.shape[1:], len(x), *dout.shape[2:])
    dx = col2im_6d_cython(cols6d, *x.shape, *w.shape[2:], pad, stride)
    return dx, (rows @ x_cols.T).reshape(w.shape), dout.sum(axis=(0, 2, 3))


def conv_forward_im2col(x, w, b, conv_param):
    N, F, (HH, WW) = len(x), len(w), w.shape[2:]
    stride, pad = conv_param["stride"], conv_param["pad"]
    OH = (x.shape[2] + 2 * pad - HH) // stride + 1
    x_cols = im2col_indices(x, HH, WW, pad, stride)
    res = w.reshape(F, -1) @ x_cols + b.reshape(-1, 1)
    return res.reshape(F, OH, -1, N).transpose(3, 0, 1, 2), (x, w, b, conv_param, x_cols)


def conv_backward_im2col(dout, cache):
    x, w, _, conv_param, x_cols = cache
    F, stride, pad = len(w), conv_param["stride"], conv_param["pad"]
    rows = dout.transpose(1, 2, 3, 0).reshape(F, -1)
    dx = col2im_indices(w.reshape(F, -1).T @ rows, x.shape, *w.shape[2:], pad, stride)
    return dx, (rows @ x_cols.T).reshape(w.shape), dout.sum(axis=(0, 2, 3))


conv_forward_fast = conv_forward_strides
conv_backward_fast = conv_backward_strides


def max_pool_forward_fast(x, pool_param):
    height, width, stride = (pool_param[k] for k in ("pool_height", "pool_width", "stride"))
    if height == width == stride and x.shape[2] % height == x.shape[3] % width == 0:
        out, cache = max_pool_forward_reshape(x, pool_param)
        return out, ("reshape", cache)
    out, cache = max_pool_forward_im2col(x, pool_param)
    return out, ("im2col", cache)


def max_pool_backward_fast(dout, cache):
    method, cache = cache
    functions = {"reshape": max_pool_backward_reshape, "im2col": max_pool_backward_im2col}
    return functions[method](dout, cache)


def max_pool_forward_reshape(x, pool_param):
    size = pool_param["stride"]
    N, C, H, W = x.shape
    x_reshaped = x.reshape(N, C, H // size, size, W // size, size)
    out = x_reshaped.max(axis=3).max(axis=4)
    return out, (x, x_reshaped, out)


def max_pool_backward_reshape(dout, cache):
    x, x_reshaped, out = cache
    mask = x_reshaped == out[:, :, :, None, :, None]
    dx = np.zeros_like(x_reshaped)
    dx[...] = mask * dout[:, :, :, None, :, None] / mask.sum(axis=(3, 5), keepdims=True)
    return dx.reshape(x.shape)


def max_pool_forward_im2col(x, pool_param):
    height, width, stride = (pool_param[k] for k in ("pool_height", "pool_width", "stride"))
    N, C, H, W = x.shape
    assert (H - height) % stride == 0 and (W - width) % stride == 0, "Invalid size"
    x_cols = im2col_indices(x.reshape(N * C, 1, H, W), height, width, padding=0, stride=stride)
    x_cols_argmax = x_cols.argmax(axis=0)
    out = x_cols.max(axis=0).reshape((H - height) // stride + 1, -1, N, C).transpose(2, 3, 0, 1)
    return out, (x, x_cols, x_cols_argmax, pool_param)


def max_pool_backward_im2col(dout, cache):
    x, x_cols, x_cols_argmax, pool_param = cache
    height, width, stride = (pool_param[k] for k in ("pool_height", "pool_width", "stride"))
    dx_cols = np.zeros_like(x_cols)
    dx_cols[x_cols_argmax, np.arange(dx_cols.shape[1])] = dout.transpose(2, 3, 0, 1).ravel()
    planes = (x.shape[0] * x.shape[1], 1, *x.shape[2:])
    dx = col2im_indices(dx_cols, planes, height, width, padding=0, stride=stride)
    return dx.reshape(x.shape)
