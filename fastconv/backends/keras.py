"""Keras 3 with its NumPy backend, KERAS_BACKEND=numpy, and no need for JAX.

Keras' NumPy backend leaves convolution and pooling to JAX, and cannot even be imported without it.
Here fastconv computes them, and where JAX is not installed, stand-ins for it are visible to the two
modules of Keras that import it, while they are imported, and to nobody else. Replaced are `conv`,
`depthwise_conv`, `conv_transpose`, `max_pool`, `average_pool`, `adaptive_average_pool` and
`adaptive_max_pool` of `keras.src.backend.numpy.nn`; `separable_conv` and all layers call these.

Traps: arrays are channels last by default; filters are (*kernel, C // groups, OC), those of a
depthwise convolution (*kernel, C, M), of a transposed one (*kernel, OC, C); "same" padding has the
odd cell at the end; average pooling never counts padding. JAX turns float64 into float32 unless
told otherwise; here float64 stays float64.
"""

import importlib.abc
import importlib.util
import sys
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType

import numpy as np

import fastconv
from fastconv.backends._arrays import fast
from fastconv.backends._backend import Backend, BackendError, Replacement

_NN = "keras.src.backend.numpy.nn"
_MATH = "keras.src.backend.numpy.math"
_CONFIG = "keras.src.backend.config"

_LAYOUTS = {
    "channels_last": (None, "NWC", "NHWC", "NDHWC"),
    "channels_first": (None, "NCW", "NCHW", "NCDHW"),
}
# By the number of spatial axes.
_CONV = (None, fastconv.conv1d, fastconv.conv2d, fastconv.conv3d)
_CONV_TRANSPOSE = (
    None,
    fastconv.conv_transpose1d,
    fastconv.conv_transpose2d,
    fastconv.conv_transpose3d,
)
_MAX_POOL = (None, fastconv.max_pool1d, fastconv.max_pool2d, fastconv.max_pool3d)
_AVG_POOL = (None, fastconv.avg_pool1d, fastconv.avg_pool2d, fastconv.avg_pool3d)


# ---- what is replaced ---------------------------------------------------------------------------


def conv(
    original, inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    x, w, dtype = _numbers(inputs, kernel)
    if dtype is None:
        return original(inputs, kernel, strides, padding, data_format, dilation_rate)
    layout = _layout(x, data_format)
    groups = x.shape[layout.index("C")] // w.shape[-2]
    return _conv(x, w, strides, padding, dilation_rate, groups, layout).astype(dtype, copy=False)


def depthwise_conv(
    original, inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    x, w, dtype = _numbers(inputs, kernel)
    if dtype is None:
        return original(inputs, kernel, strides, padding, data_format, dilation_rate)
    layout = _layout(x, data_format)
    channels = x.shape[layout.index("C")]
    *size, expected, multiplier = w.shape
    if channels != expected:
        raise ValueError(
            f"depthwise_conv: inputs of shape {x.shape} have {channels} channels ({data_format}), "
            f"but kernel of shape {w.shape} is for {expected}"
        )
    w = w.reshape(*size, 1, channels * multiplier)
    return _conv(x, w, strides, padding, dilation_rate, channels, layout).astype(dtype, copy=False)


def conv_transpose(
    original,
    inputs,
    kernel,
    strides=1,
    padding="valid",
    output_padding=None,
    data_format=None,
    dilation_rate=1,
):
    x, w, dtype = _numbers(inputs, kernel)
    if dtype is None:
        return original(
            inputs, kernel, strides, padding, output_padding, data_format, dilation_rate
        )
    from keras.src.backend.common import backend_utils

    layout = _layout(x, data_format)
    # Zeros before and after the inputs with `strides - 1` zeros between them, for an ordinary
    # convolution. What it lacks to span - 1, a transposed convolution cuts off its output.
    zeros = backend_utils.compute_conv_transpose_padding_args_for_jax(
        x.shape, w.shape, strides, padding, output_padding, dilation_rate
    )
    steps = _per_axis(dilation_rate, len(zeros))
    spans = [d * (k - 1) + 1 for d, k in zip(steps, w.shape, strict=False)]
    cut = [(s - 1 - a, max(s - 1 - b, 0)) for s, (a, b) in zip(spans, zeros, strict=True)]
    more = [max(b - (s - 1), 0) for s, (_, b) in zip(spans, zeros, strict=True)]
    # Outputs that no input reaches, more of them than the strides explain, are zeros.
    reach = [min(m, s - 1) for m, s in zip(more, _per_axis(strides, len(more)), strict=True)]
    y = _CONV_TRANSPOSE[len(more)](
        x,
        _channels_first(w),
        stride=strides,
        padding=cut,
        output_padding=reach,
        dilation=dilation_rate,
        layout=layout,
    )
    if more != reach:
        after = dict(zip(layout.strip("NC"), zip(more, reach, strict=True), strict=True))
        y = np.pad(y, [(0, m - r) for m, r in [after.get(axis, (0, 0)) for axis in layout]])
    return y.astype(dtype, copy=False)


def max_pool(original, inputs, pool_size, strides=None, padding="valid", data_format=None):
    x, dtype = _numbers(inputs)
    if dtype is None:
        return original(inputs, pool_size, strides, padding, data_format)
    pool = _MAX_POOL[x.ndim - 2]
    layout = _layout(x, data_format)
    return pool(x, pool_size, stride=strides, padding=padding, layout=layout).astype(
        dtype, copy=False
    )


def average_pool(original, inputs, pool_size, strides=None, padding="valid", data_format=None):
    x, dtype = _numbers(inputs)
    if dtype is None:
        return original(inputs, pool_size, strides, padding, data_format)
    y = _AVG_POOL[x.ndim - 2](
        x,
        pool_size,
        stride=strides,
        padding=padding,
        count_include_pad=False,
        layout=_layout(x, data_format),
    )
    return y if dtype.kind in "iu" else y.astype(dtype, copy=False)  # a mean is no integer


def adaptive_average_pool(original, inputs, output_size, data_format=None):
    return _adaptive_pool(original, inputs, output_size, data_format, _AVG_POOL, np.mean)


def adaptive_max_pool(original, inputs, output_size, data_format=None):
    return _adaptive_pool(original, inputs, output_size, data_format, _MAX_POOL, np.max)


# ---- how ----------------------------------------------------------------------------------------


def _conv(x, w, strides, padding, dilation, groups, layout):
    return _CONV[x.ndim - 2](
        x,
        _channels_first(w),
        stride=strides,
        padding=padding.lower() if isinstance(padding, str) else padding,
        dilation=dilation,
        groups=groups,
        layout=layout,
    )


def _adaptive_pool(original, inputs, output_size, data_format, pools, reduce):
    """Pool with windows from floor(i * size / out) to ceil((i + 1) * size / out) along each axis.

    The original (NumPy alone) pools around every cell and picks from that; it computes channels
    last, and so do we, for the same order in memory.
    """
    if not (fast(inputs) and 3 <= inputs.ndim <= 5):
        return original(inputs, output_size, data_format)
    ndim = inputs.ndim - 2
    first = _layout(inputs, data_format).index("C") == 1
    x = np.moveaxis(inputs, 1, -1) if first else inputs
    outputs = _per_axis(output_size, ndim)
    if any(size % out for size, out in zip(x.shape[1:], outputs, strict=False)):
        for axis, out in enumerate(outputs, 1):
            size = x.shape[axis]
            before = (slice(None),) * axis
            parts = [
                reduce(x[*before, i * size // out : -(-(i + 1) * size // out)], axis)
                for i in range(out)
            ]
            x = np.stack(parts, axis)
    else:
        windows = [size // out for size, out in zip(x.shape[1:], outputs, strict=False)]
        x = pools[ndim](x, windows, layout=_LAYOUTS["channels_last"][ndim])
    return np.moveaxis(x, -1, 1) if first else x


def _numbers(*arrays):
    """The arrays as fastconv takes them, and the dtype of the result; None if it does not."""
    if fast(*arrays) and 3 <= arrays[0].ndim <= 5:
        return *arrays, arrays[0].dtype
    from keras.src import backend

    # A parameter is a Variable, which gives its array, in the dtype that autocasting asks for.
    arrays = [a if type(a) is np.ndarray else backend.convert_to_tensor(a) for a in arrays]
    dtype = np.dtype(backend.result_type(*[a.dtype for a in arrays]))
    exact = dtype.kind in "iu" or dtype == np.float64  # integers up to 2**53
    if not (exact or dtype.name in ("float32", "float16", "bfloat16")) or (
        not 3 <= arrays[0].ndim <= 5
    ):
        return *arrays, None
    kind = np.float64 if exact else np.float32
    return *[a.astype(kind, copy=False) for a in arrays], dtype


def _layout(x, data_format):
    if data_format not in _LAYOUTS:
        from keras.src.backend.config import standardize_data_format

        data_format = standardize_data_format(data_format)
    return _LAYOUTS[data_format][x.ndim - 2]


def _channels_first(w):
    """Filters (*kernel, a, b) as a view (b, a, *kernel)."""
    ndim = w.ndim - 2
    return w.transpose(ndim + 1, ndim, *range(ndim))


def _per_axis(value, ndim):
    return (value,) * ndim if isinstance(value, int) else tuple(value)


# ---- Keras without JAX --------------------------------------------------------------------------


class _Missing(ModuleType):
    """In the place of a module of JAX: whatever is asked of it tells that it is not there."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise ModuleNotFoundError(
            f"{self.__name__}.{name}: Keras' NumPy backend computes this with JAX, which is not "
            f"installed (pip install jax); fastconv stands in for it in convolutions and pooling "
            f"of 1-D to 3-D images of real numbers, while its backend 'keras' is active",
            name="jax",
        )


def _stand_ins():
    """The modules that stand in for JAX, by the module of Keras that sees them."""
    jax = _Missing("jax")
    jax.lax = _Missing("jax.lax")
    math = _Missing("keras.src.backend.jax.math")
    math.fft = lambda x: math.keras_ops_fft
    math.fft2 = lambda x: math.keras_ops_fft2
    return {_NN: {"jax": jax}, _MATH: {math.__name__: math}}


@contextmanager
def _visible(modules):
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def _check_backend(config):
    if config.backend() != "numpy":
        raise BackendError(
            f"Keras has chosen the backend {config.backend()!r}, and this is for 'numpy': before "
            f"Keras is imported for the first time in a process, say "
            f'os.environ["KERAS_BACKEND"] = "numpy"'
        )


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of Keras that need something before or after they are executed."""

    def __init__(self):
        jax = importlib.util.find_spec("jax")
        self.stand_ins = _stand_ins() if jax is None else {}

    def find_spec(self, fullname, path, target=None):
        if fullname != _CONFIG and fullname not in self.stand_ins:
            return None
        spec = PathFinder.find_spec(fullname, path)
        loader = spec.loader

        def exec_module(module):
            del loader.exec_module  # back to that of its class
            with _visible(self.stand_ins.get(fullname, {})):
                loader.exec_module(module)
            if fullname == _CONFIG:
                _check_backend(module)

        loader.exec_module = exec_module
        return spec


@contextmanager
def _importing():
    if _CONFIG in sys.modules:
        _check_backend(sys.modules[_CONFIG])
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def backend() -> Backend:
    """Make Keras' NumPy backend run on fastconv; there are no options."""
    functions = (
        conv,
        depthwise_conv,
        conv_transpose,
        max_pool,
        average_pool,
        adaptive_average_pool,
        adaptive_max_pool,
    )
    return Backend(
        package="keras",
        needs="Keras 3.13 or newer (pip install keras)",
        replacements=[Replacement(f"{_NN}.{f.__name__}", f) for f in functions],
        importing=_importing,
    )
