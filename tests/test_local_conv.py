"""The locally connected layer against the reference, slopes, and shared filters."""

import numpy as np
import pytest
from cases import assert_sums_close, uniform
from harness import everywhere, whole_numbers
from test_gradients import F64, assert_slopes

import fastconv.reference as R
from fastconv import functional as F
from fastconv.layers import Conv2d, LocallyConnected2d

CASES = [  # x (N, C, H, W), OC, kernel, parameters
    ((2, 3, 7, 6), 4, (3, 3), {}),
    ((1, 1, 1, 1), 1, (1, 1), {}),
    ((3, 4, 9, 8), 5, (3, 2), {"stride": 2, "padding": 1}),
    ((1, 2, 9, 7), 20, (3, 3), {"stride": (1, 3), "dilation": 2, "padding": ((0, 1), (3, 2))}),
    ((5, 2, 6, 5), 3, (5, 4), {"padding": "same"}),
    ((0, 2, 4, 4), 3, (2, 2), {}),
]
PARAMETRIZE = pytest.mark.parametrize(
    ("x_shape", "OC", "kernel", "parameters"), CASES, ids=lambda c: str(c)
)


def arrays(x_shape, OC, kernel, parameters, dtype, rng, draw):
    """x, w, b, dy"""
    shared = np.zeros((OC, x_shape[1], *kernel))
    y_shape = R.conv2d(np.zeros(x_shape), shared, **parameters).shape
    places = y_shape[2:]
    shapes = (x_shape, (*places, *shared.shape), (*places, OC), y_shape)
    return tuple(draw(shape, dtype, rng) for shape in shapes)


@PARAMETRIZE
def test_exact_on_whole_numbers(x_shape, OC, kernel, parameters, isa, dtype, rng):
    x, w, b, dy = arrays(x_shape, OC, kernel, parameters, dtype, rng, whole_numbers)
    y = R.local_conv2d(x, w, b, **parameters)
    dx, dw, db = R.local_conv2d_backward(dy, x, w, **parameters)
    for s in everywhere(2, rng):
        with s:
            how = {**parameters, "layout": s.layout}
            s.assert_image(F.local_conv2d(s.image(x), s.put(w), s.put(b), **how), y)
            actual = F.local_conv2d_backward(s.image(dy), s.image(x), s.put(w), **how)
            s.assert_image(actual[0], dx)
            np.testing.assert_array_equal(actual[1], dw, strict=True)
            np.testing.assert_array_equal(actual[2], db, strict=True)
        for module in (F, R):
            np.testing.assert_array_equal(
                module.local_conv2d(x, w, **parameters), R.local_conv2d(x, w, 0 * b, **parameters)
            )


@PARAMETRIZE
def test_rounding_stays_below_the_bound(x_shape, OC, kernel, parameters, dtype, rng):
    x, w, b, dy = arrays(x_shape, OC, kernel, parameters, dtype, rng, uniform)
    terms = x_shape[1] * kernel[0] * kernel[1]
    y = R.local_conv2d(x, w, b, **parameters)
    assert_sums_close(F.local_conv2d(x, w, b, **parameters), y, terms, x, w, bias=b)
    actual = F.local_conv2d_backward(dy, x, w, **parameters)
    expected = R.local_conv2d_backward(dy, x, w, **parameters)
    N, taps = x_shape[0], kernel[0] * kernel[1]
    for a, e, terms, factors in zip(
        actual, expected, (OC * taps, N, N), ((dy, w), (dy, x), (dy,)), strict=True
    ):
        assert_sums_close(a, e, max(1, terms), *factors)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_gradients_are_slopes(layout, rng):
    x, w = uniform((2, 3, 5, 4), F64, rng), uniform((3, 2, 4, 3, 3, 3), F64, rng)
    b, dy = uniform((3, 2, 4), F64, rng), uniform((2, 4, 3, 2), F64, rng)
    if layout == "NHWC":
        x, dy = np.moveaxis(x, 1, -1).copy(), np.moveaxis(dy, 1, -1).copy()
    gradients = F.local_conv2d_backward(dy, x, w, layout=layout)
    for array, gradient in zip((x, w, b), gradients, strict=True):
        assert_slopes(
            lambda: np.vdot(F.local_conv2d(x, w, b, layout=layout), dy), array, gradient, rng, 0.25
        )


@PARAMETRIZE
def test_with_the_same_filters_everywhere_it_is_a_convolution(
    x_shape, OC, kernel, parameters, dtype, rng
):
    """And the gradient of shared filters is the sum of those of all places."""
    x, w, b, dy = arrays(x_shape, OC, kernel, parameters, dtype, rng, whole_numbers)
    w[...], b[...] = w[0, 0], b[0, 0]
    y = F.local_conv2d(x, w, b, **parameters)
    np.testing.assert_array_equal(y, F.conv2d(x, w[0, 0], b[0, 0], **parameters))
    dx, dw, db = F.local_conv2d_backward(dy, x, w, **parameters)
    expected = F.conv2d_backward(dy, x, w[0, 0], **parameters)
    for a, e in zip((dx, dw.sum(axis=(0, 1)), db.sum(axis=(0, 1))), expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("needs", ["", "x", "w", "b", "xw", "xb", "wb", "xwb"])
def test_needs_chooses_the_gradients(needs, rng):
    x, w, _, dy = arrays((2, 3, 4, 5), 2, (2, 2), {}, F64, rng, uniform)
    for module in (F, R):
        gradients = module.local_conv2d_backward(dy, x, w, needs=needs)
        assert [g is not None for g in gradients] == [name in needs for name in "xwb"]


def test_the_lecture_counts_neurons_and_parameters():
    """CS231n, "Parameter Sharing": AlexNet's first layer."""
    OC, OH, OW = Conv2d(3, 96, 11, stride=4).output_shape((1, 3, 227, 227))[1:]
    assert OC * OH * OW == 290_400
    assert OC * OH * OW * (11 * 11 * 3 + 1) == 105_705_600
    # a layer of 105 million numbers is no matter for a test; its corner is one
    local = LocallyConnected2d(19, 3, 96, 11, stride=4)
    assert sum(p.size for p in local.params.values()) == 96 * 3 * 3 * (11 * 11 * 3 + 1)
    shared = Conv2d(3, 96, 11, stride=4)
    assert sum(p.size for p in shared.params.values()) == 34_944


def test_bad_shapes_name_what_would_fit(rng):
    x, w, b, dy = arrays((2, 3, 5, 4), 4, (3, 3), {}, np.float32, rng, uniform)
    for module in (F, R):
        for call, message in [
            (lambda m: m.local_conv2d(x, w[0]), r"w must be \(OH, OW, OC, C, KH, KW\), got shape"),
            (
                lambda m: m.local_conv2d(x, w, padding=1),
                "has filters for 3 x 2 places, but x of shape .* has 5 x 4 for filters",
            ),
            (lambda m: m.local_conv2d(x[:, :2], w), r"x has 2 channels .* expects 3"),
            (lambda m: m.local_conv2d(x, w, b[0]), r"b has shape \(2, 4\).* calls for \(3, 2, 4\)"),
            (lambda m: m.local_conv2d_backward(dy[:1], x, w), r"dy has shape \(1, 4, 3, 2\)"),
        ]:
            with pytest.raises(ValueError, match=message):
                call(module)
    layer = LocallyConnected2d((5, 4), 3, 2, 3)
    with pytest.raises(ValueError, match=r"input of shape \(1, 3, 6, 4\), expected \(N, 3, 5, 4\)"):
        layer.output_shape((1, 3, 6, 4))
    with pytest.raises(ValueError, match="3 x 2 places"):
        layer(np.ones((1, 3, 6, 4), np.float32))
