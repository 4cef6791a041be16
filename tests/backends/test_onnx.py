"""The backend of onnx's `ReferenceEvaluator`: its conformance tests, and what these leave out."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
import onnx_cases  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.op_run import OpRun  # noqa: E402
from onnx.reference.ops import op_conv  # noqa: E402

import fastconv  # noqa: E402
from fastconv import backends  # noqa: E402
from fastconv.backends import onnx as backend  # noqa: E402
from fastconv.reference import conv2d as plain_conv2d  # noqa: E402

DTYPES = (np.float32, np.float64)
rng = np.random.default_rng(5)


@pytest.fixture
def active():
    with backends.use("onnx"):
        yield


def model(op_type, inputs, outputs=1, opset=22, **attributes):
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, results, **attributes)],
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def run(op_type, *inputs, new_ops=None, **options):
    feed = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
    return ReferenceEvaluator(model(op_type, inputs, **options), new_ops=new_ops).run(None, feed)


def normal(*shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


@pytest.fixture
def fallbacks(monkeypatch):
    """The operators that went to the original, while the fixture's list is looked at."""
    found = []
    for name in backend.FUNCTIONS:
        function = backend.FUNCTIONS[name]

        def spy(*args, function=function, name=name, **kwargs):
            try:
                result = function(*args, **kwargs)
            except ValueError:
                result = NotImplemented
            if result is NotImplemented:
                found.append(name)
            return result

        monkeypatch.setitem(backend.FUNCTIONS, name, spy)
    backend.derived.cache_clear()
    yield found
    backend.derived.cache_clear()


def both(op_type, *inputs, terms, **options):
    """Run an operator as it is and on fastconv; they must agree, and inputs stay as they are."""
    before = [None if array is None else array.copy() for array in inputs]
    expected = run(op_type, *inputs, **options)
    got = run(op_type, *inputs, new_ops=backend.OPS, **options)
    for a, b in zip(inputs, before, strict=True):
        assert a is None or np.array_equal(a, b)
    for a, b in zip(expected, got, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype.kind == "f":
            tolerance = 4 * np.finfo(a.dtype).eps * terms * max(abs(a).max(initial=0), 1)
            np.testing.assert_allclose(b, a, rtol=0, atol=tolerance)
        else:
            np.testing.assert_array_equal(b, a)
    return got


# ---- onnx's own tests ----------------------------------------------------------------------------

# The evaluator fails these, too: they want arange of a shape that it does not give.
BROKEN = [name for name in onnx_cases.cases() if name.startswith("test_range_")]


@pytest.mark.parametrize("name", sorted(set(onnx_cases.cases()) - set(BROKEN)))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_conformance(name, active, fallbacks):
    onnx_cases.check(name)
    assert not fallbacks


@pytest.mark.parametrize("name", ["inception_v1", "inception_v2", "resnet50", "shufflenet"])
def test_whole_nets(name, active, fallbacks):
    net, feed, expected = onnx_cases.light(name)
    (y,) = ReferenceEvaluator(net).run(None, feed)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-7)  # as onnx's runner compares
    assert not fallbacks


def test_squeezenet_up_to_its_softmax(active, fallbacks):
    net, feed, _ = onnx_cases.light("squeezenet")
    *_, pool, softmax = net.graph.node
    assert (pool.op_type, softmax.op_type) == ("GlobalAveragePool", "Softmax")
    results = ReferenceEvaluator(net).run(None, feed, intermediate=True)
    x, y = results[pool.input[0]], results[pool.output[0]]
    np.testing.assert_allclose(y, x.mean((2, 3), keepdims=True), rtol=1e-5)
    assert y.max() > 0 and not fallbacks


# ---- operators as the evaluator has them, where it is right --------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": 2, "pads": (1, 2)},
        {"dilations": 2, "pads": (3, 0)},
        {"auto_pad": "SAME_UPPER", "strides": 2},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
        {"group": 2},
    ],
)
def test_conv(ndim, dtype, attributes):
    attributes = spread(attributes, ndim)
    groups = attributes.get("group", 1)
    x = normal(2, 4, *(9, 8, 7)[:ndim], dtype=dtype)
    w = normal(6, 4 // groups, *(3, 2, 3)[:ndim], dtype=dtype)
    for b in (None, normal(6, dtype=dtype)):
        both("Conv", x, w, b, terms=w[0].size, **attributes)
    both("Conv", x[:, :, ::-1], w[::-1], terms=w[0].size, **attributes)


def spread(attributes, ndim):
    """Numbers into lists, one for each axis; pairs into onnx's order of pads."""
    result = {}
    for key, value in attributes.items():
        if isinstance(value, tuple):
            result[key] = [value[0]] * ndim + [value[1]] * ndim
        else:
            result[key] = value if key == "group" or isinstance(value, str) else [value] * ndim
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": 2, "pads": (1, 0), "output_padding": 1},
        {"dilations": 2, "pads": (0, 1)},
        {"auto_pad": "SAME_UPPER", "strides": 2},
        {"auto_pad": "SAME_LOWER", "strides": 2},
    ],
)
def test_conv_transpose(ndim, dtype, attributes):
    x = normal(2, 3, *(3, 4, 2)[:ndim], dtype=dtype)
    w = normal(3, 2, *(3, 3, 2)[:ndim], dtype=dtype)
    for b in (None, normal(2, dtype=dtype)):
        both("ConvTranspose", x, w, b, terms=w[:, 0].size, **spread(attributes, ndim))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": 2},
        {"strides": 2, "pads": (1, 0), "ceil_mode": 1},
        {"strides": 2, "dilations": 2},
        {"strides": 2, "auto_pad": "SAME_UPPER"},
        {"strides": 2, "auto_pad": "VALID"},
    ],
)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_max_pool(ndim, attributes, storage_order, dtype):
    ceil = {"ceil_mode": attributes.get("ceil_mode", 0)}
    attributes = spread({k: v for k, v in attributes.items() if k != "ceil_mode"}, ndim) | ceil
    x = normal(2, 3, *(7, 6, 5)[:ndim], dtype=dtype)
    options = dict(kernel_shape=[3, 2, 2][:ndim], storage_order=storage_order, **attributes)
    both("MaxPool", x, terms=1, outputs=2, **options)
    both("MaxPool", x, terms=1, **options)


@given(st.data(), st.sampled_from(DTYPES))
def test_any_windows(data, dtype):
    def draw(low, high):
        return [data.draw(st.integers(low, high)) for _ in range(2)]

    size, kernel, dilations = draw(5, 11), draw(1, 3), draw(1, 2)
    span = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads = [data.draw(st.integers(0, s - 1)) for s in span * 2]
    x = np.moveaxis(normal(2, *size, 3, dtype=dtype), 3, 1)[:, :, :: data.draw(st.integers(1, 2))]
    w = normal(3, 2, *kernel, dtype=dtype)
    shared = dict(dilations=dilations, pads=pads, strides=draw(1, 3))
    if all(n + pads[i] + pads[i + 2] >= span[i] for i, n in enumerate(x.shape[2:])):
        both("Conv", x, w.swapaxes(0, 1), terms=w[:, 0].size, **shared)
        strides = [s + 1 for s in shared["strides"]]  # with 1 the evaluator confuses pads
        ceil_mode = data.draw(st.integers(0, 1))
        pool = shared | {"strides": strides, "ceil_mode": ceil_mode, "kernel_shape": kernel}
        both("MaxPool", x, terms=1, outputs=2, **pool)
    both("ConvTranspose", x, w, normal(2, dtype=dtype), terms=w[:, 0].size, **shared)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("opset", [7, 11, 22])
@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_average_pool(ndim, count_include_pad, opset, dtype):
    x = normal(2, 3, *(7, 6, 5)[:ndim], dtype=dtype)
    options = dict(kernel_shape=[3] * ndim, opset=opset, count_include_pad=count_include_pad)
    both("AveragePool", x, terms=27, pads=[1] * (2 * ndim), strides=[2] * ndim, **options)
    both("AveragePool", x, terms=27, auto_pad="SAME_LOWER", **options)
    if opset == 22:
        both(
            "AveragePool",
            x,
            terms=27,
            dilations=[2] * ndim,
            **options | {"kernel_shape": [2] * ndim},
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_lp_pool(ndim, p, dtype):
    x = normal(2, 3, *(7, 6, 5)[:ndim], dtype=dtype)
    options = dict(kernel_shape=[3] * ndim, p=p)
    both("LpPool", x, terms=27, pads=[1] * (2 * ndim), strides=[2] * ndim, **options)
    both("LpPool", x, terms=27, auto_pad="SAME_UPPER", **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_others(dtype):
    x = normal(3, 3, 6, 5, dtype=dtype)
    vectors = [abs(normal(3, dtype=dtype)) + 1 for _ in range(4)]
    both("GlobalAveragePool", x, terms=30)
    both("GlobalAveragePool", normal(1, 2, 70, 70, dtype=dtype), terms=30)  # the original's
    both("GlobalMaxPool", x, terms=1)
    both("Relu", x, terms=1)
    both("Relu", x.transpose(1, 3, 0, 2), terms=1)
    both("LRN", x, terms=3, size=3, alpha=0.75, beta=0.5, bias=2.0)
    both("LRN", x, terms=3, size=2)
    for shape in ((3, 3, 6, 5), (3, 3, 4), (3, 3)):
        x = normal(*shape, dtype=dtype)
        both("BatchNormalization", x, *vectors, terms=8, epsilon=0.01)
        both("BatchNormalization", x, *vectors, terms=90, outputs=3, training_mode=1)
    cols = normal(2, 3 * 4, 20, dtype=dtype)
    shapes = np.array([5, 6]), np.array([2, 2])
    both("Col2Im", cols, *shapes, terms=4)
    cols = normal(2, 3 * 4, 3 * 4, dtype=dtype)
    both("Col2Im", cols, *shapes, terms=4, strides=[2, 2], pads=[1, 1, 0, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("c", [None, (), (1,), (5,), (1, 5), (4, 1), (4, 5)])
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed, c, dtype):
    a, b = normal(4, 7, dtype=dtype), normal(7, 5, dtype=dtype)
    if transposed:
        a, b = a.T.copy(), b.T.copy()
    c = None if c is None else np.asarray(normal(*c, dtype=dtype))
    for scale in ({}, {"alpha": 0.5}, {"beta": 0.25}, {"beta": 0.0}, {"alpha": 2.0, "beta": 3.0}):
        both("Gemm", a, b, c, terms=8, transA=transposed, transB=transposed, **scale)


# ---- where the evaluator departs from the specification ------------------------------------------


def test_average_pool_rounds_up_at_the_end_only(active):
    x = np.arange(1.0, 7.0, dtype=np.float32).reshape(1, 1, 6)
    options = dict(kernel_shape=[5], strides=[4], ceil_mode=1)
    for count in (0, 1):  # cells beyond the padding never count
        (y,) = run("AveragePool", x, count_include_pad=count, **options)
        assert y.ravel().tolist() == [3.0, 5.5]
    (y,) = run("LpPool", x, p=1, **options)
    assert y.ravel().tolist() == [15.0, 11.0]


def test_dilated_average_pool_with_auto_pad(active):
    x = np.ones((1, 1, 5), np.float32)
    options = dict(kernel_shape=[3], dilations=[2], auto_pad="SAME_UPPER")
    (y,) = run("AveragePool", x, count_include_pad=1, **options)
    np.testing.assert_allclose(y.ravel(), np.array([2, 2, 3, 2, 2]) / 3, rtol=1e-6)


def test_average_pool_of_the_first_version_leaves_padding_out(active):
    (y,) = run(
        "AveragePool", np.ones((1, 1, 3), np.float32), opset=1, kernel_shape=[3], pads=[1, 1]
    )
    assert y.ravel().tolist() == [1, 1, 1]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_max_pool_of_stride_1_with_uneven_padding(ndim, active):
    x = normal(2, 3, *(4, 5, 3)[:ndim])
    begin, end = [1, 0, 1][:ndim], [0, 1, 1][:ndim]
    y, indices = run("MaxPool", x, outputs=2, kernel_shape=[2] * ndim, pads=begin + end)
    pads = [(0, 0), (0, 0), *zip(begin, end, strict=True)]
    padded = np.pad(x, pads, constant_values=-np.inf)
    axes = tuple(range(2, 2 + ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded, [2] * ndim, axes)
    np.testing.assert_array_equal(y, windows.max(tuple(range(-ndim, 0))))
    np.testing.assert_array_equal(x.ravel()[indices], y)


def test_max_pool_with_its_padding_before(active):
    x = np.arange(5.0, dtype=np.float32).reshape(1, 1, 5)
    (y,) = run("MaxPool", x, kernel_shape=[2], strides=[2], auto_pad="SAME_LOWER")
    assert y.ravel().tolist() == [0, 2, 4]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5, 3)])
def test_global_max_pool_over_one_and_three_axes(shape, active):
    x = normal(*shape)
    (y,) = run("GlobalMaxPool", x)
    np.testing.assert_array_equal(y, x.max(tuple(range(2, x.ndim)), keepdims=True))


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 6, 4, 3), (2, 6, 4), (2, 6, 2, 3, 2)])
def test_lrn_of_all_channels(shape, size, active):
    x = normal(*shape, dtype=np.float64)
    (y,) = run("LRN", x, size=size, alpha=0.5, beta=0.75, bias=1.5)
    for c in range(6):
        window = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
        expected = x[:, c] / (1.5 + 0.5 / size * (window**2).sum(1)) ** 0.75
        np.testing.assert_allclose(y[:, c], expected, rtol=1e-13)


def test_conv_transpose_with_groups_of_several_filters(active):
    x, w, b = normal(2, 4, 3, 5), normal(4, 3, 2, 3), normal(6)
    (y,) = run("ConvTranspose", x, w, b, group=2, strides=[2, 1])
    halves = [
        run("ConvTranspose", x[:, 2 * i :][:, :2], w[2 * i :][:2], b[3 * i :][:3], strides=[2, 1])[
            0
        ]
        for i in range(2)
    ]
    np.testing.assert_allclose(y, np.concatenate(halves, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("auto_pad, cut", [("NOTSET", (1, 0)), ("SAME_UPPER", (0, 1))])
def test_conv_transpose_cut_to_its_output_shape(auto_pad, cut, active):
    x, w = normal(1, 2, 4), normal(2, 3, 3)
    (whole,) = run("ConvTranspose", x, w, strides=[2])
    (y,) = run("ConvTranspose", x, w, strides=[2], output_shape=[8], auto_pad=auto_pad)
    np.testing.assert_array_equal(y, whole[:, :, cut[0] : whole.shape[2] - cut[1]])


def test_batch_normalization_before_version_14(active):
    x, vectors = normal(2, 3, 4, 5), [abs(normal(3)) + 1 for _ in range(4)]
    expected = run("BatchNormalization", x, *vectors)[0]
    for opset in (7, 9):  # one output: the given statistics
        (y,) = run("BatchNormalization", x, *vectors, opset=opset)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    (y,) = run("BatchNormalization", x, *vectors, opset=6, is_test=1)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    expected = run("BatchNormalization", x, *vectors, training_mode=1, outputs=3)
    y, mean, var, batch_mean, batch_var = run("BatchNormalization", x, *vectors, opset=9, outputs=5)
    for a, b in zip((y, mean, var), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(batch_mean, x.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch_var, x.var((0, 2, 3)), rtol=1e-5)


# ---- what goes to the original -------------------------------------------------------------------


def test_other_dtypes_go_to_the_original():
    x, w = normal(1, 2, 6, 6), normal(3, 2, 3, 3)
    both("Conv", x.astype(np.float16), w.astype(np.float16), terms=18)
    both("MaxPool", (x * 9).astype(np.int8), terms=1, kernel_shape=[2, 2], strides=[2, 2])
    both("Relu", (x * 9).astype(np.int32), terms=1)
    both("Gemm", *(normal(4, 4) * 9).astype(np.int64)[None].repeat(2, 0), terms=1)


def test_what_fastconv_refuses_goes_to_the_original(fallbacks):
    x, w = normal(1, 2, 6, 6), normal(3, 2, 3, 3)
    both("Conv", x, w, normal(1), terms=18)  # one bias for all filters
    both("MaxPool", x, terms=1, kernel_shape=[1, 1], strides=[2, 2], pads=[0, 0, 1, 1])
    both("Conv", normal(1, 1, 3, 3, 3, 3), normal(1, 1, 2, 2, 2, 2), terms=16)
    both("LpPool", x, terms=4, kernel_shape=[2, 2], p=2, pads=[2, 2, 2, 2])
    assert fallbacks == ["Conv", "MaxPool", "Conv", "LpPool"]
    with pytest.raises(ValueError, match="Shape inconsistencies"):
        run("Conv", x, normal(3, 1, 3, 3), new_ops=backend.OPS)


# ---- how it gets into an evaluator ---------------------------------------------------------------


class Conv(OpRun):
    def _run(self, X, W, **attributes):
        return (X,)


def test_installed_for_new_evaluators_only():
    x, w = normal(1, 2, 6, 6), normal(3, 2, 3, 3)
    original = inspect.getattr_static(ReferenceEvaluator, "_load_impl")
    before = ReferenceEvaluator(model("Conv", (x, w)))
    with backends.use("onnx"):
        after = ReferenceEvaluator(model("Conv", (x, w)))
        assert run("Conv", x, w, new_ops=[Conv])[0] is x
    assert inspect.getattr_static(ReferenceEvaluator, "_load_impl") is original
    assert type(before.rt_nodes_[0]) is op_conv.Conv
    assert type(after.rt_nodes_[0]) is backend.derived(op_conv.Conv)
    (y,) = after.run(None, {"x0": x, "x1": w})
    np.testing.assert_array_equal(y, fastconv.conv2d(x, w))
    np.testing.assert_allclose(y, plain_conv2d(x, w), rtol=1e-4, atol=1e-5)


def test_inside_functions_and_subgraphs(active, fallbacks):
    x, w = normal(1, 2, 6, 6), normal(3, 2, 3, 3)
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("own", 1)]
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    node.attribute.append(onnx.AttributeProto(name="strides", ref_attr_name="s", type="INTS"))
    function = helper.make_function("own", "Layer", ["x", "w"], ["y"], [node], opsets[:1], ["s"])
    branch = helper.make_graph(
        [helper.make_node("Layer", ["x", "w"], ["z"], domain="own", s=[2, 2])], "then", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xw"]
        + [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    calls = []
    inner = backend.FUNCTIONS["Conv"]
    backend.FUNCTIONS["Conv"] = lambda *args, **kwargs: calls.append(1) or inner(*args, **kwargs)
    net = helper.make_model(graph, opset_imports=opsets, functions=[function])
    (y,) = ReferenceEvaluator(net).run(None, {"x": x, "w": w, "c": np.array(True)})
    np.testing.assert_array_equal(y, fastconv.conv2d(x, w, stride=2))
    assert calls == [1] and not fallbacks


def test_onnx_is_not_imported_until_asked_for():
    code = (
        "import sys\nfrom fastconv.backends import onnx\nassert 'onnx' not in sys.modules\n"
        "assert [op.__name__ for op in onnx.OPS] == list(onnx.FUNCTIONS)\n"
        "assert onnx.OPS is onnx.OPS and 'onnx' in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'OPERATORS'"):
        backend.OPERATORS  # noqa: B018
