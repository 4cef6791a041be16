"""Fully connected layers, ReLU and losses against the reference."""

import itertools

import numpy as np
import pytest
from cases import assert_sums_close, uniform
from harness import PLACES, Setting, assert_same, whole_numbers

import fastconv.reference as R
from fastconv import functional as F
from fastconv.functional._product import OWN_GEMM

SIZES = [  # N, IN, OUT
    (1, 1, 1),
    (0, 3, 4),
    (5, 7, 3),
    (7, 512, 300),
    (64, 129, 125),
    (8, 500, 250),  # here NumPy's BLAS ends and the project's GEMM begins
    (9, 1024, 1030),
    (201, 67, 131),
    (100, 3072, 10),
]


def everywhere(rng):
    for place in PLACES:
        yield Setting("NC", place, rng)


def arrays(size, dtype, rng, draw):
    N, IN, OUT = size
    shapes = ((N, IN), (OUT, IN), (OUT,), (N, OUT))
    return tuple(draw(shape, dtype, rng) for shape in shapes)


def test_sizes_reach_both_products():
    assert {N >= 8 and N * IN * OUT >= OWN_GEMM for N, IN, OUT in SIZES} == {False, True}


@pytest.mark.parametrize("size", SIZES)
def test_linear_and_gradients_are_exact_on_whole_numbers(size, isa, dtype, rng):
    x, w, b, dy = arrays(size, dtype, rng, whole_numbers)
    y, gradients = R.linear(x, w, b), R.linear_backward(dy, x, w)
    for s in everywhere(rng):
        with s:
            placed = s.put(x), s.put(w), s.put(b)
            s.spoil(y)
            assert_same(F.linear(*placed), y)
            for actual, expected in zip(
                F.linear_backward(s.put(dy), *placed[:2]), gradients, strict=True
            ):
                assert_same(actual, expected)
    assert_same(F.linear(x, w), R.linear(x, w))


@pytest.mark.parametrize("size", SIZES)
def test_rounding_stays_below_the_bound(size, isa, dtype, rng):
    N, IN, OUT = size
    x, w, b, dy = arrays(size, dtype, rng, uniform)
    assert_sums_close(F.linear(x, w, b), R.linear(x, w, b), IN, x, w, bias=b)
    for actual, expected, terms, factors in zip(
        F.linear_backward(dy, x, w),
        R.linear_backward(dy, x, w),
        (OUT, N, N),
        ((dy, w), (dy, x), (dy,)),
        strict=True,
    ):
        assert_sums_close(actual, expected, terms, *factors)


@pytest.mark.parametrize("size", [(4, 5, 6), (16, 300, 301)])
def test_nan_and_infinity_go_through_linear(size, isa, dtype, rng):
    x, w, b, dy = arrays(size, dtype, rng, whole_numbers)
    for array in (x, w, b, dy):
        array.flat[rng.integers(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
    with np.errstate(all="ignore"):
        assert_same(F.linear(x, w, b), R.linear(x, w, b))
        for actual, expected in zip(
            F.linear_backward(dy, x, w), R.linear_backward(dy, x, w), strict=True
        ):
            assert_same(actual, expected)


@pytest.mark.parametrize("needs", ["", "x", "w", "b", "xw", "xb", "wb", "xwb"])
def test_needs_chooses_the_gradients(needs, rng):
    x, w, _, dy = arrays((4, 5, 6), np.float32, rng, whole_numbers)
    full = R.linear_backward(dy, x, w)
    for name, some, all_ in zip("xwb", F.linear_backward(dy, x, w, needs), full, strict=True):
        assert (some is None) == (name not in needs)
        assert some is None or np.array_equal(some, all_)


# ---- ReLU ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (7,), (3, 5), (2, 3, 4, 5)])
def test_relu_and_gradient_equal_the_reference(shape, dtype, rng):
    special = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.0], shape)
    x, dy = np.asarray(special, dtype), np.asarray(uniform(shape, dtype, rng))
    for s in everywhere(rng):
        with s:
            placed = s.put(x)
            y = np.asarray(F.relu(placed))
            assert_same(y, np.asarray(R.relu(x)))
            expected = R.relu_backward(dy, x)
            assert_same(F.relu_backward(s.put(dy), placed), expected)
            assert_same(F.relu_backward(s.put(dy), s.put(y)), expected)


# ---- losses -------------------------------------------------------------------------------------


ROWS_AND_CLASSES = [(1, 1), (1, 10), (7, 3), (64, 1000), (0, 5)]


def label_kinds(y, rng):
    """The labels in each place of memory and as integers of several widths."""
    for s, kind in zip(everywhere(rng), itertools.cycle([np.int64, np.int32, np.uint16])):
        yield s, y.astype(kind)


@pytest.mark.parametrize(("N", "classes"), ROWS_AND_CLASSES)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_softmax_loss_and_gradient(N, classes, scale, dtype, rng):
    """exp turns the absolute error of a score into a relative one, the sum adds one per class."""
    scores = uniform((N, classes), dtype, rng) * dtype.type(scale)
    y = rng.integers(0, classes, N)
    value, gradient = R.softmax_loss(scores, y)
    tolerance = float(np.finfo(dtype).eps) * (classes + 8 + 4 * scale)
    for s, labels in label_kinds(y, rng):
        with s:
            actual, dscores = F.softmax_loss(s.put(scores), s.put(labels))
            assert actual == pytest.approx(value, rel=0, abs=tolerance)
            assert dscores.dtype == dtype
            np.testing.assert_allclose(dscores, gradient, rtol=0, atol=tolerance / max(N, 1))


@pytest.mark.parametrize(("N", "classes"), ROWS_AND_CLASSES)
@pytest.mark.parametrize("delta", [0.5, 1, 10.0])
def test_svm_loss_and_gradient(N, classes, delta, dtype, rng):
    """Margins and their sums are exact on multiples of 1/8, and no margin is nearly 0."""
    scores = np.round(uniform((N, classes), dtype, rng) * 80) / 8
    y = rng.integers(0, classes, N)
    value, gradient = R.svm_loss(scores, y, delta)
    for s, labels in label_kinds(y, rng):
        with s:
            actual, dscores = F.svm_loss(s.put(scores), s.put(labels), delta)
            assert actual == value
            assert_sums_close(dscores, gradient, 1, gradient)


@pytest.mark.parametrize("loss", [F.softmax_loss, F.svm_loss])
def test_scores_of_any_size_do_not_overflow(loss, dtype):
    largest = np.finfo(dtype).max
    scores = np.array([[largest, -largest, 0], [0, largest, largest]], dtype)
    value, dscores = loss(scores, np.array([0, 1]))
    assert value >= 0 and np.isfinite(dscores).all()


@pytest.mark.parametrize("shape", [(0,), (7,), (3, 5), (2, 3, 4, 5)])
def test_l2_penalty_and_gradient(shape, dtype, rng):
    """Squares are rounded once, their sum is taken in float64; the gradient is one product."""
    w = np.asarray(uniform(shape, dtype, rng))
    value, gradient = R.l2_penalty(w, 0.3)
    eps = float(np.finfo(dtype).eps)
    for s in everywhere(rng):
        with s:
            actual, dw = F.l2_penalty(s.put(w), 0.3)
            assert actual == pytest.approx(value, rel=2 * eps)
            assert dw.dtype == dtype
            np.testing.assert_allclose(dw, gradient, rtol=2 * eps)


def test_l2_penalty_of_large_weights_does_not_overflow():
    w = np.full(4, 1e30, np.float32)
    np.testing.assert_allclose(F.l2_penalty(w, 1.0)[0], R.l2_penalty(w, 1.0)[0], rtol=1e-6)
