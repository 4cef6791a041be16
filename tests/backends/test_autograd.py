"""The backend for autograd: its convolve is the same; conv2d and max_pool2d have derivatives."""

import importlib
import sys

import numpy as np
import pytest
from agree import assert_same

from fastconv import backends, reference

pytest.importorskip("autograd")
import autograd.scipy.signal
from autograd import grad
from autograd.numpy import tanh
from autograd.test_util import check_grads

import fastconv.backends.autograd as fast

convolve = autograd.scipy.signal.convolve  # bound before the backend is active, as scripts do

CASES = {
    "layer": ((9, 3, 8, 7), (3, 5, 3, 2), ([2, 3], [2, 3]), ([1], [0])),
    "kernel first": ((3, 5, 3, 2), (9, 3, 8, 7), ([2, 3], [2, 3]), ([0], [1])),
    "plain 1-D": ((40,), (7,), None, None),
    "plain 2-D": ((12, 13), (3, 4), None, None),
    "plain 3-D": ((7, 8, 9), (2, 3, 4), None, None),
    "plain 4-D": ((5, 6, 4, 5), (2, 3, 2, 2), None, None),
    "larger one way": ((9, 3), (4, 6), None, None),
    "mixed axes": ((2, 5, 4, 3), (2, 4, 2, 3, 2), ([1, 2], [2, 4]), ([0, 3], [0, 3])),
    "one of two axes": ((4, 9), (3, 5), ([1], [0]), None),
    "exchanged axes": ((6, 9), (3, 5), ([1, 0], [0, 1]), None),
    "no axes": ((6, 7), (6, 5), ([], []), ([0], [0])),
    "as large": ((5, 6), (5, 6), None, None),
}


@pytest.fixture(autouse=True)
def all_sizes(monkeypatch):
    monkeypatch.setattr(fast, "_SMALL", 0)


def outcome(A, B, axes, dot_axes, mode):
    """The result and both gradients, or the type of the error."""
    options = {"axes": axes, "dot_axes": dot_axes or [(), ()], "mode": mode}
    try:
        y = convolve(A, B, **options)
        loss = lambda A, B: (convolve(A, B, **options) ** 2).sum()  # noqa: E731
        return y, grad(loss, 0)(A, B), grad(loss, 1)(A, B)
    except Exception as error:
        return type(error).__name__


def check(*arguments):
    expected = outcome(*arguments)
    with backends.use("autograd"):
        got = outcome(*arguments)
    assert_same(expected, got, 1000, order=False)


@pytest.mark.parametrize("mode", ["full", "valid", "same"])
@pytest.mark.parametrize("case", CASES)
def test_convolve(case, mode, dtype, rng):
    a, b, axes, dot_axes = CASES[case]
    A, B = (rng.standard_normal(shape).astype(dtype) for shape in (a, b))
    check(A, B, axes, dot_axes, mode)
    check(A[::-1], np.asfortranarray(B), axes, dot_axes, mode)


def test_dtypes(rng):
    A, B = rng.standard_normal((9, 8)), rng.standard_normal((3, 4))
    for a, b in [
        (np.float32, np.float64),
        (float, int),
        (complex, float),
        (np.float16, np.float16),
    ]:
        x, y = A.astype(a), (4 * B).astype(b)
        expected = convolve(x, y)
        with backends.use("autograd"):
            assert_same(expected, convolve(x, y), 100, order=False)


def test_convolve_second_derivatives(rng):
    A, B = rng.standard_normal((5, 4)), rng.standard_normal((3, 2))
    with backends.use("autograd"):
        for mode in ("full", "valid", "same"):
            check_grads(lambda A, B, mode=mode: convolve(A, B, mode=mode), modes=["rev"])(A, B)


def test_put_back():
    signal = autograd.scipy.signal
    before = signal.einsum_tensordot
    with backends.use("autograd"):
        assert signal.einsum_tensordot is not before
    assert signal.einsum_tensordot is before and signal.convolve is convolve


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("order", [1, 2])
def test_conv2d_derivatives(layout, order, rng):
    x = rng.standard_normal((2, 4, 6, 5) if layout == "NCHW" else (2, 6, 5, 4))
    w, b = rng.standard_normal((4, 2, 3, 2)), rng.standard_normal(4)
    options = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "groups": 2, "layout": layout}
    y = fast.conv2d(x, w, b, **options)
    assert_same(reference.conv2d(x, w, b, **options), y, 50, order=False)
    check_grads(lambda x, w, b: tanh(fast.conv2d(x, w, b, **options)), order=order)(x, w, b)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("order", [1, 2])
def test_max_pool2d_derivatives(layout, order, rng):
    x = rng.permutation(2 * 3 * 7 * 6).astype(float)
    x = x.reshape((2, 3, 7, 6) if layout == "NCHW" else (2, 7, 6, 3)) / 100
    options = {"stride": 2, "padding": 1, "layout": layout}
    assert np.array_equal(fast.max_pool2d(x, 3, **options), reference.max_pool2d(x, 3, **options))
    check_grads(lambda x: tanh(fast.max_pool2d(x, 3, **options)), order=order)(x)


def test_float32_stays(rng):
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, 2, 6, 6), (3, 2, 3, 3)))
    scale = np.float64(2)
    loss = lambda w: (fast.max_pool2d(fast.conv2d(x, w), 2) * np.full(1, scale)).sum()  # noqa: E731
    assert grad(loss)(w).dtype == np.float32


def test_importing_the_backend_needs_no_autograd(monkeypatch):
    monkeypatch.delitem(sys.modules, "fastconv.backends.autograd")
    monkeypatch.delitem(sys.modules, "fastconv.backends._autograd_primitives", raising=False)
    monkeypatch.setitem(sys.modules, "autograd", None)
    module = importlib.import_module("fastconv.backends.autograd")
    assert module.backend().package == "autograd.scipy.signal"
    with pytest.raises(ImportError):
        module.conv2d  # noqa: B018
    with pytest.raises(AttributeError, match="conv5d"):
        module.conv5d  # noqa: B018
