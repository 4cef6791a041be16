"""Pooling and its gradients: every ISA and geometry against the reference.

Maxima and where they are must be exact. Gradients are multiples of 1/8, whose sums are exact too.
"""

import numpy as np
import pytest
from cases import POOL_CASES, PoolCase, assert_sums_close, parametrize, uniform
from harness import LAYOUTS, assert_same, everywhere, in_layout

import fastconv
import fastconv.reference as R
from fastconv import _core
from fastconv import functional as F
from fastconv.functional._pool_shape import pool_shape

AVG_CASES = [case for case in POOL_CASES if case.dilation == 1]
LP_CASES = [case for case in AVG_CASES if case.ndim == 2 and case.padding == 0]


def functions(name, case, suffix=""):
    name = f"{name}{case.ndim}d{suffix}"
    return getattr(F, name), getattr(R, name)


def eighths(shape, dtype, rng):
    return np.round(uniform(shape, dtype, rng) * 8) / 8


def with_nan_and_infinity(x, rng):
    """Of the elements a third are NaN, infinities or zeros of both signs."""
    special = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], x.shape).astype(x.dtype)
    return np.where(rng.uniform(size=x.shape) < 0.33, special, x)


IMAGES = {
    "ties": lambda x, rng: x,
    "equal": lambda x, rng: np.full_like(x, 0.5),
    "distinct": lambda x, rng: rng.permutation(x.size).reshape(x.shape).astype(x.dtype),
    "special": with_nan_and_infinity,
    "minus infinity": lambda x, rng: np.where(rng.uniform(size=x.shape) < 0.2, x, -np.inf),
    "nothing but minus infinity": lambda x, rng: np.full_like(x, -np.inf),
    "nothing but NaN": lambda x, rng: np.full_like(x, np.nan),
}


def image(kind, case, dtype, rng):
    return IMAGES[kind](case.x(dtype, rng), rng).astype(dtype)


# ---- max ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", IMAGES)
@parametrize("case", POOL_CASES)
def test_maxima_and_their_places_are_exact(case, kind, isa, dtype, rng):
    pool, reference = functions("max_pool", case)
    x = image(kind, case, dtype, rng)
    y, indices = reference(x, case.kernel, **case.parameters, return_indices=True)
    _, offsets = R.max_pool_window(x, case.kernel, **case.parameters, layout=case.geometry().layout)
    for layout in LAYOUTS[case.ndim]:
        how = {**case.parameters, "layout": layout}
        placed = in_layout(x, layout)
        assert_same(pool(placed, case.kernel, **how), in_layout(y, layout))
        for actual, expected in zip(
            pool(placed, case.kernel, **how, return_indices=True), (y, indices), strict=True
        ):
            assert_same(actual, in_layout(expected, layout))
        for actual, expected in zip(
            F.max_pool_window(placed, case.kernel, **how), (y, offsets), strict=True
        ):
            assert_same(actual, in_layout(expected, layout))


@parametrize("case", POOL_CASES)
def test_maxima_wherever_the_image_lies(case, isa, dtype, rng):
    pool, reference = functions("max_pool", case)
    x = case.x(dtype, rng)
    y, indices = reference(x, case.kernel, **case.parameters, return_indices=True)
    _, offsets = R.max_pool_window(x, case.kernel, **case.parameters, layout=case.geometry().layout)
    for s in everywhere(case.ndim, rng):
        with s:
            placed, how = s.image(x), {**case.parameters, "layout": s.layout}
            s.spoil(y)
            actual, where = pool(placed, case.kernel, **how, return_indices=True)
            s.assert_image(actual, y)
            s.assert_image(where, indices)
            s.spoil(y)
            actual, where = F.max_pool_window(placed, case.kernel, **how)
            s.assert_image(actual, y)
            s.assert_image(where, offsets)


@parametrize("case", POOL_CASES)
def test_max_gradient_is_exact(case, isa, dtype, rng):
    backward, reference = functions("max_pool", case, "_backward")
    x = case.x(dtype, rng)
    y, indices = functions("max_pool", case)[1](
        x, case.kernel, **case.parameters, return_indices=True
    )
    how = {**case.parameters, "layout": case.geometry().layout}
    _, offsets = R.max_pool_window(x, case.kernel, **how)
    dy = eighths(y.shape, dtype, rng)
    dx = reference(dy, indices, x.shape)
    for s in everywhere(case.ndim, rng):
        with s:
            placed, shape = s.image(dy), s.shape(x)
            where = s.image(indices)
            s.spoil(dx)
            s.assert_image(backward(placed, where, shape, layout=s.layout), dx)
            how, where = {**case.parameters, "layout": s.layout}, s.image(offsets)
            s.spoil(dx)
            s.assert_image(F.max_pool_window_backward(placed, where, shape, case.kernel, **how), dx)


@parametrize("case", POOL_CASES)
def test_any_indices_are_followed(case, isa, rng):
    """They need not come from a max pooling."""
    backward, reference = functions("max_pool", case, "_backward")
    g = case.geometry()
    dy = eighths(g.y_shape, np.float32, rng)
    indices = rng.integers(0, np.prod(g.in_size), g.y_shape)
    assert_same(backward(dy, indices, g.x_shape), reference(dy, indices, g.x_shape))


@parametrize("case", POOL_CASES)
def test_offsets_outside_the_kernel_hand_their_gradient_to_nobody(case, isa, rng):
    how = {**case.parameters, "layout": case.geometry().layout}
    x = case.x(np.float32, rng)
    y, offsets = R.max_pool_window(x, case.kernel, **how)
    dy, wrong = eighths(y.shape, np.float32, rng), rng.uniform(size=y.shape) < 0.5
    dx = R.max_pool_window_backward(
        np.where(wrong, np.float32(0), dy), offsets, x.shape, case.kernel, **how
    )
    outside = [np.prod(case.kernel), np.iinfo(offsets.dtype).max]
    offsets[wrong] = rng.choice(outside, wrong.sum())
    assert_same(F.max_pool_window_backward(dy, offsets, x.shape, case.kernel, **how), dx)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_offsets_in_the_padding_hand_their_gradient_to_nobody(layout, isa, dtype):
    dy = in_layout(np.ones((1, 3, 4, 4), dtype), layout)
    offsets = np.zeros(dy.shape, np.uint8)  # the first cell of each window
    dx = np.zeros((1, 3, 6, 6), dtype)
    dx[..., 1::2, 1::2] = 1  # what of these is in the image
    actual = F.max_pool_window_backward(
        dy, offsets, in_layout(dx, layout).shape, 2, padding=1, layout=layout
    )
    assert_same(actual, in_layout(dx, layout))


@pytest.mark.parametrize("wrong", [-1, 20, 2**62, -(2**63)])
def test_an_index_outside_the_plane_is_refused(wrong, isa, dtype):
    dy, indices = np.ones((2, 3, 2, 2), dtype), np.zeros((2, 3, 2, 2), np.int64)
    indices[1, 2, 1, 1] = wrong
    with pytest.raises(ValueError, match=f"indices holds {wrong}, but x_shape"):
        F.max_pool2d_backward(dy, indices, (2, 3, 4, 5))


# ---- average ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count_include_pad", [False, True])
@parametrize("case", AVG_CASES)
def test_average_and_gradient(case, count_include_pad, isa, dtype, rng):
    pool, reference = functions("avg_pool", case)
    backward, reference_backward = functions("avg_pool", case, "_backward")
    how = {**case.avg_parameters, "count_include_pad": count_include_pad}
    x, terms = uniform(case.x_shape, dtype, rng), np.prod(case.kernel)
    y = reference(x, case.kernel, **how)
    dy = uniform(y.shape, dtype, rng)
    dx = reference_backward(dy, x.shape, case.kernel, **how)
    for s in everywhere(case.ndim, rng):
        with s:
            placed = s.image(x)
            s.spoil(y)
            actual = pool(placed, case.kernel, **how, layout=s.layout)
            s.assert_sums(actual, y, terms, x)
            placed = s.image(dy)
            s.spoil(dx)
            actual = backward(placed, s.shape(x), case.kernel, **how, layout=s.layout)
            s.assert_sums(actual, dx, terms, dy)


@parametrize("case", POOL_CASES)
def test_sums_and_their_gradient_are_adjoint(case, isa, dtype, rng):
    """<sum_pool(x), dy> = <x, dx>, dilation included, which averages lack; eighths are exact."""
    x = eighths(case.x_shape, dtype, rng)
    for layout in LAYOUTS[case.ndim]:
        placed = in_layout(x, layout)
        how = case.stride, case.padding, case.dilation, case.ceil_mode, "floor", layout
        g = pool_shape("sum_pool", placed.shape, case.kernel, *how)
        y = _core.sum_pool(g, placed, "sum")
        dy = eighths(y.shape, dtype, rng)
        dx = _core.sum_pool_backward(g, dy, "sum")
        assert dx.shape == placed.shape
        assert np.vdot(y.astype(float), dy) == np.vdot(placed.astype(float), dx)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("C", [1, 7, 8, 40, 700])
def test_gradient_of_averages_on_threads(C, layout, isa, dtype, rng):
    """Tasks of bands of rows, of columns, of planes; the last ones are smaller."""
    x, how = np.empty((2, C, 19, 23), dtype), {"stride": 2, "padding": 1}
    dy = eighths((2, C, 10, 12), dtype, rng)
    dx = R.avg_pool2d_backward(dy, x.shape, 3, **how)
    for threads in (1, 3):
        with fastconv.threads(threads):
            shape = in_layout(x, layout).shape
            actual = F.avg_pool2d_backward(in_layout(dy, layout), shape, 3, **how, layout=layout)
        assert_sums_close(actual, in_layout(dx, layout), 9, dy)


@parametrize("case", AVG_CASES)
def test_average_of_nan_and_infinity(case, isa, dtype, rng):
    """Special values reach the same windows, and only those; finite results are near."""
    pool, reference = functions("avg_pool", case)
    x = case.x(dtype, rng)
    special = rng.uniform(size=x.shape) < 0.03
    x[special] = rng.choice([np.nan, np.inf, -np.inf], special.sum())
    y = reference(x, case.kernel, **case.avg_parameters)
    for layout in LAYOUTS[case.ndim]:
        actual = pool(in_layout(x, layout), case.kernel, **case.avg_parameters, layout=layout)
        finite = np.isfinite(in_layout(y, layout))
        assert_same(np.where(finite, 0, actual), np.where(finite, 0, in_layout(y, layout)))
        expected = np.where(finite, in_layout(y, layout), 0)
        assert_sums_close(
            np.where(finite, actual, 0), expected, np.prod(case.kernel), dtype.type(1)
        )


# ---- Lp -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 2.5, 3])
@parametrize("case", LP_CASES)
def test_lp_norm_and_gradient(case, p, isa, dtype, rng):
    """All terms are positive: the relative error is that of the sum and of two powers.

    A power |x|^p is the exponential of p log|x| and loses at most a few eps; so does the root.
    """
    eps, terms = np.finfo(dtype).eps, np.prod(case.kernel)
    how = {"stride": case.stride, "ceil_mode": case.ceil_mode}
    x = case.x(dtype, rng)
    y = R.lp_pool2d(x, p, case.kernel, **how)
    dy = uniform(y.shape, dtype, rng)
    dx = R.lp_pool2d_backward(dy, x, y, p, case.kernel, **how)
    for s in everywhere(2, rng):
        with s:
            placed = s.image(x)
            actual = F.lp_pool2d(placed, p, case.kernel, **how, layout=s.layout)
            assert actual.dtype == dtype
            np.testing.assert_allclose(actual, in_layout(y, s.layout), rtol=(terms + 8) * eps)
            actual = F.lp_pool2d_backward(
                s.image(dy), placed, s.image(y), p, case.kernel, **how, layout=s.layout
            )
            # each term is at most |dy|, because |x| <= y in its window
            s.assert_sums(actual, dx, terms + 16, dy)


# ---- whole images -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(2, 3, 5, 7), (1, 17, 1, 1), (3, 9, 8, 8), (0, 2, 3, 3), (1, 1, 2, 67)]
)
def test_pooling_of_whole_images(shape, isa, dtype, rng):
    x = eighths(shape, dtype, rng)
    dy = eighths((*shape[:2], 1, 1), dtype, rng)
    size = shape[2] * shape[3]
    for s in everywhere(2, rng):
        with s:
            placed, dplaced, how = s.image(x), s.image(dy), {"layout": s.layout}
            s.assert_image(F.global_max_pool2d(placed, **how), R.global_max_pool2d(x))
            s.assert_image(
                F.global_max_pool2d_backward(dplaced, placed, **how),
                R.global_max_pool2d_backward(dy, x),
            )
            s.assert_sums(F.global_avg_pool2d(placed, **how), R.global_avg_pool2d(x), size, x)
            actual = F.global_avg_pool2d_backward(dplaced, placed.shape, **how)
            s.assert_sums(actual, R.global_avg_pool2d_backward(dy, shape), 1, dy)


# ---- every vector, several threads --------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("layout", ["NCW", "NWC"])
def test_every_length_of_a_row(layout, stride, isa, dtype, rng):
    """Rows of 1 to 69 windows, or of as many channels, around all vector sizes."""
    for n in range(1, 70):
        shape = (1, 2, n * stride + 1) if layout == "NCW" else (1, n, 2 * stride + 1)
        x = eighths(shape, dtype, rng)
        y, indices = R.max_pool1d(x, 2, stride=stride, padding=1, return_indices=True)
        how = {"stride": stride, "padding": 1, "layout": layout}
        actual = F.max_pool1d(in_layout(x, layout), 2, **how, return_indices=True)
        assert_same(actual[0], in_layout(y, layout))
        assert_same(actual[1], in_layout(indices, layout))
        dx = in_layout(R.max_pool1d_backward(y, indices, x.shape), layout)
        actual = F.max_pool1d_backward(*actual, dx.shape, layout=layout)
        assert_same(actual, dx)
        dy, offsets = F.max_pool_window(in_layout(x, layout), 2, **how)
        assert_same(F.max_pool_window_backward(dy, offsets, dx.shape, 2, **how), dx)
        how = {"stride": stride, "padding": 1}
        average = R.avg_pool1d(x, 2, **how)
        assert_same(
            F.avg_pool1d(in_layout(x, layout), 2, **how, layout=layout), in_layout(average, layout)
        )


LARGE = [
    PoolCase("2x2", (4, 33, 64, 66), (2, 2)),
    PoolCase("3x3-overlap", (3, 31, 57, 55), (3, 3), stride=2, padding=1),
    PoolCase("3x3-stride-1", (2, 20, 41, 43), (3, 3), stride=1, padding=1),
    PoolCase("17x17", (1, 30, 40, 41), (17, 17), stride=5, padding=8),
    PoolCase("long", (2, 40, 5001), (5,), stride=3, padding=2),
    PoolCase("volume", (1, 16, 20, 21, 22), (3, 3, 3), stride=2, padding=1),
]


@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
@parametrize("case", LARGE)
def test_large_ones_are_exact(case, channels_last, isa, dtype, rng):
    layout = LAYOUTS[case.ndim][channels_last]
    x = case.x(dtype, rng)
    how = {**case.parameters, "layout": layout}
    y, indices = functions("max_pool", case)[1](
        x, case.kernel, **case.parameters, return_indices=True
    )
    assert y.size * np.prod(case.kernel) > 500_000  # what it takes to wake a second thread
    dx = functions("max_pool", case, "_backward")[1](y, indices, x.shape)
    average = functions("avg_pool", case)[1](x, case.kernel, **case.avg_parameters)
    x, y, indices, dx, average = (in_layout(a, layout) for a in (x, y, indices, dx, average))
    with fastconv.threads(2):
        actual = functions("max_pool", case)[0](x, case.kernel, **how, return_indices=True)
        assert_same(actual[0], y)
        assert_same(actual[1], indices)
        backward = functions("max_pool", case, "_backward")[0]
        assert_same(backward(y, indices, x.shape, layout=layout), dx)
        dy, offsets = F.max_pool_window(x, case.kernel, **how)
        assert_same(F.max_pool_window_backward(dy, offsets, x.shape, case.kernel, **how), dx)
        actual = functions("avg_pool", case)[0](
            x, case.kernel, **case.avg_parameters, layout=layout
        )
    assert_sums_close(actual, average, 1, x)  # the sums are exact, but for their division


# ---- the lecture's rules ------------------------------------------------------------------------


def poolings(n):
    """(function, its arguments behind x) for each kind of pooling."""
    yield f"max_pool{n}d", ()
    yield f"avg_pool{n}d", ()
    if n == 2:
        yield "lp_pool2d", (2,)
        yield "max_pool_window", ()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fit_of_pooling(n, rng):
    """10 columns are no whole number of windows of 3 with stride 2, 9 columns are."""
    x = rng.integers(-9, 9, (2, 3, *(9,) * (n - 1), 10)).astype(np.float64)  # sums are exact
    for name, arguments in poolings(n):
        for module in (F, R):
            pool = getattr(module, name)

            def call(x, pool=pool, arguments=arguments, **how):
                return np.asarray(pool(x, *arguments, 3, stride=2, **how)[0])

            with pytest.raises(ValueError, match=rf"^{name}: W=10, F=3, P=0, S=2 do not fit"):
                call(x, fit="strict")
            np.testing.assert_array_equal(call(x), call(x[..., :9], fit="strict"))
            np.testing.assert_array_equal(call(x, fit="pad"), call(x, ceil_mode=True))
            assert call(x, fit="pad").shape[-1] == call(x).shape[-1] + 1


def test_fit_reaches_the_gradients(rng):
    x = rng.standard_normal((2, 3, 9, 10))
    how = {"stride": 2, "fit": "pad"}
    for module in (F, R):
        y = module.avg_pool2d(x, 3, **how)
        dx = module.avg_pool2d_backward(y, x.shape, 3, **how)
        expected = module.avg_pool2d_backward(y, x.shape, 3, stride=2, ceil_mode=True)
        np.testing.assert_array_equal(dx, expected)
        y = module.lp_pool2d(x, 2, 3, **how)
        dx = module.lp_pool2d_backward(y, x, y, 2, 3, **how)
        expected = module.lp_pool2d_backward(y, x, y, 2, 3, stride=2, ceil_mode=True)
        np.testing.assert_array_equal(dx, expected)
        y, offsets = module.max_pool_window(x, 3, **how)
        dx = module.max_pool_window_backward(y, offsets, x.shape, 3, **how)
        y, indices = module.max_pool2d(x, 3, **how, return_indices=True)
        np.testing.assert_array_equal(dx, module.max_pool2d_backward(y, indices, x.shape))


def test_pooling_2x2_drops_three_quarters():
    """CS231n, "Pooling Layer": 2x2 windows with stride 2 discard 75 % of the activations."""
    x = np.zeros((1, 64, 224, 224), np.float32)
    y = F.max_pool2d(x, 2, fit="strict")
    assert y.shape == (1, 64, 112, 112) and y.size == x.size // 4


def test_overlapping_and_l2_pooling_by_hand(dtype):
    """CS231n, "Pooling Layer": windows of 3 with stride 2; the L2 norm of each window."""
    x = np.arange(25, dtype=dtype).reshape(1, 1, 5, 5)
    expected = [[12, 14], [22, 24]]
    for module in (F, R):
        np.testing.assert_array_equal(
            module.max_pool2d(x, 3, stride=2, fit="strict")[0, 0], expected
        )
        np.testing.assert_array_equal(
            module.avg_pool2d(x, 3, stride=2, fit="strict")[0, 0], [[6, 8], [16, 18]]
        )
        norms = module.lp_pool2d(x, 2, 3, stride=2, fit="strict")[0, 0]
        windows = [[x[0, 0, r : r + 3, c : c + 3] for c in (0, 2)] for r in (0, 2)]
        np.testing.assert_allclose(
            norms, [[np.linalg.norm(w) for w in row] for row in windows], 1e-6
        )


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_gradient_goes_to_the_tracked_maxima_alone(overlapping, isa, dtype, rng):
    """CS231n, "Pooling Layer", "Backpropagation": the index of the maximum, the switch, is kept
    in the forward pass, and routes the gradient; windows that share a maximum add up there."""
    x = rng.permutation(2 * 3 * 9 * 9).reshape(2, 3, 9, 9).astype(dtype)
    y, switches = F.max_pool2d(x, 3, stride=2 if overlapping else 3, return_indices=True)
    planes = x.reshape(2, 3, 81)
    np.testing.assert_array_equal(
        np.take_along_axis(planes, switches.reshape(2, 3, -1), 2), y.reshape(2, 3, -1)
    )
    dy = rng.integers(1, 9, y.shape).astype(dtype)
    expected = np.zeros_like(planes)
    for n, c, oh, ow in np.ndindex(*y.shape):
        expected[n, c, switches[n, c, oh, ow]] += dy[n, c, oh, ow]
    dx = F.max_pool2d_backward(dy, switches, x.shape)
    np.testing.assert_array_equal(dx, expected.reshape(x.shape))
    assert np.count_nonzero(dx) == len(np.unique(switches + 81 * np.arange(6).reshape(2, 3, 1, 1)))
