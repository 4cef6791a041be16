"""DeZero (Deep Learning from Scratch 3): convolution and its inverse, pooling, ReLU, products.

Replaced are the `forward` of the functions in `dezero.functions_conv`. Their `backward`, which
builds a graph out of the same functions, is short-cut only where no graph is wanted, so that double
backpropagation goes the way it always went, over the fast functions.

What to know about DeZero:

* Its arrays are NCHW, but `Conv2d` gives channels last in memory, seen as NCHW; all else C order.
* Under NumPy 2 its layers have float64 weights, whatever `dtype` says (a float32 array times
  ``np.sqrt(1 / C)``), and convolve float32 images with them; then the result is float64.
* Max pooling pads with zeros, not with -inf: a border of negative numbers has the maximum 0.
* `AveragePooling` counts the padding. Its gradient is float64 under NumPy 2, whatever came in.
* `Pooling.indexes` are the same numbers of cells as ever, in one byte each instead of eight.
"""

import numpy as np

from fastconv import functional
from fastconv.backends._arrays import fast, product
from fastconv.backends._backend import Backend, Replacement

_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # from NCHW to NHWC and back


def backend() -> Backend:
    """Everything of DeZero that fastconv computes; there are no options."""
    functions = {
        "functions_conv.Conv2d.forward": conv2d,
        "functions_conv.Conv2d.backward": conv2d_backward,
        "functions_conv.Deconv2d.forward": deconv2d,
        "functions_conv.Conv2DGradW.forward": weight_grad,
        "functions_conv.Pooling.forward": max_pool,
        "functions_conv.Pooling2DGrad.forward": max_pool_grad,
        "functions_conv.Pooling2DWithIndexes.forward": pool_with_indexes,
        "functions_conv.AveragePooling.forward": average_pool,
        "functions_conv.AveragePooling.backward": average_pool_backward,
        "functions_conv.im2col_array": im2col,
        "functions_conv.col2im_array": col2im,
        "functions.MatMul.forward": matmul,
        "functions.Linear.forward": linear,
        "functions.ReLU.forward": relu,
        "functions.ReLU.backward": relu_backward,
    }
    return Backend(
        package="dezero",
        needs="DeZero 0.0.13 (pip install dezero; from NumPy 1.24 on it wants np.int = int before "
        "it is imported) or the head of oreilly-japan/deep-learning-from-scratch-3",
        replacements=[
            Replacement(f"dezero.{path}", function, everywhere=path.endswith("_array"))
            for path, function in functions.items()
        ],
    )


def conv2d(original, self, x, W, b):
    if not (
        _mixed(x, W) and _takes(b, W.shape[0]) and _in_image(x, W.shape[2:], self.stride, self.pad)
    ):
        return original(self, x, W, b)
    x, W, b = _promoted(x, W, b)
    y = functional.conv2d(
        x.transpose(_LAST), W, b, stride=self.stride, padding=self.pad, layout="NHWC"
    )
    return y.transpose(_FIRST)


def conv2d_backward(original, self, gy):
    x, W, b = self.inputs
    data = gy.data, x.data, W.data
    if _wants_graph() or not _mixed(*data) or np.result_type(*data) != gy.dtype:
        return original(self, gy)
    needs = "xw" if b.data is None else "xwb"
    grads = functional.conv2d_backward(
        *_promoted(*data), stride=self.stride, padding=self.pad, needs=needs
    )
    return tuple(None if grad is None else type(gy)(grad) for grad in grads)


def deconv2d(original, self, x, W, b):
    if not (_mixed(x, W) and _takes(b, W.shape[1]) and x.size and W.size):
        return original(self, x, W, b)
    steps = list(zip(x.shape[2:], W.shape[2:], self.stride, self.pad, strict=True))
    least = [(size - 1) * stride + k - 2 * pad for size, k, stride, pad in steps]
    outsize = least if self.outsize is None else _pair(self.outsize)
    extra = tuple(size - smallest for size, smallest in zip(outsize, least, strict=True))
    if min(least) < 1 or not all(0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
        return original(self, x, W, b)
    return functional.conv_transpose2d(
        *_promoted(x, W, b), stride=self.stride, padding=self.pad, output_padding=extra
    )


def weight_grad(original, self, x, gy):
    if not (_mixed(x, gy) and _in_image(x, self.kernel_size, self.stride, self.pad)):
        return original(self, x, gy)
    x, gy = _promoted(x, gy)
    w_shape = gy.shape[1], x.shape[1], *self.kernel_size
    return functional.conv2d_weight_grad(gy, x, w_shape, stride=self.stride, padding=self.pad)


def max_pool(original, self, x):
    if not (fast(x) and _in_image(x, self.kernel_size, self.stride, self.pad)):
        return original(self, x)
    window = {"kernel_size": self.kernel_size, "stride": self.stride}
    x = _padded(x, self)
    if not _channels_last(x):
        y, self.indexes = functional.max_pool_window(x, **window)
        return y
    # What is small, the result, changes its order, not the image.
    results = functional.max_pool_window(x.transpose(_LAST), **window, layout="NHWC")
    y, self.indexes = (np.ascontiguousarray(a.transpose(_FIRST)) for a in results)
    return y


def max_pool_grad(original, self, gy):
    if not (fast(gy) and gy.size and fast(np.empty(0, self.dtype))):
        return original(self, gy)
    gy = gy.astype(self.dtype, copy=False)  # a loss in float64 is usual
    N, C, H, W = self.input_shape
    (PH, PW), (KH, KW) = _pair(self.pad), _pair(self.kernel_size)
    indexes = self.indexes.astype(np.uint8 if KH * KW < 256 else np.int32, copy=False)
    padded = N, C, H + 2 * PH, W + 2 * PW
    gx = functional.max_pool_window_backward(gy, indexes, padded, (KH, KW), stride=self.stride)
    return gx[:, :, PH : PH + H, PW : PW + W]


def pool_with_indexes(original, self, x):
    if not fast(x):
        return original(self, x)
    x = _padded(x, self)
    N, C, OH, OW = self.indexes.shape
    SH, SW = _pair(self.stride)
    rows, columns = np.divmod(self.indexes, _pair(self.kernel_size)[1])
    rows = rows + SH * np.arange(OH)[:, None]
    cells = rows * x.shape[3] + columns + SW * np.arange(OW)
    found = np.take_along_axis(x.reshape(N, C, -1), cells.reshape(N, C, -1), axis=2)
    return found.reshape(N, C, OH, OW)


def average_pool(original, self, x):
    inside = all(p < k for p, k in zip(_pair(self.pad), _pair(self.kernel_size), strict=True))
    if not (fast(x) and inside and _in_image(x, self.kernel_size, self.stride, self.pad)):
        return original(self, x)
    self.input_shape = x.shape
    return functional.avg_pool2d(x, self.kernel_size, stride=self.stride, padding=self.pad)


def average_pool_backward(original, self, gy):
    inside = all(p < k for p, k in zip(_pair(self.pad), _pair(self.kernel_size), strict=True))
    outs = self.input_shape[:2] + tuple(
        _out_size(self.input_shape, self.kernel_size, self.stride, self.pad)
    )
    # (the original broadcasts a gradient of another shape)
    if _wants_graph() or not fast(gy.data) or not inside or not gy.size or gy.shape != outs:
        return original(self, gy)
    # DeZero divides by an array of one int64, which makes float32 float64 under NumPy 2.
    dy = gy.data.astype(np.result_type(gy.data, np.array(1)), copy=False)
    options = {"stride": self.stride, "padding": self.pad}
    return type(gy)(
        functional.avg_pool2d_backward(dy, self.input_shape, self.kernel_size, **options)
    )


def im2col(original, img, kernel_size, stride, pad, to_matrix=True):
    if not (fast(img) and _in_image(img, kernel_size, stride, pad)):
        return original(img, kernel_size, stride, pad, to_matrix)
    N, C = img.shape[:2]
    KH, KW = _pair(kernel_size)
    OH, OW = _out_size(img.shape, kernel_size, stride, pad)
    col = functional.im2col(img, kernel_size, stride=stride, padding=pad)
    if to_matrix:
        return col.transpose(0, 2, 1).reshape(N * OH * OW, -1)
    return col.reshape(N, C, KH, KW, OH, OW)


def col2im(original, col, img_shape, kernel_size, stride, pad, to_matrix=True):
    N, C = img_shape[:2]
    KH, KW = _pair(kernel_size)
    OH, OW = _out_size(img_shape, kernel_size, stride, pad)
    matrix, columns = (N * OH * OW, C * KH * KW), (N, C, KH, KW, OH, OW)
    if not (fast(col) and col.size and col.shape == (matrix if to_matrix else columns)):
        return original(col, img_shape, kernel_size, stride, pad, to_matrix)
    if to_matrix:
        col = col.reshape(N, OH * OW, -1).transpose(0, 2, 1)
    else:
        col = col.reshape(N, -1, OH * OW)
    return functional.col2im(col, img_shape, kernel_size, stride=stride, padding=pad)


def matmul(original, self, x, W):
    y = product(x, W)
    return original(self, x, W) if y is None else y


def linear(original, self, x, W, b):
    y = product(x, W)
    if y is None:
        return original(self, x, W, b)
    if b is not None:
        y += b
    return y


def relu(original, self, x):
    if not (fast(x) and x.ndim == 4 and _channels_last(x)):
        return original(self, x)  # NumPy's maximum, which is as fast on what lies in one order
    return functional.relu(x.transpose(_LAST)).transpose(_FIRST)


def relu_backward(original, self, gy):
    x = self.inputs[0]
    if _wants_graph() or not fast(gy.data, x.data) or gy.shape != x.shape or not x.size:
        return original(self, gy)
    x, dy = x.data, gy.data
    if x.ndim != 4 or x.flags.c_contiguous or not dy.flags.c_contiguous:
        return original(self, gy)
    # What a convolution gave, with a gradient in C order: NumPy crawls through the two at once.
    x = functional.im2col(x, 1).reshape(x.shape)  # in C order, by all threads
    return type(gy)(functional.relu_backward(dy, x))


def _wants_graph() -> bool:
    """Whether gradients shall have gradients, so that they must be made of DeZero's functions."""
    from dezero.core import Config

    return Config.enable_backprop


def _pair(value) -> tuple:
    """DeZero's own, which takes integers and tuples, and raises for everything else."""
    from dezero.utils import pair

    return pair(value)


def _out_size(shape, kernel_size, stride, pad) -> list:
    """OH and OW, as DeZero counts them; less than 1 for a kernel larger than the image."""
    axes = zip(shape[2:], *map(_pair, (kernel_size, stride, pad)), strict=True)
    return [(size + 2 * p - k) // s + 1 for size, k, s, p in axes]


def _in_image(x, kernel_size, stride, pad) -> bool:
    """Whether there are images, and windows in them."""
    return x.ndim == 4 and x.size > 0 and min(_out_size(x.shape, kernel_size, stride, pad)) > 0


def _mixed(*arrays) -> bool:
    """Whether each is float32 or float64 on the CPU: DeZero's layers mix them."""
    return all(map(fast, arrays))


def _promoted(*arrays) -> list:
    """The arrays in the dtype that the first two have together; None stays."""
    dtype = np.result_type(*arrays[:2])
    return [None if a is None else a.astype(dtype, copy=False) for a in arrays]


def _takes(b, channels) -> bool:
    """Whether a bias is one number for each channel; others are broadcast by the original."""
    return b is None or (fast(b) and b.shape == (channels,))


def _channels_last(x) -> bool:
    """Whether this is what a convolution gives: NCHW, with channels last in memory."""
    return not x.flags.c_contiguous and x.transpose(_LAST).flags.c_contiguous


def _padded(x, pool):
    """x with the zeros that take part in DeZero's maxima, in C order."""
    PH, PW = _pair(pool.pad)
    return np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW))) if PH or PW else x
