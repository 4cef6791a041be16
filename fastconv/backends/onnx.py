"""onnx's `ReferenceEvaluator`: convolutions, pooling and what goes with them in fastconv.

`install` replaces the operators below in every `ReferenceEvaluator` made from then on, those of
subgraphs and of functions, too; operators that somebody passes as `new_ops` win. Without it, a
single evaluator runs on fastconv by ``ReferenceEvaluator(model, new_ops=OPS)``, the interface that
onnx has for that, which does not reach into a model's functions.

An operator differs from one version of the operator set to the next, and its attributes with it.
Each class here is therefore derived from the evaluator's own class for the model's version, and
only `_run` is ours: dtypes other than float32 and float64, more than three spatial axes and shapes
that fastconv refuses go to the original, which computes or complains as ever.

Traps: `pads` are all begins, then all ends; strides of a pooling are 1 unless they are given, not
the kernel; indices of a maximum count in the whole tensor; the window of LRN reaches further on
than back, PyTorch's the other way; batch normalization is in training mode by an attribute, or
before version 14 by its number of outputs. Where the evaluator departs from the specification of
the operators, results here follow the specification; docs/backends.md lists it.
"""

import functools
import math

import numpy as np

import fastconv
from fastconv import _core
from fastconv.backends._arrays import fast
from fastconv.backends._backend import Backend, Replacement
from fastconv.functional._pool_shape import pool_shape
from fastconv.functional.lp_pool import pool_lp

LAYOUTS = {3: "NCW", 4: "NCHW", 5: "NCDHW"}
CONV = {3: fastconv.conv1d, 4: fastconv.conv2d, 5: fastconv.conv3d}
CONV_TRANSPOSE = {
    3: fastconv.conv_transpose1d,
    4: fastconv.conv_transpose2d,
    5: fastconv.conv_transpose3d,
}
PADDING = {"VALID": 0, "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}


def padding(auto_pad, pads):
    """Padding as fastconv takes it."""
    if auto_pad in PADDING:
        return PADDING[auto_pad]
    if not pads:
        return 0
    ndim = len(pads) // 2
    return tuple(zip(pads[:ndim], pads[ndim:], strict=True))


# ---- the operators -------------------------------------------------------------------------------
# Each takes the node, its inputs and, by name, its attributes: the defaults are for those that the
# version lacks or that have none. It returns the outputs, or NotImplemented for what is left to
# the original; a ValueError of fastconv's, raised before anything is computed, means the same.


def conv(
    node, X, W, B=None, *,
    auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None,
):  # fmt: skip
    if X.ndim not in CONV or (kernel_shape and tuple(kernel_shape) != W.shape[2:]):
        return NotImplemented
    y = CONV[X.ndim](
        X, W, B,
        stride=strides or 1, padding=padding(auto_pad, pads), dilation=dilations or 1, groups=group,
    )  # fmt: skip
    return (y,)


def conv_transpose(
    node, X, W, B=None, *,
    auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, output_padding=None,
    output_shape=None, pads=None, strides=None,
):  # fmt: skip
    if X.ndim not in CONV_TRANSPOSE or (kernel_shape and tuple(kernel_shape) != W.shape[2:]):
        return NotImplemented
    size = X.shape[2:]
    strides, dilations = strides or [1] * len(size), dilations or [1] * len(size)
    extra = output_padding or [0] * len(size)
    if not output_shape and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = [n * s for n, s in zip(size, strides, strict=True)]
    if output_shape:
        pads, extra = padding_for(
            output_shape, size, W.shape[2:], strides, dilations, extra, auto_pad
        )
    else:
        pads = padding(auto_pad, pads)
    y = CONV_TRANSPOSE[X.ndim](
        X, W, B,
        stride=strides, padding=pads, output_padding=extra, dilation=dilations, groups=group,
    )  # fmt: skip
    return (y,)


def padding_for(output_shape, size, kernel, strides, dilations, extra, auto_pad):
    """Padding and output padding of a transposed convolution whose output size is given."""
    pads, extras = [], []
    for out, n, k, s, d, e in zip(
        output_shape, size, kernel, strides, dilations, extra, strict=True
    ):
        total = s * (n - 1) + e + d * (k - 1) + 1 - out
        less = max(total, 0) // 2
        more = max(total, 0) - less
        pads.append((less, more) if auto_pad == "SAME_UPPER" else (more, less))
        extras.append(e + max(-total, 0))  # more than there is: zeros, or the bias, at the end
    return pads, extras


def windows(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides):
    """The shapes of a pooling; the specification has no rounding up with `auto_pad`."""
    return pool_shape(
        "pool",
        x.shape,
        kernel_shape,
        strides or 1,
        padding(auto_pad, pads),
        dilations or 1,
        ceil_mode and auto_pad not in PADDING,
        "floor",
        LAYOUTS[x.ndim],
    )


def max_pool(
    node, x, *,
    auto_pad="NOTSET", ceil_mode=0, dilations=None, kernel_shape=None, pads=None, storage_order=0,
    strides=None,
):  # fmt: skip
    if x.ndim not in LAYOUTS:
        return NotImplemented
    g = windows(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    y, indices = _core.max_pool(g, x, indices=len(node.output) > 1)
    if indices is None:
        return (y,)
    N, C, *size = x.shape
    if storage_order:  # the first axis counts fastest
        indices = np.ravel_multi_index(np.unravel_index(indices, size), size, order="F")
    indices += (np.arange(N * C) * math.prod(size)).reshape(N, C, *(1,) * len(size))
    return y, indices


def average_pool(
    node, x, *,
    auto_pad="NOTSET", ceil_mode=0, count_include_pad=0, dilations=None, kernel_shape=None,
    pads=None, strides=None,
):  # fmt: skip
    if x.ndim not in LAYOUTS:
        return NotImplemented
    g = windows(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    return (_core.sum_pool(g, x, "average" if count_include_pad else "average_valid"),)


def lp_pool(
    node, x, *,
    auto_pad="NOTSET", ceil_mode=0, dilations=None, kernel_shape=None, p=2, pads=None, strides=None,
):  # fmt: skip
    if x.ndim not in LAYOUTS or p < 1:
        return NotImplemented
    g = windows(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    return (pool_lp(g, x, float(p)),)


def global_average_pool(node, x):
    if math.prod(x.shape[2:]) > 4096:
        return NotImplemented  # NumPy sums large images in pairs, with smaller errors
    return average_pool(node, x, kernel_shape=x.shape[2:])


def global_max_pool(node, x):
    return max_pool(node, x, kernel_shape=x.shape[2:])


def lrn(node, x, *, alpha=1e-4, beta=0.75, bias=1.0, size=None):
    if x.ndim < 3:
        return NotImplemented
    images = x.reshape(*x.shape[:2], 1, -1)
    flipped = size % 2 == 0  # fastconv's window has its larger half before the channel
    if flipped:
        images = images[:, ::-1]
    y = fastconv.local_response_norm(images, size, alpha, beta, bias)
    return (np.ascontiguousarray(y[:, ::-1] if flipped else y).reshape(x.shape),)


def gemm(node, a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0, broadcast=1):
    if a.ndim != 2 or b.ndim != 2:
        return NotImplemented
    x, w = a.T if transA else a, b if transB else b.T
    if c is not None and beta != 0 and not broadcast and c.shape != (len(x), len(w)):
        return NotImplemented
    row = c if c is not None and alpha == beta == 1 and c.shape == w.shape[:1] else None
    y = fastconv.linear(x, w, row)
    if alpha != 1:
        y *= alpha
    if c is not None and row is None and beta != 0:
        y += c if beta == 1 else beta * c
    return (y,)


def relu(node, x):
    return (fastconv.relu(x),)


def batch_normalization(
    node, x, scale, bias, mean, var, *,
    epsilon=1e-5, momentum=0.9, training_mode=None, is_test=0, spatial=1,
):  # fmt: skip
    if x.ndim < 2 or not spatial:
        return NotImplemented
    outputs = len(node.output)
    training = training_mode
    if training is None:  # before version 14
        training = outputs > 1 if node.run_params["opsets"][node.domain] >= 7 else not is_test
    planes = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    if not training:
        y = fastconv.batch_norm(planes, scale, bias, mean, var, eps=epsilon, layout="NCW")
        return (y.reshape(x.shape),)
    y, *found = fastconv.batch_norm(
        planes, scale, bias, training=True, eps=epsilon, layout="NCW", return_statistics=True
    )
    old = float(momentum)
    moved = [old * a + (1 - old) * b for a, b in zip((mean, var), found, strict=True)]
    return (y.reshape(x.shape), *moved, *found)[:outputs]


def col2im(node, data, image_shape, block_shape, *, dilations=None, pads=None, strides=None):
    image, block = image_shape.tolist(), block_shape.tolist()
    if data.ndim != 3 or data.shape[1] % math.prod(block):
        return NotImplemented
    x_shape = (len(data), data.shape[1] // math.prod(block), *image)
    x = fastconv.col2im(
        data, x_shape, block,
        stride=strides or 1, padding=padding(None, pads), dilation=dilations or 1,
    )  # fmt: skip
    return (x,)


FUNCTIONS = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "LRN": lrn,
    "Gemm": gemm,
    "Relu": relu,
    "BatchNormalization": batch_normalization,
    "Col2Im": col2im,
}

# ---- their classes -------------------------------------------------------------------------------


@functools.cache
def derived(original: type) -> type:
    """The class of an operator with ours in front of its own `_run`."""
    op_type = original.__name__.partition("_")[0]  # the rest is its version: AveragePool_19
    function = FUNCTIONS[op_type]
    floats = 1 if op_type == "Col2Im" else None  # of its inputs; the others are shapes

    def _run(self, *inputs, **attributes):
        if fast(*inputs[:floats]):
            try:
                outputs = function(self, *inputs, **attributes)
            except ValueError:
                outputs = NotImplemented
            if outputs is not NotImplemented:
                return outputs
        return original._run(self, *inputs, **attributes)

    # The same name: the evaluator finds the operator's schema by it.
    return type(original.__name__, (original,), {"_run": _run, "__module__": __name__})


def load_impl(original, self, node, input_types=None):
    """The evaluator's choice of a class for a node, which may also be a function."""
    found = original(self, node, input_types)
    if node.domain or node.op_type not in FUNCTIONS or not isinstance(found, type):
        return found
    # Older versions of onnx put classes of their own among the new_ops.
    given = ("", node.op_type) in self.new_ops_
    if given and not found.__module__.startswith("onnx.reference.ops_optimized."):
        return found
    return derived(found)


def _chooser(op_type):
    """A class for `new_ops`: calling it gives an instance of the class for the model's version."""
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops import load_op

    def __new__(cls, onnx_node, run_params, schema=None):
        original = load_op("", op_type, run_params["opsets"][onnx_node.domain])
        return derived(original)(onnx_node, run_params, schema)

    return type(op_type, (OpRun,), {"__new__": __new__, "__module__": __name__})


def __getattr__(name):
    if name != "OPS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["OPS"] = ops = [_chooser(op_type) for op_type in FUNCTIONS]
    return ops


def backend() -> Backend:
    """Every new `ReferenceEvaluator` runs these operators on fastconv; there are no options."""
    return Backend(
        package="onnx",
        needs="onnx 1.17 or newer (pip install onnx)",
        replacements=[
            Replacement(
                "onnx.reference.reference_evaluator.ReferenceEvaluator._load_impl", load_impl
            )
        ],
    )
