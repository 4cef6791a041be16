"""Convolutions and their gradients: every algorithm, ISA and geometry against the reference."""

import numpy as np
import pytest
from cases import (
    CONV_CASES,
    LARGE_CONV_CASES,
    assert_sums_close,
    parametrize,
)
from guard import before_wall
from harness import LAYOUTS, assert_same, everywhere, in_layout, whole_numbers

import fastconv
import fastconv.reference as R
from fastconv import _core
from fastconv import functional as F
from fastconv.functional.conv import conv2d_relu_backward


def functions(case, suffix=""):
    """The function of the library and of the reference for the dimensions of a case."""
    name = f"conv{case.ndim}d{suffix}"
    return getattr(F, name), getattr(R, name)


# ---- every geometry, layout and place in memory -------------------------------------------------


@parametrize("case", CONV_CASES)
@pytest.mark.parametrize(("bias", "activation"), [(False, None), (True, "relu")])
def test_forward_is_exact_on_whole_numbers(case, bias, activation, algo, dtype, rng):
    conv, reference = functions(case)
    x, w, b, _ = case.arrays(dtype, rng, draw=whole_numbers)
    b = b if bias else None
    y = reference(x, w, b, **case.parameters, activation=activation)
    for s in everywhere(case.ndim, rng):
        with s:
            arrays, out = (s.image(x), s.put(w), s.put(b)), s.out(y)
            how = {"layout": s.layout, "algo": algo, "activation": activation}
            assert conv(*arrays, **case.parameters, **how, out=out) is out
            s.assert_image(out, y)


@parametrize("case", CONV_CASES)
def test_input_gradient_is_exact_on_whole_numbers(case, algo, dtype, rng):
    input_grad, reference = functions(case, "_input_grad")
    x, w, _, dy = case.arrays(dtype, rng, draw=whole_numbers)
    dx = reference(dy, w, x.shape, **case.parameters)
    for s in everywhere(case.ndim, rng):
        with s:
            arrays = (s.image(dy), s.put(w), s.shape(x))
            s.spoil(dx)
            actual = input_grad(*arrays, **case.parameters, layout=s.layout, algo=algo)
            s.assert_image(actual, dx)


@parametrize("case", [case for case in CONV_CASES if case.ndim == 2])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_gradient_behind_a_relu_is_that_of_two_steps(case, layout, algo, dtype, rng):
    x, w, _, dy = case.arrays(dtype, rng)
    flat = x.reshape(-1)
    flat[::3], flat[1::7] = 0, -0.0
    flat[2::11] = np.nan
    x, dy = (np.ascontiguousarray(in_layout(a, layout)) for a in (x, dy))
    how = {"layout": layout, "algo": algo, "needs": ("x",), **case.parameters}
    dx, _, _ = F.conv2d_backward(dy, x, w, **how)
    together, _, _ = conv2d_relu_backward(dy, x, w, **how)
    np.testing.assert_array_equal(together, F.relu_backward(dx, x))


@parametrize("case", CONV_CASES)
def test_weight_gradient_is_exact_on_whole_numbers(case, algo, dtype, rng):
    weight_grad, reference = functions(case, "_weight_grad")
    x, w, _, dy = case.arrays(dtype, rng, draw=whole_numbers)
    dw = reference(dy, x, w.shape, **case.parameters)
    for s in everywhere(case.ndim, rng):
        with s:
            arrays = (s.image(dy), s.image(x), w.shape)
            s.spoil(dw)
            actual = weight_grad(*arrays, **case.parameters, layout=s.layout, algo=algo)
            assert_same(actual, dw)


@parametrize("case", CONV_CASES)
def test_bias_gradient_is_exact_on_whole_numbers(case, isa, dtype, rng):
    backward, reference = functions(case, "_backward")
    x, w, _, dy = case.arrays(dtype, rng, draw=whole_numbers)
    db = reference(dy, x, w, **case.parameters, needs="b")[2]
    for s in everywhere(case.ndim, rng):
        with s:
            arrays = (s.image(dy), s.image(x), s.put(w))
            s.spoil(db)
            dx, dw, actual = backward(*arrays, **case.parameters, layout=s.layout, needs="b")
            assert dx is None and dw is None
            assert_same(actual, db)


@parametrize("case", CONV_CASES)
def test_rounding_stays_below_the_bound(case, algo, dtype, rng):
    x, w, b, dy = case.arrays(dtype, rng)
    conv, reference = functions(case)
    y = reference(x, w, b, **case.parameters)
    actual = conv(x, w, b, **case.parameters, algo=algo)
    assert_sums_close(actual, y, case.terms, x, w, bias=b)
    backward, reference = functions(case, "_backward")
    gradients = backward(dy, x, w, **case.parameters, algo=algo)
    outputs, taps = dy.size // case.OC, np.prod(case.kernel)
    for actual, expected, terms, factors in zip(
        gradients,
        reference(dy, x, w, **case.parameters),
        (case.OC // case.groups * taps, outputs, outputs),
        ((dy, w), (dy, x), (dy,)),
        strict=True,
    ):
        assert_sums_close(actual, expected, terms, *factors)


# ---- every tile ---------------------------------------------------------------------------------

AROUND_VECTORS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
AROUND_TILES = (*range(1, 32), 33, 47, 48, 49, 63, 64, 65)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("layout", ["NCW", "NWC"])
def test_every_tile_of_filters_and_pixels(layout, kernel, isa, dtype, rng):
    """Tiles are up to 14 filters by 32 pixels or the other way round; edge tiles are smaller."""
    how = {"padding": kernel // 2}
    for OC in AROUND_TILES:
        for W in AROUND_VECTORS:
            shapes = ((1, 2, W), (OC, 2, kernel), (OC,), (1, OC, W))
            x, w, b, dy = (whole_numbers(shape, dtype, rng) for shape in shapes)
            y, dw = R.conv1d(x, w, b, **how), R.conv1d_weight_grad(dy, x, w.shape, **how)
            x, y, dy = (in_layout(a, layout) for a in (x, y, dy))
            assert_same(F.conv1d(x, w, b, **how, layout=layout), y)
            assert_same(F.conv1d_weight_grad(dy, x, w.shape, **how, layout=layout), dw)


@pytest.mark.parametrize("layout", ["NCW", "NWC"])
def test_every_tile_of_channels(layout, isa, dtype, rng):
    """The weight gradient's columns and the input gradient's rows are channels."""
    for C in range(1, 70):
        x, w, dy = (whole_numbers(s, dtype, rng) for s in ((2, C, 5), (3, C, 2), (2, 3, 4)))
        dx, dw, _ = R.conv1d_backward(dy, x, w)
        actual = F.conv1d_backward(in_layout(dy, layout), in_layout(x, layout), w, layout=layout)
        assert_same(actual[0], in_layout(dx, layout))
        assert_same(actual[1], dw)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("kernel", "groups"), [*((k, 2) for k in (1, 2, 3, 5, 8)), (3, 1), (4, 1)])
def test_every_length_of_a_row(kernel, groups, stride, isa, dtype, rng):
    """Groups of one channel have their own kernels; strides 1, 2 and 4 their own packing."""
    for W in (*AROUND_VECTORS, 80, 81, 97, 130):
        for dilation in (1, 2):
            how = {"stride": stride, "padding": kernel, "dilation": dilation, "groups": groups}
            x = before_wall(whole_numbers((2, 2, W), dtype, rng))
            w = whole_numbers((4, 2 // groups, kernel), dtype, rng)
            y = R.conv1d(x, w, **how)
            assert_same(F.conv1d(x, w, **how), y)
            for actual, expected in zip(
                F.conv1d_backward(y, x, w, **how), R.conv1d_backward(y, x, w, **how), strict=True
            ):
                assert_same(actual, expected)


@pytest.mark.parametrize("channels", [slice(None), slice(None, None, -1)], ids=["", "backwards"])
def test_pixels_read_where_they_lie(channels, isa, dtype, rng):
    """The last vector of a 1x1 layer's image must not reach beyond x, whichever channel is last."""
    for W in (*AROUND_VECTORS, 80, 81, 97, 130):
        x = before_wall(whole_numbers((2, 5, W), dtype, rng))[:, channels]
        w = whole_numbers((4, 5, 1), dtype, rng)
        assert_same(F.conv1d(x, w), R.conv1d(x, w))


# ---- large ones ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=LARGE_CONV_CASES, ids=lambda case: case.name)
def large(request):
    """A large case, its inputs as whole numbers and the reference's results, all in float64."""
    case = request.param
    x, w, b, dy = case.arrays(np.float64, np.random.default_rng(0), draw=whole_numbers)
    y = functions(case)[1](x, w, b, **case.parameters)
    gradients = functions(case, "_backward")[1](dy, x, w, **case.parameters)
    return case, (x, w, b, dy), (y, *gradients)


@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
def test_large_convolutions_are_exact_on_whole_numbers(large, channels_last, isa, dtype):
    case, arrays, results = large
    layout = LAYOUTS[case.ndim][channels_last]
    x, w, b, dy = (a.astype(dtype) for a in arrays)
    y, dx, dw, db = (a.astype(dtype) for a in results)
    x, dy, y, dx = (in_layout(a, layout) for a in (x, dy, y, dx))
    with fastconv.threads(2):
        conv, how = functions(case)[0], {**case.parameters, "layout": layout, "algo": "gemm"}
        assert_same(conv(x, w, b, **how), y)
        assert_same(conv(x, w, b, **how, activation="relu"), np.maximum(y, 0))
        gradients = functions(case, "_backward")[0](dy, x, w, **how)
    for actual, expected in zip(gradients, (dx, dw, db), strict=True):
        assert_same(actual, expected)


def test_large_cases_have_several_blocks_of_everything(dtype):
    """Otherwise they would not test what they are named for."""
    cases = {case.name: case for case in LARGE_CONV_CASES}

    def plan(name):
        return _core.conv_plan(_core.Conv(cases[name].geometry()), dtype)["gemm"]

    with fastconv.threads(2):
        assert 1 < plan("channel-blocks")["sum_block"][0] < 400
        assert plan("tap-blocks")["sum_block"][1] < 79 * 79
        assert plan("pixel-blocks")["pixel_block"] < 2 * 45 * 51
        assert plan("filter-blocks")["oc_block"] < 389
        geometry = _core.Conv(cases["filter-blocks"].geometry())
        assert _core.conv_plan(geometry, dtype)["threads"] == 2
    assert 600 * 1024 * 9 * dtype.itemsize > 2**24  # the most that is packed at a time


# ---- algorithms and arguments -------------------------------------------------------------------


def test_auto_is_gemm(dtype, rng):
    """Of little work: what this file relies on, for it names the algorithms one by one."""
    case = CONV_CASES[2]
    x, w, b, dy = case.arrays(dtype, rng)
    assert_same(F.conv2d(x, w, b), F.conv2d(x, w, b, algo="gemm"))
    for auto, gemm in zip(
        F.conv2d_backward(dy, x, w), F.conv2d_backward(dy, x, w, algo="gemm"), strict=True
    ):
        assert_same(auto, gemm)


@pytest.mark.parametrize("fit", ["floor", "pad"])
def test_fit_reaches_forward_and_gradients(fit, algo, rng):
    x, w = (
        whole_numbers((2, 3, 10, 9), np.float32, rng),
        whole_numbers((4, 3, 3, 2), np.float32, rng),
    )
    how = {"stride": (2, 3), "fit": fit}
    y = F.conv2d(x, w, **how, algo=algo)
    assert_same(y, R.conv2d(x, w, **how))
    for actual, expected in zip(
        F.conv2d_backward(y, x, w, **how, algo=algo), R.conv2d_backward(y, x, w, **how), strict=True
    ):
        assert_same(actual, expected)


def test_needs_chooses_the_gradients(rng):
    case = CONV_CASES[2]
    x, w, _, dy = case.arrays(np.float32, rng)
    full = F.conv2d_backward(dy, x, w)
    for needs in ("", "x", "w", "b", "xw", "xb", "wb", ["b", "w", "x"]):
        for name, some, all_ in zip(
            "xwb", F.conv2d_backward(dy, x, w, needs=needs), full, strict=True
        ):
            assert (some is None) == (name not in needs)
            assert some is None or np.array_equal(some, all_)


def test_out_may_lie_beside_an_input(rng):
    halves = whole_numbers((2, 6, 6, 5), np.float32, rng)
    w = whole_numbers((3, 3, 3, 3), np.float32, rng)
    y = R.conv2d(halves[:, :3], w, padding=1)
    F.conv2d(halves[:, :3], w, padding=1, out=halves[:, 3:])
    assert_same(halves[:, 3:], y)


# ---- NaN, infinity, zero ------------------------------------------------------------------------


def with_specials(array, rng, share=0.02):
    """A copy with some elements replaced by NaN, infinities and -0."""
    special = rng.choice([np.nan, np.inf, -np.inf, -0.0], array.shape).astype(array.dtype)
    return np.where(rng.uniform(size=array.shape) < share, special, array)


@parametrize("case", CONV_CASES)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_nan_and_infinity_go_where_ieee_arithmetic_sends_them(case, activation, algo, dtype, rng):
    conv, reference = functions(case)
    x, w, b, _ = case.arrays(dtype, rng, draw=whole_numbers)
    x, b = with_specials(x, rng), with_specials(b, rng, 0.1)
    y = reference(x, w, b, **case.parameters, activation=activation)
    assert_same(conv(x, w, b, **case.parameters, activation=activation, algo=algo), y)


@parametrize("case", CONV_CASES)
def test_nan_and_infinity_of_dy_go_on_into_the_gradients(case, algo, dtype, rng):
    backward, reference = functions(case, "_backward")
    x, w, _, dy = case.arrays(dtype, rng, draw=whole_numbers)
    x, dy = with_specials(x, rng), with_specials(dy, rng)
    for actual, expected in zip(
        backward(dy, x, w, **case.parameters, algo=algo),
        reference(dy, x, w, **case.parameters),
        strict=True,
    ):
        assert_same(actual, expected)


@parametrize("case", CONV_CASES)
def test_weights_may_be_nan_or_infinite(case, algo, dtype, rng):
    conv, reference = functions(case)
    x, w, b, _ = case.arrays(dtype, rng, draw=whole_numbers)
    w = with_specials(w, rng)
    assert_same(conv(x, w, b, **case.parameters, algo=algo), reference(x, w, b, **case.parameters))


@pytest.mark.xfail(reason="the GEMM pads dy with zeros, and 0 * inf is NaN", strict=True)
def test_infinite_weights_reach_the_input_gradient():
    dy, w = np.ones((1, 1, 3)), np.full((1, 1, 3), np.inf)
    assert_same(F.conv1d_input_grad(dy, w, (1, 1, 5)), R.conv1d_input_grad(dy, w, (1, 1, 5)))


def test_relu_keeps_nan(algo, dtype):
    x = np.array([np.nan, -np.inf, np.inf, -0.0, -1, 2], dtype).reshape(6, 1, 1)
    y = F.conv1d(x, np.ones((1, 1, 1), dtype), activation="relu", algo=algo)
    np.testing.assert_array_equal(y.ravel(), [np.nan, 0, np.inf, 0, 0, 2])


def test_overflow_is_infinite(algo):
    x = np.full((1, 4, 3, 3), 3e38, np.float32)
    assert (F.conv2d(x, np.ones((2, 4, 1, 1), np.float32), algo=algo) == np.inf).all()
