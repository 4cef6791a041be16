"""The backend of Deep Learning from Scratch against the original, on a stand-in or a checkout."""

import contextlib
import copy
import pickle
import sys
from importlib import import_module

import numpy as np
import pytest
from course import agree, folders, forget
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv import backends

FUNCTIONS = ("Convolution", "Pooling", "Affine", "Relu")


@pytest.fixture(params=folders("dlfs"))
def common(request, monkeypatch):
    forget("common")
    monkeypatch.syspath_prepend(request.param)
    yield import_module("common.layers")
    backends.uninstall("dlfs")
    forget("common")


def images(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def both(call, **options):
    """What `call` returns with the original and with the backend."""
    expected = call()
    with backends.use("dlfs", **options):
        return call(), expected


def convolution(common, x, W, b, stride, pad, dout_dtype=np.float64):
    def call():
        layer = common.Convolution(W, b, stride, pad)
        y = layer.forward(x)
        dout = images(y.shape, dout_dtype, 1)
        dx = layer.backward(dout)
        # (the order of the original's columns depends on which axes are 1)
        return y, dx, layer.dW, layer.db, layer.col_W, np.ascontiguousarray(layer.col)

    return call


@settings(max_examples=40)
@given(st.data())
def test_convolution(common, data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    N, C, FN, FH, FW, stride = (draw(1, 4) for _ in range(6))
    pad = draw(0, 2)
    shape = N, C, FH + draw(0, 6), FW + draw(0, 6)
    x = np.round(images(shape, np.float64), 1).astype(data.draw(st.sampled_from("dfei")))
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if draw(0, 1) else x
    before = x.copy()
    W, b = images((FN, C, FH, FW), np.float64, 2), images(FN, np.float64, 3)
    got, expected = both(convolution(common, x, W, b, stride, pad))
    agree(got, expected, terms=max(C * FH * FW, FN * FH * FW, expected[-1].shape[0]))
    assert np.array_equal(x, before)


@pytest.mark.parametrize("dout_dtype", [np.float32, np.float64])
def test_float32_throughout_becomes_float64_unless_told_otherwise(common, dout_dtype):
    x, W, b = images((2, 3, 7, 6), "f"), images((4, 3, 3, 3), "f", 2), images(4, "f", 3)
    call = convolution(common, x, W, b, 1, 1, dout_dtype)
    got, expected = both(call)
    # where the original multiplies dout and W before anything is float64
    agree(got, expected, terms=84, rounding=dout_dtype)
    got, expected = both(call, upcast=False)
    assert got[0].dtype == np.float32 and got[1].dtype == got[2].dtype == dout_dtype
    assert got[-1].dtype == np.float32
    for one, other in zip(got, expected, strict=True):
        agree(one, other.astype(one.dtype), terms=84)


def test_a_number_as_bias(common):
    got, expected = both(
        convolution(common, images((1, 1, 8, 8), "f"), np.ones((1, 1, 3, 3)), 0, 1, 0)
    )
    agree(got, expected, terms=36)


@pytest.mark.parametrize("dtype", ["b", "B", "?", ">d", "e"])
def test_gradients_of_other_dtypes(common, dtype):
    x, W = images((2, 3, 7, 6), "d"), images((4, 3, 3, 3), "d", 2)

    def call():
        layer = common.Convolution(W, np.zeros(4), 1, 1)
        dx = layer.backward((40 * images(layer.forward(x).shape, "d", 1)).astype(dtype))
        return dx, layer.dW, layer.db

    got, expected = both(call)
    agree(got[:2], expected[:2], terms=84)
    assert got[2].dtype == expected[2].dtype
    np.testing.assert_allclose(got[2], expected[2], rtol=1e-2 if dtype == "e" else 1e-12)


def test_wrong_calls_fail_as_before(common):
    x, W, b = images((2, 3, 7, 6), "d"), images((4, 3, 3, 3), "d", 2), np.zeros(4)
    conv = lambda *a: common.Convolution(*a[1:]).forward(a[0])  # noqa: E731
    calls = [
        lambda: conv(x, W, None),
        lambda: conv(x, None, b),
        lambda: conv(None, W, b),
        lambda: conv(x, W[0], b),
        lambda: common.Relu().forward(None),
        lambda: common.Affine(None, b).forward(x),
        lambda: common.im2col(x, 0, 3, 1, 1),
        lambda: common.im2col(x, 3, 3, 0, 1),
    ]

    def raised(call):
        try:
            call()
        except Exception as error:
            return type(error)
        return None

    for call in calls:
        got, expected = both(lambda call=call: raised(call))
        assert got is expected


def test_pooling_of_nothing(common):
    def call():
        layer = common.Pooling(2, 2)
        return layer.backward(layer.forward(np.zeros((2, 0, 4, 4))))

    got, expected = both(call)
    agree(got, expected, terms=1)


def test_other_biases_go_to_the_original(common):
    x, W, b = images((2, 3, 7, 6), "d"), images((4, 3, 3, 3), "d", 2), images((1, 4), "d", 3)
    got, expected = both(convolution(common, x, W, b, 1, 1))
    agree(got, expected, terms=84)


def test_columns_act_as_an_array(common):
    layer = common.Convolution(images((4, 3, 3, 3), "d"), np.zeros(4))
    x = images((2, 3, 7, 6), "d")
    layer.forward(x)
    expected = layer.col
    with backends.use("dlfs"):
        layer.forward(x)
        col = layer.col
        assert not isinstance(col, np.ndarray) and len(col) == len(expected)
        assert np.array_equal(col, expected) and np.array_equal(col.T @ col, expected.T @ expected)
        assert np.array_equal(col + 1, expected + 1) and np.array_equal(col[2], expected[2])
        assert np.array_equal(np.dot(col.T, col), expected.T @ expected)
        assert col.shape == expected.shape and col.dtype == np.float64
        for copied in (pickle.loads(pickle.dumps(col)), copy.deepcopy(layer).col):
            assert type(copied) is np.ndarray and np.array_equal(copied, expected)


def test_passes_of_both_kinds_go_together(common):
    layer = common.Convolution(images((4, 3, 3, 3), "d"), np.zeros(4), pad=1)
    pool = common.Pooling(2, 2)
    x, dout = images((2, 3, 6, 6), "d"), images((2, 4, 3, 3), "d", 1)

    def forward():
        pool.forward(layer.forward(x))

    def backward():
        return layer.backward(pool.backward(dout)), layer.dW

    forward()
    expected = backward()
    with backends.use("dlfs"):
        agree(backward(), expected, terms=72)
        forward()
    agree(backward(), expected, terms=72)


@settings(max_examples=40)
@given(st.data())
def test_pooling(common, data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    height, width, stride = draw(1, 4), draw(1, 4), draw(1, 4)
    shape = draw(1, 3), draw(1, 3), height + draw(0, 6), width + draw(0, 6)
    x = np.round(images(shape, np.float64)).astype(data.draw(st.sampled_from("dfei")))
    if draw(0, 1):
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def call():
        layer = common.Pooling(height, width, stride)
        y = layer.forward(x)
        return y, layer.arg_max, layer.backward(images(y.shape, np.float64, 1))

    got, expected = both(call)
    agree(got, expected, terms=16)


def test_pooling_with_padding_is_the_original(common):
    def call():
        layer = common.Pooling(2, 2, stride=5, pad=1)
        y = layer.forward(images((2, 3, 4, 4), "d"))
        return y, layer.arg_max, layer.backward(np.ones(y.shape))

    got, expected = both(call)
    agree(got, expected, terms=1)


def test_pooling_of_float32_may_stay_so(common):
    with backends.use("dlfs", upcast=False):
        layer = common.Pooling(3, 3, stride=2)
        y = layer.forward(images((2, 3, 7, 7), "f"))
        assert y.dtype == layer.backward(y).dtype == np.float32


def test_windows_of_more_than_255_cells(common):
    def call():
        layer = common.Pooling(17, 16)
        y = layer.forward(images((1, 2, 20, 20), "d"))
        return y, layer.arg_max, layer.backward(y.copy())

    got, expected = both(call)
    agree(got, expected, terms=4)


@pytest.mark.parametrize("dtypes", ["ddd", "fff", "fdd", "fdf", "idd", "edd"])
@pytest.mark.parametrize("shape", [(40, 6, 12, 10), (40, 720), (3, 5)])  # the last is NumPy's
def test_affine(common, shape, dtypes):
    ins = int(np.prod(shape[1:]))
    x = np.round(images(shape, "d"), 1).astype(dtypes[0])
    W, b = images((ins, 9), dtypes[1], 1), images(9, dtypes[2], 2)

    def call():
        layer = common.Affine(W, b)
        y = layer.forward(x)
        dx = layer.backward(images(y.shape, dtypes[1], 3))
        return y, layer.x, dx, layer.dW, layer.db

    got, expected = both(call)
    agree(got, expected, terms=ins, rounding=dtypes[1])


@pytest.mark.parametrize("first", [True, False])
def test_affine_layers_of_both_kinds_go_together(common, first):
    layer = common.Affine(images((720, 9), "d"), np.zeros(9))
    x, dout = images((40, 6, 12, 10), "d"), images((40, 9), "d", 1)
    layer.forward(x)
    expected = layer.backward(dout), layer.dW, layer.db
    with backends.use("dlfs") if first else contextlib.nullcontext():
        layer.forward(x)
    with contextlib.nullcontext() if first else backends.use("dlfs"):
        got = layer.backward(dout), layer.dW, layer.db
    agree(got, expected, terms=720)


@pytest.mark.parametrize("dtype", ["f", "d", "i"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_relu(common, dtype, order):
    x = np.asarray(np.round(images((3, 4, 5, 2), "d")).astype(dtype), order=order)
    dout = images(x.shape, "d").astype(dtype)
    if dtype != "i":
        x[0, 0, 0, 0], dout[x <= 0] = np.nan, np.inf

    def call():
        layer, given = common.Relu(), dout.copy()
        y = layer.forward(x)
        assert layer.backward(given) is given  # in place
        return y, np.array(layer.mask, order="C"), given

    got, expected = both(call)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype and one.strides == other.strides
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


@pytest.mark.parametrize("upcast", [True, False])
@pytest.mark.parametrize(
    "shape, window, stride, pad",
    [
        ((2, 3, 6, 8), (2, 2), 2, 0),
        ((2, 3, 7, 5), (3, 2), 1, 1),
        ((2, 3, 8, 7), (3, 3), 2, 0),
        ((1, 2, 5, 6), (5, 6), 3, 0),
        ((2, 1, 5, 9), (2, 3), 3, 2),
    ],
)
def test_columns_and_back(common, upcast, shape, window, stride, pad):
    util = import_module("common.util")
    x = images(shape, "f")

    def call():
        col = util.im2col(x, *window, stride, pad)
        return (
            col,
            common.im2col(x, *window, stride=stride, pad=pad),
            util.col2im(col, shape, *window, stride, pad),
        )

    got, expected = both(call, upcast=upcast)
    assert got[0].dtype == (np.float64 if upcast else np.float32)
    for one, other in zip(got, expected, strict=True):
        agree(one, other.astype(one.dtype), terms=window[0] * window[1])


def test_what_fastconv_does_not_take_goes_to_the_original(common):
    util = import_module("common.util")
    x = np.ma.masked_array(np.ones((1, 1, 4, 4)))
    got, expected = both(lambda: util.im2col(x, 2, 2))
    agree(got, expected, terms=1)
    with backends.use("dlfs"), pytest.raises(ValueError):
        common.Pooling(5, 5).forward(np.ones((1, 1, 4, 4)))


def test_restored(common):
    util = import_module("common.util")
    before = [vars(getattr(common, name)).copy() for name in FUNCTIONS]
    functions = util.im2col, util.col2im
    backends.install("dlfs")
    assert util.im2col is not functions[0] and common.im2col is util.im2col
    backends.uninstall("dlfs")
    assert [vars(getattr(common, name)).copy() for name in FUNCTIONS] == before
    assert (util.im2col, util.col2im) == functions == (common.im2col, common.col2im)


def test_needs_the_folder(monkeypatch, tmp_path):
    forget("common")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("")
    with pytest.raises(backends.BackendError, match="deep-learning-from-scratch"):
        backends.install("dlfs")
    (tmp_path / "common" / "layers.py").write_text("class Affine: pass\n")
    with pytest.raises(backends.BackendError, match="deep-learning-from-scratch"):
        backends.install("dlfs")
    forget("common")
    assert "common.layers" not in sys.modules
