"""Max and average pooling, and their gradients."""

import numpy as np

import fastconv
from fastconv.backends.chainer._windows import (
    FIRST,
    LAST,
    TO_FIRST,
    TO_LAST,
    Windows,
    channels_last,
    in_c_order,
    takes,
)
from fastconv.functional.max_pool import max_pool_window, max_pool_window_backward


def max_pooling(original, self, x):
    """Maxima, and where in its window each is: in ``self.indexes``, as the original has them."""
    (image,) = x
    arguments = _arguments(self, image.shape, self.cover_all)
    if not (arguments and takes(image)):
        return original(self, x)
    y, offsets = _on(image, max_pool_window, ceil_mode=bool(self.cover_all), **arguments)
    self._in_shape, self._in_dtype = image.shape, image.dtype
    self.indexes = offsets.astype(np.int64, order="C")
    return (y,)


def max_pooling_gradient(original, self, gy):
    """Each maximum hands its gradient to the cell that it came from."""
    (slopes,), node = gy, self.func
    arguments = _arguments(node, node._in_shape, node.cover_all)
    if not (arguments and takes(slopes) and slopes.dtype == node._in_dtype):
        return original(self, gy)
    narrow = np.uint8 if np.prod(node.ksize) <= 255 else np.int32
    gx = max_pool_window_backward(
        slopes,
        node.indexes.astype(narrow),
        node._in_shape,
        ceil_mode=bool(node.cover_all),
        layout=FIRST[slopes.ndim - 2],
        **arguments,
    )
    return (gx,)


def max_pooling_with_indexes(original, self, x):
    """What lies where the maxima were: the gradient of the gradient."""
    (image,), node = x, self.func
    sizes = image.shape[2:]
    if not (_arguments(node, image.shape, node.cover_all) and takes(image)):
        return original(self, x)
    taps = np.unravel_index(node.indexes, node.ksize)
    place = 0
    outside = False  # only where all cells of a window are -inf, like those around the image
    for axis, (tap, size) in enumerate(zip(taps, sizes, strict=True)):
        starts = np.arange(tap.shape[2 + axis]) * node.stride[axis] - node.pad[axis]
        cell = tap + starts.reshape(-1, *[1] * (len(sizes) - axis - 1))
        outside |= (cell < 0) | (cell >= size)
        place = place * size + cell
    if outside.any():
        return original(self, x)
    flat = image.reshape(*image.shape[:2], -1)
    y = np.take_along_axis(flat, place.reshape(*image.shape[:2], -1), axis=2)
    return (y.reshape(node.indexes.shape),)


def average_pooling_2d(original, self, x):
    """Averages; cells around the image are zeros and count."""
    (image,) = x
    arguments = _arguments(self, image.shape)
    if not (arguments and takes(image)):
        return original(self, x)
    self._in_shape, self._in_dtype = image.shape, image.dtype
    return (_on(image, fastconv.avg_pool2d, **arguments),)


def average_pooling_2d_gradient(original, self, gy):
    """Each cell of a window gets its share of the gradient."""
    (slopes,) = gy
    arguments = _arguments(self, self._in_shape)
    if not (arguments and takes(slopes)):
        return original(self, gy)
    return (fastconv.avg_pool2d_backward(slopes, self._in_shape, **arguments),)


def average_pooling_nd(original, self, inputs):
    """Averages in 1-D to 3-D; with ``pad_value=None`` cells around the image do not count."""
    (image,) = inputs
    arguments = _arguments(self, image.shape)
    if not (arguments and takes(image)) or self.cover_all:
        return original(self, inputs)
    self.width = None
    if self.pad_value is None:
        self.width = self._get_pooling_width(np, image.shape[2:], image.dtype)
    self._in_shape, self._in_dtype = image.shape, image.dtype
    pool = getattr(fastconv, f"avg_pool{self.ndim}d")
    counted = self.pad_value is not None
    return (_on(image, pool, count_include_pad=counted, **arguments),)


def average_pooling_nd_gradient(original, self, gys):
    """Each cell of a window gets its share of the gradient, in 1-D to 3-D."""
    (slopes,), node = gys, self.func
    arguments = _arguments(node, node._in_shape)
    if not (arguments and takes(slopes)) or node.cover_all:
        return original(self, gys)
    unpool = getattr(fastconv, f"avg_pool{node.ndim}d_backward")
    counted = node.pad_value is not None
    return (unpool(slopes, node._in_shape, count_include_pad=counted, **arguments),)


def _arguments(node, shape, cover_all=False):
    """Window, stride and padding for fastconv; None for windows that it does not have."""
    if hasattr(node, "kh"):  # the two-dimensional ones
        kernel, stride, pad = (node.kh, node.kw), (node.sy, node.sx), (node.ph, node.pw)
    else:
        kernel, stride, pad = node.ksize, node.stride, node.pad
    sizes = shape[2:]
    windows = Windows(kernel, stride, pad, (1,) * len(kernel))
    if len(kernel) not in FIRST or not windows.see_the_image(sizes, windows.outs(sizes, cover_all)):
        return None
    return {"kernel_size": kernel, "stride": stride, "padding": pad}


def _on(x, pool, **arguments):
    """A pooling where the image lies as it likes, and the results in C order."""
    ndim = x.ndim - 2
    if x.flags.c_contiguous or not channels_last(x):
        return pool(x, layout=FIRST[ndim], **arguments)
    results = pool(x.transpose(TO_LAST[ndim]), layout=LAST[ndim], **arguments)
    if isinstance(results, tuple):
        y, offsets = results
        return in_c_order(y.transpose(TO_FIRST[ndim])), offsets.transpose(TO_FIRST[ndim])
    return in_c_order(results.transpose(TO_FIRST[ndim]))
