"""Results of a net's own functions and of its backend's, compared."""

import numpy as np


def order_in_memory(array):
    """Axes from the longest step to the shortest; those of a single element have no place."""
    steps = {i: -abs(s) for i, s in enumerate(array.strides) if array.shape[i] > 1}
    return sorted(steps, key=steps.get)


def assert_same(expected, got, terms, order=True):
    """Same shape, dtype and order in memory, and values that differ by rounding.

    Both sum up to `terms` products, in any order, each with an error of at most terms * eps times
    the sum of magnitudes, for which terms * max|result| stands here: results are random sums.
    """
    if isinstance(expected, (tuple, list)):
        assert type(expected) is type(got) and len(expected) == len(got)
        for a, b in zip(expected, got, strict=True):
            assert_same(a, b, terms, order)
        return
    if not isinstance(expected, np.ndarray):
        assert expected == got
        return
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    if order:
        assert order_in_memory(got) == order_in_memory(expected)
    eps = np.finfo(expected.dtype).eps if expected.dtype.kind in "fc" else 0
    tolerance = 4 * eps * terms * max(np.abs(expected).max(initial=0), 1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
