"""Keras 3 with its NumPy backend, KERAS_BACKEND=numpy, and no need for JAX.

Keras' NumPy backend leaves convolution and pooling to JAX, and cannot even be imported without it.
Here fastconv computes them, and where JAX is not installed, stand-ins for it are visible to the two
modules of Keras that import it, while they are executed, and to nobody else. Replaced are `conv`,
`depthwise_conv`, `conv_transpose`, `max_pool`, `average_pool` and the adaptive pools of
`keras.src.backend.numpy.nn`, which `separable_conv` and all layers call; and what NumPy computes
there in as much time as fastconv takes for convolutions: `batch_normalization`, `relu`, `relu6`.

Traps: arrays are channels last by default; filters are (*kernel, C // groups, OC), those of a
depthwise convolution (*kernel, C, M), of a transposed one (*kernel, OC, C); "same" padding has the
odd cell at the end; average pooling never counts padding. Half precision is computed in float32 and
rounded. JAX, and much of Keras, turns float64 into float32; convolution and pooling here do not.
"""

import numpy as np

import fastconv
from fastconv.backends._arrays import fast
from fastconv.backends._backend import Backend, Replacement
from fastconv.backends._keras_import import importing

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


def conv(original, inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    x, w, dtype = _numbers(inputs, kernel)
    if dtype is None:
        return original(inputs, kernel, strides, padding, data_format, dilation_rate)
    layout = _layout(x, data_format)
    channels = x.shape[layout.index("C")]
    groups, rest = divmod(channels, w.shape[-2])
    if rest:
        raise ValueError(
            f"conv: inputs of shape {x.shape} have {channels} channels ({layout}), which is no "
            f"multiple of the {w.shape[-2]} of kernel of shape {w.shape}"
        )
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
            f"depthwise_conv: inputs of shape {x.shape} have {channels} channels ({layout}), but "
            f"kernel of shape {w.shape} is for {expected}"
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


def batch_normalization(original, x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    vectors = [v for v in (mean, variance, offset, scale) if v is not None]
    if not (
        fast(x, *vectors)
        and 3 <= x.ndim <= 5
        and axis in (1, x.ndim - 1, -1)
        and x.flags.c_contiguous
        and all(v.shape == (x.shape[axis],) for v in vectors)
    ):
        return original(x, mean, variance, axis, offset, scale, epsilon)
    layout = _LAYOUTS["channels_first" if axis == 1 else "channels_last"][x.ndim - 2]
    return fastconv.batch_norm(x, scale, offset, mean, variance, eps=epsilon, layout=layout)


def relu(original, x):
    return fastconv.relu(x) if _plain_float32(x) else original(x)


def relu6(original, x):
    return fastconv.relu6(x) if _plain_float32(x) else original(x)


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

    The original, NumPy alone, pools around every cell and picks from that. Its results lie in
    memory as its indexing leaves them, these in C order.
    """
    if not (fast(inputs) and 3 <= inputs.ndim <= 5):
        return original(inputs, output_size, data_format)
    ndim = inputs.ndim - 2
    layout = _layout(inputs, data_format)
    axes = range(2, ndim + 2) if layout.index("C") == 1 else range(1, ndim + 1)
    outputs = _per_axis(output_size, ndim)
    sizes = [inputs.shape[axis] for axis in axes]
    uneven = [size % out != 0 for size, out in zip(sizes, outputs, strict=True)]
    windows = [
        1 if other else size // out for size, out, other in zip(sizes, outputs, uneven, strict=True)
    ]
    y = inputs
    if not all(uneven):
        y = pools[ndim](y, windows, layout=layout)
    for axis, size, out, other in zip(axes, sizes, outputs, uneven, strict=True):
        if other:
            before = (slice(None),) * axis
            ends = [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
            y = np.stack([reduce(y[*before, a:b], axis) for a, b in ends], axis)
    return y


def _numbers(*arrays):
    """The arrays as fastconv takes them, and the dtype of the result; None if it does not."""
    if not all(type(a) is np.ndarray for a in arrays):
        from keras.src.backend import convert_to_tensor

        # A parameter is a Variable, which gives its array, in the dtype that autocasting asks for.
        arrays = [a if type(a) is np.ndarray else convert_to_tensor(a) for a in arrays]
    if not 3 <= arrays[0].ndim <= 5:
        return *arrays, None
    if fast(*arrays):
        return *arrays, arrays[0].dtype
    from keras.src.backend import result_type

    dtype = np.dtype(result_type(*[a.dtype for a in arrays]))
    if dtype.kind in "iu" or dtype == np.float64:
        kind = np.float64  # integers up to 2**53
    elif dtype.name in ("float32", "float16", "bfloat16"):
        kind = np.float32
    else:
        return *arrays, None
    return *[a.astype(kind) for a in arrays], dtype


def _plain_float32(x):
    """Whether Keras' own conversion would leave dtype and order as they are."""
    return fast(x) and x.dtype == np.float32 and x.flags.c_contiguous


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
    return tuple(value) if isinstance(value, tuple | list) else (value,) * ndim


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
        batch_normalization,
        relu,
        relu6,
    )
    return Backend(
        package="keras",
        needs="Keras 3.13 or newer (pip install keras)",
        replacements=[
            Replacement(f"keras.src.backend.numpy.nn.{f.__name__}", f) for f in functions
        ],
        importing=importing,
    )
