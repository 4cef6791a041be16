"""HIPS autograd: convolution made fast, and convolutions and pooling that can be differentiated.

Replaced is ``autograd.scipy.signal.einsum_tensordot``, the sum of products at the end of
``convolve``: it is looked up in each call, so that a `convolve` that was imported earlier is fast,
too, and its gradients, which are calls of it. True convolution (B is flipped), axes, dot_axes and
modes are settled before that; what arrives is a filter and all windows of an image as a view.

`conv2d` and `max_pool2d` of this module are those of fastconv as primitives of autograd, of any
order and in both modes. They need no `install`, and autograd is imported when they are asked for.
"""

import math
from importlib import import_module

import numpy as np
from numpy.lib.stride_tricks import as_strided

import fastconv
from fastconv.backends._arrays import fast
from fastconv.backends._backend import Backend, Replacement

_AXES = 3  # that fastconv convolves along at most
_SMALL = 20_000  # multiply-adds, which einsum has done before anything is prepared here


def backend() -> Backend:
    """autograd 1.6 or newer."""
    return Backend(
        package="autograd.scipy.signal",
        needs="autograd 1.6 or newer (pip install autograd)",
        replacements=(
            Replacement("autograd.scipy.signal.einsum_tensordot", einsum_tensordot, True),
        ),
    )


def __getattr__(name):
    if name in ("conv2d", "max_pool2d"):
        return getattr(import_module("fastconv.backends._autograd_primitives"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def einsum_tensordot(original, A, B, axes, reverse=False):
    """Sum over pairs of axes; along the first ones, A or B shows windows of what it is a view of.

    The axes of the result are what is left of A, then of B; C order.
    """
    if not _suits(A, B, axes):
        return original(A, B, axes, reverse)
    pairs = [[axis % X.ndim for axis in X_axes] for X, X_axes in zip((A, B), axes, strict=True)]
    windows = _windows(B, pairs[1])
    if windows >= _windows(A, pairs[0]):
        return _sum(A, B, pairs, windows)
    y = _sum(B, A, pairs[::-1], _windows(A, pairs[0]))  # mode="same" has them first
    left = B.ndim - len(pairs[1])
    return np.moveaxis(y, range(left), range(y.ndim - left, y.ndim))


def _suits(A, B, axes):
    """Whether it is worth it, and fastconv has the dtype of the result."""
    if not (type(A) is type(B) is np.ndarray and {A.dtype.kind, B.dtype.kind} <= set("fiub")):
        return False
    products = B.size * A.size // max(1, math.prod(A.shape[axis] for axis in axes[0]))
    return products > _SMALL and fast(np.empty(0, np.result_type(A, B)))


def _windows(B, summed):
    """How many of the last axes take the same steps as the first summed ones: those of windows."""
    free = B.ndim - len(summed)
    for n in range(min(free, len(summed)), 0, -1):
        last = range(B.ndim - n, B.ndim)
        if not set(last) & set(summed) and all(
            B.strides[i] == B.strides[j] for i, j in zip(last, summed[:n], strict=True)
        ):
            return n
    return 0


def _sum(A, B, pairs, windows):
    """Correlation of the image of which B shows windows with A: a convolution of fastconv."""
    dtype = np.result_type(A, B)
    n = min(windows, _AXES)  # those before them stay windows: more images, more channels
    if n == 0:
        return np.tensordot(A.astype(dtype, copy=False), B.astype(dtype, copy=False), pairs)
    at = slice(windows - n, windows)
    image = _image(B, pairs[1][at])
    a_free, a_summed, size = _parts(A, pairs[0], at)
    b_free, b_summed, _ = _parts(image, pairs[1], at)
    channels = math.prod(A.shape[i] for i in a_summed)
    out, free_shape = B.shape[B.ndim - n :], [image.shape[i] for i in b_free]
    filters = A.transpose(*a_free, *a_summed, *pairs[0][at]).reshape(-1, channels, *size)
    x = image.transpose(*b_free, *b_summed, *pairs[1][at])
    x = x.reshape(-1, channels, *x.shape[x.ndim - n :])
    y = _correlate(x.astype(dtype, copy=False), filters.astype(dtype, copy=False), out)
    return y.reshape(*(A.shape[i] for i in a_free), *free_shape, *out)


def _parts(X, summed, at):
    """Axes that are kept, axes that are only summed, sizes of those that are convolved."""
    convolved = summed[at]
    kept = [i for i in range(X.ndim) if i not in summed]
    return kept, [i for i in summed if i not in convolved], [X.shape[i] for i in convolved]


def _image(B, convolved):
    """What B shows windows of: along an axis, as many cells as windows and their cells reach."""
    shape, strides, n = list(B.shape), B.strides, len(convolved)
    for axis, count in zip(convolved, B.shape[B.ndim - n :], strict=True):
        shape[axis] += count - 1
    return as_strided(B, shape[: B.ndim - n], strides[: B.ndim - n], writeable=False)


def _correlate(x, filters, out):
    """(OC, N, *out) of x (N, C, *size) and filters (OC, C, *kernel)."""
    n = len(out)
    if math.prod(filters.shape[2:]) <= math.prod(out):
        y = np.empty((len(filters), len(x), *out), x.dtype)
        _CONV[n - 1](x, filters, out=y.swapaxes(0, 1))
        return y
    # Large filters and few places for them: that is what the gradient of filters looks like. Both
    # arrive reversed then, for the image of a gradient is flipped for a convolution that flips it.
    flip = tuple(slice(None, None, -1 if step < 0 else 1) for step in x.strides[2:])
    x, filters = x[:, :, *flip].swapaxes(0, 1), filters[:, :, *flip].swapaxes(0, 1)
    dw = _WEIGHT_GRAD[n - 1](filters, x, (filters.shape[1], x.shape[1], *out))
    return dw[:, :, *flip]


_CONV = (fastconv.conv1d, fastconv.conv2d, fastconv.conv3d)
_WEIGHT_GRAD = (
    fastconv.conv1d_weight_grad,
    fastconv.conv2d_weight_grad,
    fastconv.conv3d_weight_grad,
)
