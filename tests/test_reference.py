"""The reference functions: the lecture's numbers, plain loops, PyTorch, and algebra.

They are the oracle of all other tests, so here nothing of the library is trusted but shapes.
"""

import doctest
import importlib
import inspect
import itertools
import pkgutil

import numpy as np
import pytest
from bad_calls import BAD_CALLS, BAD_OFFSETS
from cases import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    CONV_CASES,
    POOL_CASES,
    assert_sums_close,
    parametrize,
    uniform,
)
from guard import read_only, restride, unaligned

import fastconv.functional as F
import fastconv.reference as R
from fastconv import _geometry

F64 = np.float64
SMALL_CONV_CASES = [case for case in CONV_CASES if np.prod(case.geometry().y_shape) < 500]


def function(name, case, suffix=""):
    """`name` for the dimensions of the case: function("conv", case, "_backward")."""
    return getattr(R, f"{name}{case.ndim}d{suffix}")


def to_channels_last(array):
    return np.moveaxis(array, 1, -1)


def close(actual, expected):
    """Equal but for the rounding of sums in float64."""
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-11)


# ---- documentation ------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(R.__path__)])
def test_examples_of_docstrings(module):
    module = importlib.import_module(f"fastconv.reference.{module}")
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_every_function_has_a_docstring():
    for name in R.__all__:
        assert len(inspect.getdoc(getattr(R, name))) > 30, name


def test_names_and_signatures_are_those_of_functional():
    assert R.__all__ == F.__all__
    for name in R.__all__:
        fast, slow = (inspect.signature(getattr(m, name)).parameters for m in (F, R))
        assert [(p.name, p.kind, p.default) for p in fast.values()] == [
            (p.name, p.kind, p.default) for p in slow.values()
        ], name


# ---- the lecture --------------------------------------------------------------------------------


def test_parameter_and_im2col_sizes_of_the_lecture():
    x = np.zeros((1, 3, 227, 227), np.float32)
    assert R.im2col(x, 11, stride=4).shape == (1, 363, 3025)
    w = np.zeros((96, 3, 11, 11), np.float32)
    assert w[0].size + 1 == 364 and w.size + 96 == 34_944
    assert R.conv2d(x, w, stride=4, fit="strict").shape == (1, 96, 55, 55)


def test_conv_demo_of_the_lecture():
    """Three 5x5 planes, two filters 3x3x3, stride 2, padding 1; by hand for one output."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (1, 3, 5, 5)).astype(F64)
    w = rng.integers(-1, 2, (2, 3, 3, 3)).astype(F64)
    b = np.array([1.0, 0.0])
    y = R.conv2d(x, w, b, stride=2, padding=1)
    assert y.shape == (1, 2, 3, 3)
    assert y[0, 0, 0, 0] == (x[0, :, :2, :2] * w[0, :, 1:, 1:]).sum() + 1
    assert y[0, 1, 1, 1] == (x[0, :, 1:4, 1:4] * w[1]).sum()


def test_neuron_example_of_the_lecture():
    """X (11, 11, 4), filters 5x5x4 at stride 2: V[0, 0, 0] = np.sum(X[:5, :5, :] * W0) + b0."""
    rng = np.random.default_rng(1)
    X, W0, W1 = rng.normal(size=(11, 11, 4)), rng.normal(size=(5, 5, 4)), rng.normal(size=(5, 5, 4))
    w = np.stack([W0, W1]).transpose(0, 3, 1, 2)
    V = R.conv2d(X[np.newaxis], w, np.array([0.5, 1.5]), stride=2, layout="NHWC")[0]
    assert V.shape == (4, 4, 2)
    for i, j in itertools.product(range(4), repeat=2):
        window = X[2 * i : 2 * i + 5, 2 * j : 2 * j + 5, :]
        close(V[i, j], [np.sum(window * W0) + 0.5, np.sum(window * W1) + 1.5])


def test_one_dimensional_figure_of_the_lecture():
    """Weights [1, 0, -1] on W=5 with P=1: stride 1 gives five outputs, stride 2 three."""
    x = np.array([[[1.0, 2.0, -1.0, 1.0, -3.0]]])
    w = np.array([[[1.0, 0.0, -1.0]]])
    assert R.conv1d(x, w, padding=1).ravel().tolist() == [-2, 2, 1, 2, 1]
    assert R.conv1d(x, w, padding=1, stride=2).ravel().tolist() == [-2, 1, 1]


def test_pooling_halves_the_volume_of_the_lecture():
    x = np.zeros((1, 64, 224, 224), np.float32)
    assert R.max_pool2d(x, 2).shape == (1, 64, 112, 112)


def test_dilation_example_of_the_lecture():
    """w[0]*x[0] + w[1]*x[2] + w[2]*x[4] for dilation 1 in the lecture's count, 2 in ours."""
    x, w = np.arange(5.0), np.array([1.0, 10.0, 100.0])
    y = R.conv1d(x.reshape(1, 1, -1), w.reshape(1, 1, -1), dilation=2)
    assert y.item() == w[0] * x[0] + w[1] * x[2] + w[2] * x[4]


def test_svm_and_softmax_of_the_lecture():
    scores = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    loss, _ = R.svm_loss(scores, np.array([0, 1, 2]))
    assert loss == pytest.approx((2.9 + 0 + 12.9) / 3)
    loss, _ = R.softmax_loss(np.array([[-2.85, 0.86, 0.28]]), np.array([2]))
    assert loss == pytest.approx(1.04, abs=0.005)


# ---- plain loops --------------------------------------------------------------------------------


def loops_conv(x, w, b, g):
    """The formula of the docstring, one number at a time."""
    y = np.zeros((g.N, g.OC, *g.out_size))
    filters_per_group = g.OC // g.groups
    for n, o in np.ndindex(g.N, g.OC):
        first_channel = o // filters_per_group * w.shape[1]
        for position in np.ndindex(g.out_size):
            y[n, o][position] = b[o]
            for c, *tap in np.ndindex(w.shape[1:]):
                cell = cell_of(position, tap, g)
                if inside(cell, g):
                    y[n, o][position] += w[(o, c, *tap)] * x[(n, first_channel + c, *cell)]
    return y


def cell_of(position, tap, g):
    parameters = zip(position, g.stride, g.pad_begin, tap, g.dilation, strict=True)
    return tuple(o * s - p + k * d for o, s, p, k, d in parameters)


def inside(cell, g):
    return all(0 <= c < size for c, size in zip(cell, g.in_size, strict=True))


@parametrize("case", SMALL_CONV_CASES)
def test_conv_is_its_formula(case, rng):
    x, w, b, _ = case.arrays(F64, rng)
    y = function("conv", case)(x, w, b, **case.parameters)
    close(y, loops_conv(x, w, b, case.geometry()))


def loops_pool(x, g):
    """Windows of a pooling as lists of (cell, value), real cells only."""
    for n, c, *position in np.ndindex(g.N, g.C, *g.out_size):
        cells = [cell_of(position, tap, g) for tap in np.ndindex(g.kernel)]
        real = [cell for cell in cells if inside(cell, g)]
        yield (n, c, *position), real, [x[(n, c, *cell)] for cell in real]


@parametrize("case", POOL_CASES)
def test_max_pool_takes_the_first_maximum(case, rng):
    x, g = case.x(F64, rng), case.geometry()
    y, indices = function("max_pool", case)(x, case.kernel, **case.parameters, return_indices=True)
    assert y.shape == indices.shape == g.y_shape and indices.dtype == np.int64
    for where, cells, values in loops_pool(x, g):
        first = values.index(max(values))
        assert y[where] == values[first]
        assert indices[where] == np.ravel_multi_index(cells[first], g.in_size)


@parametrize("case", POOL_CASES)
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_is_the_mean(case, count_include_pad, rng):
    pool = function("avg_pool", case)
    x = case.x(F64, rng)
    parameters = case.avg_parameters
    g = _geometry.pool_geometry(
        x.shape, case.kernel, **parameters, layout=CHANNELS_FIRST[case.ndim]
    )
    y = pool(x, case.kernel, **parameters, count_include_pad=count_include_pad)
    assert y.shape == g.y_shape
    for where, cells, values in loops_pool(x, g):
        count = len(cells)
        if count_include_pad:
            ends = [size + e for size, e in zip(g.in_size, g.pad_end, strict=True)]
            taps = [cell_of(where[2:], tap, g) for tap in np.ndindex(g.kernel)]
            count = sum(all(c < e for c, e in zip(tap, ends, strict=True)) for tap in taps)
        assert y[where] == pytest.approx(sum(values) / count, abs=1e-14)


# ---- PyTorch ------------------------------------------------------------------------------------


def torch_padded(torch, x, g, value=0.0):
    """x with the padding of the geometry, which PyTorch's functions cannot take four-sided."""
    sides = [
        side for sides in zip(g.pad_begin[::-1], g.pad_end[::-1], strict=True) for side in sides
    ]
    return torch.nn.functional.pad(x, sides, value=value)


def leaves(torch, *arrays):
    return [torch.tensor(array, requires_grad=True) for array in arrays]


@parametrize("case", CONV_CASES)
def test_conv_and_gradients_equal_torch(case, rng, torch):
    x, w, b, dy = case.arrays(F64, rng)
    tx, tw, tb = leaves(torch, x, w, b)
    conv = getattr(torch.nn.functional, f"conv{case.ndim}d")
    padded = torch_padded(torch, tx, case.geometry())
    ty = conv(padded, tw, tb, stride=case.stride, dilation=case.dilation, groups=case.groups)
    ty.backward(torch.tensor(dy))
    close(function("conv", case)(x, w, b, **case.parameters), ty.detach().numpy())
    dx, dw, db = function("conv", case, "_backward")(dy, x, w, **case.parameters)
    for actual, leaf in ((dx, tx), (dw, tw), (db, tb)):
        close(actual, leaf.grad.numpy())
    gradients = function("conv", case, "_input_grad"), function("conv", case, "_weight_grad")
    np.testing.assert_array_equal(gradients[0](dy, w, x.shape, **case.parameters), dx)
    np.testing.assert_array_equal(gradients[1](dy, x, w.shape, **case.parameters), dw)


TRANSPOSE_CASES = [
    # x_shape, w_shape (C, OC // groups, *kernel), parameters
    ((2, 3, 5, 7), (3, 4, 3, 3), {}),
    ((1, 4, 5, 6), (4, 3, 3, 2), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((1, 4, 5, 6), (4, 2, 2, 3), {"stride": (3, 2), "output_padding": (2, 0), "groups": 2}),
    ((1, 2, 4, 5), (2, 3, 3, 3), {"dilation": 3, "output_padding": 2, "padding": (1, 2)}),
    ((1, 2, 4, 5), (2, 3, 3, 2), {"stride": 2, "dilation": 5, "output_padding": 4}),
    ((2, 5, 3, 3), (5, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 5}),
    ((1, 2, 3, 4), (2, 3, 2, 2), {"stride": 5}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((0, 2, 3, 3), (2, 3, 2, 2), {"stride": 2}),
    ((2, 3, 9), (3, 4, 5), {"stride": 3, "padding": 2, "output_padding": 1}),
    ((1, 2, 3, 4, 5), (2, 3, 2, 3, 2), {"stride": (1, 2, 3), "padding": (0, 1, 0), "dilation": 2}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "parameters"), TRANSPOSE_CASES)
def test_conv_transpose_and_gradients_equal_torch(x_shape, w_shape, parameters, rng, torch):
    ndim = len(x_shape) - 2
    OC = w_shape[1] * parameters.get("groups", 1)
    x, w, b = (uniform(shape, F64, rng) for shape in (x_shape, w_shape, (OC,)))
    tx, tw, tb = leaves(torch, x, w, b)
    ty = getattr(torch.nn.functional, f"conv_transpose{ndim}d")(tx, tw, tb, **parameters)
    y = getattr(R, f"conv_transpose{ndim}d")(x, w, b, **parameters)
    close(y, ty.detach().numpy())
    dy = uniform(y.shape, F64, rng)
    ty.backward(torch.tensor(dy))
    gradients = getattr(R, f"conv_transpose{ndim}d_backward")(dy, x, w, **parameters)
    for actual, leaf in zip(gradients, (tx, tw, tb), strict=True):
        close(actual, leaf.grad.numpy())


@pytest.mark.parametrize("kernel", [(3,), (2, 3), (3, 1, 2)])
@pytest.mark.parametrize("parameters", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}])
def test_transposed_is_the_transpose(kernel, parameters, rng):
    """<conv(u), v> = <u, conv_transpose(v)>."""
    ndim = len(kernel)
    w = uniform((3, 2, *kernel), F64, rng)
    v = uniform((2, 3, *[4] * ndim), F64, rng)
    transposed = getattr(R, f"conv_transpose{ndim}d")(v, w, **parameters)
    u = uniform(transposed.shape, F64, rng)
    close(np.vdot(getattr(R, f"conv{ndim}d")(u, w, **parameters), v), np.vdot(u, transposed))


def torch_accepts(case):
    """PyTorch pads symmetrically by at most half the kernel; the loops above check the rest."""
    g = case.geometry()
    return g.pad_begin == g.pad_end and all(
        p <= k // 2 for p, k in zip(g.pad_begin, g.kernel, strict=True)
    )


TORCH_POOL_CASES = [case for case in POOL_CASES if torch_accepts(case)]


def special_values(shape, rng):
    """Ties, infinities and NaN, many to a window."""
    values = np.array([np.nan, -np.inf, -np.inf, -np.inf, np.inf, 0.0, 1.0, 1.0, 2.0])
    return rng.choice(values, shape, p=[0.08, 0.3, 0.2, 0.1, 0.02, 0.1, 0.1, 0.05, 0.05])


@parametrize("case", TORCH_POOL_CASES)
@pytest.mark.parametrize("kind", ["ties", "special"])
def test_max_pool_equals_torch(case, kind, rng, torch):
    x = case.x(F64, rng) if kind == "ties" else special_values(case.x_shape, rng)
    g = case.geometry()
    parameters = {"stride": g.stride, "padding": g.pad_begin, "dilation": g.dilation}
    (tx,) = leaves(torch, x)
    pool = getattr(torch.nn.functional, f"max_pool{case.ndim}d")
    ty, tindices = pool(tx, g.kernel, **parameters, ceil_mode=case.ceil_mode, return_indices=True)
    y, indices = function("max_pool", case)(x, case.kernel, **case.parameters, return_indices=True)
    np.testing.assert_array_equal(y, ty.detach().numpy())
    np.testing.assert_array_equal(indices, tindices.numpy())
    dy = uniform(y.shape, F64, rng)
    ty.backward(torch.tensor(dy))
    close(function("max_pool", case, "_backward")(dy, indices, x.shape), tx.grad.numpy())


@parametrize("case", [case for case in TORCH_POOL_CASES if case.dilation == 1])
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_equals_torch(case, count_include_pad, rng, torch):
    if 0 in case.x_shape and case.ndim != 2:
        pytest.skip("PyTorch does not average an empty batch of sequences or volumes")
    x, g = case.x(F64, rng), case.geometry()
    (tx,) = leaves(torch, x)
    pool = getattr(torch.nn.functional, f"avg_pool{case.ndim}d")
    ty = pool(tx, g.kernel, g.stride, g.pad_begin, case.ceil_mode, count_include_pad)
    count = {"count_include_pad": count_include_pad}
    y = function("avg_pool", case)(x, case.kernel, **case.avg_parameters, **count)
    close(y, ty.detach().numpy())
    dy = uniform(y.shape, F64, rng)
    ty.backward(torch.tensor(dy))
    backward = function("avg_pool", case, "_backward")
    dx = backward(dy, x.shape, case.kernel, **case.avg_parameters, **count)
    close(dx, tx.grad.numpy())


@pytest.mark.parametrize("p", [2, 4, 2.0])
@pytest.mark.parametrize(("kernel", "stride"), [(2, None), ((3, 2), (1, 3)), (3, 2)])
def test_lp_pool_equals_torch_for_even_p(p, kernel, stride, rng, torch):
    x = uniform((2, 3, 9, 11), F64, rng)
    (tx,) = leaves(torch, x)
    ty = torch.nn.functional.lp_pool2d(tx, p, kernel, stride)
    y = R.lp_pool2d(x, p, kernel, stride=stride)
    close(y, ty.detach().numpy())
    dy = uniform(y.shape, F64, rng)
    ty.backward(torch.tensor(dy))
    close(R.lp_pool2d_backward(dy, x, y, p, kernel, stride=stride), tx.grad.numpy())


@parametrize("case", [case for case in CONV_CASES if case.ndim == 2])
def test_im2col_and_col2im_equal_torch(case, rng, torch):
    g = case.geometry()
    if g.N == 0:
        pytest.skip("PyTorch's fold takes no empty batch")
    x = uniform(g.x_shape, F64, rng)
    parameters = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    cols = R.im2col(x, case.kernel, **parameters)
    padded = torch_padded(torch, torch.tensor(x), g)
    others = {"stride": g.stride, "dilation": g.dilation}
    unfolded = torch.nn.functional.unfold(padded, g.kernel, **others)
    np.testing.assert_array_equal(cols, unfolded.numpy())
    folded = torch.nn.functional.fold(unfolded, tuple(padded.shape[2:]), g.kernel, **others)
    H, W = (slice(b, b + size) for b, size in zip(g.pad_begin, g.in_size, strict=True))
    close(R.col2im(cols, x.shape, case.kernel, **parameters), folded[:, :, H, W].numpy())


def test_linear_relu_and_losses_equal_torch(rng, torch):
    nn = torch.nn.functional
    x, w, b = uniform((5, 7), F64, rng), uniform((4, 7), F64, rng), uniform((4,), F64, rng)
    y = rng.integers(0, 4, 5)
    tx, tw, tb = leaves(torch, x, w, b)
    hidden = nn.linear(tx, tw, tb)
    scores = R.linear(x, w, b)
    close(scores, hidden.detach().numpy())
    for loss, other in (
        (R.softmax_loss, nn.cross_entropy),
        (
            lambda s, y: R.svm_loss(s, y, delta=0.5),
            lambda s, y: 4 * nn.multi_margin_loss(s, y, margin=0.5),
        ),
    ):
        (ts,) = leaves(torch, scores)
        expected = other(ts, torch.tensor(y))
        expected.backward()
        value, dscores = loss(scores, y)
        assert isinstance(value, float)
        close(value, expected.item())
        close(dscores, ts.grad.numpy())
    hidden.backward(torch.tensor(dscores))
    gradients = R.linear_backward(dscores, x, w)
    for actual, leaf in zip(gradients, (tx, tw, tb), strict=True):
        close(actual, leaf.grad.numpy())
    values = np.array([-1.0, -0.0, 0.0, 2.0, np.nan, np.inf, -np.inf])
    (tv,) = leaves(torch, values)
    rectified = nn.relu(tv)
    rectified.backward(torch.ones(7, dtype=torch.float64))
    np.testing.assert_array_equal(R.relu(values), rectified.detach().numpy())
    np.testing.assert_array_equal(R.relu_backward(np.ones(7), values), tv.grad.numpy())


# ---- gradients and algebra ----------------------------------------------------------------------


def assert_slope(loss, array, gradient, rng, step=1e-5):
    """<gradient, v> is the central difference of the loss in a random direction v."""
    for _ in range(3):
        v = uniform(array.shape, F64, rng)
        slope = (loss(array + step * v) - loss(array - step * v)) / (2 * step)
        assert np.vdot(gradient, v) == pytest.approx(slope, rel=1e-6, abs=1e-7)


@parametrize("case", CONV_CASES)
def test_conv_gradients_are_slopes(case, rng):
    x, w, b, dy = case.arrays(F64, rng)
    conv = function("conv", case)

    def loss(x=x, w=w, b=b):
        return np.vdot(conv(x, w, b, **case.parameters), dy)

    dx, dw, db = function("conv", case, "_backward")(dy, x, w, **case.parameters)
    assert_slope(lambda v: loss(x=v), x, dx, rng)
    assert_slope(lambda v: loss(w=v), w, dw, rng)
    assert_slope(lambda v: loss(b=v), b, db, rng)


@parametrize("case", POOL_CASES)
def test_pool_gradients_are_slopes(case, rng):
    # Distinct values further apart than the step, so that no maximum moves.
    x = rng.permutation(np.linspace(0.1, 1, int(np.prod(case.x_shape)))).reshape(case.x_shape)
    pool = function("max_pool", case)
    y, indices = pool(x, case.kernel, **case.parameters, return_indices=True)
    dy = uniform(y.shape, F64, rng)
    dx = function("max_pool", case, "_backward")(dy, indices, x.shape)
    assert_slope(lambda v: np.vdot(pool(v, case.kernel, **case.parameters), dy), x, dx, rng, 1e-7)

    avg, parameters = function("avg_pool", case), case.avg_parameters
    dy = uniform(avg(x, case.kernel, **parameters).shape, F64, rng)
    dx = function("avg_pool", case, "_backward")(dy, x.shape, case.kernel, **parameters)
    assert_slope(lambda v: np.vdot(avg(v, case.kernel, **parameters), dy), x, dx, rng)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 7])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_lp_pool_gradient_is_a_slope(p, ceil_mode, rng):
    x = uniform((2, 3, 8, 7), F64, rng)
    x += np.sign(x) * 0.01  # |x| bends at 0
    parameters = {"stride": 2, "ceil_mode": ceil_mode}
    y = R.lp_pool2d(x, p, 3, **parameters)
    dy = uniform(y.shape, F64, rng)
    dx = R.lp_pool2d_backward(dy, x, y, p, 3, **parameters)
    assert_slope(lambda v: np.vdot(R.lp_pool2d(v, p, 3, **parameters), dy), x, dx, rng)


def test_lp_pool_of_zeros_has_no_gradient():
    x = np.zeros((1, 1, 2, 2))
    for p in (1, 2, 3):
        y = R.lp_pool2d(x, p, 2)
        assert not y.any() and not R.lp_pool2d_backward(np.ones_like(y), x, y, p, 2).any()


@pytest.mark.parametrize("loss", [R.softmax_loss, R.svm_loss])
def test_loss_gradient_is_a_slope(loss, rng):
    scores, y = uniform((6, 5), F64, rng), rng.integers(0, 5, 6)
    _, dscores = loss(scores, y)
    assert_slope(lambda s: loss(s, y)[0], scores, dscores, rng, 1e-6)


@parametrize("case", CONV_CASES)
def test_im2col_and_col2im_are_transposes(case, rng):
    parameters = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    x = uniform(case.x_shape, F64, rng)
    cols = R.im2col(x, case.kernel, **parameters)
    c = uniform(cols.shape, F64, rng)
    close(np.vdot(cols, c), np.vdot(x, R.col2im(c, x.shape, case.kernel, **parameters)))


@parametrize("case", [case for case in CONV_CASES if case.groups == 1])
def test_conv_is_im2col_times_weights(case, rng):
    x, w, _, dy = case.arrays(F64, rng)
    parameters = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    product = w.reshape(case.OC, -1) @ R.im2col(x, case.kernel, **parameters)
    close(function("conv", case)(x, w, **parameters), product.reshape(dy.shape))
    dcols = w.reshape(case.OC, -1).T @ dy.reshape(product.shape)
    dx = function("conv", case, "_input_grad")(dy, w, x.shape, **parameters)
    close(R.col2im(dcols, x.shape, case.kernel, **parameters), dx)


@parametrize("case", [case for case in CONV_CASES if case.groups > 1])
def test_groups_are_convolutions_side_by_side(case, rng):
    x, w, b, _ = case.arrays(F64, rng)
    conv, parameters = function("conv", case), {**case.parameters, "groups": 1}
    groups = [np.split(array, case.groups, axis) for array, axis in ((x, 1), (w, 0), (b, 0))]
    parts = [conv(*part, **parameters) for part in zip(*groups, strict=True)]
    close(conv(x, w, b, **case.parameters), np.concatenate(parts, axis=1))


@parametrize("case", POOL_CASES)
def test_window_offsets_name_the_same_cells_as_indices(case, rng, dtype):
    x, g = case.x(dtype, rng), case.geometry()
    layout = {"layout": CHANNELS_FIRST[case.ndim]}
    y, offsets = R.max_pool_window(x, case.kernel, **case.parameters, **layout)
    expected, indices = function("max_pool", case)(
        x, case.kernel, **case.parameters, return_indices=True
    )
    np.testing.assert_array_equal(y, expected)
    assert offsets.dtype == (np.uint8 if np.prod(case.kernel) <= 255 else np.int32)
    for where, _, _ in loops_pool(x, g):
        tap = np.unravel_index(offsets[where], g.kernel)
        cell = cell_of(where[2:], tap, g)
        assert indices[where] == np.ravel_multi_index(cell, g.in_size)
    dy = uniform(y.shape, dtype, rng)
    dx = R.max_pool_window_backward(dy, offsets, x.shape, case.kernel, **case.parameters, **layout)
    np.testing.assert_array_equal(dx, function("max_pool", case, "_backward")(dy, indices, x.shape))


def test_global_pools_are_pools_of_the_whole_image(rng, dtype):
    x = uniform((2, 3, 5, 7), dtype, rng)
    dy = uniform((2, 3, 1, 1), dtype, rng)
    np.testing.assert_array_equal(R.global_avg_pool2d(x), R.avg_pool2d(x, (5, 7)))
    np.testing.assert_array_equal(R.global_max_pool2d(x), x.max(axis=(2, 3), keepdims=True))
    np.testing.assert_array_equal(
        R.global_avg_pool2d_backward(dy, x.shape), R.avg_pool2d_backward(dy, x.shape, (5, 7))
    )
    _, indices = R.max_pool2d(x, (5, 7), return_indices=True)
    np.testing.assert_array_equal(
        R.global_max_pool2d_backward(dy, x), R.max_pool2d_backward(dy, indices, x.shape)
    )


# ---- layouts, dtypes, memory --------------------------------------------------------------------


@parametrize("case", CONV_CASES)
def test_channels_last_conv(case, rng):
    x, w, b, dy = case.arrays(F64, rng)
    last = {**case.parameters, "layout": CHANNELS_LAST[case.ndim]}
    conv, backward = function("conv", case), function("conv", case, "_backward")
    xl, dyl = to_channels_last(x), to_channels_last(dy)
    expected = conv(x, w, b, **case.parameters)
    np.testing.assert_array_equal(conv(xl, w, b, **last), to_channels_last(expected))
    dx, dw, db = backward(dy, x, w, **case.parameters)
    gradients = backward(dyl, xl, w, **last)
    for actual, wanted in zip(gradients, (to_channels_last(dx), dw, db), strict=True):
        np.testing.assert_array_equal(actual, wanted)
        assert actual.flags.c_contiguous
    input_grad = function("conv", case, "_input_grad")(dyl, w, xl.shape, **last)
    np.testing.assert_array_equal(input_grad, to_channels_last(dx))
    weight_grad = function("conv", case, "_weight_grad")(dyl, xl, w.shape, **last)
    np.testing.assert_array_equal(weight_grad, dw)


@pytest.mark.parametrize(("x_shape", "w_shape", "parameters"), TRANSPOSE_CASES)
def test_channels_last_conv_transpose(x_shape, w_shape, parameters, rng):
    ndim = len(x_shape) - 2
    conv = getattr(R, f"conv_transpose{ndim}d")
    backward = getattr(R, f"conv_transpose{ndim}d_backward")
    x, w = uniform(x_shape, F64, rng), uniform(w_shape, F64, rng)
    last = {**parameters, "layout": CHANNELS_LAST[ndim]}
    y = conv(x, w, **parameters)
    np.testing.assert_array_equal(conv(to_channels_last(x), w, **last), to_channels_last(y))
    dx, dw, db = backward(y, x, w, **parameters)
    gradients = backward(to_channels_last(y), to_channels_last(x), w, **last)
    for actual, wanted in zip(gradients, (to_channels_last(dx), dw, db), strict=True):
        np.testing.assert_array_equal(actual, wanted)


@parametrize("case", POOL_CASES)
def test_channels_last_pool(case, rng, dtype):
    x = case.x(dtype, rng)
    xl = to_channels_last(x)
    layout = {"layout": CHANNELS_LAST[case.ndim]}
    pool, backward = function("max_pool", case), function("max_pool", case, "_backward")
    y, indices = pool(x, case.kernel, **case.parameters, return_indices=True)
    yl, il = pool(xl, case.kernel, **case.parameters, **layout, return_indices=True)
    np.testing.assert_array_equal(yl, to_channels_last(y))
    np.testing.assert_array_equal(il, to_channels_last(indices))
    dx = to_channels_last(backward(y, indices, x.shape))
    np.testing.assert_array_equal(backward(yl, il, xl.shape, **layout), dx)
    yl, offsets = R.max_pool_window(xl, case.kernel, **case.parameters, **layout)
    dxl = R.max_pool_window_backward(
        yl, offsets, xl.shape, case.kernel, **case.parameters, **layout
    )
    np.testing.assert_array_equal(dxl, dx)

    avg, backward = function("avg_pool", case), function("avg_pool", case, "_backward")
    y = avg(x, case.kernel, **case.avg_parameters)
    yl = avg(xl, case.kernel, **case.avg_parameters, **layout)
    np.testing.assert_array_equal(yl, to_channels_last(y))
    dx = backward(y, x.shape, case.kernel, **case.avg_parameters)
    dxl = backward(yl, xl.shape, case.kernel, **case.avg_parameters, **layout)
    np.testing.assert_array_equal(dxl, to_channels_last(dx))


def test_channels_last_lp_and_global_pools(rng):
    x = uniform((2, 3, 6, 8), F64, rng)
    xl, last = to_channels_last(x), {"layout": "NHWC"}
    for y, yl in (
        (R.lp_pool2d(x, 3, 2), R.lp_pool2d(xl, 3, 2, **last)),
        (R.global_avg_pool2d(x), R.global_avg_pool2d(xl, **last)),
        (R.global_max_pool2d(x), R.global_max_pool2d(xl, **last)),
    ):
        np.testing.assert_array_equal(yl, to_channels_last(y))
    y, dy = R.lp_pool2d(x, 3, 2), x[:, :, :1, :1]
    yl, dyl = to_channels_last(y), to_channels_last(dy)
    for dx, dxl in (
        (R.lp_pool2d_backward(y, x, y, 3, 2), R.lp_pool2d_backward(yl, xl, yl, 3, 2, **last)),
        (
            R.global_avg_pool2d_backward(dy, x.shape),
            R.global_avg_pool2d_backward(dyl, xl.shape, **last),
        ),
        (R.global_max_pool2d_backward(dy, x), R.global_max_pool2d_backward(dyl, xl, **last)),
    ):
        np.testing.assert_array_equal(dxl, to_channels_last(dx))


@parametrize("case", CONV_CASES)
def test_float32_is_float64_rounded_once(case, rng):
    x, w, b, dy = case.arrays(np.float32, rng)
    wide = [a.astype(F64) for a in (x, w, b, dy)]
    conv, backward = function("conv", case), function("conv", case, "_backward")
    y = conv(x, w, b, **case.parameters)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, conv(*wide[:3], **case.parameters).astype(np.float32))
    assert_sums_close(y, loop_free(case, x, w, b), case.terms, x, w, bias=b)
    gradients = backward(dy, x, w, **case.parameters)
    expected = backward(wide[3], *wide[:2], **case.parameters)
    for actual, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_array_equal(actual, wanted.astype(np.float32))


def loop_free(case, x, w, b):
    """The convolution as one product of sliding windows, in float32."""
    g = case.geometry()
    sides = list(zip(g.pad_begin, g.pad_end, strict=True))
    padded = np.pad(x, [(0, 0), (0, 0), *sides])
    spans = [d * (k - 1) + 1 for d, k in zip(g.dilation, g.kernel, strict=True)]
    axes = tuple(range(2, 2 + g.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axes)
    steps = [slice(None, None, s) for s in g.stride]
    taps = [slice(None, None, d) for d in g.dilation]
    windows = windows[(slice(None), slice(None), *steps, *taps)]
    n = g.ndim
    windows = np.moveaxis(windows, range(2, 2 + n), range(1, 1 + n))  # N, out, C, kernel
    windows = windows.reshape(g.N, int(np.prod(g.out_size)), g.groups, w[0].size)
    y = np.einsum("npgk,gok->ngop", windows, w.reshape(g.groups, g.OC // g.groups, -1))
    return y.reshape(g.y_shape) + b.reshape(-1, *[1] * n)


def test_relu_is_fused(rng, dtype):
    x, w, b = (uniform(s, dtype, rng) for s in ((2, 3, 6, 6), (4, 3, 3, 3), (4,)))
    y = R.conv2d(x, w, b, activation="relu")
    np.testing.assert_array_equal(y, R.relu(R.conv2d(x, w, b)))
    assert (y == 0).any() and (y > 0).any()


@pytest.mark.parametrize("fit", ["floor", "pad", "strict"])
def test_fit_reaches_the_gradients(fit, rng):
    x, w = uniform((1, 2, 10, 9), F64, rng), uniform((3, 2, 3, 3), F64, rng)
    if fit == "strict":
        with pytest.raises(ValueError, match=r"4\.5"):
            R.conv2d(x, w, stride=2, fit=fit)
        return
    y = R.conv2d(x, w, stride=2, fit=fit)
    assert y.shape == (1, 3, 5 if fit == "pad" else 4, 4)
    dx, dw, _ = R.conv2d_backward(y, x, w, stride=2, fit=fit)
    close(np.vdot(dx, x), np.vdot(y, y))
    close(np.vdot(dw, w), np.vdot(y, y))


def test_needs_chooses_the_gradients(rng):
    x, w = uniform((1, 2, 4, 4), F64, rng), uniform((2, 2, 3, 3), F64, rng)
    rows, weights = x.reshape(8, 4), w[0, 0, :2].repeat(2, axis=1)[:, :4]
    calls = [
        lambda needs: R.conv2d_backward(R.conv2d(x, w), x, w, needs=needs),
        lambda needs: R.conv_transpose2d_backward(R.conv_transpose2d(x, w), x, w, needs=needs),
        lambda needs: R.linear_backward(R.linear(rows, weights), rows, weights, needs=needs),
    ]
    for call in calls:
        everything = call(("x", "w", "b"))
        for n in range(4):
            for needs in itertools.combinations("xwb", n):
                for name, got, full in zip("xwb", call(needs), everything, strict=True):
                    assert (got is None) == (name not in needs)
                    assert got is None or np.array_equal(got, full)


def test_out_is_filled_and_returned(rng, dtype):
    x, w = uniform((2, 3, 6, 5), dtype, rng), uniform((3, 3, 3, 3), dtype, rng)
    for conv in (R.conv2d, R.conv_transpose2d):
        expected = conv(x, w)
        out = restride(np.full_like(expected, np.nan), rng)
        assert conv(x, w, out=out) is out
        np.testing.assert_array_equal(out, expected)
    halves = np.zeros((2, 6, 6, 5), dtype)
    halves[:, :3] = x
    R.conv2d(halves[:, :3], w, padding=1, out=halves[:, 3:])  # interleaved, but apart
    np.testing.assert_array_equal(halves[:, 3:], R.conv2d(x, w, padding=1))


@pytest.mark.parametrize("place", [restride, unaligned, read_only, np.asfortranarray])
def test_any_memory_layout_and_no_input_changes(place, rng, dtype):
    arguments = (rng,) if place is restride else ()
    x, w, b = (uniform(s, dtype, rng) for s in ((2, 3, 7, 8), (4, 3, 3, 3), (4,)))
    placed = [place(a, *arguments) for a in (x, w, b)]
    np.testing.assert_array_equal(R.conv2d(*placed), R.conv2d(x, w, b))
    dy = place(R.conv2d(x, w), *arguments)
    for actual, expected in zip(
        R.conv2d_backward(dy, *placed[:2]), R.conv2d_backward(np.array(dy), x, w), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)
    y, indices = R.max_pool2d(placed[0], 2, return_indices=True)
    np.testing.assert_array_equal(y, R.max_pool2d(x, 2))
    np.testing.assert_array_equal(
        R.max_pool2d_backward(place(y, *arguments), place(indices, *arguments), x.shape),
        R.max_pool2d_backward(y, indices, x.shape),
    )
    np.testing.assert_array_equal(
        R.avg_pool2d(placed[0], 3, stride=2), R.avg_pool2d(x, 3, stride=2)
    )
    np.testing.assert_array_equal(R.im2col(placed[0], 3), R.im2col(x, 3))
    for array, copy in zip((x, w, b), placed, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_subclasses_and_equal_dtypes_are_accepted(tmp_path, rng):
    x, w = uniform((1, 2, 5, 5), np.float32, rng), uniform((3, 2, 3, 3), np.float32, rng)
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=x.shape)
    mapped[...] = x
    annotated = w.astype(np.dtype(np.float32, metadata={"unit": "none"}))
    y = R.conv2d(mapped, annotated)
    assert type(y) is np.ndarray and y.dtype == np.float32
    np.testing.assert_array_equal(y, R.conv2d(x, w))


# ---- NaN and infinity ---------------------------------------------------------------------------


def test_nan_and_infinity_reach_what_sees_them_and_nothing_else(dtype):
    for value in (np.nan, np.inf, -np.inf):
        x = np.zeros((1, 2, 7, 7), dtype)
        x[0, 0, 3, 3] = value
        y = R.conv2d(x, np.ones((1, 2, 3, 3), dtype))
        seen = np.zeros((5, 5), bool)
        seen[1:4, 1:4] = True
        np.testing.assert_array_equal(y[0, 0], np.where(seen, dtype.type(value), dtype.type(0)))
        # 0 * inf is a NaN too
        y = R.conv2d(x, np.zeros((1, 2, 3, 3), dtype))
        np.testing.assert_array_equal(np.isnan(y[0, 0]), seen)


def test_infinite_weights_meet_the_zeros_of_the_padding(dtype):
    x = np.ones((1, 1, 3, 3), dtype)
    y = R.conv2d(x, np.full((1, 1, 3, 3), np.inf, dtype), padding=1)[0, 0]
    border = np.ones((3, 3), bool)
    border[1, 1] = False
    np.testing.assert_array_equal(np.isnan(y), border)
    assert y[1, 1] == np.inf


@parametrize("case", CONV_CASES)
def test_nan_and_infinity_equal_torch(case, rng, torch):
    x, w, b, dy = case.arrays(F64, rng)
    for array in (x, dy):
        array[rng.uniform(size=array.shape) < 0.02] = rng.choice([np.nan, np.inf, -np.inf])
    conv = getattr(torch.nn.functional, f"conv{case.ndim}d")
    tx, tw, tb = leaves(torch, x, w, b)
    padded = torch_padded(torch, tx, case.geometry())
    ty = conv(padded, tw, tb, stride=case.stride, dilation=case.dilation, groups=case.groups)
    close(function("conv", case)(x, w, b, **case.parameters), ty.detach().numpy())


def test_overflow_to_infinity_without_a_warning():
    x = np.full((1, 1, 2, 2), 3e38, np.float32)
    y = R.conv2d(x, np.ones((1, 1, 2, 2), np.float32))
    assert y.item() == np.inf
    assert R.avg_pool2d(x, 2).item() == np.float32(3e38)


def test_max_pool_of_special_values():
    nan, inf = np.nan, np.inf
    for values, best, where in [
        ([1, 1, 1, 1], 1, 0),
        ([0, 2, 2, 1], 2, 1),
        ([nan, 1, 2, 3], nan, 0),
        ([inf, nan, 2, 3], nan, 1),
        ([nan, 1, nan, 3], nan, 2),
        ([-inf, -inf, -inf, -inf], -inf, 0),
        ([-0.0, 0.0, 0.0, -0.0], -0.0, 0),
    ]:
        x = np.array(values, F64).reshape(1, 1, 4)
        y, indices = R.max_pool1d(x, 4, return_indices=True)
        np.testing.assert_equal((y.item(), indices.item()), (best, where))
        y, offsets = R.max_pool_window(x, 4, layout="NCW")
        np.testing.assert_equal((y.item(), offsets.item()), (best, where))
    x = np.full((1, 1, 2), -inf)
    y, indices = R.max_pool1d(x, 3, padding=1, stride=1, return_indices=True)
    assert indices.ravel().tolist() == [0, 0] and (y == -inf).all()
    _, offsets = R.max_pool_window(x, 3, padding=1, stride=1, layout="NCW")
    assert offsets.ravel().tolist() == [1, 0]


def test_losses_of_an_empty_batch(dtype):
    for loss in (R.softmax_loss, R.svm_loss):
        value, dscores = loss(np.zeros((0, 3), dtype), np.zeros(0, np.int64))
        assert value == 0.0 and dscores.shape == (0, 3) and dscores.dtype == dtype


def test_softmax_does_not_overflow():
    """The lecture's example of practical issues: scores 123, 456, 789."""
    scores = np.array([[123.0, 456.0, 789.0]])
    loss, dscores = R.softmax_loss(scores, np.array([2]))
    assert loss == 0.0
    close(dscores, np.zeros((1, 3)))
    loss, dscores = R.softmax_loss(scores, np.array([0]))
    assert loss == 789 - 123
    close(dscores, [[-1.0, 0.0, 1.0]])


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [R, F], ids=["reference", "functional"])
@pytest.mark.parametrize(
    ("call", "exception", "pattern"), [c[1:] for c in BAD_CALLS], ids=[c[0] for c in BAD_CALLS]
)
def test_bad_calls(module, call, exception, pattern):
    with pytest.raises(exception, match=pattern):
        call(module)


@pytest.mark.parametrize(
    ("call", "exception", "pattern"), [c[1:] for c in BAD_OFFSETS], ids=[c[0] for c in BAD_OFFSETS]
)
def test_offsets_that_name_no_cell(call, exception, pattern):
    with pytest.raises(exception, match=pattern):
        call(R)
    assert np.isin(call(F), [0, 1]).all()  # windows do not overlap and dy is 1
