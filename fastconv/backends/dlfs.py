"""Deep Learning from Scratch: the layers of the book's folder ``common``.

Replaced are `Convolution`, `Pooling`, `Affine` and `Relu` of ``common.layers`` (forward and
backward), and `im2col` and `col2im` of ``common.util``, wherever they have been imported. What to
know about them:

- All but `Affine` and `Relu` compute in float64 whatever they are given, because `im2col` fills an
  ``np.zeros``. So does this backend, unless it is told ``upcast=False``: float32 stays float32.
- Images are NCHW, but the results of the forward functions are transposed views of NHWC memory,
  and `dW` is a transposed view too. They are here as well.
- `Pooling` with a padding pads with zeros and then mostly fails, as the size of its result ignores
  the padding. It is left to the original.
- `Convolution.col` is a large matrix that hardly anybody looks at. Here it is computed when
  somebody does. `backward` uses `x` in its place, which must not be changed in between.
"""

from functools import partial

import numpy as np

import fastconv
from fastconv.backends._arrays import fast, product
from fastconv.backends._backend import Backend, Replacement
from fastconv.functional import max_pool_window, max_pool_window_backward


def backend(*, upcast: bool = True) -> Backend:
    """The backend; ``upcast=False`` computes in float32 what is float32 throughout."""
    if not isinstance(upcast, bool):
        raise ValueError(f"upcast must be True or False, got {upcast!r}")
    layers = "common.layers"
    return Backend(
        package=layers,
        needs="the folder common of github.com/oreilly-japan/deep-learning-from-scratch",
        replacements=(
            Replacement("common.util.im2col", partial(im2col, upcast), everywhere=True),
            Replacement("common.util.col2im", partial(col2im, upcast), everywhere=True),
            Replacement(f"{layers}.Convolution.forward", partial(convolution_forward, upcast)),
            Replacement(f"{layers}.Convolution.backward", partial(convolution_backward, upcast)),
            Replacement(f"{layers}.Pooling.forward", partial(pooling_forward, upcast)),
            Replacement(f"{layers}.Pooling.backward", partial(pooling_backward, upcast)),
            Replacement(f"{layers}.Affine.forward", affine_forward),
            Replacement(f"{layers}.Affine.backward", affine_backward),
            Replacement(f"{layers}.Relu.forward", relu_forward),
            Replacement(f"{layers}.Relu.backward", relu_backward),
        ),
    )


def im2col(upcast, original, input_data, filter_h, filter_w, stride=1, pad=0):
    given = _floats(upcast, input_data)
    if not given or input_data.ndim != 4 or not _fits(input_data.shape, filter_h, filter_w, pad):
        return original(input_data, filter_h, filter_w, stride, pad)
    return _rows(given[0], filter_h, filter_w, stride, pad)


def col2im(upcast, original, col, input_shape, filter_h, filter_w, stride=1, pad=0):
    given = _floats(upcast, col)
    if not given or not _fits(input_shape, filter_h, filter_w, pad):
        return original(col, input_shape, filter_h, filter_w, stride, pad)
    return _image(given[0], input_shape, filter_h, filter_w, stride, pad)


def convolution_forward(upcast, original, self, x):
    W, b = self.W, self.b
    if np.ndim(b) == 0 and b is not None and type(W) is np.ndarray and W.ndim == 4:
        b = np.full(len(W), b, np.result_type(W, b))
    given = _floats(upcast, x, W, b)
    if not given or x.ndim != 4 or W.ndim != 4 or b.shape != W.shape[:1]:
        return original(self, x)
    x_float, W_float, b = given
    y = fastconv.conv2d(
        x_float.transpose(0, 2, 3, 1),
        W_float,
        b,
        stride=self.stride,
        padding=self.pad,
        layout="NHWC",
    )
    self.x = x
    self.col = _LazyColumns(x_float, *W.shape[2:], self.stride, self.pad)
    self.col_W = W.reshape(len(W), -1).T
    return y.transpose(0, 3, 1, 2)


def convolution_backward(upcast, original, self, dout):
    if not isinstance(self.col, _LazyColumns):  # forward was the original
        return original(self, dout)
    W = self.col_W.T.reshape(self.W.shape)
    given = _floats(upcast, dout, self.col.x, W)
    # Products of integers alone may overflow in the original, and of booleans are no sums.
    if not given or dout.ndim != 4 or dout.dtype.kind != "f" or W.dtype.kind != "f":
        return original(self, dout)
    dx, dW, db = fastconv.conv2d_backward(*given, stride=self.stride, padding=self.pad)
    self.db = db.astype(dout.dtype.newbyteorder("="), copy=False)
    self.dW = np.ascontiguousarray(dW.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    return dx


def pooling_forward(upcast, original, self, x):
    given = _floats(False, x)
    if not given or self.pad or x.ndim != 4 or not _fits(x.shape, self.pool_h, self.pool_w, 0):
        return original(self, x)
    size = self.pool_h, self.pool_w
    if x.flags.c_contiguous:
        y, offsets = max_pool_window(given[0], size, stride=self.stride)
        y, offsets = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (y, offsets))
    else:  # nearly always from another of these layers, in NHWC order
        x_last = given[0].transpose(0, 2, 3, 1)
        y, offsets = max_pool_window(x_last, size, stride=self.stride, layout="NHWC")
    self.x = x
    self.arg_max = offsets.reshape(-1).astype(np.intp)
    if upcast:
        y = y.astype(np.float64, copy=False)
    return y.transpose(0, 3, 1, 2)


def pooling_backward(upcast, original, self, dout):
    given = _floats(upcast, dout)
    whole = dout.size and dout.size == self.arg_max.size
    if not given or self.pad or dout.ndim != 4 or not whole:
        return original(self, dout)
    N, C, OH, OW = dout.shape
    cells = self.pool_h * self.pool_w
    offsets = np.empty(dout.shape, np.uint8 if cells <= 255 else np.int32)
    offsets[...] = self.arg_max.reshape(N, OH, OW, C).transpose(0, 3, 1, 2)
    return max_pool_window_backward(
        given[0], offsets, self.x.shape, (self.pool_h, self.pool_w), stride=self.stride
    )


def affine_forward(original, self, x):
    rows = x.reshape(x.shape[0], -1) if fast(x) and x.size else x
    y = product(rows, self.W)
    if y is None:
        return original(self, x)
    self.original_x_shape, self.x = x.shape, rows
    return y + self.b


def affine_backward(original, self, dout):
    dx, dW = product(dout, self.W.T), product(self.x.T, dout)
    if dx is None or dW is None:
        return original(self, dout)
    self.dW, self.db = dW, dout.sum(axis=0)
    return dx.reshape(self.original_x_shape)


def relu_forward(original, self, x):
    if not fast(x):
        return original(self, x)
    y = fastconv.relu(x)
    self.mask = y <= 0  # where x is, but y lies in one piece of memory
    return y


def relu_backward(original, self, dout):
    if not fast(dout) or dout.shape != self.mask.shape:
        return original(self, dout)
    # dout[mask] = 0, in place as the original does it: a masked write branches at each number and
    # takes ten times as long, and a float times 0 may be NaN. Its bits times 0 are 0.
    bits = dout.view(np.int32 if dout.dtype == np.float32 else np.int64)
    np.multiply(bits, ~self.mask, out=bits)
    return dout


def _floats(upcast, *arrays):
    """The arrays in the dtype to compute in; None if the original has to see to them."""
    if not all(type(a) is np.ndarray and np.can_cast(a.dtype, np.float64) for a in arrays):
        return None
    single = not upcast and np.result_type(*arrays) == np.float32
    dtype = np.float32 if single else np.float64
    return [a.astype(dtype, copy=False) for a in arrays]


def _fits(shape, filter_h, filter_w, pad):
    """Whether there are images, and at least one place for the filter in them."""
    N, C, H, W = shape
    return N * C and 0 < filter_h <= H + 2 * pad and 0 < filter_w <= W + 2 * pad


def _rows(x, FH, FW, stride, pad):
    """Receptive fields as rows: (N * OH * OW, C * FH * FW)."""
    exact, shape = _exact(x.shape, FH, FW, stride, pad)
    if exact:
        return fastconv.im2col(x[:, None], **exact).reshape(shape)
    cols = fastconv.im2col(x, (FH, FW), stride=stride, padding=pad)
    return cols.transpose(0, 2, 1).reshape(shape)


def _image(rows, x_shape, FH, FW, stride, pad):
    """The transpose of `_rows`: rows added back onto the cells that they came from."""
    exact, _ = _exact(x_shape, FH, FW, stride, pad)
    N, C, H, W = x_shape
    rows = rows.reshape(N, -1, C * FH * FW)
    if exact:
        return fastconv.col2im(rows, (N, 1, C, H, W), **exact).reshape(x_shape)
    cols = rows.transpose(0, 2, 1)
    return fastconv.col2im(cols, x_shape, (FH, FW), stride=stride, padding=pad)


def _exact(x_shape, FH, FW, stride, pad):
    """How `fastconv.im2col` gives rows in place of columns, and the shape that they have here.

    It gives columns, (C * FH * FW, OH * OW). Row and column change places if OH x OW cells at a
    distance of `stride` slide over FH x FW positions, and over the C channels as a third axis:
    the same cells of the image meet. That takes a stride which leaves no rest.
    """
    N, C, H, W = x_shape
    rest_h, rest_w = H + 2 * pad - FH, W + 2 * pad - FW
    OH, OW = rest_h // stride + 1, rest_w // stride + 1
    shape = N * OH * OW, C * FH * FW
    if rest_h % stride or rest_w % stride:
        return None, shape
    exact = {
        "kernel_size": (1, OH, OW),
        "padding": (0, pad, pad),
        "dilation": (1, stride, stride),
    }
    return exact, shape


class _LazyColumns(np.lib.mixins.NDArrayOperatorsMixin):
    """The matrix `im2col` makes of x, made when somebody looks at it; then it acts as the array."""

    def __init__(self, x, *fields):
        self.x = x
        self._fields = fields
        self._made = None

    def _array(self):
        if self._made is None:
            self._made = _rows(self.x, *self._fields)
        return self._made

    def __array__(self, dtype=None, copy=None):
        return self._array().astype(dtype or self._array().dtype, copy=bool(copy))

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        arrays = [a._array() if isinstance(a, _LazyColumns) else a for a in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __getattr__(self, name):
        if name.startswith("__"):  # what NumPy and copy look for and this does not have
            raise AttributeError(name)
        return getattr(self._array(), name)

    def __getitem__(self, index):
        return self._array()[index]

    def __len__(self):
        return len(self._array())

    def __reduce__(self):
        return np.asarray, (self._array(),)
