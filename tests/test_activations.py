"""Activation functions and dropout against the reference, PyTorch and their own laws."""

import numpy as np
import pytest
from cases import assert_sums_close, uniform
from harness import PLACES, Setting, assert_same
from hypothesis import given
from hypothesis import strategies as st
from test_gradients import F64, assert_slopes, distinct

import fastconv.reference as R
from fastconv import functional as F
from fastconv.layers import Dropout

SHAPES = [(0,), (7,), (3, 5), (2, 3, 4, 5)]


def everywhere(rng):
    for place in PLACES:
        yield Setting("NC", place, rng)


def special(shape, dtype, rng):
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.0, 100.0, -100.0]
    return np.asarray(rng.choice(values, shape), dtype)


def assert_close(actual, expected, *, rtol=0.0, atol=0.0):
    assert actual.dtype == expected.dtype and type(actual) is np.ndarray
    eps = float(np.finfo(expected.dtype).eps)
    np.testing.assert_allclose(actual, expected, rtol=rtol * eps, atol=atol * eps)


# ---- leaky and parametric ReLU ------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.25, 0, -2, 4, 0.01])
@pytest.mark.parametrize("shape", SHAPES)
def test_leaky_relu_and_gradient(shape, slope, dtype, rng):
    """Products are rounded once; a slope that is no sum of powers of 2 is rounded itself."""
    x, dy = special(shape, dtype, rng), np.asarray(uniform(shape, dtype, rng))
    rounding = {"rtol": 0 if slope != 0.01 else 2}
    for s in everywhere(rng):
        with s:
            assert_close(F.leaky_relu(s.put(x), slope), R.leaky_relu(x, slope), **rounding)
            actual = F.leaky_relu_backward(s.put(dy), s.put(x), slope)
            assert_close(actual, R.leaky_relu_backward(dy, x, slope), **rounding)


@pytest.mark.parametrize("shape", SHAPES)
def test_relu6_and_gradient(shape, dtype, rng):
    x, dy = special(shape, dtype, rng) * 8, np.asarray(uniform(shape, dtype, rng))
    y = R.relu6(x)
    assert not (y > 6).any() and not (y < 0).any()
    for s in everywhere(rng):
        with s:
            assert_same(F.relu6(s.put(x)), y)
            for x_or_y in (x, y):
                actual = F.relu6_backward(s.put(dy), s.put(x_or_y))
                assert_same(actual, R.relu6_backward(dy, x))


def test_leaky_relu_of_several_blocks(dtype, rng):
    x, dy = uniform((5, 9999), dtype, rng), uniform((5, 9999), dtype, rng)
    assert_same(F.leaky_relu(x, 0.25), R.leaky_relu(x, 0.25))
    assert_same(F.leaky_relu_backward(dy, x, 0.25), R.leaky_relu_backward(dy, x, 0.25))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shared", [False, True], ids=["each", "shared"])
@pytest.mark.parametrize("shape", [(4, 6), (0, 3), (2, 3, 4, 5), (1, 1, 3, 3)])
def test_prelu_and_gradients(shape, layout, shared, dtype, rng):
    channels = shape[1] if layout == "NCHW" else shape[-1]
    x, dy = uniform(shape, dtype, rng), uniform(shape, dtype, rng)
    w = uniform((1 if shared else channels,), dtype, rng)
    y, (dx, dw) = R.prelu(x, w, layout=layout), R.prelu_backward(dy, x, w, layout=layout)
    for s in everywhere(rng):
        with s:
            assert_same(F.prelu(s.put(x), s.put(w), layout=layout), y)
            actual = F.prelu_backward(s.put(dy), s.put(x), s.put(w), layout=layout)
            assert_same(actual[0], dx)
            assert_sums_close(actual[1], dw, max(1, x.size // w.size), dy, x)


@pytest.mark.parametrize("needs", ["", "x", "w", "xw"])
def test_prelu_computes_what_is_needed(needs, rng):
    dy, x = uniform((2, 3, 5), F64, rng), uniform((2, 3, 5), F64, rng)
    for module in (F, R):
        dx, dw = module.prelu_backward(dy, x, np.full(3, 0.25), needs=needs)
        assert (dx is not None, dw is not None) == ("x" in needs, "w" in needs)


def test_prelu_lets_infinities_through(dtype):
    x, w = np.array([[np.inf, -np.inf, np.nan]], dtype), np.array([0.5], dtype)
    for module in (F, R):
        assert_same(module.prelu(x, w), np.array([[np.inf, -np.inf, np.nan]], dtype))
        dx, dw = module.prelu_backward(np.ones_like(x), x, w)
        assert_same(dx, np.array([[1, 0.5, 0.5]], dtype))
        assert np.isnan(dw).all()


# ---- sigmoid, tanh, softmax ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_sigmoid_and_tanh_and_gradients(shape, dtype, rng):
    """exp and tanh are right to a few units in the last place."""
    for x in (special(shape, dtype, rng), np.asarray(uniform(shape, dtype, rng) * dtype.type(9))):
        dy = np.asarray(uniform(shape, dtype, rng))
        y, t = R.sigmoid(x), R.tanh(x)
        for s in everywhere(rng):
            with s:
                assert_close(F.sigmoid(s.put(x)), y, atol=4)
                assert_close(F.tanh(s.put(x)), t, rtol=4)
                actual = F.sigmoid_backward(s.put(dy), s.put(y))
                assert_close(actual, R.sigmoid_backward(dy, y), rtol=4)
                actual = F.tanh_backward(s.put(dy), s.put(t))
                assert_close(actual, R.tanh_backward(dy, t), atol=2)


@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 6), 1), ((4, 6), 0), ((0, 3), 1), ((3, 7, 2, 4), 1), ((2, 5, 3), -1)]
)
@pytest.mark.parametrize("scale", [1, 1000])
def test_softmax_and_gradient(shape, axis, scale, dtype, rng):
    """As for `softmax_loss`; the gradient is a sum of `classes` products with numbers up to 1."""
    x, dy = uniform(shape, dtype, rng) * dtype.type(scale), uniform(shape, dtype, rng)
    y, classes = R.softmax(x, axis=axis), shape[axis]
    dx = R.softmax_backward(dy, y, axis=axis)
    for s in everywhere(rng):
        with s:
            assert_close(F.softmax(s.put(x), axis=axis), y, atol=classes + 8 + 4 * scale)
            actual = F.softmax_backward(s.put(dy), s.put(y), axis=axis)
            assert_close(actual, dx, atol=2 * classes + 4)


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
    st.floats(-1e3, 1e3, width=32),
)
def test_softmax_gives_probabilities_whatever_is_added_to_all_scores(scores, shift):
    x = np.array([scores])
    y = F.softmax(x)
    assert (y >= 0).all() and y.sum() == pytest.approx(1)
    np.testing.assert_allclose(F.softmax(x + shift), y, rtol=1e-9, atol=1e-12)
    assert y[0, np.argmax(x)] == y.max()


@pytest.mark.parametrize("module", [F, R])
def test_a_single_number_is_an_array(module, dtype):
    x = np.array(-1.0, dtype)
    results = [
        module.leaky_relu(x),
        module.leaky_relu_backward(x, x),
        module.relu(x),
        module.relu_backward(x, x),
        module.relu6(x),
        module.relu6_backward(x, x),
        module.sigmoid(x),
        module.sigmoid_backward(x, x),
        module.tanh(x),
        module.tanh_backward(x, x),
        module.prelu(x, np.ones(1, dtype)),
        *module.dropout(x),
        module.dropout_backward(x, np.array(True)),
    ]
    for result in results:
        assert type(result) is np.ndarray and result.shape == ()


def test_softmax_is_the_gradient_of_the_loss(rng):
    scores, labels = uniform((5, 4), F64, rng), rng.integers(0, 4, 5)
    gradient = F.softmax(scores)
    gradient[np.arange(5), labels] -= 1
    np.testing.assert_allclose(F.softmax_loss(scores, labels)[1], gradient / 5, atol=1e-15)


# ---- slopes -------------------------------------------------------------------------------------


FUNCTIONS = {
    "leaky_relu": (
        lambda x: F.leaky_relu(x, 0.1),
        lambda dy, x, y: F.leaky_relu_backward(dy, x, 0.1),
    ),
    "relu6": (F.relu6, lambda dy, x, y: F.relu6_backward(dy, y)),
    "sigmoid": (F.sigmoid, lambda dy, x, y: F.sigmoid_backward(dy, y)),
    "tanh": (F.tanh, lambda dy, x, y: F.tanh_backward(dy, y)),
    "softmax": (F.softmax, lambda dy, x, y: F.softmax_backward(dy, y)),
    "softmax-last": (
        lambda x: F.softmax(x, axis=-1),
        lambda dy, x, y: F.softmax_backward(dy, y, axis=-1),
    ),
}


@pytest.mark.parametrize(("function", "backward"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_gradients_are_slopes(function, backward, rng):
    x, dy = distinct((3, 4, 5), rng) * 4, uniform((3, 4, 5), F64, rng)
    gradient = backward(dy, x, function(x))
    assert_slopes(lambda: np.vdot(function(x), dy), x, gradient, rng)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_prelu_gradients_are_slopes(layout, rng):
    x, dy = distinct((2, 3, 4, 3), rng), uniform((2, 3, 4, 3), F64, rng)
    for w in (uniform((3,), F64, rng), uniform((1,), F64, rng)):
        gradients = F.prelu_backward(dy, x, w, layout=layout)
        for array, gradient in zip((x, w), gradients, strict=True):
            assert_slopes(
                lambda w=w: np.vdot(F.prelu(x, w, layout=layout), dy), array, gradient, rng
            )


def test_torch_says_the_same(torch, rng):
    functional = torch.nn.functional
    pairs = [
        (lambda x: F.leaky_relu(x, 0.1), lambda t: functional.leaky_relu(t, 0.1)),
        (F.relu6, functional.relu6),
        (F.sigmoid, torch.sigmoid),
        (F.tanh, torch.tanh),
        (F.softmax, lambda t: functional.softmax(t, dim=1)),
    ]
    x = uniform((3, 4, 5, 6), F64, rng) * 5
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours(x), theirs(torch.tensor(x)).numpy(), rtol=1e-13)


# ---- dropout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_equals_the_reference(shape, p, dtype, rng):
    x, dy = np.asarray(uniform(shape, dtype, rng)), np.asarray(uniform(shape, dtype, rng))
    y, kept = R.dropout(x, p, rng=3)
    dx = R.dropout_backward(dy, kept, p)
    for s in everywhere(rng):
        with s:
            actual, chosen = F.dropout(s.put(x), p, rng=3)
            np.testing.assert_array_equal(chosen, kept)
            assert_close(actual, y, rtol=1)
            assert_close(F.dropout_backward(s.put(dy), kept, p), dx, rtol=1)


def test_dropout_keeps_the_mean_and_drops_its_share(dtype):
    """Of n numbers n * p are dropped, give or take sqrt(n * p * (1 - p)); 6 of those are enough."""
    n, p = 40_000, 0.3
    y, kept = F.dropout(np.ones(n, dtype), p, rng=0)
    assert abs(kept.sum() - n * (1 - p)) < 6 * np.sqrt(n * p * (1 - p))
    assert set(np.unique(y)) == {0, dtype.type(1 / (1 - p))}
    np.testing.assert_array_equal(y != 0, kept)
    np.testing.assert_array_equal(kept, F.dropout(np.ones(n, np.float32), p, rng=0)[1])


def test_dropout_layer_acts_in_training_only(rng):
    x, layer = uniform((50, 40), F64, rng), Dropout(0.5, rng=0)
    dy = uniform(x.shape, F64, rng)
    first, second = layer.forward(x), layer.forward(x)
    assert (first != second).any()
    np.testing.assert_array_equal(layer.backward(dy), np.where(second != 0, 2 * dy, 0))
    assert layer(x) is x
    layer.eval()
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(dy), dy)
    assert layer.backward(dy, need_dx=False) is None


@pytest.mark.parametrize("p", [-0.1, 1.5, np.nan])
def test_dropout_refuses_what_is_no_probability(p):
    for call in (lambda: Dropout(p), lambda: F.dropout(np.ones(3), p)):
        with pytest.raises(ValueError, match="p must be a probability, from 0 to 1, got"):
            call()
