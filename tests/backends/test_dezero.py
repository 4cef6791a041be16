"""DeZero with and without fastconv: results, dtypes, memory order, double backpropagation."""

import numpy as np
import pytest
import shims
from agree import assert_same

from fastconv import backends

shims.dezero()
dezero = pytest.importorskip("dezero")
from dezero import functions_conv as FC  # noqa: E402

F = pytest.importorskip("dezero.functions")

# images, filters (OC, KH, KW), stride, pad
CONVS = [
    ((2, 3, 7, 9), (4, 3, 3), 1, 1),
    ((1, 5, 20, 15), (3, 5, 3), 1, 3),
    ((2, 2, 8, 11), (5, 3, 2), (3, 1), (2, 1)),
    ((3, 4, 6, 6), (2, 1, 1), 2, 0),
    ((4, 8, 16, 16), (16, 3, 3), 1, 1),
]
POOLS = [
    ((2, 3, 8, 8), 2, 2, 0),
    ((1, 4, 9, 7), 3, 2, 1),
    ((2, 3, 7, 10), (2, 3), (1, 2), (1, 2)),
    ((2, 2, 5, 6), 2, 3, 2),  # windows of padding alone
]
DTYPES = [("f", "f", "f"), ("d", "d", "d"), ("f", "d", "f")]  # x, W, b; the last: layers on NumPy 2


@pytest.fixture(autouse=True)
def restored():
    yield
    backends.uninstall("dezero")


def both(call):
    """Results on DeZero as it is and on fastconv, from the same random numbers."""
    backends.uninstall("dezero")
    expected = call(np.random.default_rng(7))
    with backends.use("dezero"):
        return expected, call(np.random.default_rng(7))


def same(pair, terms):
    assert_same(*pair, terms)


def variables(rng, *shapes, dtypes):
    return [
        dezero.Variable(rng.standard_normal(shape).astype(dtype))
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


def run(f, inputs, rng):
    y = f(*inputs)
    copies = [v.data.copy() for v in inputs]
    y.grad = dezero.Variable(rng.standard_normal(y.shape).astype(y.dtype))
    y.backward()
    assert all(np.array_equal(c, v.data) for c, v in zip(copies, inputs, strict=True))
    return [y.data, *(v.grad.data for v in inputs)]


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("x, w, stride, pad", CONVS)
def test_conv2d(x, w, stride, pad, dtypes):
    def call(rng):
        shapes = x, (w[0], x[1], *w[1:]), w[:1]
        return run(
            lambda *v: F.conv2d(*v, stride, pad), variables(rng, *shapes, dtypes=dtypes), rng
        )

    same(both(call), x[0] * x[2] * x[3] + x[1] * w[1] * w[2])


@pytest.mark.parametrize("extra", [None, 0, 1])
@pytest.mark.parametrize("dtypes", DTYPES)
def test_deconv2d(dtypes, extra):
    def call(rng):
        inputs = variables(rng, (2, 3, 5, 4), (3, 6, 4, 3), (6,), dtypes=dtypes)
        size = None if extra is None else (10 + extra, 7 + extra)
        return run(lambda *v: F.deconv2d(*v, 2, 1, size), inputs, rng)

    same(both(call), 400)


@pytest.mark.parametrize("dtype", "fd")
@pytest.mark.parametrize("x, kernel, stride, pad", POOLS)
def test_pooling(x, kernel, stride, pad, dtype):
    def call(rng):
        (v,) = variables(rng, x, dtypes=dtype)
        v.data[0] -= 3  # the zeros around it are the maxima
        return run(lambda v: F.pooling(v, kernel, stride, pad), [v], rng)

    same(both(call), 9)


@pytest.mark.parametrize("dtype", "fd")
@pytest.mark.parametrize("x, kernel, stride, pad", [POOLS[0], POOLS[1], POOLS[3]])
def test_average_pooling(x, kernel, stride, pad, dtype):
    def call(rng):
        return run(
            lambda v: F.average_pooling(v, kernel, stride, pad),
            variables(rng, x, dtypes=dtype),
            rng,
        )

    same(both(call), 9)


@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("x, kernel, stride, pad", POOLS)
def test_columns(x, kernel, stride, pad, matrix):
    def call(rng):
        image = rng.standard_normal(x)
        col = FC.im2col_array(image, kernel, stride, pad, matrix)
        return [col, FC.col2im_array(col, x, kernel, stride, pad, matrix)]

    same(both(call), 9)


@pytest.mark.parametrize("rows", [1, 40])  # the products of one row are NumPy's
@pytest.mark.parametrize("dtypes", [*DTYPES, "edd"])
@pytest.mark.parametrize("f", ["linear", "linear_simple", "matmul"])
def test_products(f, dtypes, rows):
    def call(rng):
        shapes = (rows, 900), (900, 11), (11,)
        inputs = variables(rng, *shapes, dtypes=dtypes)[: 2 if f == "matmul" else 3]
        return run(getattr(F, f), inputs, rng)

    got, expected = both(call)
    eps = np.finfo("f").eps if "f" in dtypes else None  # the bias may be narrower than the rest
    assert_same(got, expected, 900, eps)


@pytest.mark.parametrize("f", ["linear", "conv2d", "deconv2d", "pooling", "average_pooling"])
def test_double_backpropagation(f):
    def call(rng):
        shapes = ((60, 80), (80, 70)) if f == "linear" else ((2, 3, 6, 6), (3, 3, 3, 3))
        x, W = variables(rng, *shapes, dtypes="dd")
        y = getattr(F, f)(x, 2, 2) if "pool" in f else getattr(F, f)(x, W)
        y = y * y
        y.backward(create_graph=True)
        gx = x.grad
        x.cleargrad()
        (gx * gx * gx).backward()
        return [y.data, gx.data, x.grad.data]

    same(both(call), 3000)


def test_training_step_of_a_net():
    """ReLU between, in both memory orders, and inputs that are no arrays in C order."""

    def call(rng):
        x, W, V = variables(rng, (2, 9, 9, 3), (4, 3, 3, 3), (5, 4, 3, 3), dtypes="ddd")
        x.data = x.data.transpose(0, 3, 1, 2)
        h = F.pooling(F.relu(F.conv2d(x, W, None, 1, 1)), 2, 2)
        h = F.relu(F.conv2d(F.relu(h), V, None, 1, 0))
        h.backward()
        return [h.data, W.grad.data, V.grad.data]

    same(both(call), 1000)


def test_others_go_to_the_original():
    def call(rng):
        x = rng.integers(-5, 5, (1, 2, 6, 6))
        half = x.astype(np.float16)
        W = rng.integers(-5, 5, (3, 2, 3, 3))
        return [
            F.conv2d(x, W).data, F.deconv2d(x, W[:2]).data, F.pooling(half, 2, 2).data,
            F.average_pooling(half, 2, 2).data, F.im2col(x, 2, 2, 0).data,
            F.conv2d(x * 1.0, W * 1.0, np.ones(1)).data,  # a bias that is broadcast
        ]  # fmt: skip

    for a, b in zip(*both(call), strict=True):
        assert a.dtype == b.dtype and np.allclose(a, b)


def test_odd_calls_are_answered_as_before():
    def odd(f, rng):
        try:
            return f(rng)
        except Exception as error:
            return type(error)

    x = np.arange(72.0).reshape(1, 2, 6, 6)

    def average(shape, dy):
        y = F.average_pooling(dezero.Variable(np.ones(shape)), 2, 2)
        return y.creator.backward(dezero.Variable(np.ones(dy))).data

    calls = [
        lambda rng: FC.im2col_array(x, np.int64(3), 1, 1),
        lambda rng: FC.im2col_array(x, [3, 2], 1, 1),
        lambda rng: FC.im2col_array(x, 3, 1.0, 1),
        lambda rng: FC.im2col_array(None, 3, 1, 1),
        lambda rng: F.matmul(x[0, 0], None),
        lambda rng: run(lambda v: F.pooling(v, 2, 2), [dezero.Variable(x[:, :0])], rng),
        lambda rng: average((1, 0, 6, 6), (1, 0, 3, 3)),
        lambda rng: average((1, 2, 6, 6), (1, 1, 3, 3)),
    ]
    for call in calls:
        got, expected = both(lambda rng, call=call: odd(call, rng))
        if isinstance(expected, type):
            assert got is expected
        else:
            same((expected, got), 9)


def test_the_very_same_objects_come_back():
    before = FC.Conv2d.forward, FC.im2col_array, F.ReLU.backward
    with backends.use("dezero"):
        assert FC.Conv2d.forward is not before[0] and FC.im2col_array is not before[1]
    assert (FC.Conv2d.forward, FC.im2col_array, F.ReLU.backward) == before
