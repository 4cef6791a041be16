"""Bad and odd input: refused by name, or right; nothing crashes, hangs or changes an input."""

import inspect

import numpy as np
import pytest
from bad_calls import POOLED, SCORES, W, X, Y
from calls import FUNCTIONS, OF_ANY_SHAPE, as_tuple, valid_call
from interpreter import output, run_script

import fastconv
from fastconv import reference

MODULES = pytest.mark.parametrize("module", [reference, fastconv], ids=["reference", "functional"])
EVERY_FUNCTION = pytest.mark.parametrize("name", FUNCTIONS)


def _arrays(arguments, *, without=()):
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and name not in without
    }


# ---- refused ------------------------------------------------------------------------------------


def _unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _overlapping_itself(shape, strides):
    memory = np.zeros(4000, np.float32)
    return np.lib.stride_tricks.as_strided(memory, shape, strides)


BAD_CALLS = {
    "x-none": (lambda F: F.conv2d(None, W), TypeError, "conv2d: x must be a NumPy array"),
    "w-none": (lambda F: F.conv2d(X, None), TypeError, "conv2d: w must be a NumPy array"),
    "x-scalar": (lambda F: F.relu(np.float32(1)), TypeError, "relu: x must be a NumPy array"),
    "x-0d": (lambda F: F.conv2d(np.array(1, np.float32), W), ValueError, r"x of shape \(\)"),
    "b-0d": (lambda F: F.conv2d(X, W, np.array(1, np.float32)), ValueError, r"b has shape \(\)"),
    "needs-none": (
        lambda F: F.conv2d_backward(Y, X, W, needs=None),
        TypeError,
        "needs must be some of 'x', 'w' and 'b', got None",
    ),
    "needs-list": (
        lambda F: F.conv2d_backward(Y, X, W, needs=[["x"]]),
        ValueError,
        "needs must be some of",
    ),
    "algo-array": (
        lambda F: F.conv2d(X, W, algo=np.array(["gemm", "naive"])),
        ValueError,
        "algo must be one of",
    ),
    "activation-array": (
        lambda F: F.conv2d(X, W, activation=np.array(["relu", "relu"])),
        ValueError,
        "activation must be None, 'relu' or 'relu6'",
    ),
    "activation-false": (
        lambda F: F.conv2d(X, W, activation=False),
        ValueError,
        "activation must be None, 'relu' or 'relu6', got False",
    ),
    "fit-none": (lambda F: F.conv2d(X, W, fit=None), ValueError, "fit must be one of"),
    "stride-array": (lambda F: F.conv2d(X, W, stride=np.ones(2)), TypeError, "stride must be"),
    "groups-tuple": (lambda F: F.conv2d(X, W, groups=(1,)), TypeError, "groups must be an int"),
    "x_shape-array": (
        lambda F: F.conv2d_input_grad(Y, W, np.array(X.shape)),
        TypeError,
        "shape of x must be a tuple",
    ),
    "x_shape-negative": (
        lambda F: F.conv2d_input_grad(Y, W, (2, 4, -7, 9)),
        ValueError,
        r"\(2, 4, -7, 9\) of x must be at least 1",
    ),
    "out-unaligned": (
        lambda F: F.conv2d(X, W, out=_unaligned(Y)),
        ValueError,
        "conv2d: out is not aligned",
    ),
    "out-itself": (
        lambda F: F.conv2d(X, W, out=_overlapping_itself(Y.shape, (24, 4, 4, 4))),
        ValueError,
        r"out repeats elements \(strides \(24, 4, 4, 4\)",
    ),
    "out-big-endian": (
        lambda F: F.conv2d(X, W, out=Y.astype(">f4")),
        TypeError,
        "out has dtype >f4",
    ),
    "out-masked": (lambda F: F.conv2d(X, W, out=np.ma.array(Y)), TypeError, "out is a masked"),
    "out-tuple": (lambda F: F.conv2d(X, W, out=(Y,)), TypeError, "out must be a NumPy array"),
    "indices-none": (
        lambda F: F.max_pool2d_backward(POOLED, None, X.shape),
        TypeError,
        "indices must be a NumPy array",
    ),
    "indices-uint64": (
        lambda F: F.max_pool2d_backward(POOLED, POOLED.astype(np.uint64), X.shape),
        TypeError,
        "indices must have dtype int64, got uint64",
    ),
    "norm_type-array": (
        lambda F: F.lp_pool2d(X, np.array([1, 2]), 2),
        TypeError,
        "norm_type must be a number",
    ),
    "norm_type-huge": (lambda F: F.lp_pool2d(X, 10**400, 2), ValueError, "norm_type is too large"),
    "delta-none": (
        lambda F: F.svm_loss(SCORES, np.zeros(3, int), delta=None),
        TypeError,
        "delta must be a number, got None",
    ),
    **{
        f"strength-{value}": (
            lambda F, value=value: F.l2_penalty(X, value),
            ValueError,
            "l2_penalty: strength must be finite and at least 0, got",
        )
        for value in (-1, np.inf, np.nan)
    },
    "strength-none": (lambda F: F.l2_penalty(X, None), TypeError, "strength must be a number"),
    "delta-word": (
        lambda F: F.svm_loss(SCORES, np.zeros(3, int), delta="1"),
        TypeError,
        "delta must be a number, got '1'",
    ),
    "labels-uint64": (
        lambda F: F.softmax_loss(SCORES, np.array([2**64 - 1, 0, 0], np.uint64)),
        ValueError,
        r"y\[0\] = 18446744073709551615 is no class",
    ),
    "labels-object": (
        lambda F: F.softmax_loss(SCORES, np.array([0, 1, 2], object)),
        TypeError,
        "integer class numbers",
    ),
}


@MODULES
@pytest.mark.parametrize(("call", "exception", "pattern"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(module, call, exception, pattern):
    with pytest.raises(exception, match=pattern):
        call(module)


WRONG_ARRAYS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "masked": np.ma.array,
    "object": lambda a: a.astype(object),
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "bool": lambda a: a.astype(bool),
    "string": lambda a: a.astype("S4"),
    "structured": lambda a: a.view([("value", a.dtype)]),
    "time": lambda a: a.astype("m8[s]"),
    "list": lambda a: a.tolist(),
    "bytes": lambda a: a.tobytes(),
}


@EVERY_FUNCTION
@pytest.mark.parametrize("change", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_wrong_arrays_are_refused_by_name(name, change, rng):
    arguments = valid_call(name, np.float32, rng)
    for argument, array in _arrays(arguments, without=("out",)).items():
        if array.dtype != np.float32 or change(array) is None:
            continue
        for module in (fastconv, reference):
            with pytest.raises(TypeError, match=rf"{name}: {argument} (is|has|must) "):
                getattr(module, name)(**{**arguments, argument: change(array)})


@EVERY_FUNCTION
def test_wrong_shapes_name_the_shape(name, rng):
    arguments = valid_call(name, np.float32, rng)
    arrays = _arrays(arguments)
    if name in OF_ANY_SHAPE:
        arrays.pop(next(iter(arrays)))
    for argument, array in arrays.items():
        for wrong in (array[None, None], array[..., None, None]):
            for module in (fastconv, reference):
                with pytest.raises(ValueError, match=rf"^{name}: ") as error:
                    getattr(module, name)(**{**arguments, argument: wrong})
                assert str(wrong.shape) in str(error.value)


def test_every_function_has_a_twin_with_the_same_signature():
    for name in FUNCTIONS:
        fast, plain = getattr(fastconv, name), getattr(reference, name)
        assert inspect.signature(fast) == inspect.signature(plain), name


# ---- sizes --------------------------------------------------------------------------------------

HUGE_SIZES = {
    "padding": lambda F: F.conv2d(X, W, padding=2**62),
    "padding-pairs": lambda F: F.conv2d(X, W, padding=((0, 2**61), (0, 0))),
    "padding-output": lambda F: F.conv2d(X, W, padding=2**30),
    "stride": lambda F: F.conv2d(X, W, stride=2**62),
    "dilation": lambda F: F.conv2d(X, W, dilation=2**62),
    "dilation-padding": lambda F: F.conv2d(X, W, dilation=2**40, padding=2**40),
    "beyond-64-bits": lambda F: F.conv2d(X, W, padding=10**30),
    "groups": lambda F: F.conv2d(X, W, groups=2**63),
    "transposed-stride": lambda F: F.conv_transpose2d(X, W[:4], stride=2**59),
    "transposed-padding": lambda F: F.conv_transpose2d(X, W[:4], padding=2**62),
    "transposed-output_padding": lambda F: F.conv_transpose2d(
        X, W[:4], stride=2**59, output_padding=2**58
    ),
    "x_shape": lambda F: F.conv2d_input_grad(Y, W, (2, 4, 2**62, 9)),
    "x_shape-product": lambda F: F.conv2d_input_grad(Y, W, (2, 4, 2**31, 2**31)),
    "w_shape": lambda F: F.conv2d_weight_grad(Y, X, (6, 4, 2**62, 3)),
    "w_shape-product": lambda F: F.conv2d_weight_grad(Y, X, (2**60, 4, 3, 3)),
    "im2col": lambda F: F.im2col(X, 3, padding=2**40),
    "col2im": lambda F: F.col2im(np.ones((1, 4, 4)), (1, 1, 2**31, 2**31), 2),
    "max_pool": lambda F: F.max_pool2d(X, 2**62),
    "max_pool-dilation": lambda F: F.max_pool2d(X, 3, dilation=2**62),
    "max_pool-window": lambda F: F.max_pool2d(X, 3, dilation=2**40, padding=2**40, stride=1),
    "max_pool_backward": lambda F: F.max_pool2d_backward(
        POOLED, POOLED.astype(np.int64), (2, 4, 2**31, 2**31)
    ),
    "avg_pool": lambda F: F.avg_pool2d(X, 2, stride=2**62),
    "avg_pool_backward": lambda F: F.avg_pool2d_backward(POOLED, (2, 4, 2**60, 9), 2),
    "lp_pool": lambda F: F.lp_pool2d(X, 2, 2, stride=2**62),
    "global_avg_pool": lambda F: F.global_avg_pool2d_backward(X[:, :, :1, :1], (2, 4, 2**62, 1)),
}


@MODULES
@pytest.mark.parametrize("call", HUGE_SIZES.values(), ids=HUGE_SIZES)
def test_overflowing_sizes(module, call):
    with pytest.raises(ValueError, match=r"integer overflow|\(2\d*, "):
        call(module)


# These once ran for centuries or wrote outside their memory: a process with a time limit.
LARGE_STRIDES = """
import numpy as np, fastconv, fastconv.reference

def f(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 7

def same(name, *args, **parameters):
    fast, plain = (getattr(m, name)(*args, **parameters) for m in (fastconv, fastconv.reference))
    np.testing.assert_array_equal(fast, plain, err_msg=f"{name} {parameters}")

x, w, y = f(2, 4, 6, 5), f(3, 4, 3, 3), f(2, 3, 1, 1)
deep, yd, pooled = f(4, 1, 3, 3), f(2, 4, 1, 1), f(2, 4, 1, 1)
for stride in (2**40, 2**59, 2**60 - 1, (1, 2**50)):
    p = {"stride": stride}
    if stride == (1, 2**50):
        y, yd, pooled = f(2, 3, 4, 1), f(2, 4, 4, 1), f(2, 4, 5, 1)
    for algo in ("gemm", "im2col", "naive"):
        same("conv2d", x, w, algo=algo, **p)
        same("conv2d_input_grad", y, w, x.shape, algo=algo, **p)
        same("conv2d_weight_grad", y, x, w.shape, algo=algo, **p)
    same("conv2d", x, deep, groups=4, **p)
    same("conv2d_input_grad", yd, deep, x.shape, groups=4, **p)
    same("conv2d_weight_grad", yd, x, deep.shape, groups=4, **p)
    same("max_pool2d", x, 2, **p)
    same("avg_pool2d", x, 2, **p)
    same("lp_pool2d", x, 1, 2, **p)
    same("avg_pool2d_backward", pooled, x.shape, 2, **p)
    same("im2col", x, 3, **p)
    same("col2im", fastconv.im2col(x, 3, **p), x.shape, 3, **p)

# A transposed convolution whose stride is cut off again: of the second pixel one row is left.
y = f(1, 3, 2, 1)
dx = fastconv.conv_transpose2d(y, w, stride=2**40, padding=((2**40 - 3, 2), (0, 0)))
assert dx.shape == (1, 4, 4, 3) and not dx[:, :, :3].any()
np.testing.assert_array_equal(dx[0, :, 3], np.einsum("c,cok->ok", y[0, :, 1, 0], w[:, :, 0]))
print("done")
"""


def test_strides_beyond_the_image():
    """A stride of 2^40 is no error where there is one output; it must cost nothing either."""
    assert output(LARGE_STRIDES, timeout=60) == "done"


LARGE_REACH = """
import numpy as np, fastconv

def refused(name, *args, **parameters):
    try:
        getattr(fastconv, name)(*args, **parameters)
    except (ValueError, MemoryError):
        return
    raise AssertionError(f"{name} {parameters}")

def answers(name, *args, **parameters):
    assert not getattr(fastconv, name)(*args, **parameters).any()

one, far = np.ones((1, 1, 1, 1), np.float32), {"padding": 2**28, "dilation": 2**29 + 7}
x, w = np.ones((1, 64, 8, 8), np.float32), np.ones((1, 64, 2, 2), np.float32)
deep = np.ones((64, 1, 2, 2), np.float32)
answers("conv2d", x, w, **far)
answers("conv2d", x, deep, groups=64, **far)
answers("conv2d_input_grad", one, w, x.shape, **far)
answers("conv2d_weight_grad", one, x, w.shape, **far)
answers("conv2d_weight_grad", one, x, w.shape, padding=2**28 - 4, dilation=2**29 - 1)
row = np.ones((64, 512, 8))
p = {"stride": 1, "padding": 2**58, "dilation": 2**58}
refused("max_pool1d", row, 3, **p)
refused("avg_pool1d", row, 2**58, stride=1, padding=2**57)
image = np.ones((64, 512, 4, 8))
refused("max_pool2d", image, 3, stride=1, padding=(1, 2**57), dilation=(1, 2**57))
volume = np.broadcast_to(np.float32(1), (1, 1, 4, 4096, 4096))
p = {"padding": (2**39, 0, 0), "dilation": (2**39, 1, 1)}
refused("max_pool3d", volume, 3, stride=1, **p)
wide = np.broadcast_to(np.float32(1), (1, 3, 2**20, 2**20))
filters = np.ones((2, 3, 3, 3), np.float32)
refused("conv2d", wide, filters)
refused("conv2d", wide, filters, algo="im2col")
refused("im2col", wide, 3)
refused("linear", np.broadcast_to(np.float32(1), (2**40, 4)), np.ones((3, 4), np.float32))
many = np.broadcast_to(np.float32(1), (2**50, 3, 3, 3))
refused("conv2d", np.ones((1, 3, 8, 8), np.float32), many)
print("done")
"""


def test_reach_beyond_memory():
    """Sizes that pass as integers, but whose memory would wrap around or does not exist."""
    assert output(LARGE_REACH, timeout=60) == "done"


# ---- odd, but right -----------------------------------------------------------------------------


class Sub(np.ndarray):
    """A subclass that refuses to compute."""

    __array_ufunc__ = None


def _negative(array):
    return np.flip(np.flip(array).copy())


def _gaps(array):
    memory = np.full((*array.shape, 2), 99, array.dtype)
    memory[..., 0] = array
    return memory[..., 0]


def _field(array):
    """A field of a record, whose stride is no multiple of the element's size."""
    memory = np.zeros(array.shape, [("flag", "i1"), ("value", array.dtype)])
    memory["value"] = array
    return memory["value"]


def _memmap(array):
    import tempfile

    with tempfile.TemporaryFile() as file:
        copy = np.memmap(file, array.dtype, "w+", shape=array.shape)
    copy[...] = array
    return copy


def _metadata(array):
    return array.astype(np.dtype(array.dtype, metadata={"unit": "m"}))


ODD_ARRAYS = {
    "unaligned": _unaligned,
    "negative-strides": _negative,
    "fortran-order": np.asfortranarray,
    "gaps": _gaps,
    "record-field": _field,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "subclass": lambda a: a.view(Sub),
    "memmap": _memmap,
    "metadata": _metadata,
}


@EVERY_FUNCTION
@pytest.mark.parametrize("place", ODD_ARRAYS.values(), ids=ODD_ARRAYS)
def test_odd_arrays_give_the_same_result(name, place, dtype, rng):
    arguments = valid_call(name, dtype, rng)
    arguments.pop("out", None)
    odd = {word: place(array) for word, array in _arrays(arguments).items()}
    for array in odd.values():
        array.flags.writeable = False  # inputs are never written to
    expected = as_tuple(getattr(fastconv, name)(**arguments))
    actual = as_tuple(getattr(fastconv, name)(**{**arguments, **odd}))
    for a, e in zip(actual, expected, strict=True):
        assert type(a) is type(e)
        # exp and powers of rows with a stride may differ in the last bit
        np.testing.assert_allclose(a, e, rtol=4 * np.finfo(dtype).eps)
    for word, array in odd.items():
        np.testing.assert_array_equal(np.asarray(array), arguments[word])


@EVERY_FUNCTION
def test_nothing_to_do(name, dtype, rng):
    """An empty batch gives empty results of the right shape, and gradients of zero."""
    arguments = valid_call(name, dtype, rng)
    batched = ("x", "dy", "y", "out", "cols", "indices", "offsets", "scores", "x_or_y", "kept")
    empty = {word: a[:0] for word, a in _arrays(arguments).items() if word in batched}
    if "x_shape" in arguments:
        empty["x_shape"] = (0, *arguments["x_shape"][1:])
    fast = as_tuple(getattr(fastconv, name)(**{**arguments, **empty}))
    plain = as_tuple(getattr(reference, name)(**{**arguments, **empty}))
    for a, e in zip(fast, plain, strict=True):
        np.testing.assert_array_equal(a, e, strict=True)


def test_matrices_are_arrays(recwarn):
    """np.matrix has its own idea of products and axes."""
    dy, x, w = (
        np.arange(n * m, dtype=np.float32).reshape(n, m) for n, m in [(4, 2), (4, 3), (2, 3)]
    )
    as_matrix = [np.asmatrix(a) for a in (dy, x, w)]
    labels = np.array([0, 1, 2, 0])
    calls = [
        (fastconv.linear(*as_matrix[1:]), fastconv.linear(x, w)),
        *zip(fastconv.linear_backward(*as_matrix), fastconv.linear_backward(dy, x, w), strict=True),
        (fastconv.softmax_loss(as_matrix[1], labels)[1], fastconv.softmax_loss(x, labels)[1]),
        (fastconv.svm_loss(as_matrix[1], labels)[1], fastconv.svm_loss(x, labels)[1]),
        (fastconv.relu(as_matrix[1]), fastconv.relu(x)),
    ]
    for actual, expected in calls:
        assert type(actual) is np.ndarray
        np.testing.assert_array_equal(actual, expected, strict=True)
    recwarn.clear()


def test_needs_may_be_an_iterator():
    dx, dw, db = fastconv.conv2d_backward(Y, X, W, needs=iter("xw"))
    assert dx is not None and dw is not None and db is None


def test_relu_of_a_single_number_is_an_array():
    for module in (fastconv, reference):
        result = module.relu(np.array(-1.0, np.float32))
        assert type(result) is np.ndarray and result.shape == () and result == 0


# ---- out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["gemm", "im2col", "naive"])
def test_out_may_lie_between_the_inputs(algo, rng):
    """Memory may be shared as long as no element is."""
    memory = np.zeros((2, 4, 6, 7, 2), np.float32)
    x, out = memory[..., 0], memory[..., 1]
    x[...] = rng.integers(-3, 4, x.shape)
    w = rng.integers(-3, 4, (4, 4, 3, 3)).astype(np.float32)
    before = x.copy()
    assert fastconv.conv2d(x, w, padding=1, algo=algo, out=out) is out
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(out, reference.conv2d(before, w, padding=1))


@pytest.mark.parametrize("shared", ["x", "w", "b"])
def test_out_may_not_overlap_an_input(shared):
    memory = np.ones(5000, np.float32)
    arrays = {"x": X, "w": W, "b": np.ones(6, np.float32)}
    size = arrays[shared].size
    arrays[shared] = memory[:size].reshape(arrays[shared].shape)
    out = memory[size - 1 : size - 1 + Y.size].reshape(Y.shape)
    for module in (fastconv, reference):
        with pytest.raises(ValueError, match=f"out shares memory with {shared}"):
            module.conv2d(**arrays, out=out)
    assert memory.min() == 1  # nothing was written
    out = memory[size : size + Y.size].reshape(Y.shape)
    fastconv.conv2d(**arrays, out=out)


def test_a_refused_call_writes_nothing():
    out = np.full_like(Y, np.nan)
    for parameters in ({"stride": 2}, {"algo": "?"}, {"activation": "?"}, {"padding": 1}):
        with pytest.raises(ValueError):
            fastconv.conv2d(X, W, out=out, **parameters)
    assert np.isnan(out).all()


# ---- nonsense -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_nonsense_never_crashes(seed):
    done = run_script("fuzz.py", seed, 4000)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr}"
