"""The backend for numpy-ml: the same results as its own functions and layers give."""

import sys
import warnings

import numpy as np
import pytest
import shims
from agree import assert_same
from hypothesis import given
from hypothesis import strategies as st

from fastconv import backends

shims.numpy_ml()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of gym, which it would like to have, and of its docstrings
    pytest.importorskip("numpy_ml")
    from numpy_ml.neural_nets import layers, modules, utils

IMAGES = st.tuples(*[st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)])
KERNELS = st.tuples(st.integers(1, 4), st.integers(1, 4))
PADS = st.one_of(
    st.integers(0, 3),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.just("same"),
)
PADS_1D = st.one_of(
    st.integers(0, 3),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from(["same", "causal"]),
)
STRIDES = st.integers(1, 3)
DTYPES = st.sampled_from([np.float32, np.float64, np.int64])
ORDERS = st.sampled_from(["C", "images last", "strided", "reversed"])


def random(shape, dtype=np.float64, order="C", seed=0):
    """An array whose elements lie in memory as nets leave them, or worse."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if order == "images last":
        x = np.moveaxis(np.empty((*shape[1:], shape[0]), dtype), -1, 0)
    elif order == "strided":
        x = np.empty((*shape, 2), dtype)[..., 0]
    else:
        x = np.empty(shape, dtype)[:: -1 if order == "reversed" else 1]
    x[...] = 4 * rng.standard_normal(shape) if dtype.kind == "i" else rng.standard_normal(shape)
    return x


def outcome(call):
    """The result, or the type of the error."""
    try:
        return call()
    except Exception as error:
        return type(error).__name__


def check(call, terms, eps=None):
    """`call` gives the same with the backend as without, or fails in the same way."""
    expected = outcome(call)
    with backends.use("numpy_ml"):
        got = outcome(call)
    assert_same(expected, got, terms, eps)


@given(IMAGES, KERNELS, st.integers(1, 5), STRIDES, PADS, st.integers(0, 2), DTYPES, DTYPES, ORDERS)
def test_conv2d(shape, kernel, OC, stride, pad, dilation, x_dtype, w_dtype, order):
    X = random(shape, x_dtype, order)
    W = random((*kernel, shape[3], OC), w_dtype, seed=1)
    check(lambda: utils.conv2D(X, W, stride, pad, dilation), W[..., 0].size)


@given(IMAGES, KERNELS, STRIDES, PADS, st.integers(0, 2), DTYPES, ORDERS)
def test_columns(shape, kernel, stride, pad, dilation, dtype, order):
    X = random(shape, dtype, order)
    W_shape = *kernel, shape[3], 7

    def call():
        cols, pads = utils.im2col(X, W_shape, pad, stride, dilation)
        return cols, pads, utils.col2im(cols, shape, W_shape, pads, stride, dilation)

    check(call, kernel[0] * kernel[1])


@given(st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 4), st.integers(1, 5), STRIDES, PADS_1D,
       st.integers(0, 2), DTYPES)  # fmt: skip
def test_conv1d(shape, cells, OC, stride, pad, dilation, dtype):
    X, W = random(shape, dtype), random((cells, shape[2], OC), seed=1)
    check(lambda: utils.conv1D(X, W, stride, pad, dilation), W[..., 0].size)


@given(IMAGES, KERNELS, st.integers(1, 5), STRIDES, PADS, st.integers(0, 2), DTYPES, ORDERS)
def test_deconv2d(shape, kernel, OC, stride, pad, dilation, dtype, order):
    X, W = random(shape, dtype, order), random((*kernel, shape[3], OC), seed=1)
    check(lambda: utils.deconv2D_naive(X, W, stride, pad, dilation), W[..., 0].size)


def run(make, X):
    """Two passes forward and their gradients, of a layer whose filters are always the same."""
    np.random.seed(1)
    layer = make()
    Ys = [layer.forward(X), layer.forward(X * 2)]
    dXs = layer.backward([random(Y.shape, seed=2 + i) for i, Y in enumerate(Ys)])
    gradients = getattr(layer, "gradients", {})
    return Ys, dXs, [gradients[name] for name in sorted(gradients)]


@given(IMAGES, KERNELS, STRIDES, PADS, st.integers(0, 2), DTYPES, ORDERS,
       st.sampled_from([None, "ReLU", "Tanh"]))  # fmt: skip
def test_conv2d_layer(shape, kernel, stride, pad, dilation, dtype, order, act_fn):
    X = random(shape, dtype, order)
    make = lambda: layers.Conv2D(3, kernel, pad, stride, dilation, act_fn)  # noqa: E731
    check(lambda: run(make, X), 9 * 9 * 4 * 4)


@given(st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 4), STRIDES, PADS_1D, st.integers(0, 2),
       DTYPES)  # fmt: skip
def test_conv1d_layer(shape, cells, stride, pad, dilation, dtype):
    X = random(shape, dtype)
    check(lambda: run(lambda: layers.Conv1D(3, cells, pad, stride, dilation, "Tanh"), X), 9 * 9 * 4)


@given(IMAGES, KERNELS, STRIDES, PADS, DTYPES, ORDERS, st.sampled_from([None, "ReLU"]))
def test_deconv2d_layer(shape, kernel, stride, pad, dtype, order, act_fn):
    X = random(shape, dtype, order)
    check(lambda: run(lambda: layers.Deconv2D(3, kernel, pad, stride, act_fn), X), 30 * 30 * 4)


@given(IMAGES, KERNELS, STRIDES, PADS, st.sampled_from(["max", "average"]), DTYPES, ORDERS,
       st.booleans())  # fmt: skip
def test_pool2d_layer(shape, kernel, stride, pad, mode, dtype, order, ties):
    X = random(shape, dtype, order)
    if ties:
        X = np.round(X)

    # Zeros where the original clips its windows: there a gradient goes to several cells, or fails.
    def pool():
        return layers.Pool2D(kernel, stride, pad, mode)

    # Means of float32 are stored as float64, and means of integers are float64.
    eps = np.finfo(np.float32 if dtype == np.float32 else np.float64).eps
    check(lambda: run(pool, X), 16, eps)


def test_float32_net():
    X = random((2, 6, 5, 3), np.float32)

    def call():
        np.random.seed(1)
        layer = layers.Conv2D(4, (3, 3), "same")
        layer.forward(X)
        layer.parameters = {key: v.astype(np.float32) for key, v in layer.parameters.items()}
        layer.flush_gradients()
        Y = layer.forward(X)
        return Y, layer._bwd(np.ones_like(Y), X, Y)

    check(call, 60, np.finfo(np.float32).eps)  # the gradient of X becomes float64 in the end


def test_wavenet_module():
    X = random((3, 20, 4))

    def call():
        np.random.seed(1)
        block = modules.WavenetResidualModule(
            ch_residual=4, ch_dilation=5, dilation=2, kernel_width=2
        )
        main, skip = block.forward(X, np.zeros_like(X))
        gradients = block.backward(np.ones_like(skip), np.ones_like(main))
        return main, skip, gradients

    check(call, 100)


@pytest.mark.parametrize(
    "X, stride, pad",
    [
        (np.ma.masked_array(random((1, 5, 5, 2)), False), 1, 0),
        (random((1, 5, 5, 2)).astype(np.float16), 1, 0),
        (random((1, 5, 5, 2)).astype(">f8"), 1, 0),
        (random((1, 5, 5, 2)).astype(complex), 1, 0),
        (random((1, 5, 5, 3)), 1, 0),
        (random((1, 5, 5, 2)), 1, -1),
        (random((1, 5, 5, 2)), 1, [1, 1]),
        (random((1, 5, 5, 2)), 1, (1, 1, 1)),
        (random((1, 5, 5, 2)), 1, "full"),
        (random((1, 5, 5, 2)), 1.0, 0),
        (random((1, 5, 5, 2)), 0, 0),
        (random((0, 5, 5, 2)), 1, 0),
        (random((1, 2, 2, 2)), 1, 0),
        (random((5, 5, 2)), 1, 0),
    ],
)
def test_the_rest_is_left_to_the_original(X, stride, pad):
    W = random((3, 3, 2, 4), seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # division by zero
        check(lambda: utils.conv2D(X, W, stride, pad), 18)
        check(lambda: utils.deconv2D_naive(X, W, stride, pad), 18)
        check(lambda: utils.im2col(X, W.shape, pad, stride), 1)
        check(lambda: layers.Pool2D((3, 3), stride, pad).forward(X), 1)


def test_inputs_are_only_read():
    X, W = random((2, 6, 6, 3)), random((3, 3, 3, 4))
    before = X.copy(), W.copy()
    X.flags.writeable = W.flags.writeable = False
    with backends.use("numpy_ml"):
        utils.conv2D(X, W, 1, 1)
        utils.deconv2D_naive(X, W, 2, 1)
        layers.Pool2D((2, 2), 2, 1).forward(X)
    assert np.array_equal(X, before[0]) and np.array_equal(W, before[1])


def test_frozen_layers_refuse_gradients():
    def call():
        layer = layers.Pool2D((2, 2), 2)
        Y = layer.forward(random((1, 4, 4, 1)))
        layer.freeze()
        return layer.backward(Y)

    check(call, 1)
    assert outcome(call) == "AssertionError"


def test_replaced_and_put_back():
    import importlib

    deep, module = (importlib.import_module(f"numpy_ml.neural_nets.{name}") for name in
                    ("utils.utils", "layers.layers"))  # fmt: skip
    names = ("im2col", "col2im", "conv1D", "conv2D", "deconv2D_naive")
    methods = [(getattr(module, layer), name) for layer, name in (
        ("Conv1D", "_bwd"), ("Conv2D", "_bwd"), ("Deconv2D", "_bwd"), ("Pool2D", "forward"),
        ("Pool2D", "backward"))]  # fmt: skip
    sites = [(owner, name) for owner in (deep, utils, module) for name in names] + methods
    before = [vars(owner)[name] for owner, name in sites]
    with backends.use("numpy_ml"):
        active = [vars(owner)[name] for owner, name in sites]
    assert not any(a is b for a, b in zip(before, active, strict=True))
    assert all(vars(owner)[name] is b for (owner, name), b in zip(sites, before, strict=True))


def test_importing_the_backend_needs_no_numpy_ml(monkeypatch):
    monkeypatch.delitem(sys.modules, "fastconv.backends.numpy_ml", raising=False)
    monkeypatch.setitem(sys.modules, "numpy_ml", None)
    from fastconv.backends import numpy_ml

    assert numpy_ml.backend().package == "numpy_ml.neural_nets"
