"""im2col and col2im: every ISA and geometry against the reference, exactly."""

import numpy as np
import pytest
from cases import CONV_CASES, ConvCase, parametrize
from harness import LAYOUTS, assert_same, everywhere, whole_numbers

import fastconv.reference as R
from fastconv import functional as F


def columns_parameters(case):
    return {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}


def settings(case, rng):
    """All places in memory; im2col knows one order of the axes alone."""
    first = LAYOUTS[case.ndim][0]
    return [s for s in everywhere(case.ndim, rng) if s.layout == first]


@parametrize("case", CONV_CASES)
def test_im2col_is_exact(case, isa, dtype, rng):
    parameters = columns_parameters(case)
    x = case.arrays(dtype, rng)[0]
    cols = R.im2col(x, case.kernel, **parameters)
    for s in settings(case, rng):
        with s:
            placed = s.put(x)
            s.spoil(cols)
            assert_same(F.im2col(placed, case.kernel, **parameters), cols)


@parametrize("case", CONV_CASES)
def test_col2im_is_exact_on_whole_numbers(case, isa, dtype, rng):
    parameters = columns_parameters(case)
    x = case.arrays(dtype, rng)[0]
    cols = whole_numbers(R.im2col(x, case.kernel, **parameters).shape, dtype, rng)
    image = R.col2im(cols, x.shape, case.kernel, **parameters)
    for s in settings(case, rng):
        with s:
            placed = s.put(cols)
            s.spoil(image)
            assert_same(F.col2im(placed, x.shape, case.kernel, **parameters), image)


LARGE = [
    ConvCase("overlap", (2, 17, 41, 43), 1, (3, 3), padding=1),
    ConvCase("stride-2", (2, 30, 61, 67), 1, (3, 3), stride=2, padding=1),
    ConvCase("dilation", (1, 24, 67, 65), 1, (3, 5), stride=(1, 3), padding=4, dilation=2),
    ConvCase("volume", (1, 7, 15, 16, 17), 1, (3, 3, 3), padding=1),
]


@parametrize("case", LARGE)
def test_large_ones_are_exact_on_whole_numbers(case, isa, dtype, threads, rng):
    parameters = columns_parameters(case)
    x = case.arrays(dtype, rng, draw=whole_numbers)[0]
    cols = R.im2col(x, case.kernel, **parameters)
    assert cols.size > 500_000  # what it takes to wake a second thread
    assert_same(F.im2col(x, case.kernel, **parameters), cols)
    image = R.col2im(cols, x.shape, case.kernel, **parameters)
    assert_same(F.col2im(cols, x.shape, case.kernel, **parameters), image)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_length_of_a_row(stride, isa, dtype, rng):
    for W in range(3, 70):
        x = whole_numbers((2, 1, W), dtype, rng)
        cols = R.im2col(x, 3, stride=stride)
        assert_same(F.im2col(x, 3, stride=stride), cols)
        assert_same(
            F.col2im(cols, x.shape, 3, stride=stride), R.col2im(cols, x.shape, 3, stride=stride)
        )


def test_nan_and_infinity_are_copied_and_added(isa, dtype, rng):
    x = whole_numbers((2, 3, 9, 8), dtype, rng)
    special = rng.uniform(size=x.shape) < 0.1
    x[special] = rng.choice([np.nan, np.inf, -np.inf], special.sum())
    cols = R.im2col(x, 3, padding=1)
    assert_same(F.im2col(x, 3, padding=1), cols)
    assert_same(F.col2im(cols, x.shape, 3, padding=1), R.col2im(cols, x.shape, 3, padding=1))


def test_the_largest_matrix_is_refused_before_it_is_made():
    x = np.lib.stride_tricks.as_strided(np.zeros(1), (2**20, 2**20, 8, 8), (0, 0, 0, 0))
    with pytest.raises(ValueError, match="overflow"):
        F.im2col(x, 7, padding=2**9)


def test_columns_of_no_images_are_empty(isa):
    assert F.im2col(np.zeros((0, 2, 4, 4)), 3).shape == (0, 18, 4)
    assert F.col2im(np.zeros((0, 18, 4)), (0, 2, 4, 4), 3).shape == (0, 2, 4, 4)
