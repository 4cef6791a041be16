"""Gradients are slopes: central differences in float64 through the kernels, and algebra.

A gradient g of a loss L = <f(a), dy> must give every slope: L(a + h e) - L(a - h e) = 2 h <g, e>.
Where f is linear in a, or a polynomial of degree 2, that holds for any h up to rounding.
"""

import numpy as np
import pytest
from cases import uniform
from harness import LAYOUTS, in_layout, whole_numbers

import fastconv
from fastconv import functional as F

F64 = np.float64


def assert_slopes(loss, array, gradient, rng, step=1e-4):
    """Compare `gradient` with slopes of `loss()` as elements of `array` change, all or 40."""
    assert gradient.shape == array.shape and gradient.dtype == array.dtype
    for i in rng.permutation(array.size)[:40]:
        before = array.flat[i]
        array.flat[i] = before + step
        above = loss()
        array.flat[i] = before - step
        below = loss()
        array.flat[i] = before
        # rounding errors of the losses are of the order 1e-15 / step, those of the slope step^2
        assert gradient.flat[i] == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-7)


def distinct(shape, rng):
    """Values further apart than the step, and from 0, so that no maximum changes hands."""
    size = int(np.prod(shape))
    return (rng.permutation(size).reshape(shape) - size // 2 + 0.5) / size


def functions(name, ndim, suffix):
    return getattr(F, f"{name}{ndim}d"), getattr(F, f"{name}{ndim}d{suffix}")


CONVOLUTIONS = [  # x (N, C, spatial...), OC, kernel, parameters
    ((2, 3, 9), 4, (3,), {"stride": 2, "padding": 1}),
    ((1, 4, 11), 6, (2,), {"dilation": 3, "groups": 2}),
    ((2, 3, 6, 7), 4, (3, 3), {"padding": 1}),
    ((1, 2, 9, 8), 3, (3, 2), {"stride": (2, 3), "padding": ((0, 1), (2, 0)), "dilation": (1, 2)}),
    ((1, 6, 5, 6), 6, (3, 3), {"padding": "same", "groups": 6}),
    ((1, 2, 4, 5, 6), 3, (2, 3, 2), {"stride": (1, 2, 1), "padding": 1}),
]


@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("x_shape", "OC", "kernel", "parameters"), CONVOLUTIONS)
def test_convolution(x_shape, OC, kernel, parameters, channels_last, algo, rng):
    ndim = len(kernel)
    layout = LAYOUTS[ndim][channels_last]
    conv, backward = functions("conv", ndim, "_backward")
    how = {**parameters, "layout": layout, "algo": algo}
    x = in_layout(uniform(x_shape, F64, rng), layout)
    w = uniform((OC, x_shape[1] // parameters.get("groups", 1), *kernel), F64, rng)
    b = uniform((OC,), F64, rng)
    dy = uniform(conv(x, w, b, **how).shape, F64, rng)
    gradients = backward(dy, x, w, **how)
    for array, gradient in zip((x, w, b), gradients, strict=True):
        assert_slopes(lambda: np.vdot(conv(x, w, b, **how), dy), array, gradient, rng, step=0.25)


@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "parameters"),
    [
        ((2, 3, 5), (3, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((2, 4, 4, 3), (4, 3, 3, 2), {"stride": (2, 3), "groups": 2}),
        ((1, 2, 4, 5), (2, 3, 3, 3), {"dilation": 2, "padding": 1}),
        ((1, 2, 2, 3, 3), (2, 2, 2, 3, 2), {"stride": 2, "output_padding": (1, 0, 1)}),
    ],
)
def test_transposed_convolution(x_shape, w_shape, parameters, channels_last, isa, rng):
    ndim = len(x_shape) - 2
    layout = LAYOUTS[ndim][channels_last]
    transpose, backward = functions("conv_transpose", ndim, "_backward")
    how = {**parameters, "layout": layout}
    x, w = in_layout(uniform(x_shape, F64, rng), layout), uniform(w_shape, F64, rng)
    b = uniform((w_shape[1] * parameters.get("groups", 1),), F64, rng)
    dy = uniform(transpose(x, w, b, **how).shape, F64, rng)
    gradients = backward(dy, x, w, **how)
    for array, gradient in zip((x, w, b), gradients, strict=True):
        assert_slopes(lambda: np.vdot(transpose(x, w, b, **how), dy), array, gradient, rng, 0.25)


POOLINGS = [  # x (N, C, spatial...), kernel, parameters
    ((2, 3, 11), 3, {"stride": 2, "padding": 1}),
    ((1, 3, 7, 8), 2, {}),
    ((2, 2, 7, 8), (3, 2), {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((1, 2, 4, 5, 6), (2, 3, 2), {"stride": (2, 1, 3), "padding": (1, 1, 0)}),
]


@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("x_shape", "kernel", "parameters"), POOLINGS)
def test_max_pooling(x_shape, kernel, parameters, channels_last, isa, rng):
    ndim = len(x_shape) - 2
    layout = LAYOUTS[ndim][channels_last]
    pool, backward = functions("max_pool", ndim, "_backward")
    how = {**parameters, "layout": layout}
    x = in_layout(distinct(x_shape, rng), layout)
    y, indices = pool(x, kernel, **how, return_indices=True)
    dy = uniform(y.shape, F64, rng)
    gradient = backward(dy, indices, x.shape, layout=layout)
    assert_slopes(lambda: np.vdot(pool(x, kernel, **how), dy), x, gradient, rng)
    offsets = F.max_pool_window(x, kernel, **how)[1]
    gradient = F.max_pool_window_backward(dy, offsets, x.shape, kernel, **how)
    assert_slopes(lambda: np.vdot(pool(x, kernel, **how), dy), x, gradient, rng)


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("x_shape", "kernel", "parameters"), POOLINGS)
def test_average_pooling(x_shape, kernel, parameters, channels_last, count_include_pad, isa, rng):
    ndim = len(x_shape) - 2
    layout = LAYOUTS[ndim][channels_last]
    pool, backward = functions("avg_pool", ndim, "_backward")
    how = {**parameters, "layout": layout, "count_include_pad": count_include_pad}
    x = in_layout(uniform(x_shape, F64, rng), layout)
    dy = uniform(pool(x, kernel, **how).shape, F64, rng)
    gradient = backward(dy, x.shape, kernel, **how)
    assert_slopes(lambda: np.vdot(pool(x, kernel, **how), dy), x, gradient, rng, step=0.25)


@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_lp_pooling(p, layout, ceil_mode, isa, rng):
    how = {"stride": 2, "ceil_mode": ceil_mode, "layout": layout}
    x = in_layout(distinct((2, 2, 6, 7), rng) * 2, layout)
    y = F.lp_pool2d(x, p, 3, **how)
    dy = uniform(y.shape, F64, rng)
    gradient = F.lp_pool2d_backward(dy, x, y, p, 3, **how)
    assert_slopes(lambda: np.vdot(F.lp_pool2d(x, p, 3, **how), dy), x, gradient, rng)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pooling_of_whole_images(layout, isa, rng):
    x = in_layout(distinct((2, 3, 4, 5), rng), layout)
    dy = in_layout(uniform((2, 3, 1, 1), F64, rng), layout)
    gradient = F.global_max_pool2d_backward(dy, x, layout=layout)
    assert_slopes(lambda: np.vdot(F.global_max_pool2d(x, layout=layout), dy), x, gradient, rng)
    gradient = F.global_avg_pool2d_backward(dy, x.shape, layout=layout)
    assert_slopes(lambda: np.vdot(F.global_avg_pool2d(x, layout=layout), dy), x, gradient, rng)


@pytest.mark.parametrize("size", [(3, 5, 4), (40, 200, 150)], ids=["blas", "own"])
def test_linear(size, isa, rng):
    N, IN, OUT = size
    x, w, b, dy = (uniform(s, F64, rng) for s in ((N, IN), (OUT, IN), (OUT,), (N, OUT)))
    for array, gradient in zip((x, w, b), F.linear_backward(dy, x, w), strict=True):
        assert_slopes(lambda: np.vdot(F.linear(x, w, b), dy), array, gradient, rng, step=0.25)


def test_relu(rng):
    x, dy = distinct((3, 4, 5), rng), uniform((3, 4, 5), F64, rng)
    assert_slopes(lambda: np.vdot(F.relu(x), dy), x, F.relu_backward(dy, x), rng)


@pytest.mark.parametrize("loss", [F.softmax_loss, F.svm_loss])
def test_losses(loss, rng):
    scores, y = distinct((6, 5), rng) * 4, rng.integers(0, 5, 6)
    assert_slopes(lambda: loss(scores, y)[0], scores, loss(scores, y)[1], rng)


def test_l2_penalty(rng):
    w = uniform((6, 5), F64, rng)
    assert_slopes(lambda: F.l2_penalty(w, 0.7)[0], w, F.l2_penalty(w, 0.7)[1], rng)


# ---- algebra, exact on whole numbers ------------------------------------------------------------


@pytest.mark.parametrize(("x_shape", "OC", "kernel", "parameters"), CONVOLUTIONS)
def test_im2col_and_col2im_are_transposes(x_shape, OC, kernel, parameters, isa, rng):
    """<im2col(x), c> = <x, col2im(c)>."""
    how = {name: value for name, value in parameters.items() if name != "groups"}
    x = whole_numbers(x_shape, F64, rng)
    cols = F.im2col(x, kernel, **how)
    c = whole_numbers(cols.shape, F64, rng)
    assert np.vdot(cols, c) == np.vdot(x, F.col2im(c, x.shape, kernel, **how))


@pytest.mark.parametrize(("x_shape", "OC", "kernel", "parameters"), CONVOLUTIONS)
def test_convolution_is_linear_in_image_and_filters(x_shape, OC, kernel, parameters, algo, rng):
    conv = getattr(F, f"conv{len(kernel)}d")
    how = {**parameters, "algo": algo}
    w_shape = (OC, x_shape[1] // parameters.get("groups", 1), *kernel)
    x, u = whole_numbers((2, *x_shape), F64, rng)
    w, v = whole_numbers((2, *w_shape), F64, rng)
    np.testing.assert_array_equal(
        conv(3 * x + u, w, **how), 3 * conv(x, w, **how) + conv(u, w, **how)
    )
    np.testing.assert_array_equal(
        conv(x, 3 * w + v, **how), 3 * conv(x, w, **how) + conv(x, v, **how)
    )


@pytest.mark.parametrize(
    ("x_shape", "OC", "kernel", "parameters"),
    [c for c in CONVOLUTIONS if c[3].get("padding") != "same"],
)
def test_transposed_convolution_is_the_transpose(x_shape, OC, kernel, parameters, isa, rng):
    """<conv(x), y> = <x, conv_transpose(y)>, for x of the size that conv_transpose gives."""
    ndim = len(kernel)
    w = whole_numbers((OC, x_shape[1] // parameters.get("groups", 1), *kernel), F64, rng)
    conv, transpose = getattr(F, f"conv{ndim}d"), getattr(F, f"conv_transpose{ndim}d")
    y = whole_numbers(conv(np.zeros(x_shape), w, **parameters).shape, F64, rng)
    transposed = transpose(y, w, **parameters)
    x = whole_numbers(transposed.shape, F64, rng)
    assert np.vdot(conv(x, w, **parameters), y) == np.vdot(x, transposed)


def test_gradients_are_adjoint_to_the_convolution(isa, rng):
    """<conv(x, w), dy> = <x, dx> = <w, dw>, on a size that uses blocks and threads."""
    x, w = whole_numbers((2, 40, 33, 31), F64, rng), whole_numbers((50, 40, 3, 3), F64, rng)
    with fastconv.threads(2):
        y = F.conv2d(x, w, padding=1, stride=2)
        dy = whole_numbers(y.shape, F64, rng)
        dx, dw, _ = F.conv2d_backward(dy, x, w, padding=1, stride=2)
    assert np.vdot(y, dy) == np.vdot(x, dx) == np.vdot(w, dw)


def spread(dy, stride):
    """dy with stride - 1 zeros between its pixels: what a stride has left out."""
    N, OC, OH, OW = dy.shape
    apart = np.zeros((N, OC, (OH - 1) * stride + 1, (OW - 1) * stride + 1), dy.dtype)
    apart[:, :, ::stride, ::stride] = dy
    return apart


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(7, 3, 1, 0), (7, 3, 1, 1), (9, 5, 1, 2), (9, 3, 2, 1), (11, 3, 4, 0), (6, 1, 1, 0)],
)
def test_backward_is_a_convolution_with_flipped_filters(size, kernel, stride, padding, algo, rng):
    """CS231n, "Convolutional Layer", "Backpropagation": with spatially flipped filters.

    dx is dy, with zeros where the stride skipped and F - 1 - P of them around, convolved with the
    filters flipped along both axes, input and output channels exchanged; dw is x convolved with
    dy.
    """
    x, w = (
        whole_numbers((2, 4, size, size), F64, rng),
        whole_numbers((5, 4, kernel, kernel), F64, rng),
    )
    y = F.conv2d(x, w, stride=stride, padding=padding, fit="strict", algo=algo)
    dy = whole_numbers(y.shape, F64, rng)
    dx, dw, db = F.conv2d_backward(dy, x, w, stride=stride, padding=padding, algo=algo)
    flipped = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    around = kernel - 1 - padding
    np.testing.assert_array_equal(
        F.conv2d(spread(dy, stride), flipped, padding=around, algo=algo), dx
    )
    by_channel = F.conv2d(
        x.transpose(1, 0, 2, 3),
        spread(dy, stride).transpose(1, 0, 2, 3),
        padding=padding,
        algo=algo,
    )
    np.testing.assert_array_equal(by_channel.transpose(1, 0, 2, 3), dw)
    np.testing.assert_array_equal(dy.sum(axis=(0, 2, 3)), db)
