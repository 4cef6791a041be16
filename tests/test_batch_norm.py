"""Batch normalization: functions against the reference, PyTorch and slopes; the layer."""

import numpy as np
import pytest
from harness import everywhere, in_layout

import fastconv.functional as F
import fastconv.reference as R
from fastconv.layers import BatchNorm2d, Conv2d, ReLU, Sequential

SHAPES = [(1, 1, 1, 2), (2, 3, 4, 5), (3, 7, 1, 1), (2, 5, 9, 17), (1, 33, 3, 3), (5, 2, 40, 31)]


def arguments(shape, dtype, rng):
    C = shape[1]
    x = (rng.standard_normal(shape) * 2 + rng.standard_normal((C, 1, 1)) * 3).astype(dtype)
    weight, bias, mean = (rng.standard_normal(C).astype(dtype) for _ in range(3))
    return x, weight, bias, mean, rng.uniform(0.5, 2, C).astype(dtype)


# Lanes sum at most 32 terms, 16 roundings on average of half an ulp; the rest is a handful more.
# Sums of squares are about a pivot for which they are at most four times those about the mean.
SUM = 24


def statistics_bounds(x, mean, var):
    """What mean and variance may be off by."""
    eps = np.finfo(x.dtype).eps
    size = np.abs(x).astype(float).mean((0, 2, 3))
    return SUM * eps * (size + np.abs(mean)), 4 * SUM * eps * var + (SUM * eps * size) ** 2


def bound(x, mean, var, weight, bias, training, eps=1e-5):
    """What one number may be off by: a few roundings of the terms, and what the statistics are."""
    column = (-1, 1, 1)
    wide = x.astype(float)
    mean, var = mean.astype(float), var.astype(float)
    weight, bias = np.abs(weight).reshape(column), np.abs(bias).reshape(column)
    deviation = np.sqrt(var + eps).reshape(column)
    limit = 8 * (np.abs(wide) + np.abs(mean.reshape(column))) * weight / deviation + 8 * bias
    limit = limit * np.finfo(x.dtype).eps
    if training:
        off_mean, off_var = (off.reshape(column) for off in statistics_bounds(x, mean, var))
        z = np.abs(wide - mean.reshape(column)) / deviation
        limit = limit + weight * (off_mean / deviation + z * off_var / (2 * deviation**2))
    return limit


def assert_within(actual, expected, bound):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert (np.abs(actual.astype(float) - expected) <= bound + 1e-300).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_forward_is_that_of_the_reference(shape, training, activation, isa, dtype, threads, rng):
    x, weight, bias, mean, var = arguments(shape, dtype, rng)
    expected_running = [mean.copy(), var.copy()]
    how = {"training": training, "activation": activation, "return_statistics": True}
    expected = R.batch_norm(x, weight, bias, *expected_running, **how)
    for s in everywhere(2, rng):
        placed = [mean.copy(), var.copy()]
        with s:
            call = (s.image(x), s.put(weight), s.put(bias))
            s.spoil(expected[0])
            y, m, v = F.batch_norm(*call, *placed, layout=s.layout, **how)
        limit = bound(x, *expected[1:], weight, bias, training)
        assert_within(y, in_layout(expected[0], s.layout), in_layout(limit, s.layout))
        off_mean, off_var = statistics_bounds(x, *expected[1:]) if training else (0, 0)
        assert_within(m, expected[1], off_mean)
        assert_within(v, expected[2], off_var)
        eps = np.finfo(dtype).eps
        assert_within(placed[0], expected_running[0], off_mean + 4 * eps * (abs(m) + abs(mean)))
        assert_within(placed[1], expected_running[1], 2 * off_var + 4 * eps * (2 * v + var))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_backward_is_that_of_the_reference(shape, training, isa, dtype, threads, rng):
    x, weight, _, mean, var = arguments(shape, dtype, rng)
    if training:
        _, mean, var = R.batch_norm(x, training=True, return_statistics=True)
    dy = rng.standard_normal(shape).astype(dtype)
    expected = R.batch_norm_backward(dy, x, weight, mean, var, training=training)
    wide = [a.astype(float) for a in (dy, x, weight, mean, var)]
    dx, dw, db = R.batch_norm_backward(*(np.abs(a) for a in wide[:3]), -np.abs(wide[3]), wide[4],
                                       training=False)  # fmt: skip
    count = x.size // shape[1]
    z = (np.abs(wide[1]) + np.abs(wide[3]).reshape(-1, 1, 1)) / np.sqrt(wide[4] + 1e-5).reshape(
        -1, 1, 1
    )
    scale = (np.abs(wide[2]) / np.sqrt(wide[4] + 1e-5)).reshape(-1, 1, 1)
    if training:
        dx = dx + scale * (db.reshape(-1, 1, 1) + z * dw.reshape(-1, 1, 1)) / count
    eps = np.finfo(dtype).eps
    for s in everywhere(2, rng):
        with s:
            call = (s.image(dy), s.image(x), s.put(weight), s.put(mean), s.put(var))
            s.spoil(expected[0])
            actual = F.batch_norm_backward(*call, training=training, layout=s.layout)
        assert_within(
            actual[0], in_layout(expected[0], s.layout), in_layout(SUM * eps * dx, s.layout)
        )
        assert_within(actual[1], expected[1], SUM * eps * dw)
        assert_within(actual[2], expected[2], SUM * eps * db)


@pytest.mark.parametrize("training", [True, False])
def test_scale_and_shift_may_be_left_out(training, isa, dtype, rng):
    x, weight, bias, mean, var = arguments((2, 3, 5, 4), dtype, rng)
    ones, zeros = np.ones_like(weight), np.zeros_like(bias)
    how = {"training": training}
    full = F.batch_norm(x, ones, zeros, mean.copy(), var.copy(), **how)
    np.testing.assert_array_equal(F.batch_norm(x, None, None, mean, var, **how), full)
    dy = rng.standard_normal(x.shape).astype(dtype)
    for actual, expected in zip(
        F.batch_norm_backward(dy, x, None, mean, var, **how),
        F.batch_norm_backward(dy, x, ones, mean, var, **how),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, expected)


def test_needs_chooses_the_gradients(rng):
    x, weight, _, mean, var = arguments((2, 3, 5, 4), np.float64, rng)
    full = F.batch_norm_backward(x, x, weight, mean, var)
    for needs in ("", "x", "w", "b", "xb", "wb"):
        some = F.batch_norm_backward(x, x, weight, mean, var, needs=needs)
        for name, a, b in zip("xwb", some, full, strict=True):
            assert (a is None) == (name not in needs)
            assert a is None or np.array_equal(a, b)


@pytest.mark.parametrize("far", [1e3, 1e5])
def test_a_mean_far_from_zero_costs_no_accuracy(far, isa, dtype, threads, rng):
    """A variance as the mean of squares less the square of the mean would lose all digits."""
    x = (rng.standard_normal((4, 3, 16, 15)) + far).astype(dtype)
    y, mean, var = F.batch_norm(x, training=True, return_statistics=True)
    exact = x.astype(np.longdouble)
    expected = exact.var((0, 2, 3))
    eps = np.finfo(dtype).eps
    assert (np.abs(var - expected) <= 4 * SUM * eps * expected).all()
    assert (np.abs(mean - exact.mean((0, 2, 3))) <= eps * far + SUM * eps).all()
    assert (np.abs(y.mean((0, 2, 3), np.float64)) <= 4 * eps * far).all()


def test_nan_and_infinity_stay_in_their_channel(isa, dtype, rng):
    x = rng.standard_normal((2, 4, 5, 5)).astype(dtype)
    clean = F.batch_norm(x, training=True)
    x[0, 1, 2, 2], x[1, 3, 0, 0] = np.nan, np.inf
    with np.errstate(all="ignore"):
        y = F.batch_norm(x, training=True)
    assert np.isnan(y[:, 1]).all()
    assert np.isnan(y[:, 3]).all()
    np.testing.assert_array_equal(y[:, [0, 2]], clean[:, [0, 2]])


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_the_slopes(training, rng):
    x, weight, bias, mean, var = arguments((2, 3, 3, 2), np.float64, rng)
    dy = rng.standard_normal(x.shape)

    def loss():
        return np.vdot(
            F.batch_norm(x, weight, bias, mean.copy(), var.copy(), training=training), dy
        )

    running = mean.copy(), var.copy()
    _, m, v = F.batch_norm(x, weight, bias, *running, training=training, return_statistics=True)
    gradients = F.batch_norm_backward(dy, x, weight, m, v, training=training)
    for array, gradient in zip((x, weight, bias), gradients, strict=True):
        for index in np.ndindex(array.shape):
            before = array[index]
            array[index] = before + 1e-6
            above = loss()
            array[index] = before - 1e-6
            slope = (above - loss()) / 2e-6
            array[index] = before
            assert gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-6)


# ---- the layer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_layer_agrees_with_torch(momentum, affine, track, torch, rng):
    ours = BatchNorm2d(4, 1e-3, momentum, affine, track, dtype=np.float64)
    theirs = torch.nn.BatchNorm2d(4, 1e-3, momentum, affine, track).double()
    if affine:
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours).split(", track")[0] in repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    close = {"rtol": 1e-10, "atol": 1e-12}
    for mode in (True, True, False, True):
        ours.train(mode)
        theirs.train(mode)
        x = rng.standard_normal((3, 4, 5, 6)) + 2
        x_torch = torch.tensor(x, requires_grad=True)
        expected = theirs(x_torch)
        y = ours.forward(x)
        dy = rng.standard_normal(y.shape)
        theirs.zero_grad()
        expected.backward(torch.tensor(dy))
        np.testing.assert_allclose(y, expected.detach().numpy(), **close)
        np.testing.assert_allclose(ours.backward(dy), x_torch.grad.numpy(), **close)
        for key, parameter in theirs.named_parameters():
            np.testing.assert_allclose(ours.grads[key], parameter.grad.numpy(), **close)
        for key, buffer in theirs.named_buffers():
            np.testing.assert_allclose(ours.buffers[key], buffer.numpy(), **close)
        np.testing.assert_allclose(ours(x), theirs.eval()(x_torch).detach().numpy(), **close)


def test_evaluation_changes_no_statistics(rng):
    norm = BatchNorm2d(3, dtype=np.float64)
    x = rng.standard_normal((2, 3, 4, 4))
    norm.forward(x)
    before = norm.state_dict()
    norm(x)
    norm.eval().forward(x)
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_refused_training_changes_no_statistics():
    norm = BatchNorm2d(3)
    with pytest.raises(ValueError, match="one number a channel"):
        norm.forward(np.ones((1, 3, 1, 1), np.float32))
    assert norm.buffers["num_batches_tracked"] == 0
    assert not norm.buffers["running_mean"].any()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_relu_behind_it_is_fused(layout, dtype, rng):
    shape = (2, 3, 9, 8) if layout == "NCHW" else (2, 9, 8, 3)
    both = {"layout": layout, "dtype": dtype}

    def layers():
        return [Conv2d(3, 4, 3, rng=0, **both), BatchNorm2d(4, **both), ReLU()]

    net, chain = Sequential(*layers()), layers()
    x = rng.standard_normal(shape).astype(dtype)
    expected = x
    for layer in chain:
        expected = layer.forward(expected)
    y = net.forward(x)
    np.testing.assert_array_equal(y, expected)
    dy = slope = rng.standard_normal(y.shape).astype(dtype)
    for layer in reversed(chain):
        slope = layer.backward(slope)
    np.testing.assert_array_equal(net.backward(dy), slope)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BatchNorm2d(0), ValueError, "num_features"),
        (lambda: BatchNorm2d(3, eps=-1), ValueError, "eps"),
        (lambda: BatchNorm2d(3, momentum=2), ValueError, "momentum"),
        (lambda: BatchNorm2d(3, dtype=int), TypeError, "int64"),
        (lambda: BatchNorm2d(3, layout="CHW"), ValueError, "CHW"),
        (lambda: BatchNorm2d(3).output_shape((1, 4, 5, 5)), ValueError, "4 channels, expected 3"),
        (lambda: BatchNorm2d(3)(np.ones((1, 4, 5, 5), np.float32)), ValueError, "weight has shape"),
    ],
)
def test_bad_arguments_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
