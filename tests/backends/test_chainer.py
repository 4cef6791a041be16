"""The backend for Chainer: the same results as its own functions give, to the second gradient."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import shims
from agree import assert_same, order_in_memory
from hypothesis import given
from hypothesis import strategies as st

from fastconv import backends

if "FASTCONV_NETS" in os.environ:  # a checkout, where it is not installed
    sys.path.append(str(Path(os.environ["FASTCONV_NETS"], "chainer")))
shims.chainer()
chainer = pytest.importorskip("chainer")
F = pytest.importorskip("chainer.functions")

DTYPES = st.sampled_from([np.float32, np.float64])
ORDERS = st.sampled_from(["C", "channels last", "strided", "reversed"])


def random(shape, dtype=np.float32, order="C", seed=0):
    """An array whose elements lie in memory as nets leave them, or worse."""
    rng = np.random.default_rng([seed, *shape])
    if order == "channels last":
        x = np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), dtype), -1, 1)
    elif order == "strided":
        x = np.empty((*shape, 2), dtype)[..., 0]
    else:
        x = np.empty(shape, dtype)[..., :: -1 if order == "reversed" else 1]
    x[...] = rng.standard_normal(shape)
    return x


def outcome(function, inputs, gy_order="C", second=True):
    """Result, gradients, and gradients of the gradients; or the type of the error."""
    inputs = [chainer.Variable(x) for x in inputs]
    try:
        y = function(*inputs)
    except Exception as error:
        return type(error).__name__
    if not y.size:  # images of negative size, which have no gradients
        return "empty"
    gy = chainer.Variable(random(y.shape, y.dtype, gy_order if y.ndim > 2 else "C", 1))
    grads = chainer.grad([y], inputs, [gy], enable_double_backprop=second)
    results = [y, *grads]
    if second:
        ggs = [chainer.Variable(random(g.shape, g.dtype, "C", 2)) for g in grads]
        for result in chainer.grad(grads, [*inputs, gy], ggs):
            results += [] if result is None else [result]
    # windows that see padding alone have a maximum of -inf, against which nothing can be measured
    return [np.nan_to_num(result.array, neginf=-10) for result in results]


def check(function, *inputs, terms, **how):
    """`function` gives the same with the backend as without, or fails in the same way."""
    before = [x.copy() for x in inputs]
    expected = outcome(function, inputs, **how)
    with backends.use("chainer"):
        got = outcome(function, inputs, **how)
    for x, was in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, was)
    assert_same(expected, got, terms)
    return got


@st.composite
def convolutions(draw, deconvolution=False):
    """(arrays, options) of a convolution in one to three dimensions."""
    ndim = draw(st.sampled_from([1, 2, 2, 3]))
    per_axis = st.tuples(*[st.integers(1, 3)] * ndim)
    groups, inner, outer = (draw(st.integers(1, 3)) for _ in range(3))
    sizes = draw(st.tuples(*[st.integers(3, 9)] * ndim))
    channels = groups * inner, outer * (1 if deconvolution else groups)
    filters = channels if deconvolution else (channels[1], inner)
    bias = (outer * groups,)
    dtype = draw(DTYPES)
    x = random((draw(st.integers(1, 3)), channels[0], *sizes), dtype, draw(ORDERS))
    W = random((*filters, *draw(per_axis)), dtype, draw(ORDERS))
    arrays = [x, W, random(bias, dtype)][: draw(st.integers(2, 3))]
    options = {
        "stride": draw(per_axis),
        "pad": tuple(draw(st.integers(0, 2)) for _ in range(ndim)),
        "dilate": draw(st.sampled_from([1, 1, 2])),
        "groups": groups,
    }
    return arrays, options


@given(convolutions(), st.booleans(), ORDERS)
def test_convolution(case, cover_all, gy_order):
    arrays, options = case
    nd = arrays[0].ndim != 4 or cover_all
    function = F.convolution_nd if nd else F.convolution_2d
    check(
        lambda *a: function(*a, cover_all=cover_all, **options),
        *arrays,
        terms=max(arrays[0].size, arrays[1].size),
        gy_order=gy_order,
    )


@given(convolutions(deconvolution=True), st.integers(0, 2), ORDERS)
def test_deconvolution(case, more, gy_order):
    arrays, options = case
    x, W = arrays[:2]
    if more:  # one of the sizes from which the convolution gives x's
        per_axis = zip(x.shape[2:], W.shape[2:], options["stride"], options["pad"], strict=True)
        options["outsize"] = tuple(
            (size - 1) * s + options["dilate"] * (k - 1) + 1 - 2 * p + min(more, s) - 1
            for size, k, s, p in per_axis
        )
    function = F.deconvolution_2d if x.ndim == 4 else F.deconvolution_nd
    check(
        lambda *a: function(*a, **options),
        *arrays,
        terms=8 * max(x.size, W.size),
        gy_order=gy_order,
    )


def test_cover_all_in_two_dimensions():
    x, W, b = random((2, 3, 8, 9)), random((4, 3, 3, 2)), random((4,))
    check(lambda *a: F.convolution_2d(*a, 2, 1, True), x, W, b, terms=200)
    check(lambda *a: F.dilated_convolution_2d(*a, 2, 1, 2, True), x, W, b, terms=200)


def test_depthwise():
    x, W, b = random((2, 5, 8, 7)), random((2, 5, 3, 3)), random((10,))
    y = check(lambda *a: F.depthwise_convolution_2d(*a, pad=1), x, W, b, terms=200)[0]
    assert order_in_memory(y) == [1, 0, 2, 3]  # as the original has it


@pytest.mark.parametrize("order", ["C", "channels last", "strided"])
@pytest.mark.parametrize("stride", [1, (2, 1)])
def test_local_convolution(stride, order):
    sy, sx = (stride, stride) if isinstance(stride, int) else stride
    x = random((3, 2, 4 * sy + 4, 3 * sx + 3), np.float32, order)  # a row too many
    W, b = random((4, 5, 4, 2, 3, 3)), random((4, 5, 4))
    check(lambda *a: F.local_convolution_2d(*a, stride=stride), x, W, b, terms=200, second=False)


@st.composite
def pooled(draw):
    ndim = draw(st.sampled_from([1, 2, 2, 3]))
    shape = draw(st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 9)] * ndim))
    x = random(shape, draw(DTYPES), draw(ORDERS))
    numbers = st.one_of(st.integers(1, 4), st.tuples(*[st.integers(1, 4)] * ndim))
    pads = st.one_of(st.integers(0, 2), st.tuples(*[st.integers(0, 2)] * ndim))
    stride = draw(st.one_of(st.none(), numbers))
    return x, {"ksize": draw(numbers), "stride": stride, "pad": draw(pads)}


@given(pooled(), st.booleans(), ORDERS)
def test_max_pooling(case, cover_all, gy_order):
    x, options = case
    found = []

    def pool(x):
        y, indexes = F.max_pooling_nd(x, **options, cover_all=cover_all, return_indices=True)
        found.append(indexes)
        return y

    check(pool, x, terms=9, gy_order=gy_order)
    if len(found) == 2:
        assert found[0].dtype == found[1].dtype
        np.testing.assert_array_equal(*found)


@given(pooled(), st.sampled_from([0, None]), ORDERS)
def test_average_pooling(case, pad_value, gy_order):
    x, options = case
    if x.ndim == 4 and pad_value == 0:
        check(lambda x: F.average_pooling_2d(x, **options), x, terms=x.size, gy_order=gy_order)
    # the original divides a gradient in place that belongs to the graph of the second ones
    second = pad_value == 0
    check(
        lambda x: F.average_pooling_nd(x, **options, pad_value=pad_value),
        x,
        terms=x.size,
        second=second,
    )


def test_ties_and_nan_of_max_pooling():
    x = np.zeros((1, 2, 5, 4), np.float32)
    x[0, 1, 2, 2] = np.nan
    with backends.use("chainer"):
        y, indexes = F.max_pooling_2d(x, 2, return_indices=True)
    expected, expected_indexes = F.max_pooling_2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y.array, expected.array)
    np.testing.assert_array_equal(indexes, expected_indexes)


def test_upsampling_and_unpooling():
    x = random((2, 3, 7, 6))

    def there_and_back(x):
        y, indexes = F.max_pooling_2d(x, 2, return_indices=True)
        return F.upsampling_2d(y, indexes, 2, outsize=(7, 6)) + F.unpooling_2d(y, 2, outsize=(7, 6))

    check(there_and_back, x, terms=10)


@given(st.data())
def test_columns(data):
    from chainer.utils import conv

    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int64]))
    x = random((2, 3, *data.draw(st.tuples(*[st.integers(1, 8)] * 2))), dtype, data.draw(ORDERS))
    kernel = data.draw(st.tuples(*[st.integers(1, 3)] * 2))
    steps = [*data.draw(st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(0, 2)] * 2))]
    more = {
        "pval": data.draw(st.sampled_from([0, 0, -1])),
        "cover_all": data.draw(st.booleans()),
        "dy": data.draw(st.integers(1, 2)),
        "out_h": data.draw(st.sampled_from([None, None, 1, 2])),
    }

    def columns():
        try:
            return conv.im2col_cpu(x, *kernel, *steps, **more)
        except Exception as error:
            return type(error).__name__

    expected = columns()
    with backends.use("chainer"):
        cols = columns()
    assert_same(expected, cols, 0)
    if more["out_h"] is None and not isinstance(cols, str):
        image = conv.col2im_cpu(cols, *steps, *x.shape[2:], more["dy"])
        with backends.use("chainer"):
            assert_same(image, conv.col2im_cpu(cols, *steps, *x.shape[2:], more["dy"]), 9)


@pytest.mark.parametrize("order", ["C", "channels last", "strided"])
@pytest.mark.parametrize("gy_order", ["C", "channels last"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elementwise_and_norms(order, gy_order, dtype):
    x = random((4, 6, 5, 7), dtype, order)
    check(F.relu, x, terms=1, gy_order=gy_order)
    for options in ({}, {"n": 4, "k": 1, "alpha": 0.5, "beta": 0.6}):
        check(
            lambda x, options=options: F.local_response_normalization(x, **options),
            x,
            terms=10,
            gy_order=gy_order,
            second=False,
        )
    gamma, beta = random((6,), dtype), random((6,), dtype, seed=1)
    check(F.batch_normalization, x, gamma, beta, terms=3 * 140, gy_order=gy_order, second=False)


def test_running_statistics():
    x, gamma, beta = random((4, 6, 5, 7)), random((6,)), random((6,))
    running = [(np.full(6, 0.5, np.float32), np.full(6, 2.0, np.float32)) for _ in range(2)]
    F.batch_normalization(x, gamma, beta, running_mean=running[0][0], running_var=running[0][1])
    with backends.use("chainer"):
        F.batch_normalization(x, gamma, beta, running_mean=running[1][0], running_var=running[1][1])
    assert_same(running[0], running[1], 140)


@pytest.mark.parametrize("shape", [(5, 7, 3), (64, 200, 100), (1, 4, 6)])
def test_linear(shape):
    N, IN, OUT = shape
    x, W, b = random((N, IN)), random((OUT, IN)), random((OUT,))
    check(F.linear, x, W, b, terms=max(shape))
    check(F.linear, x.astype(np.float64), W.astype(np.float64), terms=max(shape))


def test_what_is_left_to_the_original():
    half = random((2, 3, 6, 6)).astype(np.float16)
    W = random((4, 3, 3, 3)).astype(np.float16)
    check(F.convolution_2d, half, W, terms=64)
    check(lambda x: F.max_pooling_2d(x, 2), half, terms=1)
    check(F.convolution_2d, half.astype(np.float32), W.astype(np.float64), terms=64, second=False)
    empty = np.empty((0, 3, 6, 6), np.float32)
    with backends.use("chainer"):
        assert F.convolution_2d(empty, W.astype(np.float32)).shape == (0, 4, 4, 4)
        assert F.relu(empty).shape == empty.shape


def test_uninstall_puts_the_same_functions_back():
    from chainer.functions.connection import convolution_2d
    from chainer.functions.pooling import max_pooling_nd
    from chainer.utils import conv

    def functions():
        return [
            vars(convolution_2d.Convolution2DFunction)["_forward_cpu_core"],
            vars(max_pooling_nd.MaxPoolingND)["forward_cpu"],
            conv.im2col_cpu,
            chainer.functions.array.im2col.im2col_cpu,
        ]

    before = functions()
    with backends.use("chainer"):
        assert not any(a is b for a, b in zip(before, functions(), strict=True))
    assert all(a is b for a, b in zip(before, functions(), strict=True))


def test_a_step_of_training():
    """Weights after three steps of a small net are the same."""

    def train():
        rng = np.random.RandomState(0)
        init = chainer.initializers.Normal(0.1, rng=rng)
        net = chainer.Sequential(
            chainer.links.Convolution2D(3, 8, 3, pad=1, initialW=init),
            chainer.links.BatchNormalization(8),
            F.relu,
            lambda x: F.max_pooling_2d(x, 2),
            chainer.links.Convolution2D(8, 8, 3, initialW=init),
            F.relu,
            lambda x: F.average_pooling_2d(x, 2),
            chainer.links.Linear(8 * 3 * 3, 5, initialW=init),
        )
        optimizer = chainer.optimizers.MomentumSGD(0.1).setup(net)
        x, t = random((16, 3, 17, 17)), np.arange(16, dtype=np.int32) % 5
        for _ in range(3):
            loss = F.softmax_cross_entropy(net(x), t)
            net.cleargrads()
            loss.backward()
            optimizer.update()
        return [loss.array, *(p.array for p in net.params())]

    expected = train()
    with backends.use("chainer"):
        assert_same(expected, train(), 16 * 17 * 17)
