"""Winograd's algorithm: right on every geometry it takes, refused elsewhere, and precise."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import (
    CONV_CASES,
    ConvCase,
    assert_sums_close,
    parametrize,
    uniform,
)
from harness import everywhere

import fastconv
import fastconv.reference as R
from fastconv import _checks, _core
from fastconv import functional as F
from fastconv.bench.verify import WINOGRAD_SLACK

# Tiles are 4x4 or 2x2 outputs of 3x3 filters or 2x2 of 5x5; strips hold up to 64 tiles, panels up
# to 32 filters.
OWN_CASES = [
    ConvCase("one output", (1, 3, 3, 3), 5, (3, 3)),
    ConvCase("one pixel", (2, 3, 1, 1), 4, (3, 3), padding=1),
    ConvCase("whole tiles", (1, 4, 18, 34), 6, (3, 3)),
    ConvCase("a column more", (1, 2, 8, 33), 7, (3, 3), padding=1),
    ConvCase("blocks across images", (7, 3, 13, 14), 5, (3, 3), padding=1),
    ConvCase("several blocks", (1, 2, 67, 71), 3, (3, 3), padding=1),
    ConvCase("several strips in a row", (2, 2, 6, 530), 3, (3, 3), padding=1),
    ConvCase("more filters than a panel", (1, 3, 9, 10), 69, (3, 3), padding=1),
    ConvCase("channels in pieces", (1, 301, 5, 6), 15, (3, 3), padding=1),
    ConvCase("padding over the tile", (1, 2, 3, 2), 3, (3, 3), padding=((9, 2), (1, 12))),
    ConvCase("groups", (2, 8, 6, 9), 12, (3, 3), padding=1, groups=4),
    ConvCase("5x5", (2, 5, 11, 18), 9, (5, 5), padding=2),
    ConvCase("5x5 groups", (1, 6, 7, 5), 4, (5, 5), padding=((0, 4), (3, 1)), groups=2),
]


CASES = OWN_CASES + [case for case in CONV_CASES if case.suits_winograd]


@pytest.fixture(params=["winograd 6x6", "winograd 4x4"])
def tile(request, monkeypatch):
    """A name for `algo` that asks for one tile; "winograd" takes the faster one by estimate."""
    monkeypatch.setattr(_checks, "ALGOS", (*_checks.ALGOS, request.param))
    return request.param


def skip_without(tile, kernel):
    if tile == "winograd 4x4" and kernel != 3:
        pytest.skip("5x5 filters have one tile")


def transforms(m, r):
    """A', G and B' of m outputs and r taps, of the points 0, +-sqrt(1/2), +-sqrt(2), infinity;
    in tiles of 4x4 of 0, +-1, infinity."""
    points = np.array([0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)])
    if m + r == 5:
        points = np.array([0.0, 1, -1])
    n = len(points)
    A, G, B = np.zeros((m, n + 1)), np.zeros((n + 1, r)), np.zeros((n + 1, n + 1))
    for i, q in enumerate(points):
        others = np.delete(points, i)
        A[:, i] = q ** np.arange(m)
        G[i] = q ** np.arange(r) / np.prod(q - others)
        B[i, :n] = np.poly(others)[::-1]
    A[-1, n] = G[n, -1] = 1
    B[n] = np.poly(points)[::-1]
    return A, G, B


@pytest.mark.parametrize(("m", "r"), [(4, 3), (2, 5), (3, 4), (5, 2)])
def test_how_much_larger_the_summands_are(m, r, rng):
    """What an output sums are products of transformed elements times a row of A': their root mean
    square over that of the plain products is how much more they round. An axis is worth its square
    root: in two dimensions both transform."""
    A, G, B = transforms(m, r)
    d, g = rng.standard_normal(6), rng.standard_normal(r)
    np.testing.assert_allclose(A @ (G @ g * (B @ d)), np.convolve(d, g[::-1], "valid"), atol=1e-12)
    growth = A**2 @ ((G**2).sum(1) * (B**2).sum(1)) / r
    assert 0.5 * WINOGRAD_SLACK < growth.max() < WINOGRAD_SLACK


def test_the_summands_of_the_smaller_tile_are_hardly_larger(rng):
    """By 5/3, and there are C of them for an output, not 9*C."""
    A, G, B = transforms(2, 3)
    d, g = rng.standard_normal(4), rng.standard_normal(3)
    np.testing.assert_allclose(A @ (G @ g * (B @ d)), np.convolve(d, g[::-1], "valid"), atol=1e-12)
    np.testing.assert_allclose(A**2 @ ((G**2).sum(1) * (B**2).sum(1)) / 3, 5 / 3)


@parametrize("case", CASES)
def test_forward(case, tile, isa, dtype, rng):
    skip_without(tile, case.kernel[0])
    x, w, b, _ = case.arrays(dtype, rng)
    y = R.conv2d(x, w, b, **case.parameters, activation="relu")
    for s in everywhere(case.ndim, rng):
        with s:
            arrays, out = (s.image(x), s.put(w), s.put(b)), s.out(y)
            how = {"layout": s.layout, "algo": tile, "activation": "relu"}
            assert F.conv2d(*arrays, **case.parameters, **how, out=out) is out
            s.assert_sums(out, y, WINOGRAD_SLACK * case.terms, x, w, bias=b)


@parametrize("case", CASES)
def test_input_gradient(case, tile, isa, dtype, rng):
    skip_without(tile, case.kernel[0])
    x, w, _, dy = case.arrays(dtype, rng)
    dx = R.conv2d_input_grad(dy, w, x.shape, **case.parameters)
    terms = WINOGRAD_SLACK * case.OC // case.groups * np.prod(case.kernel)
    for s in everywhere(case.ndim, rng):
        with s:
            arrays = (s.image(dy), s.put(w), s.shape(x))
            how = {"layout": s.layout, "algo": tile}
            actual = F.conv2d_input_grad(*arrays, **case.parameters, **how)
            s.assert_sums(actual, dx, terms, dy, w)


@pytest.mark.parametrize("threads", [1, 3])
def test_many_channels_and_tiles(threads, tile, isa, dtype, rng):
    """All threads share a band: U does not fit a cache, nor M of all tiles."""
    x, w = uniform((2, 160, 61, 65), dtype, rng), uniform((170, 160, 3, 3), dtype, rng)
    with fastconv.threads(threads):
        actual, again, expected = (
            F.conv2d(x, w, padding=1, algo=algo) for algo in (tile, tile, "gemm")
        )
    assert actual.tobytes() == again.tobytes()
    assert_sums_close(actual, expected, WINOGRAD_SLACK * 160 * 9, x, w)


@pytest.fixture
def caches():
    """Sets sizes of caches that plans are made for, until the test is over."""
    before = _core.cpu_caches()
    yield lambda **sizes: _core.set_cpu_caches(**(before | sizes))
    _core.set_cpu_caches(**before)


# Images, filters, and the second- and last-level caches for which float32 takes these plans in
# tiles of 6x6.
PLANS = {
    "filters transformed in tasks": ((2, 24, 9, 33), 96, 8 << 20, 32 << 20),
    "bands of a thread's own": ((2, 40, 19, 73), 24, 512 << 10, 32 << 20),
    "bands of a thread's own, parts of a row": ((2, 40, 19, 73), 32, 352 << 10, 4 << 20),
    "one band, filters in chunks": ((1, 172, 19, 37), 180, 256 << 10, 8 << 20),
    "several bands, filters in chunks": ((2, 172, 19, 37), 180, 128 << 10, 512 << 10),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_plans_for_other_caches(plan, threads, tile, caches, isa, dtype, rng):
    shape, OC, l2, l3 = plan
    C = shape[1]
    x, w = uniform(shape, dtype, rng), uniform((OC, C, 3, 3), dtype, rng)
    expected = F.conv2d(x, w, padding=1, algo="gemm")
    caches(l2=l2, l3=l3)
    with fastconv.threads(threads):
        p = fastconv.prepare_conv2d(w, x_shape=x.shape, padding=1, algo=tile)
        results = [F.conv2d(x, w, padding=1, algo=tile) for _ in range(2)] + [p(x)]
        assert_sums_close(
            F.conv2d(x, w, padding=1, algo="gemm"), expected, WINOGRAD_SLACK * C * 9, x, w
        )
    assert len({y.tobytes() for y in results}) == 1
    assert_sums_close(results[0], expected, WINOGRAD_SLACK * C * 9, x, w)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "case", [*OWN_CASES[5:], ConvCase("6x6", (1, 40, 6, 6), 70, (3, 3), padding=1)]
)
def test_prepared_filters_of_each_tile(case, threads, tile, isa, dtype, rng):
    """The same bits as without preparation, by the same tile."""
    skip_without(tile, case.kernel[0])
    x, w, b, _ = case.arrays(dtype, rng)
    with fastconv.threads(threads):
        p = fastconv.prepare_conv2d(w, b, x_shape=x.shape, algo=tile, **case.parameters)
        y = F.conv2d(x, w, b, algo=tile, **case.parameters)
        assert p(x).tobytes() == y.tobytes()


def test_the_smaller_tile_where_u_would_come_from_memory():
    """U of 512 channels takes 38 MB in tiles of 4x4 outputs, 17 in those of 2x2."""
    w = np.ones((512, 512, 3, 3), np.float32)
    p = fastconv.prepare_conv2d(w, x_shape=(1, 512, 14, 14), padding=1)
    assert p.algorithm == "winograd" and "2x2 outputs" in p.plan.reason
    assert p.weight_bytes < 3 * w.nbytes
    p = fastconv.prepare_conv2d(w, x_shape=(1, 512, 14, 14), padding=1, algo="winograd")
    assert "asked for, in tiles of 2x2 outputs" in p.plan.reason
    p(np.ones((1, 512, 28, 28), np.float32))  # has its own form
    assert p.weight_bytes > 6 * w.nbytes


def test_the_smaller_tile_where_it_wastes_less():
    """6x6 outputs are nine tiles of 2x2 or four of 4x4, half empty."""
    plan = fastconv.plan_conv2d((8, 128, 6, 6), (128, 128, 3, 3), padding=1)
    assert plan.algorithm == "winograd" and "2x2 outputs" in plan.reason


@parametrize("case", CASES)
def test_weight_gradient(case, isa, dtype, rng):
    x, _, _, dy = case.arrays(dtype, rng)
    dw = R.conv2d_weight_grad(dy, x, case.w_shape, **case.parameters)
    # a tile rounds at all its 36 positions, however few outputs are in it
    edge = 7 - case.kernel[0]
    tiles = math.prod(-(-size // edge) for size in dy.shape[2:]) * dy.shape[0]
    terms = WINOGRAD_SLACK * edge**2 * tiles
    for s in everywhere(case.ndim, rng):
        with s:
            how = {"layout": s.layout, "algo": "winograd"}
            s.spoil(dw)
            actual = F.conv2d_weight_grad(
                s.image(dy), s.image(x), case.w_shape, **case.parameters, **how
            )
            assert_sums_close(actual, dw, terms, dy, x)


@pytest.mark.parametrize(
    ("kernel", "size", "groups"), [(3, (69, 75), 1), (3, (69, 75), 5), (5, (39, 35), 1)]
)
@pytest.mark.parametrize("threads", [1, 3])
def test_weight_gradient_of_many_channels(threads, kernel, size, groups, isa, dtype, rng):
    """Several bands that the threads share, several blocks of channels; where few are left in a
    group, bands of each thread's own, and several chunks of output channels."""
    x = uniform((2, 130, *size), dtype, rng)
    dy = uniform((2, 140, *size), dtype, rng)
    with fastconv.threads(threads):
        how = {"padding": kernel // 2, "groups": groups}
        actual, again, expected = (
            F.conv2d_weight_grad(dy, x, (140, 130 // groups, kernel, kernel), **how, algo=algo)
            for algo in ("winograd", "winograd", "gemm")
        )
    assert actual.tobytes() == again.tobytes()
    assert_sums_close(actual, expected, WINOGRAD_SLACK * 2 * math.prod(size), dy, x)


@pytest.mark.parametrize(("kernel", "OC"), [(3, 128), (5, 250)])
def test_weight_gradient_in_chunks_of_output_channels(kernel, OC, isa, dtype, rng):
    """Each thread sums its own tiles, for some output channels at a time."""
    x, dy = uniform((2, 40, 30, 33), dtype, rng), uniform((2, OC, 30, 33), dtype, rng)
    actual, expected = (
        F.conv2d_weight_grad(dy, x, (OC, 40, kernel, kernel), padding=kernel // 2, algo=algo)
        for algo in ("winograd", "gemm")
    )
    assert_sums_close(actual, expected, WINOGRAD_SLACK * 2 * 30 * 33, dy, x)


def test_weight_gradient_of_a_long_row(isa, dtype, rng):
    """Strips are then parts of a row of tiles."""
    x, dy = uniform((1, 8, 5, 6001), dtype, rng), uniform((1, 9, 5, 6001), dtype, rng)
    actual, expected = (
        F.conv2d_weight_grad(dy, x, (9, 8, 3, 3), padding=1, algo=algo)
        for algo in ("winograd", "gemm")
    )
    assert_sums_close(actual, expected, WINOGRAD_SLACK * 5 * 6001, dy, x)


@pytest.mark.parametrize(
    ("kernel", "N", "size", "threads"),
    [
        (3, 8, 7, 1),
        (3, 1, 19, 1),
        (3, 2, 28, 2),
        (3, 16, 7, 2),
        (3, 1, 57, 1),
        (5, 20, 7, 1),
        (5, 1, 30, 1),
        (5, 3, 28, 2),
        (5, 2, 57, 2),
    ],
)
def test_rounding_errors_of_the_weight_gradient(kernel, N, size, threads, isa, rng):
    """At most 2.5 times those of the GEMM where it adds up 350 pixels in one go, 900 for 5x5."""
    x = rng.standard_normal((N, 32, size, size)).astype(np.float32)
    dy = rng.standard_normal((N, 40, size, size)).astype(np.float32)
    w_shape, how = (40, 32, kernel, kernel), {"padding": kernel // 2}
    exact = F.conv2d_weight_grad(dy.astype(float), x.astype(float), w_shape, **how, algo="gemm")
    errors = {}
    for algo in ("gemm", "winograd"):
        with fastconv.threads(threads):  # each has a sum of its own
            error = F.conv2d_weight_grad(dy, x, w_shape, **how, algo=algo) - exact
        errors[algo] = np.sqrt(np.mean(error**2))
    assert errors["winograd"] < 2.5 * errors["gemm"]


@pytest.mark.parametrize(
    ("N", "C", "size", "F", "same"),
    [
        (1, 64, 17, 3, "gemm"),  # a short sum: the direct one is more precise
        (2, 64, 28, 3, "winograd"),
        (1, 64, 28, 5, "gemm"),  # short for tiles of 2x2
        (2, 64, 31, 5, "winograd"),
        (8, 2, 40, 3, "gemm"),  # all work is in the transforms
    ],
)
def test_what_the_weight_gradient_takes(N, C, size, F, same, rng):
    x, dy = (rng.standard_normal((N, c, size, size)).astype(np.float32) for c in (C, 64))
    w_shape, how = (64, C, F, F), {"padding": F // 2}
    with fastconv.threads(1):
        dw = {
            algo: fastconv.conv2d_weight_grad(dy, x, w_shape, **how, algo=algo).tobytes()
            for algo in ("gemm", "winograd", "auto")
        }
    assert dw["auto"] == dw[same]
    assert dw["gemm"] != dw["winograd"]


@pytest.mark.parametrize("algo", ["gemm", "winograd"])
def test_weight_gradient_without_images_is_zero(algo, dtype):
    x, dy = np.empty((0, 3, 5, 5), dtype), np.empty((0, 4, 3, 3), dtype)
    assert not F.conv2d_weight_grad(dy, x, (4, 3, 3, 3), algo=algo).any()


@pytest.mark.parametrize("C", [24, 64, 256])
@pytest.mark.parametrize("F", [3, 5])
@pytest.mark.parametrize("function", ["forward", "input_grad"])
def test_rounding_errors_stay_near_the_direct_sum(function, F, C, isa, rng):
    """The root mean square is at most 2.5 times that of the implicit GEMM in the same precision.

    From 24 channels on, where "auto" may take it; over fewer the direct sum is more precise yet.
    """
    how = {"padding": F // 2}
    x = rng.standard_normal((1, C, 24, 24)).astype(np.float32)
    w = rng.standard_normal((32, C, F, F)).astype(np.float32)
    y = fastconv.conv2d(x.astype(float), w.astype(float), **how, algo="gemm")
    dx = fastconv.conv2d_input_grad(y, w.astype(float), x.shape, **how, algo="gemm")
    errors = {}
    for algo in ("gemm", "winograd"):
        if function == "forward":
            error = fastconv.conv2d(x, w, **how, algo=algo) - y
        else:
            dy = y.astype(np.float32)
            error = fastconv.conv2d_input_grad(dy, w, x.shape, **how, algo=algo) - dx
        errors[algo] = np.sqrt(np.mean(error**2))
    assert errors["winograd"] < 2.5 * errors["gemm"]


@pytest.mark.parametrize("C", [1, 2, 8, 16, 64])
@pytest.mark.parametrize("function", ["forward", "input_grad"])
def test_rounding_errors_of_the_smaller_tile(function, C, isa, rng, monkeypatch):
    """At most 2.5 times those of the direct sum over few channels, too; below them from 8 on.

    Over 64 filters: the ratio of a single one, of nine numbers, may be anything from 1 to 4.
    """
    monkeypatch.setattr(_checks, "ALGOS", (*_checks.ALGOS, "winograd 4x4"))
    x = rng.standard_normal((1, C, 24, 24)).astype(np.float32)
    w = rng.standard_normal((64, C, 3, 3)).astype(np.float32)
    if function == "input_grad":  # whose sum is over filters
        w = w.transpose(1, 0, 2, 3)
    call = F.conv2d if function == "forward" else F.conv2d_input_grad
    shape = () if function == "forward" else ((1, 64, 24, 24),)
    exact = call(x.astype(float), w.astype(float), *shape, padding=1, algo="gemm")
    errors = {
        algo: np.sqrt(np.mean((call(x, w, *shape, padding=1, algo=algo) - exact) ** 2))
        for algo in ("gemm", "winograd 4x4")
    }
    assert errors["winograd 4x4"] < (2.5 if C < 8 else 1.1) * errors["gemm"]


def test_same_bits_every_time_and_on_any_number_of_threads(tile, dtype, rng):
    x = rng.standard_normal((3, 40, 30, 31)).astype(dtype)
    w = rng.standard_normal((50, 40, 3, 3)).astype(dtype)
    results = []
    for threads in (1, 2, 2, 4):
        with fastconv.threads(threads):
            results.append(fastconv.conv2d(x, w, padding=1, algo=tile))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_eight_python_threads_at_once(rng):
    x = rng.standard_normal((1, 24, 20, 21)).astype(np.float32)
    w = rng.standard_normal((30, 24, 3, 3)).astype(np.float32)

    def convolve(_=None):
        return fastconv.conv2d(x, w, padding=1, algo="winograd")

    with fastconv.threads(4), ThreadPoolExecutor(8) as callers:
        right = convolve()
        for result in callers.map(convolve, range(200)):
            np.testing.assert_array_equal(result, right)


@pytest.mark.parametrize(
    "parameters",
    [
        {"w": (4, 4, 3, 3), "stride": 2},
        {"w": (4, 4, 3, 3), "dilation": 2},
        {"w": (4, 4, 1, 1)},
        {"w": (4, 4, 3, 5)},
        {"w": (4, 4, 7, 7)},
    ],
)
def test_refused_where_it_does_not_exist(parameters):
    w = np.ones(parameters.pop("w"), np.float32)
    x = np.ones((1, 4, 9, 9), np.float32)
    for call in (
        lambda: fastconv.conv2d(x, w, algo="winograd", **parameters),
        lambda: fastconv.conv2d_backward(
            fastconv.conv2d(x, w, **parameters), x, w, algo="winograd", **parameters
        ),
    ):
        with pytest.raises(ValueError, match="algo='winograd' needs 3x3 or 5x5 filters"):
            call()


def test_auto_leaves_short_sums_to_what_is_precise():
    """Over few channels the direct sum is 2.5 times as precise, but not where 3x3 filters have
    tiles of 2x2 outputs."""
    for C, algorithm in [(16, "gemm"), (23, "gemm"), (24, "winograd")]:
        plan = fastconv.plan_conv2d((1, C, 56, 56), (64, C, 5, 5), padding=2)
        assert plan.algorithm == algorithm
        assert ("more precise" in plan.reason) == (algorithm == "gemm")
    for C, tiles in [(16, "2x2"), (23, "2x2"), (24, "4x4")]:
        plan = fastconv.plan_conv2d((1, C, 56, 56), (64, C, 3, 3), padding=1)
        assert plan.algorithm == "winograd" and f"tiles of {tiles} outputs" in plan.reason


def test_the_plan_tells_what_auto_does_and_why():
    plan = fastconv.plan_conv2d((1, 256, 56, 56), (256, 256, 3, 3), padding=1)
    assert plan.algorithm == "winograd" and "4x4 outputs" in plan.reason
    plan = fastconv.plan_conv2d((1, 3, 224, 224), (64, 3, 3, 3), padding=1)
    assert plan.algorithm == "gemm" and "would take" in plan.reason
    plan = fastconv.plan_conv2d((1, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)
    assert plan.algorithm == "gemm" and "stride 1" in plan.reason
    plan = fastconv.plan_conv2d((1, 32, 112, 112), (32, 1, 3, 3), padding=1, groups=32)
    assert plan.algorithm == "depthwise"


@pytest.mark.parametrize("N", [1, 8, 64])
def test_scratch_memory_is_bounded(N):
    """Every 3x3 layer of VGG-16 and ResNet in at most 48 MB."""
    for C, OC, H in [(64, 64, 224), (128, 128, 112), (256, 256, 56), (512, 512, 28), (512, 512, 7)]:
        plan = fastconv.plan_conv2d((N, C, H, H), (OC, C, 3, 3), padding=1)
        assert plan.workspace_bytes <= 48e6


@pytest.mark.parametrize(("C", "OC", "H", "N"), [(512, 512, 28, 4), (1024, 1100, 14, 3)])
def test_scratch_memory_of_the_weight_gradient_is_bounded(C, OC, H, N, dtype):
    x, dy = np.zeros((N, C, H, H), dtype), np.zeros((N, OC, H, H), dtype)
    with fastconv.threads(2):
        fastconv.release_memory()
        dw = F.conv2d_weight_grad(dy, x, (OC, C, 3, 3), padding=1, algo="winograd")
        assert 0 < _core.cached_memory() <= 48e6
        del dw  # alive until here: its memory is no scratch memory
