"""Checks of arguments that are not about geometry, shared by `functional` and `reference`.

Every function takes the name of the operation first, for the message, and returns nothing or the
value the caller needs. They sit on the path of every call, so the good case comes first and is
cheap; the reasons for a refusal are worked out after it is certain.
"""

import operator

import numpy as np

from fastconv import _geometry

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
ALGOS = ("auto", "gemm", "winograd", "im2col", "naive")
GRADIENTS = ("x", "w", "b")
ACTIVATIONS = {None: 0, "relu": 1, "relu6": 2}  # names, and what C calls them

_ndarray = np.ndarray  # a name of this module is found faster than an attribute


def check_arrays(op, **arrays):
    """Return the one dtype, float32 or float64, that all arrays have; a bias `b` may be None.

    Raises
    ------
    TypeError
        If something is no array, or dtypes differ, are not native or not float32 or float64.
    """
    common = None
    for name, array in arrays.items():
        if array is None and name == "b":
            continue
        # Identity holds for nearly all arrays and costs a third of equality.
        if type(array) is not _ndarray:
            return _check_arrays_slowly(op, arrays)
        dtype = array.dtype
        if dtype is not common:
            if common is not None or (dtype is not FLOAT32 and dtype is not FLOAT64):
                return _check_arrays_slowly(op, arrays)
            common = dtype
    return common


def _check_arrays_slowly(op, arrays):
    """`check_arrays` for subclasses and for dtypes that are equal without being identical."""
    dtypes = {}
    for name, array in arrays.items():
        if array is None and name == "b":
            continue
        check_is_array(op, name, array, "np.asarray(..., dtype=np.float32)")
        dtype = array.dtype
        if dtype.kind != "f" or dtype.itemsize not in (4, 8):
            raise TypeError(
                f"{op}: {name} has dtype {dtype}, but only float32 and float64 are supported; "
                f"convert it with {name}.astype(np.float32) or {name}.astype(np.float64)"
            )
        _check_native(op, name, dtype)
        dtypes[name] = FLOAT32 if dtype.itemsize == 4 else FLOAT64
    if len(set(dtypes.values())) > 1:
        names = ", ".join(f"{name} is {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"{op}: arrays must have one dtype, but {names}; convert with .astype(...)")
    return next(iter(dtypes.values()), None)


def check_is_array(op, name, array, conversion):
    """Refuse what is no array; `conversion` is the code that makes it one."""
    if not isinstance(array, np.ndarray):
        kind = type(array).__name__
        raise TypeError(f"{op}: {name} must be a NumPy array, got {kind}; convert it: {conversion}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{op}: {name} is a masked array, whose mask would be ignored; convert it with "
            f"{name}.filled(...)"
        )


def _check_native(op, name, dtype):
    if not dtype.isnative:
        order = "big-endian" if dtype.str.startswith(">") else "little-endian"
        native = dtype.newbyteorder("=")
        raise TypeError(
            f"{op}: {name} is {order} ({dtype.str}), which is not this machine's byte order; "
            f"convert it with {name}.astype(np.{native})"
        )


def check_shape(op, name, shape, expected, reason):
    """Refuse `shape` unless it is `expected`; `reason` completes "expected because of ..."."""
    if shape != expected:
        raise ValueError(f"{op}: {name} has shape {shape}, but {reason} calls for {expected}")


def check_bias(op, b, filters, w_shape):
    """Refuse a bias that is not (filters,)."""
    if b is not None and b.shape != (filters,):
        raise ValueError(
            f"{op}: b has shape {b.shape}, but w of shape {w_shape} calls for {(filters,)}"
        )


def check_out(op, out, shape, dtype, **inputs):
    """Refuse an `out` unless it is a writable array of that shape and dtype, apart from inputs."""
    if out is None:
        return
    check_is_array(op, "out", out, "np.empty(shape, dtype)")
    if out.shape != shape:
        raise ValueError(f"{op}: out has shape {out.shape}, but the result has shape {shape}")
    if out.dtype != dtype:
        raise TypeError(f"{op}: out has dtype {out.dtype}, but the result has dtype {dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{op}: out is read-only")
    if not out.flags.aligned:
        raise ValueError(
            f"{op}: out is not aligned: its address or its strides {out.strides} are no multiples "
            f"of {dtype.itemsize} bytes"
        )
    if not out.flags.forc and _may_repeat(out):
        raise ValueError(f"{op}: out repeats elements (strides {out.strides} of shape {shape})")
    for name, array in inputs.items():
        if array is not None and overlap(out, array):
            raise ValueError(f"{op}: out shares memory with {name}; give it memory of its own")


def _may_repeat(array):
    """True unless each step, from the shortest on, is longer than what the shorter ones reach."""
    reach = array.itemsize
    steps = zip(map(abs, array.strides), array.shape, strict=True)
    for step, size in sorted(pair for pair in steps if pair[1] > 1):
        if step < reach:
            return array.size > 0
        reach += step * (size - 1)
    return False


def overlap(a, b):
    """True if the arrays share an element, or might and the exact answer takes long to find."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=1000)
    except np.exceptions.TooHardError:
        return True


def check_algo(op, algo):
    """Refuse an unknown name of an algorithm."""
    if not (isinstance(algo, str) and algo in ALGOS):
        names = ", ".join(map(repr, ALGOS))
        raise ValueError(f"{op}: algo must be one of {names}, got {algo!r}")


def check_suits(op, algo, g):
    """Refuse Winograd's algorithm where it does not exist; `g` is a `_core.Conv`."""
    if algo == "winograd" and not g.suits_winograd:
        raise ValueError(
            f"{op}: algo='winograd' needs 3x3 or 5x5 filters with stride 1 and dilation 1 on "
            f"images of moderate width, but the convolution is {g.geometry}; algo='auto' takes it "
            "where it pays"
        )


def check_activation(op, activation):
    """Refuse an unknown name of an activation."""
    if not (activation is None or (isinstance(activation, str) and activation in ACTIVATIONS)):
        raise ValueError(f"{op}: activation must be None, 'relu' or 'relu6', got {activation!r}")
    return ACTIVATIONS[activation]


def check_needs(op, needs):
    """Return the gradients that are asked for as a tuple made of "x", "w" and "b"."""
    message = f"{op}: needs must be some of 'x', 'w' and 'b', got {needs!r}"
    try:
        needs = tuple(needs)
    except TypeError:
        raise TypeError(message) from None
    if not all(isinstance(need, str) and need in GRADIENTS for need in needs):
        raise ValueError(message)
    return needs


def check_indices(op, name, indices, dtype, shape, reason):
    """Refuse an index array unless it has that dtype and shape; its values are checked in use."""
    if type(indices) is _ndarray and indices.dtype == dtype and indices.shape == shape:
        return
    check_is_array(op, name, indices, f"np.asarray(..., dtype=np.{dtype})")
    if indices.dtype != dtype:
        _check_native(op, name, indices.dtype)
        raise TypeError(f"{op}: {name} must have dtype {dtype}, got {indices.dtype}")
    check_shape(op, name, indices.shape, shape, reason)


def check_labels(op, scores, y):
    """Refuse class labels unless there is one integer in [0, classes) for each row of scores."""
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"{op}: scores must be (N, classes), got shape {scores.shape}")
    check_is_array(op, "y", y, "np.asarray(..., dtype=np.int64)")
    if y.dtype.kind not in "iu":
        raise TypeError(f"{op}: y must hold integer class numbers, got dtype {y.dtype}")
    check_shape(op, "y", y.shape, scores.shape[:1], f"scores of shape {scores.shape}")
    y = np.asarray(y)
    wrong = (y < 0) | (y >= scores.shape[1])
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{op}: y[{row}] = {y[row]} is no class of scores of shape {scores.shape}: labels run "
            f"from 0 to {scores.shape[1] - 1}"
        )


def check_range(op, name, indices, stop, reason):
    """Refuse an index array with a value outside [0, stop)."""
    indices = np.asarray(indices)
    wrong = (indices < 0) | (indices >= stop)
    if wrong.any():
        value = indices[np.unravel_index(np.argmax(wrong), wrong.shape)]
        raise ValueError(f"{op}: {name} holds {value}, but {reason} allows only 0 to {stop - 1}")


def check_number(op, name, value):
    """Return a real number as a float."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{op}: {name} must be a number, got {value!r}")
    try:
        return float(value)
    except TypeError:
        raise TypeError(f"{op}: {name} must be a number, got {value!r}") from None
    except OverflowError:
        raise ValueError(f"{op}: {name} is too large, got {value!r}") from None


def check_norm_type(op, norm_type):
    """Return the exponent of Lp pooling as a float; it must be finite and at least 1."""
    p = check_number(op, "norm_type", norm_type)
    if not 1 <= p < float("inf"):
        raise ValueError(f"{op}: norm_type must be finite and at least 1, got {norm_type!r}")
    return p


def check_probability(op, name, value):
    """Return a number from 0 to 1 as a float."""
    p = check_number(op, name, value)
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: {name} must be a probability, from 0 to 1, got {value!r}")
    return p


def check_same_shape(op, name, array, other, like):
    """Refuse an array unless it has the shape of another one, whose name is `other`."""
    check_shape(op, name, array.shape, like.shape, f"{other} of shape {like.shape}")


def check_axis(op, axis, ndim, shape):
    """Return an axis of an array of that shape, counted from the front."""
    try:
        number = operator.index(axis)
    except TypeError:
        number = None
    if number is None or isinstance(axis, bool):
        raise TypeError(f"{op}: axis must be an integer, got {axis!r}")
    if not -ndim <= number < ndim:
        raise ValueError(f"{op}: axis={axis} is no axis of x of shape {shape}")
    return number % ndim


def check_slopes(op, x, w, layout):
    """Refuse the slopes of `prelu` unless there is one, or one for each channel; return the axis
    of the channels."""
    if layout not in ("NCHW", "NHWC"):
        raise ValueError(f"{op}: layout must be 'NCHW' or 'NHWC', got {layout!r}")
    axis = x.ndim - 1 if layout == "NHWC" else 1
    channels = x.shape[axis] if 0 < axis < x.ndim else 1
    if w.shape not in ((1,), (channels,)):
        raise ValueError(
            f"{op}: w has shape {w.shape}, but x of shape {x.shape} with layout {layout} calls for "
            f"(1,) or ({channels},)"
        )
    return axis if 0 < axis < x.ndim else 0


def check_mask(op, name, mask, like):
    """Refuse anything but an array of bool of the shape of dy."""
    check_is_array(op, name, mask, "np.asarray(..., dtype=bool)")
    if mask.dtype != bool:
        raise TypeError(f"{op}: {name} must have dtype bool, got {mask.dtype}")
    check_shape(op, name, mask.shape, like.shape, f"dy of shape {like.shape}")


def check_response_norm(op, x, size, alpha, beta, k, layout):
    """Return (size, alpha, beta, k) of a local response normalization as Python numbers."""
    if layout not in ("NCHW", "NHWC"):
        raise ValueError(f"{op}: layout must be 'NCHW' or 'NHWC', got {layout!r}")
    _geometry.image_sizes(x.shape, layout=layout, op=op)
    names = (("alpha", alpha), ("beta", beta), ("k", k))
    numbers = [check_number(op, name, value) for name, value in names]
    return _geometry._integer(op, "size", size, 1), *numbers


def check_rank(op, name, array, axes):
    """Refuse an array unless it has as many axes as are named."""
    if array.ndim != axes.count(",") + 1:
        raise ValueError(f"{op}: {name} must be {axes}, got shape {array.shape}")


def check_places(op, x, w, out_size):
    """Refuse filters of a locally connected layer unless there are some for each output."""
    if w.shape[:2] != out_size:
        raise ValueError(
            f"{op}: w of shape {w.shape} has filters for {w.shape[0]} x {w.shape[1]} places, but x "
            f"of shape {x.shape} has {out_size[0]} x {out_size[1]} for filters of this size"
        )


def check_local_bias(op, b, w):
    """Refuse a bias that is not (OH, OW, OC)."""
    if b is not None:
        check_shape(op, "b", b.shape, w.shape[:3], f"w of shape {w.shape}")


def check_strength(op, strength):
    """Return the strength of a penalty as a float; it must be finite and not negative."""
    value = check_number(op, "strength", strength)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{op}: strength must be finite and at least 0, got {strength!r}")
    return value
