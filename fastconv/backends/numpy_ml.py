"""numpy-ml: convolution, deconvolution and pooling, with their gradients, and im2col/col2im.

Replaced are ``im2col``, ``col2im``, ``conv1D``, ``conv2D`` and ``deconv2D_naive`` of
``numpy_ml.neural_nets.utils``, wherever they were imported, and of the layers ``Conv1D``,
``Conv2D`` and ``Deconv2D`` the gradients (``_bwd``) and of ``Pool2D`` both passes. Modules made of
these layers (``WavenetResidualModule``, ``SkipConnectionConvModule``, ...) profit by themselves.

Images are (N, H, W, C) here, filters (KH, KW, C, OC), and dilation counts the cells *between* two
taps: 0 means none. Padding is an int, (rows, columns), (top, bottom, left, right), "same" or, in
one dimension, "causal". Results of products lie in memory as a product of matrices leaves them,
with the images along the last axis: (OC, OH, OW, N), transposed.

A deconvolution pads the stretched image twice and cuts off the first padding again; with uneven
padding that is a transposed convolution that is cut elsewhere, see `_deconv_case`. The gradient of
max pooling takes windows of the image from where they lie on the padded one; only where all of them
lie in the image is there a result that means anything, and so for other paddings the original runs.
"""

from typing import NamedTuple

import numpy as np

import fastconv
from fastconv.backends._arrays import fast
from fastconv.backends._backend import Backend, Replacement
from fastconv.functional.max_pool import max_pool_window, max_pool_window_backward


def backend() -> Backend:
    """numpy-ml, from PyPI or its repository."""
    utils, layers = "numpy_ml.neural_nets.utils.utils.", "numpy_ml.neural_nets.layers.layers."
    functions = (im2col, col2im, conv2D, conv1D, deconv2D_naive)
    return Backend(
        package="numpy_ml.neural_nets",
        needs="numpy-ml 0.1.2 (pip install numpy-ml; from Python 3.10 on it wants "
        "collections.Hashable = collections.abc.Hashable before it is imported)",
        replacements=(
            *(Replacement(utils + f.__name__, f, everywhere=True) for f in functions),
            Replacement(layers + "Conv1D._bwd", conv1d_gradients),
            Replacement(layers + "Conv2D._bwd", conv2d_gradients),
            Replacement(layers + "Deconv2D._bwd", deconv2d_gradients),
            Replacement(layers + "Pool2D.forward", pool2d_forward),
            Replacement(layers + "Pool2D.backward", pool2d_backward),
        ),
    )


class Case(NamedTuple):
    """Arguments of a convolution as fastconv takes them."""

    stride: int
    padding: tuple
    dilation: int


def im2col(original, X, W_shape, pad, stride, dilation=0):
    """Columns with the images side by side: rows (c, kh, kw), columns (oh, ow, n)."""
    kernel = tuple(W_shape[:2])
    case = fast(X) and X.ndim == 4 and _case(X.shape, kernel, pad, stride, dilation)
    if not case:
        return original(X, W_shape, pad, stride, dilation)
    cols = fastconv.im2col(X.transpose(0, 3, 1, 2), kernel, **case._asdict())
    return _images_last(cols).reshape(cols.shape[1], -1), (*case.padding[0], *case.padding[1])


def col2im(original, X_col, X_shape, W_shape, pad, stride, dilation=0):
    """Columns added up on (N, C, H, W), which is what the original returns; always float64."""
    kernel = tuple(W_shape[:2])
    plain = isinstance(pad, tuple) and len(pad) == 4 and fast(X_col)
    case = plain and _case(tuple(X_shape), kernel, pad, stride, dilation)
    if not case:
        return original(X_col, X_shape, W_shape, pad, stride, dilation)
    N, H, W, C = X_shape
    cols = X_col.astype(np.float64, copy=False).reshape(C * kernel[0] * kernel[1], -1, N)
    return fastconv.col2im(cols.transpose(2, 0, 1), (N, C, H, W), kernel, **case._asdict())


def conv2D(original, X, W, stride, pad, dilation=0):
    """Correlation of (N, H, W, C) with (KH, KW, C, OC)."""
    arrays = _common(X, W)
    case = arrays and _conv_case(X, W, pad, stride, dilation)
    return _conv(*arrays, case) if case else original(X, W, stride, pad, dilation)


def conv1D(original, X, W, stride, pad, dilation=0):
    """Correlation of (N, W, C) with (KW, C, OC): a single row."""
    arrays = _common(X, W)
    case = arrays and _conv1d_case(X, W, pad, stride, dilation)
    if not case:
        return original(X, W, stride, pad, dilation)
    X, W = arrays
    return _conv(X[:, None], W[None], case)[:, 0]


def conv2d_gradients(original, self, dLdy, X, Z):
    """Gradients of the input, the filters and the biases of ``Conv2D``."""
    W = self.parameters["W"]
    case = fast(W) and _conv_case(X, W, self.pad, self.stride, self.dilation)
    return (case and _conv_backward(self, dLdy, X, W, Z, case)) or original(self, dLdy, X, Z)


def conv1d_gradients(original, self, dLdy, X, Z):
    """Gradients of the input, the filters and the biases of ``Conv1D``."""
    W = self.parameters["W"]
    case = fast(W) and _conv1d_case(X, W, self.pad, self.stride, self.dilation)
    found = np.shape(dLdy) == Z.shape and case
    found = found and _conv_backward(self, dLdy[:, None], X[:, None], W[None], Z[:, None], case)
    if not found:
        return original(self, dLdy, X, Z)
    dX, dW, db = found
    return dX[:, 0], dW[0], db[:, 0]


def deconv2D_naive(original, X, W, stride, pad, dilation=0):
    """Transposed convolution of (N, H, W, C) with (KH, KW, C, OC)."""
    arrays = _common(X, W)
    case = arrays and _deconv_case(X, W, pad, stride, dilation)
    if not case:
        return original(X, W, stride, pad, dilation)
    X, W = arrays
    y = fastconv.conv_transpose2d(
        X.transpose(0, 3, 1, 2), W.transpose(2, 3, 0, 1), **case._asdict()
    )
    return _images_last(y).transpose(3, 1, 2, 0)


def deconv2d_gradients(original, self, dLdY, X, Z):
    """Gradients of the input, the filters and the biases of ``Deconv2D``."""
    W = self.parameters["W"]
    case = fast(W) and _deconv_case(X, W, self.pad, self.stride, 0)
    fits = case and np.shape(dLdY) == Z.shape  # a smaller one would be broadcast
    arrays = fits and _common(dLdY * self.act_fn.grad(Z), X, W)
    if not arrays:
        return original(self, dLdY, X, Z)
    dZ, X, W = arrays
    dx, dw, db = fastconv.conv_transpose2d_backward(
        _channels_first(dZ),
        X.transpose(0, 3, 1, 2),
        W.transpose(2, 3, 0, 1),
        **case._asdict(),
    )
    dW = np.ascontiguousarray(dw.swapaxes(0, 1)).transpose(2, 3, 1, 0)
    return dx.transpose(0, 2, 3, 1).astype(np.float64, copy=False), dW, db.reshape(1, 1, 1, -1)


def pool2d_forward(original, self, X, retain_derived=True):
    """Maxima or means of windows of the image padded with zeros; always float64."""
    case = _pool_case(self, X)
    if case is None:
        return original(self, X, retain_derived)
    if not self.is_initialized:
        self.in_ch = self.out_ch = X.shape[3]
        self._init_params()
    X_pad = np.pad(X, ((0, 0), *case.padding, (0, 0))) if np.any(case.padding) else X
    pool = fastconv.max_pool2d if self.mode == "max" else fastconv.avg_pool2d
    Y = _pool(pool, X_pad, self.kernel_shape, case.stride)
    if retain_derived:
        self.X.append(X)
        self.derived_variables["out_rows"].append(Y.shape[1])
        self.derived_variables["out_cols"].append(Y.shape[2])
    return Y.astype(np.float64, copy=False)


def pool2d_backward(original, self, dLdY, retain_grads=True):
    """Gradient of the input; a list of them after several forward passes."""
    dYs = dLdY if isinstance(dLdY, list) else [dLdY]
    cases = [_pool_case(self, X) for X in self.X]
    known = self.trainable and len(dYs) == len(cases)
    if not (known and all(map(_has_gradient, [self] * len(dYs), dYs, self.X, cases))):
        return original(self, dLdY, retain_grads)
    dXs = [_unpool(self, dY, X, case) for dY, X, case in zip(dYs, self.X, cases, strict=True)]
    return dXs[0] if len(dXs) == 1 else dXs


def _has_gradient(layer, dY, X, case):
    """Whether dY suits X and, for maxima, all windows lie within X without its padding."""
    if case is None or type(dY) is not np.ndarray:
        return False
    padded, plain = (
        tuple(
            (size + begin + end - cells) // case.stride + 1
            for size, cells, (begin, end) in zip(
                X.shape[1:3], layer.kernel_shape, pads, strict=True
            )
        )
        for pads in (case.padding, ((0, 0), (0, 0)))
    )
    suits = dY.shape == (X.shape[0], *padded, X.shape[3])
    return suits and (layer.mode == "average" or padded == plain)


def _unpool(layer, dY, X, case):
    (top, bottom), (left, right) = case.padding
    N, H, W, C = X.shape
    shape = N, H + top + bottom, W + left + right, C
    kernel, window = layer.kernel_shape, {"stride": case.stride, "layout": "NHWC"}
    dY = dY.astype(X.dtype, copy=False)
    if layer.mode == "average":
        dX = fastconv.avg_pool2d_backward(dY, shape, kernel, **window)
    else:
        cells = _pool(_first_maximum, X, kernel, case.stride)
        dX = max_pool_window_backward(dY, cells, shape, kernel, **window)
    if X.flags.fnc:  # as np.pad leaves X
        dX = np.asfortranarray(dX)
    return dX[:, top : top + H, left : left + W]


def _first_maximum(X, kernel, **window):
    return max_pool_window(X, kernel, **window)[1]


def _pool(pool, X, kernel, stride):
    """Pool (N, H, W, C), which knows no difference between images and channels, along the axis
    whose elements are neighbours in memory."""
    if abs(X.strides[0]) >= abs(X.strides[3]):
        return pool(X, kernel, stride=stride, layout="NHWC")
    Y = pool(X.swapaxes(0, 3), kernel, stride=stride, layout="NHWC")
    return np.ascontiguousarray(Y.swapaxes(0, 3))


def _conv(X, W, case):
    y = fastconv.conv2d(X.transpose(0, 3, 1, 2), W.transpose(3, 2, 0, 1), **case._asdict())
    return _images_last(y).transpose(3, 1, 2, 0)


def _conv_backward(layer, dLdy, X, W, Z, case):
    arrays = np.shape(dLdy) == Z.shape and _common(dLdy * layer.act_fn.grad(Z), X, W)
    if not arrays:
        return None
    dZ, X, W = arrays
    dx, dw, db = fastconv.conv2d_backward(
        _channels_first(dZ), X.transpose(0, 3, 1, 2), W.transpose(3, 2, 0, 1), **case._asdict()
    )
    dX = dx.transpose(0, 2, 3, 1).astype(np.float64, copy=False)
    return dX, dw.transpose(2, 3, 1, 0), db.reshape(1, 1, 1, -1)


def _images_last(y):
    """(N, ...) as a new array (..., N), in the order of a product with numpy-ml's columns."""
    return np.ascontiguousarray(np.moveaxis(y, 0, -1))


def _channels_first(dZ):
    """(N, H, W, C) as (N, C, H, W), a view unless images are neighbours in memory.

    Kernels look at the pixels of an image, or at its channels, far quicker than at other images.
    """
    dZ = dZ.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(dZ) if dZ.strides[0] < max(dZ.strides) else dZ


def _common(*arrays):
    """The arrays in the dtype that NumPy gives their product; None if fastconv has no such."""
    if not all(type(a) is np.ndarray and a.dtype.kind in "fiub" and a.size for a in arrays):
        return None
    dtype = np.result_type(*arrays)
    arrays = [a.astype(dtype, copy=False) for a in arrays]
    return arrays if fast(*arrays) else None


def _conv_case(X, W, pad, stride, dilation):
    if X.ndim != 4 or W.ndim != 4 or X.shape[3] != W.shape[2]:
        return None
    return _case(X.shape, W.shape[:2], pad, stride, dilation)


def _conv1d_case(X, W, pad, stride, dilation):
    """A sequence is an image of one row."""
    if X.ndim != 3 or W.ndim != 3 or X.shape[2] != W.shape[1] or not _counts(stride, dilation + 1):
        return None
    if pad in ("same", "causal"):
        from numpy_ml.neural_nets.utils import calc_pad_dims_1D

        pad = calc_pad_dims_1D(X.shape, X.shape[1], W.shape[0], stride, dilation, pad == "causal")
    pad = (pad, pad) if isinstance(pad, int) else pad
    if not (isinstance(pad, tuple) and len(pad) == 2):
        return None
    return _case((len(X), 1, *X.shape[1:]), (1, W.shape[0]), (0, 0, *pad), stride, dilation)


def _deconv_case(X, W, pad, stride, dilation):
    """Stretched by the stride, R rows become R - 1 + F, F being the reach of the filters.

    For that the original pads R by `pad` and then by half of what is missing at either end (the
    odd one at the end), and of the result it cuts `pad` off again: so it begins where the second
    padding begins.
    """
    from numpy_ml.neural_nets.utils import calc_pad_dims_2D

    if X.ndim != 4 or W.ndim != 4 or X.shape[3] != W.shape[2] or not _counts(stride, dilation + 1):
        return None
    rows, cols = ((size - 1) * stride + 1 for size in X.shape[1:3])
    pads = _pads((len(X), rows, cols, X.shape[3]), W.shape[:2], pad, 1, dilation)
    if pads is None:
        return None
    reach = [(cells - 1) * (dilation + 1) for cells in W.shape[:2]]
    padded = len(X), rows + sum(pads[0]), cols + sum(pads[1]), X.shape[3]
    full = rows + reach[0], cols + reach[1]
    top, bottom, left, right = calc_pad_dims_2D(padded, full, W.shape[:2], 1, dilation)
    cut = ((reach[0] - top, reach[0] - bottom), (reach[1] - left, reach[1] - right))
    fits = all(size > sum(ends) and min(ends) >= 0 for size, ends in zip(full, cut, strict=True))
    return Case(stride, cut, dilation + 1) if fits else None


def _pool_case(layer, X):
    if layer.mode not in ("max", "average") or not fast(X) or X.ndim != 4:
        return None
    if layer.is_initialized and layer.out_ch != X.shape[3]:
        return None
    return _case(X.shape, layer.kernel_shape, layer.pad, layer.stride, 0)


def _case(X_shape, kernel, pad, stride, dilation):
    """None where it is for the original to do something else or to say what is wrong."""
    if not _counts(stride, dilation + 1, *kernel, *X_shape) or len(kernel) != 2:
        return None
    pads = _pads(X_shape, kernel, pad, stride, dilation)
    if pads is None:
        return None
    for size, cells, ends in zip(X_shape[1:3], kernel, pads, strict=True):
        if size + sum(ends) <= (cells - 1) * (dilation + 1):
            return None
    return Case(stride, pads, dilation + 1)


def _pads(X_shape, kernel, pad, stride, dilation):
    """((top, bottom), (left, right))"""
    if isinstance(pad, str) and pad == "same":
        from numpy_ml.neural_nets.utils import calc_pad_dims_2D

        pad = calc_pad_dims_2D(X_shape, X_shape[1:3], kernel, stride, dilation)
    elif isinstance(pad, int):
        pad = (pad,) * 4
    elif isinstance(pad, tuple) and len(pad) == 2:
        pad = (pad[0], pad[0], pad[1], pad[1])
    if not (isinstance(pad, tuple) and len(pad) == 4 and _counts(*(p + 1 for p in pad))):
        return None
    return (pad[0], pad[1]), (pad[2], pad[3])


def _counts(*numbers):
    return all(isinstance(n, (int, np.integer)) and n > 0 for n in numbers)
