"""Random geometries, memory layouts, dtypes and algorithms against the reference, by Hypothesis.

Numbers are whole, so results must be exact. Examples are the same in every run; a failure prints
the smallest case Hypothesis finds.
"""

import itertools

import numpy as np
import pytest
from harness import LAYOUTS, PLACES, Setting, assert_same, whole_numbers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastconv
import fastconv.reference as R
from fastconv import _geometry
from fastconv import functional as F

repeatable = settings(derandomize=True, deadline=None, max_examples=80)
dtypes = st.sampled_from([np.float32, np.float64])
places = st.sampled_from(list(PLACES))
seeds = st.integers(0, 2**32 - 1)
FIRST = {ndim: layouts[0] for ndim, layouts in LAYOUTS.items()}


def per_axis(draw, ndim, values):
    return tuple(draw(values) for _ in range(ndim))


def draw_parameters(draw, ndim, kernel):
    """stride, padding and dilation in all the forms they may have."""
    padding = st.one_of(
        st.just(0),
        st.integers(0, 3),
        st.tuples(*[st.integers(0, 3)] * ndim),
        st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * ndim),
        st.sampled_from(["valid", "same", "same_lower"]),
    )
    number = st.one_of(st.integers(1, 4), st.tuples(*[st.integers(1, 4)] * ndim))
    return {"stride": draw(number), "padding": draw(padding), "dilation": draw(number)}


@st.composite
def convolutions(draw):
    """x and w (N, C, spatial...), (OC, C/G, kernel) and the parameters of a valid convolution."""
    ndim = draw(st.integers(1, 3))
    groups, N = draw(st.sampled_from([1, 1, 1, 2, 3])), draw(st.integers(0, 3))
    channels = st.integers(1, 20 if groups == 1 else 6)
    C, OC = groups * draw(channels), groups * draw(channels)
    size = per_axis(draw, ndim, st.integers(1, {1: 70, 2: 14, 3: 7}[ndim]))
    kernel = per_axis(draw, ndim, st.integers(1, {1: 9, 2: 5, 3: 3}[ndim]))
    parameters = {**draw_parameters(draw, ndim, kernel), "groups": groups}
    x_shape, w_shape = (N, C, *size), (OC, C // groups, *kernel)
    try:
        _geometry.conv_geometry(x_shape, w_shape, **parameters, layout=FIRST[ndim])
    except ValueError:
        assume(False)
    return ndim, x_shape, w_shape, parameters


@st.composite
def transposed_convolutions(draw):
    """The same for a transposed convolution, w (C, OC/G, kernel)."""
    ndim = draw(st.integers(1, 3))
    groups, N = draw(st.sampled_from([1, 1, 2])), draw(st.integers(0, 3))
    channels = st.integers(1, 12)
    C, OC = groups * draw(channels), draw(channels)
    size = per_axis(draw, ndim, st.integers(1, {1: 40, 2: 9, 3: 5}[ndim]))
    kernel = per_axis(draw, ndim, st.integers(1, 4 if ndim < 3 else 3))
    stride, dilation = (per_axis(draw, ndim, st.integers(1, 4)) for _ in range(2))
    parameters = {
        "stride": stride,
        "dilation": dilation,
        "padding": per_axis(draw, ndim, st.integers(0, 2)),
        "output_padding": tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        ),
        "groups": groups,
    }
    x_shape, w_shape = (N, C, *size), (C, OC, *kernel)
    try:
        _geometry.conv_transpose_geometry(x_shape, w_shape, **parameters, layout=FIRST[ndim])
    except ValueError:
        assume(False)
    return ndim, x_shape, w_shape, parameters


@st.composite
def poolings(draw):
    """x, kernel and the parameters of a valid pooling."""
    ndim = draw(st.integers(1, 3))
    size = per_axis(draw, ndim, st.integers(1, {1: 80, 2: 18, 3: 8}[ndim]))
    kernel = per_axis(draw, ndim, st.integers(1, {1: 9, 2: 5, 3: 3}[ndim]))
    number = st.one_of(st.integers(1, 4), st.tuples(*[st.integers(1, 4)] * ndim))
    padding = st.one_of(
        st.just(0),
        st.tuples(*[st.integers(0, k // 2) for k in kernel]),
        st.tuples(*[st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)) for k in kernel]),
    )
    x_shape = (draw(st.integers(0, 3)), draw(st.integers(1, 20)), *size)
    parameters = {
        "stride": draw(st.one_of(st.none(), number)),
        "padding": draw(padding),
        "dilation": draw(number),
        "ceil_mode": draw(st.booleans()),
    }
    try:
        _geometry.pool_geometry(x_shape, kernel, **parameters, layout=FIRST[ndim])
    except ValueError:
        assume(False)
    return ndim, x_shape, kernel, parameters


@st.composite
def settings_for(draw, ndim):
    """A `Setting`: layout and places."""
    layout, rng = draw(st.sampled_from(LAYOUTS[ndim])), np.random.default_rng(draw(seeds))
    return Setting(layout, draw(places), rng)


@repeatable
@given(data=st.data(), dtype=dtypes)
def test_any_convolution_and_its_gradients(algo, data, dtype):
    ndim, x_shape, w_shape, parameters = data.draw(convolutions())
    s = data.draw(settings_for(ndim))
    x, w = whole_numbers(x_shape, dtype, s.rng), whole_numbers(w_shape, dtype, s.rng)
    b = whole_numbers(w_shape[:1], dtype, s.rng) if data.draw(st.booleans()) else None
    activation = data.draw(st.sampled_from([None, "relu"]))
    y = getattr(R, f"conv{ndim}d")(x, w, b, **parameters, activation=activation)
    dy = whole_numbers(y.shape, dtype, s.rng)
    dx, dw, db = getattr(R, f"conv{ndim}d_backward")(dy, x, w, **parameters)
    with s:
        placed, how = (s.image(x), s.put(w)), {**parameters, "layout": s.layout, "algo": algo}
        out = s.out(y)
        getattr(F, f"conv{ndim}d")(*placed, s.put(b), **how, activation=activation, out=out)
        s.assert_image(out, y)
        s.spoil(dx)
        actual = getattr(F, f"conv{ndim}d_backward")(s.image(dy), *placed, **how)
        s.assert_image(actual[0], dx)
        assert_same(actual[1], dw)
        assert_same(actual[2], db)


@repeatable
@given(data=st.data(), dtype=dtypes)
def test_any_transposed_convolution_and_its_gradients(isa, data, dtype):
    ndim, x_shape, w_shape, parameters = data.draw(transposed_convolutions())
    s = data.draw(settings_for(ndim))
    x, w = whole_numbers(x_shape, dtype, s.rng), whole_numbers(w_shape, dtype, s.rng)
    b = whole_numbers((w_shape[1] * parameters["groups"],), dtype, s.rng)
    y = getattr(R, f"conv_transpose{ndim}d")(x, w, b, **parameters)
    dy = whole_numbers(y.shape, dtype, s.rng)
    dx, dw, db = getattr(R, f"conv_transpose{ndim}d_backward")(dy, x, w, **parameters)
    with s:
        placed, how, out = (s.image(x), s.put(w)), {**parameters, "layout": s.layout}, s.out(y)
        getattr(F, f"conv_transpose{ndim}d")(*placed, s.put(b), **how, out=out)
        s.assert_image(out, y)
        s.spoil(dx)
        actual = getattr(F, f"conv_transpose{ndim}d_backward")(s.image(dy), *placed, **how)
        s.assert_image(actual[0], dx)
        assert_same(actual[1], dw)
        assert_same(actual[2], db)


@repeatable
@given(data=st.data(), dtype=dtypes)
def test_any_max_pooling_and_its_gradient(isa, data, dtype):
    ndim, x_shape, kernel, parameters = data.draw(poolings())
    s = data.draw(settings_for(ndim))
    x = whole_numbers(x_shape, dtype, s.rng)
    if data.draw(st.booleans()):
        special = s.rng.choice([np.nan, np.inf, -np.inf, -0.0], x.shape).astype(dtype)
        x = np.where(s.rng.uniform(size=x.shape) < 0.4, special, x)
    reference = getattr(R, f"max_pool{ndim}d")
    y, indices = reference(x, kernel, **parameters, return_indices=True)
    _, offsets = R.max_pool_window(x, kernel, **parameters, layout=FIRST[ndim])
    dy = whole_numbers(y.shape, dtype, s.rng)
    dx = getattr(R, f"max_pool{ndim}d_backward")(dy, indices, x.shape)
    with s:
        placed, how = s.image(x), {**parameters, "layout": s.layout}
        actual = getattr(F, f"max_pool{ndim}d")(placed, kernel, **how, return_indices=True)
        s.assert_image(actual[0], y)
        s.assert_image(actual[1], indices)
        actual = F.max_pool_window(placed, kernel, **how)
        s.assert_image(actual[0], y)
        s.assert_image(actual[1], offsets)
        dplaced, shape = s.image(dy), s.shape(x)
        backward = getattr(F, f"max_pool{ndim}d_backward")
        s.spoil(dx)
        s.assert_image(backward(dplaced, s.image(indices), shape, layout=s.layout), dx)
        where = s.image(offsets)
        s.spoil(dx)
        s.assert_image(F.max_pool_window_backward(dplaced, where, shape, kernel, **how), dx)


@repeatable
@given(data=st.data(), dtype=dtypes, count_include_pad=st.booleans())
def test_any_average_pooling_and_its_gradient(isa, data, dtype, count_include_pad):
    ndim, x_shape, kernel, parameters = data.draw(poolings())
    del parameters["dilation"]
    s = data.draw(settings_for(ndim))
    how = {**parameters, "count_include_pad": count_include_pad}
    x = whole_numbers(x_shape, dtype, s.rng)
    try:
        y = getattr(R, f"avg_pool{ndim}d")(x, kernel, **how)
    except ValueError:  # without dilation the padding may be too large
        assume(False)
    dy = whole_numbers(y.shape, dtype, s.rng)
    dx = getattr(R, f"avg_pool{ndim}d_backward")(dy, x.shape, kernel, **how)
    cells = int(np.prod(kernel))
    with s:
        placed = s.image(x)
        s.spoil(y)
        actual = getattr(F, f"avg_pool{ndim}d")(placed, kernel, **how, layout=s.layout)
        s.assert_sums(actual, y, cells, 3)
        placed = s.image(dy)
        s.spoil(dx)
        backward = getattr(F, f"avg_pool{ndim}d_backward")
        s.assert_sums(backward(placed, s.shape(x), kernel, **how, layout=s.layout), dx, cells, 3)


@repeatable
@given(data=st.data(), dtype=dtypes)
def test_any_columns_and_back(isa, data, dtype):
    ndim, x_shape, w_shape, parameters = data.draw(convolutions())
    kernel = w_shape[2:]
    del parameters["groups"]
    s = data.draw(settings_for(ndim))
    x = whole_numbers(x_shape, dtype, s.rng)
    cols = R.im2col(x, kernel, **parameters)
    image = R.col2im(cols, x.shape, kernel, **parameters)
    with s:
        placed = s.put(x)
        s.spoil(cols)
        assert_same(F.im2col(placed, kernel, **parameters), cols)
        placed = s.put(cols)
        s.spoil(image)
        assert_same(F.col2im(placed, x.shape, kernel, **parameters), image)


@settings(repeatable, max_examples=25)
@given(data=st.data(), dtype=dtypes, n=st.sampled_from([1, 2, 3, 4]))
def test_any_large_convolution_with_any_number_of_threads(isa, data, dtype, n):
    """Enough work that the plan cuts it into tasks, whose number depends on the threads."""
    integer = st.integers
    N, C, OC, H, W = (
        data.draw(v)
        for v in (integer(1, 5), integer(8, 90), integer(8, 90), integer(3, 40), integer(3, 40))
    )
    kernel = data.draw(st.tuples(integer(1, 3), integer(1, 3)))
    how = {"padding": "same", "stride": data.draw(integer(1, 2))}
    assume(5e5 < N * C * OC * H * W * np.prod(kernel) / how["stride"] ** 2 < 2e7)
    rng = np.random.default_rng(data.draw(seeds))
    x, w = (whole_numbers(s, dtype, rng) for s in ((N, C, H, W), (OC, C, *kernel)))
    y = R.conv2d(x, w, **how)
    dy = whole_numbers(y.shape, dtype, rng)
    with fastconv.threads(n):
        assert_same(F.conv2d(x, w, **how, algo="gemm"), y)
        gradients = F.conv2d_backward(dy, x, w, **how, algo="gemm")
    for actual, expected in zip(gradients, R.conv2d_backward(dy, x, w, **how), strict=True):
        assert_same(actual, expected)


@pytest.mark.parametrize("names", [("x", "w"), ("x", "b"), ("w", "b")])
def test_arrays_may_share_memory(names, rng):
    """Inputs are only read, so that one may be a view of another."""
    memory = whole_numbers((2000,), np.float32, rng)
    shapes = {"x": (1, 4, 9, 8), "w": (4, 4, 3, 3), "b": (4,)}
    apart = {name: whole_numbers(shape, np.float32, rng) for name, shape in shapes.items()}
    for name, start in zip(names, (0, 3), strict=True):
        size = int(np.prod(shapes[name]))
        apart[name] = memory[start : start + size].reshape(shapes[name])
    copies = {name: array.copy() for name, array in apart.items()}
    assert_same(F.conv2d(**apart), R.conv2d(**copies))


def test_broadcast_arrays_are_read_where_they_repeat(isa, dtype, rng):
    """Strides of zero: the same image in the whole batch, the same filter for all channels."""
    for kernel, stride in itertools.product([(1, 1), (3, 3)], [1, 2]):
        x = np.broadcast_to(whole_numbers((1, 3, 9, 10), dtype, rng), (4, 3, 9, 10))
        w = np.broadcast_to(whole_numbers((5, 1, *kernel), dtype, rng), (5, 3, *kernel))
        y = R.conv2d(x, w, stride=stride)
        assert_same(F.conv2d(x, w, stride=stride), y)
        dy = np.broadcast_to(dtype.type(2), y.shape)
        for actual, expected in zip(
            F.conv2d_backward(dy, x, w, stride=stride),
            R.conv2d_backward(dy, x, w, stride=stride),
            strict=True,
        ):
            assert_same(actual, expected)
        assert_same(F.max_pool2d(x, 3, stride=stride), R.max_pool2d(x, 3, stride=stride))
