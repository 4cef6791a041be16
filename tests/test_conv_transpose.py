"""Transposed convolutions and their gradients: every ISA and geometry against the reference."""

import numpy as np
import pytest
from cases import CONV_CASES, ConvCase, assert_sums_close, parametrize, uniform
from harness import assert_same, everywhere, whole_numbers

import fastconv
import fastconv.reference as R
from fastconv import functional as F


def functions(case, suffix=""):
    name = f"conv_transpose{case.ndim}d{suffix}"
    return getattr(F, name), getattr(R, name)


def transposed_parameters(case):
    """Those of the transposed convolution that goes from a case's outputs to its inputs."""
    g = case.geometry()
    padding = tuple(zip(g.pad_begin, g.pad_end, strict=True))
    output_padding = tuple(
        size - (s * (out - 1) - sum(p) + d * (k - 1) + 1)
        for size, out, k, s, d, p in zip(
            g.in_size, g.out_size, g.kernel, g.stride, g.dilation, padding, strict=True
        )
    )
    return {
        "stride": g.stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": g.dilation,
        "groups": g.groups,
    }


def transposed_arrays(case, dtype, rng, draw=None):
    """x, w, b and dy of that transposed convolution."""
    dy, w, _, x = case.arrays(dtype, rng, draw=draw)
    return x, w, (draw or uniform)((case.geometry().C,), dtype, rng), dy


@parametrize("case", CONV_CASES)
@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
def test_forward_is_exact_on_whole_numbers(case, bias, isa, dtype, rng):
    transpose, reference = functions(case)
    parameters = transposed_parameters(case)
    x, w, b, dy = transposed_arrays(case, dtype, rng, whole_numbers)
    b = b if bias else None
    y = reference(x, w, b, **parameters)
    assert y.shape == dy.shape
    for s in everywhere(case.ndim, rng):
        with s:
            arrays, out = (s.image(x), s.put(w), s.put(b)), s.out(y)
            assert transpose(*arrays, **parameters, layout=s.layout, out=out) is out
            s.assert_image(out, y)


@parametrize("case", CONV_CASES)
def test_gradients_are_exact_on_whole_numbers(case, isa, dtype, rng):
    backward, reference = functions(case, "_backward")
    parameters = transposed_parameters(case)
    x, w, _, dy = transposed_arrays(case, dtype, rng, whole_numbers)
    dx, dw, db = reference(dy, x, w, **parameters)
    for s in everywhere(case.ndim, rng):
        with s:
            arrays = (s.image(dy), s.image(x), s.put(w))
            s.spoil(dx)
            actual = backward(*arrays, **parameters, layout=s.layout)
            s.assert_image(actual[0], dx)
            assert_same(actual[1], dw)
            assert_same(actual[2], db)


@parametrize("case", CONV_CASES)
def test_rounding_stays_below_the_bound(case, isa, dtype, rng):
    parameters = transposed_parameters(case)
    x, w, b, dy = transposed_arrays(case, dtype, rng)
    transpose, reference = functions(case)
    taps, inputs = np.prod(case.kernel), x.size // case.OC
    y = reference(x, w, b, **parameters)
    actual = transpose(x, w, b, **parameters)
    assert_sums_close(actual, y, case.OC // case.groups * taps, x, w, bias=b)
    backward, reference = functions(case, "_backward")
    for actual, expected, terms, factors in zip(
        backward(dy, x, w, **parameters),
        reference(dy, x, w, **parameters),
        (case.terms, inputs, dy.size // b.size),
        ((dy, w), (dy, x), (dy,)),
        strict=True,
    ):
        assert_sums_close(actual, expected, terms, *factors)


LARGE = [
    ConvCase("decoder", (2, 24, 32, 34), 32, (4, 4), stride=2, padding=1),
    ConvCase("stride-3-groups", (1, 20, 40, 41), 36, (5, 5), stride=3, padding=2, groups=4),
    ConvCase("no-tap-in-some-phases", (1, 31, 45, 46), 33, (2, 2), stride=5),
    ConvCase("depthwise", (2, 30, 64, 65), 30, (3, 3), stride=2, padding=1, groups=30),
    ConvCase("dilation", (1, 24, 40, 44), 16, (3, 3), stride=2, padding=3, dilation=3),
    ConvCase("volume", (1, 9, 16, 17, 18), 11, (3, 3, 3), stride=2, padding=1),
]


@parametrize("case", LARGE)
def test_large_ones_are_exact_on_whole_numbers(case, isa, dtype, rng):
    parameters = transposed_parameters(case)
    x, w, b, dy = transposed_arrays(case, dtype, rng, whole_numbers)
    with fastconv.threads(2):
        transpose, reference = functions(case)
        assert_same(transpose(x, w, b, **parameters), reference(x, w, b, **parameters))
        backward, reference = functions(case, "_backward")
        for actual, expected in zip(
            backward(dy, x, w, **parameters), reference(dy, x, w, **parameters), strict=True
        ):
            assert_same(actual, expected)


@pytest.mark.parametrize("needs", ["", "x", "w", "b", "xw", "xb", "wb"])
def test_needs_chooses_the_gradients(needs, rng):
    x, w, _, dy = transposed_arrays(CONV_CASES[2], np.float32, rng)
    full = F.conv_transpose2d_backward(dy, x, w)
    for name, some, all_ in zip(
        "xwb", F.conv_transpose2d_backward(dy, x, w, needs=needs), full, strict=True
    ):
        assert (some is None) == (name not in needs)
        assert some is None or np.array_equal(some, all_)


def test_nan_and_infinity_go_where_ieee_arithmetic_sends_them(isa, dtype, rng):
    """In x; what infinite weights do stands in test_conv.py."""
    for case in CONV_CASES:
        parameters = transposed_parameters(case)
        x, w, b, _ = transposed_arrays(case, dtype, rng, whole_numbers)
        x[rng.uniform(size=x.shape) < 0.03] = rng.choice([np.nan, np.inf, -np.inf])
        transpose, reference = functions(case)
        assert_same(transpose(x, w, b, **parameters), reference(x, w, b, **parameters))
