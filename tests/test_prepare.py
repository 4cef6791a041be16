"""`prepare_conv2d`: equal to conv2d for every form of filters, and as an object that is kept."""

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import CONV_CASES, LARGE_CONV_CASES, ConvCase, parametrize
from harness import everywhere, in_layout

import fastconv
import fastconv.reference as R
from fastconv import _checks, _core
from fastconv import functional as F
from fastconv.bench.verify import WINOGRAD_SLACK
from fastconv.layers import Conv2d

# Small maps under many filters: channels are the vectors of the GEMM's tile, and Winograd's tiles
# are a single block; then several groups and panels of each form.
OWN_CASES = [
    ConvCase("swapped", (1, 20, 3, 3), 70, (3, 3), padding=1),
    ConvCase("swapped-groups", (2, 24, 3, 2), 66, (3, 3), padding=1, groups=2),
    ConvCase("swapped-1x1", (1, 40, 2, 2), 100, (1, 1)),
    ConvCase("fully-connected", (5, 40, 1, 1), 70, (1, 1)),
    ConvCase("panels-groups", (1, 12, 19, 20), 46, (3, 3), padding=1, groups=2),
    ConvCase("one-block-of-tiles", (1, 30, 6, 7), 40, (3, 3), padding=1),
    ConvCase("blocks-of-tiles", (3, 8, 30, 33), 31, (3, 3), padding=1),
    ConvCase("no-images", (0, 40, 2, 2), 100, (3, 3), padding=1),
]
CASES = OWN_CASES + [case for case in CONV_CASES + LARGE_CONV_CASES[:8] if case.ndim == 2]
ALGOS = ("auto", "gemm", "winograd", "im2col", "naive")

W = np.ones((6, 4, 3, 3), np.float32)
X = np.ones((2, 4, 7, 9), np.float32)


def same_tile(p, algorithm, kernel):
    """The name for `algo` that asks conv2d for Winograd's tile of p, too."""
    if algorithm != "winograd":
        return algorithm
    small = kernel == 3 and "2x2 outputs" in p.plan.reason
    return "winograd 4x4" if small else "winograd 6x6"


@pytest.fixture
def tiles_by_name(monkeypatch):
    monkeypatch.setattr(_checks, "ALGOS", (*_checks.ALGOS, "winograd 4x4", "winograd 6x6"))


def bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@parametrize("case", CASES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.usefixtures("tiles_by_name")
def test_same_bits_as_conv2d_by_the_same_algorithm(case, layout, isa, dtype, rng):
    x, w, b, _ = case.arrays(dtype, rng, layout)
    for algo in ALGOS:
        if algo == "winograd" and not case.suits_winograd:
            continue
        how = {**case.parameters, "layout": layout, "activation": "relu"}
        p = fastconv.prepare_conv2d(w, b, x_shape=x.shape, algo=algo, **how)
        by = "gemm" if p.algorithm == "depthwise" else p.algorithm
        assert algo in ("auto", p.algorithm, by)
        by = same_tile(p, by, case.kernel[0])
        assert bits(p(x), fastconv.conv2d(x, w, b, algo=by, **how)), algo


@parametrize("case", OWN_CASES + [case for case in CONV_CASES if case.ndim == 2])
def test_arrays_anywhere_in_memory(case, isa, dtype, rng):
    x, w, b, _ = case.arrays(dtype, rng)
    y = R.prepare_conv2d(w, b, x_shape=x.shape, **case.parameters)(x)
    slack = WINOGRAD_SLACK if case.suits_winograd else 1
    for s in everywhere(2, rng):
        with s:
            how = {"layout": s.layout, **case.parameters}
            p = F.prepare_conv2d(s.put(w), s.put(b), **how)
            image, out = s.image(x), s.out(y)
            assert p(image, out) is out
            s.assert_sums(out, y, slack * case.terms, x, w, bias=b)


@pytest.mark.parametrize("algo", ALGOS)
def test_other_shapes_share_the_packed_filters(algo, dtype, rng):
    w = rng.standard_normal((40, 30, 3, 3)).astype(dtype)
    p = fastconv.prepare_conv2d(w, x_shape=(1, 30, 40, 40), padding=1, algo=algo)
    first = p.weight_bytes
    for shape in [
        (1, 30, 40, 40),
        (2, 30, 40, 40),
        (0, 30, 5, 5),
        (1, 30, 37, 50),
        (3, 30, 60, 41),
    ]:
        x = rng.standard_normal(shape).astype(dtype)
        y = fastconv.conv2d(x, w, padding=1, algo=algo if algo != "auto" else p.algorithm)
        assert bits(p(x), y)
        assert bits(p(x[::-1]), y[::-1])
        if algo not in ("auto", "gemm"):  # there is one form only
            assert p.weight_bytes == first
    assert (
        first <= p.weight_bytes <= 12 * w.nbytes
    )  # 1 plain, 4 transformed and 2 in panels, padded


def test_any_number_of_shapes(rng):
    w = rng.standard_normal((3, 2, 3, 3))
    p = fastconv.prepare_conv2d(w)
    most = F.prepared.MOST_SHAPES
    for width in range(3, most + 20):
        x = rng.standard_normal((1, 2, 3, width))
        np.testing.assert_array_equal(p(x), fastconv.conv2d(x, w))
    assert len(p._shapes) <= most


def test_packed_once_for_a_shape(rng):
    x, w = rng.standard_normal((1, 64, 9, 9)), rng.standard_normal((64, 64, 3, 3))
    p = fastconv.prepare_conv2d(w, x_shape=x.shape)
    forms = {form: memory.ctypes.data for form, memory in p._forms.items()}
    for _ in range(3):
        p(x)
    assert forms == {form: memory.ctypes.data for form, memory in p._forms.items()}


def test_later_changes_of_the_arrays_do_not_matter(rng):
    for C, OC in [(30, 40), (1, 1)]:
        x, w = rng.standard_normal((1, C, 8, 8)), rng.standard_normal((OC, C, 3, 3))
        b = rng.standard_normal(OC)
        for algo in ALGOS:
            p, lazy = (fastconv.prepare_conv2d(w, b, x_shape=s, algo=algo) for s in (x.shape, None))
            y = p(x).copy()
            kept_w, kept_b = w.copy(), b.copy()
            w[...], b[...] = np.nan, np.nan
            assert bits(p(x), y) and bits(lazy(x), y)
            w[...], b[...] = kept_w, kept_b


@pytest.mark.usefixtures("tiles_by_name")
def test_another_instruction_set_or_number_of_threads_later(rng):
    x, w = rng.standard_normal((2, 32, 14, 14)), rng.standard_normal((48, 32, 3, 3))
    before = fastconv.isa()
    for algo in ("gemm", "winograd 4x4", "winograd 6x6"):
        p = fastconv.prepare_conv2d(w, x_shape=x.shape, padding=1, algo=algo)
        try:
            for isa in (*fastconv.available_isas(), *fastconv.available_isas()[::-1]):
                _core.set_isa(isa)
                for n in (1, 2, 4):
                    with fastconv.threads(n):
                        assert bits(p(x), fastconv.conv2d(x, w, padding=1, algo=algo)), (isa, n)
        finally:
            _core.set_isa(before)


@pytest.mark.parametrize("copied", [lambda p: pickle.loads(pickle.dumps(p)), copy.deepcopy])
@pytest.mark.parametrize("x_shape", [(2, 9, 8, 30), None])
@pytest.mark.parametrize("algo", ALGOS)
def test_pickles_and_copies(copied, x_shape, algo, dtype, rng):
    x = rng.standard_normal((2, 9, 8, 30)).astype(dtype)
    w, b = rng.standard_normal((8, 15, 3, 3)).astype(dtype), np.ones(8, dtype)
    how = {"padding": "same", "groups": 2, "layout": "NHWC", "activation": "relu", "algo": algo}
    p = fastconv.prepare_conv2d(w, b, x_shape=x_shape, **how)
    q = copied(p)
    assert bits(q(x), p(x))
    assert repr(q) == repr(p) and q.x_shape == p.x_shape


def test_a_pickle_holds_no_packed_filters():
    w = np.ones((64, 64, 3, 3), np.float32)
    p = fastconv.prepare_conv2d(w, x_shape=(1, 64, 30, 30), algo="winograd")
    assert p.nbytes > 4 * w.nbytes
    assert len(pickle.dumps(p)) < w.nbytes + 2000


def test_several_python_threads_at_once(rng):
    w, b = rng.standard_normal((40, 24, 3, 3)), rng.standard_normal(40)
    images = [rng.standard_normal((1, 24, h, w)) for h in (5, 9, 20) for w in (6, 21)]
    p = fastconv.prepare_conv2d(w, b, padding=1)

    def convolve(i):
        return p(images[i % len(images)])

    with fastconv.threads(2), ThreadPoolExecutor(8) as callers:
        results = list(callers.map(convolve, range(300)))
        for i, result in enumerate(results):
            assert bits(result, convolve(i))


def test_memory_is_freed():
    tracemalloc = pytest.importorskip("tracemalloc")
    x, w = np.ones((1, 64, 16, 16), np.float32), np.ones((64, 64, 3, 3), np.float32)
    tracemalloc.start()
    try:
        for i in range(12):
            p = fastconv.prepare_conv2d(w, x_shape=x.shape, padding=1)
            p(x)
            if i == 1:
                gc.collect()
                start = tracemalloc.get_traced_memory()[0]
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < start + w.nbytes
    finally:
        tracemalloc.stop()


def test_attributes():
    w, b = np.ones((64, 64, 3, 3), np.float32), np.ones(64, np.float32)
    p = fastconv.prepare_conv2d(w, b, x_shape=[1, 64, 56, 56], padding=1, activation="relu")
    assert p.x_shape == (1, 64, 56, 56)
    assert p.algorithm == p.plan.algorithm == "winograd"
    assert isinstance(p.plan, fastconv.ConvPlan) and p.plan.workspace_bytes < 48e6
    assert p.weight_bytes > 5 * w.nbytes and p.nbytes == p.weight_bytes + b.nbytes
    for word in ("(64, 64, 3, 3)", "float32", "x_shape", "padding=1", "relu", "winograd"):
        assert word in repr(p)
    assert "stride" not in repr(p)
    p = fastconv.prepare_conv2d(w)
    assert p.x_shape is None and p.plan is None and p.algorithm == "auto"
    assert p.weight_bytes == w.nbytes
    p = fastconv.prepare_conv2d(w, x_shape=(1, 64, 9, 9), algo="gemm")
    assert p.plan.algorithm == "gemm" and "asked for" in p.plan.reason
    p = fastconv.prepare_conv2d(w[:, :1], x_shape=(1, 64, 9, 9), groups=64)
    assert p.algorithm == "depthwise" and p.weight_bytes == w[:, :1].nbytes


def test_plan_without_images():
    assert "no images" in fastconv.prepare_conv2d(W, x_shape=(0, 4, 7, 9)).plan.reason
    assert "no images" in fastconv.plan_conv2d((0, 4, 7, 9), W.shape).reason


@pytest.mark.parametrize(
    ("C", "kernel", "groups", "algorithm"),
    [(64, 3, 1, "winograd"), (64, 1, 1, "gemm"), (64, 3, 64, "depthwise")],
)
def test_the_predicted_time_follows_the_work(C, kernel, groups, algorithm):
    with fastconv.threads(1):
        once, eightfold = (
            fastconv.plan_conv2d(
                (N, C, 56, 56),
                (64, C // groups, kernel, kernel),
                padding=kernel // 2,
                groups=groups,
            )
            for N in (1, 8)
        )
    assert once.algorithm == eightfold.algorithm == algorithm
    assert 5 < eightfold.predicted_seconds / once.predicted_seconds < 8.1
    assert once.tile[0] <= 64 and once.sum_block[1] == kernel * kernel


def test_the_time_of_loops_is_not_predicted():
    p = fastconv.prepare_conv2d(W, x_shape=(1, 4, 7, 9), algo="naive")
    assert p.plan.algorithm == "naive" and p.plan.predicted_seconds is None


def test_layer(rng):
    layer = Conv2d(6, 8, 3, stride=2, padding=1, groups=2, rng=rng, layout="NHWC")
    x = rng.standard_normal((2, 9, 10, 6)).astype(np.float32)
    y = layer(x)
    p = layer.prepare(x.shape, activation="relu")
    layer.params["weight"][...] = 0
    np.testing.assert_array_equal(p(x), np.maximum(y, 0))
    plain = Conv2d(6, 8, 3, bias=False, rng=1)
    x = rng.standard_normal((1, 6, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(plain.prepare()(x), plain(x))


# name, arguments beside w, exception, message; refused when prepared, for some shape or for none
BAD_FILTERS = [
    ("dtype", {"b": np.ones(6)}, TypeError, "one dtype"),
    ("bias", {"b": np.ones(5, np.float32)}, ValueError, r"b has shape \(5,\)"),
    ("stride", {"stride": 0}, ValueError, "stride must be at least 1"),
    ("stride type", {"stride": 1.0}, TypeError, "stride"),
    ("padding", {"padding": "full"}, ValueError, "padding='full' is not allowed"),
    ("dilation", {"dilation": (1, 2, 3)}, ValueError, "dilation must be one integer"),
    ("groups", {"groups": 4}, ValueError, "groups=4"),
    ("groups 0", {"groups": 0}, ValueError, "groups must be at least 1"),
    ("groups type", {"groups": "2"}, TypeError, "groups"),
    ("layout", {"layout": "NCW"}, ValueError, "layout must be 'NCHW' or 'NHWC'"),
    ("layout type", {"layout": None}, ValueError, "layout must be 'NCHW' or 'NHWC'"),
    ("activation", {"activation": "gelu"}, ValueError, "activation must be None, 'relu' or "),
    ("fit", {"fit": "ceil"}, ValueError, "fit must be one of"),
    ("algo", {"algo": "magic"}, ValueError, "algo must be one of"),
]


@pytest.mark.parametrize("module", [F, R], ids=["functional", "reference"])
@pytest.mark.parametrize("x_shape", [None, (2, 4, 7, 9)])
@pytest.mark.parametrize(("_", "arguments", "error", "message"), BAD_FILTERS)
def test_bad_filters_and_options(module, x_shape, _, arguments, error, message):
    with pytest.raises(error, match=f"prepare_conv2d: .*{message}"):
        module.prepare_conv2d(W, x_shape=x_shape, **arguments)


@pytest.mark.parametrize("module", [F, R], ids=["functional", "reference"])
def test_bad_shapes(module):
    with pytest.raises(ValueError, match="prepare_conv2d: with layout NCHW"):
        module.prepare_conv2d(W[0])
    with pytest.raises(ValueError, match="expects 4"):
        module.prepare_conv2d(W, x_shape=(2, 5, 7, 9))
    with pytest.raises(TypeError, match="must be a tuple of integers"):
        module.prepare_conv2d(W, x_shape=3)
    with pytest.raises(TypeError, match="w must be a NumPy array"):
        module.prepare_conv2d(W.tolist())


def test_winograd_is_refused_where_it_does_not_exist():
    for x_shape in (None, X.shape):
        for options in ({"stride": 2}, {"dilation": 2}):
            with pytest.raises(ValueError, match="prepare_conv2d: algo='winograd' needs"):
                fastconv.prepare_conv2d(W, x_shape=x_shape, algo="winograd", **options)
    with pytest.raises(ValueError, match="conv2d: algo='winograd' needs"):
        fastconv.prepare_conv2d(W, algo="winograd")(np.ones((1, 4, 3, 10**6), np.float32))


@pytest.mark.parametrize("module", [F, R], ids=["functional", "reference"])
@pytest.mark.parametrize("x_shape", [None, X.shape])
def test_bad_images(module, x_shape):
    p = module.prepare_conv2d(W, x_shape=x_shape)
    out = np.zeros((2, 6, 5, 7), np.float32)
    for error, message, x in [
        (TypeError, "x must be a NumPy array, got list", X.tolist()),
        (TypeError, "x is float64, w is float32", X.astype(float)),
        (TypeError, "x has dtype int64", X.astype(int)),
        (ValueError, "x has 3 channels", X[:, :3]),
        (ValueError, "arrays have 4 dimensions", X[0]),
        (ValueError, "covers 3 cells", X[:, :, :2]),
    ]:
        with pytest.raises(error, match=f"conv2d: .*{message}"):
            p(x)
    with pytest.raises(ValueError, match="out has shape"):
        p(X, out[:1])
    with pytest.raises(TypeError, match="out has dtype float64"):
        p(X, out.astype(float))
    with pytest.raises(ValueError, match="shares memory with x"):
        module.prepare_conv2d(W[:4], padding=1)(X, X)
    with pytest.raises(ValueError, match="fit"):
        module.prepare_conv2d(W, stride=3, fit="strict")(X)
    assert p(X, out=out) is out
    np.testing.assert_array_equal(out, 36)


def test_subclasses_and_later_failures_leave_it_usable(tmp_path):
    p = fastconv.prepare_conv2d(W)
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    mapped[...] = X
    assert bits(p(mapped), p(X))
    with pytest.raises(ValueError, match="x has 3 channels"):
        p(X[:, :3])
    assert in_layout(p(X), "NCHW").sum() == 36 * p(X).size
