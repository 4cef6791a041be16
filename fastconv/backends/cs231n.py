"""CS231n, assignment 2: ``cs231n/fast_layers.py``, without compiling ``im2col_cython``.

Replaced are the convolutions and the max pooling of ``fast_layers``, which the sandwich layers of
``layer_utils`` call, and `im2col_indices` and `col2im_indices` of ``cs231n.im2col``;
``cs231n.im2col_cython`` is there without a compiler. What the student writes in ``layers.py`` stays
as it is. What to know about the originals:

- The last entry of a convolution's cache is the matrix of columns. Here it is None: the gradients
  come from x and w, which therefore must not be changed between the two passes.
- `conv_forward_im2col` returns a transposed view with the images last in memory, and refuses sizes
  that leave a rest; `conv_forward_strides`, which is also `conv_forward_fast`, does neither.
- If several cells of a window hold the maximum, `max_pool_backward_reshape` gives each an equal
  share of the gradient, and `max_pool_backward_im2col` gives all of it to the first. So does this
  backend, unless ``ties="first"`` or ``ties="split"`` says it for both.
"""

from functools import partial

import numpy as np

import fastconv
from fastconv.backends import _cs231n_im2col
from fastconv.backends._arrays import fast
from fastconv.backends._backend import Backend, Replacement
from fastconv.functional import max_pool_window, max_pool_window_backward


def backend(*, ties: str | None = None) -> Backend:
    """The backend; `ties` is "first", "split", or None for what each of the originals does."""
    if ties not in (None, "first", "split"):
        raise ValueError(f"ties must be 'first', 'split' or None, got {ties!r}")
    package = "cs231n.fast_layers"
    functions = {
        "conv_forward_strides": conv_forward_strides,
        "conv_backward_strides": partial(conv_backward, (1, 0, 2)),
        "conv_forward_im2col": conv_forward_im2col,
        "conv_backward_im2col": partial(conv_backward, (1, 2, 0)),
        "max_pool_forward_reshape": max_pool_forward_reshape,
        "max_pool_backward_reshape": partial(max_pool_backward_reshape, ties or "split"),
        "max_pool_forward_im2col": max_pool_forward_im2col,
        "max_pool_backward_im2col": partial(max_pool_backward_im2col, ties or "first"),
    }
    return Backend(
        package=package,
        needs="the folder cs231n of CS231n's assignment 2 (cs231n.github.io)",
        # everywhere: other names for the same (conv_forward_fast), and what notebooks import
        replacements=(
            *(Replacement(f"{package}.{n}", f, everywhere=True) for n, f in functions.items()),
            Replacement("cs231n.im2col.im2col_indices", im2col_indices, everywhere=True),
            Replacement("cs231n.im2col.col2im_indices", col2im_indices, everywhere=True),
        ),
        modules={"cs231n.im2col_cython": _cs231n_im2col},
    )


def conv_forward_strides(original, x, w, b, conv_param):
    y = _conv(x, w, b, conv_param)
    if y is None:
        return original(x, w, b, conv_param)
    return y, (x, w, b, conv_param, None)


def conv_forward_im2col(original, x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    fits = not any((x.shape[i] + 2 * pad - w.shape[i]) % stride for i in (2, 3))
    y = _conv(x, w, b, conv_param) if fits else None
    if y is None:
        return original(x, w, b, conv_param)
    y = np.ascontiguousarray(y.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    return y, (x, w, b, conv_param, None)


def conv_backward(order, original, dout, cache):
    x, w, b, conv_param, x_cols = cache
    given = _floats(dout, x, w)
    stride, pad = conv_param["stride"], conv_param["pad"]
    if x_cols is None and not given:  # the original needs the columns, in its order
        cols = fastconv.im2col(x, w.shape[2:], stride=stride, padding=pad)
        x_cols = cols.transpose(order).reshape(cols.shape[1], -1)
        cache = x, w, b, conv_param, x_cols
    if x_cols is not None:  # forward was the original, or it has to see to this
        return original(dout, cache)
    dx, dw, db = fastconv.conv2d_backward(*given, stride=stride, padding=pad)
    return (
        dx.astype(np.result_type(w, dout), copy=False),
        dw.astype(np.result_type(x, dout), copy=False),
        db.astype(dout.dtype, copy=False),
    )


def max_pool_forward_reshape(original, x, pool_param):
    height, width, stride = _window(pool_param)
    tiles = height == width == stride and not (x.shape[2] % height or x.shape[3] % width)
    if not fast(x) or not tiles:
        return original(x, pool_param)
    y = _in_order_of(x[:, :, ::height, ::width], fastconv.max_pool2d(x, height))
    tiled = x.reshape(*x.shape[:2], y.shape[2], height, y.shape[3], width)
    return y, (x, tiled, y)


def max_pool_backward_reshape(ties, original, dout, cache):
    x, _, y = cache
    given = _floats(dout, x, y)
    if not given or x.size == 0:
        return original(dout, cache)
    dy, x_float, y = given
    size = x.shape[2] // y.shape[2]
    if ties == "first":
        _, offsets = max_pool_window(x_float, size)
        dx = max_pool_window_backward(dy, offsets, x.shape, size)
    else:
        dx = _split(dy, x_float, y, size, size, size)
        if dx is None:
            return original(dout, cache)
    return _in_order_of(x, dx.astype(x.dtype, copy=False))


def max_pool_forward_im2col(original, x, pool_param):
    height, width, stride = _window(pool_param)
    fits = not ((x.shape[2] - height) % stride or (x.shape[3] - width) % stride)
    if not fast(x) or not fits:
        return original(x, pool_param)
    y, offsets = max_pool_window(x, (height, width), stride=stride)
    # images and channels last in memory, as the original's columns have them
    y = np.ascontiguousarray(y.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
    return y, (x, None, offsets, pool_param)


def max_pool_backward_im2col(ties, original, dout, cache):
    x, x_cols, offsets, pool_param = cache
    given = _floats(dout, x)
    height, width, stride = _window(pool_param)
    if x_cols is None and not given:  # the original needs the columns
        planes = x.reshape(-1, 1, *x.shape[2:])
        x_cols = _cs231n_im2col.im2col_cython(planes, height, width, 0, stride)
        cache = x, x_cols, offsets.transpose(2, 3, 0, 1).ravel(), pool_param
    if x_cols is not None:  # forward was the original, or it has to see to this
        return original(dout, cache)
    dy, x_float = given
    dx = None
    if ties == "split":
        y = fastconv.max_pool2d(x_float, (height, width), stride=stride)
        dx = _split(dy, x_float, y, height, width, stride)
    if dx is None:
        dx = max_pool_window_backward(dy, offsets, x.shape, (height, width), stride=stride)
    return dx.astype(x.dtype, copy=False)


def im2col_indices(original, x, field_height, field_width, padding=1, stride=1):
    if not fast(x) or not _fits(x.shape, field_height, field_width, padding, stride):
        return original(x, field_height, field_width, padding, stride)
    return _cs231n_im2col.im2col_cython(x, field_height, field_width, padding, stride)


def col2im_indices(original, cols, x_shape, field_height=3, field_width=3, padding=1, stride=1):
    if not fast(cols) or not _fits(x_shape, field_height, field_width, padding, stride):
        return original(cols, x_shape, field_height, field_width, padding, stride)
    N, C, H, W = x_shape
    cols = cols.reshape(C * field_height * field_width, -1)
    return _cs231n_im2col.col2im_cython(
        cols, N, C, H, W, field_height, field_width, padding, stride
    )


def _conv(x, w, b, conv_param):
    """The convolution; None if the original has to see to it."""
    given = _floats(x, w, b)
    if not given or b.size != len(w):
        return None
    x, w, b = given
    return fastconv.conv2d(
        x, w, b.reshape(-1), stride=conv_param["stride"], padding=conv_param["pad"]
    )


def _split(dy, x, y, height, width, stride):
    """Gradient of max pooling, in equal shares for all cells of a window that hold its maximum.

    Returns None if a share is not finite: a window with NaN, or a gradient out of range.
    """
    OH, OW = y.shape[2:]
    windows = [
        np.s_[:, :, i : i + stride * OH : stride, j : j + stride * OW : stride]
        for i in range(height)
        for j in range(width)
    ]
    masks = [x[window] == y for window in windows]
    count = np.zeros(y.shape, np.int32)
    for mask in masks:
        count += mask
    with np.errstate(all="ignore"):
        share = np.divide(dy, count, dtype=dy.dtype)
    if not np.isfinite(share).all():
        return None
    dx = np.zeros(x.shape, x.dtype)
    apart = stride >= max(height, width)
    for window, mask in zip(windows, masks, strict=True):
        if apart:
            np.multiply(mask, share, out=dx[window])
        else:
            dx[window] += mask * share
    return dx


def _floats(*arrays):
    """Arrays of float32 and float64, in the wider of their dtypes; None if there is another."""
    if not all(map(fast, arrays)):
        return None
    dtype = np.result_type(*arrays)
    return [array.astype(dtype, copy=False) for array in arrays]


def _window(pool_param):
    return pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]


def _fits(shape, height, width, padding, stride):
    """Whether the original takes this: it asserts that the height divides both sizes."""
    N, C, H, W = (n + 2 * p for n, p in zip(shape, (0, 0, padding, padding), strict=True))
    return (
        N * C
        and height <= H
        and width <= W
        and not ((H - height) % stride or (W - height) % stride)
    )


def _in_order_of(model, array):
    """The array with its axes in memory as NumPy leaves them where it reduces or copies `model`."""
    like = np.empty_like(model, dtype=array.dtype)
    if like.strides == array.strides:
        return array
    like[...] = array
    return like
