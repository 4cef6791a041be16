"""How the tests of the kernels call them: all memory layouts and orders of axes, exact results.

Sums of small whole numbers are exact in float32 as in float64, in whatever order a kernel adds
them. With such inputs a kernel must equal the reference, without any tolerance.
"""

import guard
import numpy as np
from cases import assert_sums_close

LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


def in_layout(array, layout):
    """A contiguous copy of an array (N, C, spatial...) in the order of `layout`."""
    return np.moveaxis(array, 1, -1).copy() if layout.endswith("C") else array.copy()


def channels_inside(array):
    """An equal array whose second axis is the innermost one in memory."""
    return array if array.ndim < 2 else np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)


def misaligned_read_only(array):
    copy = guard.misaligned(array)
    copy.flags.writeable = False
    return copy


def reversed_in(place):
    """The same place for an array whose strides are all negative."""
    return lambda array, rng: np.flip(place(np.flip(array)))


def every_other_before_wall(array, rng):
    """An equal array, every other element of one whose last byte is followed by a wall."""
    memory = guard.before_wall(
        np.repeat(np.full_like(array, guard.poison(array.dtype)), 2, axis=-1)
    )
    copy = memory[..., 1::2]
    copy[...] = array
    return copy


PLACES = {
    "misaligned, read-only": lambda array, rng: misaligned_read_only(array),
    "unaligned": lambda array, rng: guard.unaligned(array),
    "before a wall": lambda array, rng: guard.before_wall(array),
    "after a wall": lambda array, rng: guard.after_wall(array),
    "reversed before a wall": reversed_in(guard.before_wall),
    "reversed after a wall": reversed_in(guard.after_wall),
    "every other before a wall": every_other_before_wall,
    "cropped": lambda array, rng: guard.cropped(array),
    "channels inside": lambda array, rng: channels_inside(array),
    "restrided": guard.restride,
}


def assert_same(actual, expected):
    """Same dtype, shape and elements; NaN equals NaN and -0 equals 0."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if not np.array_equal(actual, expected, equal_nan=actual.dtype.kind == "f"):
        np.testing.assert_array_equal(actual, expected)


class Setting:
    """A layout and a place in memory for all arrays of a call, to be used in a `with` block.

    At the end of the block inputs must be unchanged and guards intact; a failure says which
    setting it was.
    """

    def __init__(self, layout, place, rng):
        self.layout, self.place, self.rng = layout, place, rng
        self._inputs, self._checks = [], []

    def put(self, array):
        """A copy of an array (None stays None) in the setting's place."""
        if array is None:
            return None
        copy = PLACES[self.place](array, self.rng)
        self._inputs.append((copy, array.copy()))
        return copy

    def image(self, array):
        """The same for an array (N, C, spatial...), whose axes get the order of the layout."""
        return self.put(in_layout(array, self.layout))

    def shape(self, array):
        """Shape of an array (N, C, spatial...) in the order of the layout."""
        return in_layout(array, self.layout).shape

    def out(self, expected):
        """An array of NaN, in the order of the layout, for a result (N, C, spatial...)."""
        shape, dtype = self.shape(expected), expected.dtype
        if self.place in ("cropped", "restrided"):
            array, check = guard.scattered(shape, dtype, self.rng)
        elif self.place == "channels inside":
            N, C, *size = shape
            array, check = guard.guarded((N, *size, C), dtype)
            array = np.moveaxis(array, -1, 1)
        else:
            array, check = guard.guarded(shape, dtype)
        self._checks.append(check)
        return array

    def spoil(self, expected):
        """Leave NaN in the memory that a result like `expected` may get."""
        guard.spoil_heap(expected.shape, expected.dtype)

    def assert_image(self, actual, expected):
        """Compare a result in the order of the layout with one (N, C, spatial...)."""
        assert_same(actual, in_layout(expected, self.layout))

    def assert_sums(self, actual, expected, terms, *factors, bias=None):
        """The same with the tolerance of `assert_sums_close`."""
        assert_sums_close(actual, in_layout(expected, self.layout), terms, *factors, bias=bias)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if error is None:
            try:
                self._check()
            except AssertionError as failure:
                self._tell(failure)
                raise
        else:
            self._tell(error)
        return False

    def _check(self):
        for copy, original in self._inputs:
            assert np.array_equal(copy, original, equal_nan=copy.dtype.kind == "f"), (
                "an input was changed"
            )
        for check in self._checks:
            check()

    def _tell(self, error):
        error.add_note(f"layout {self.layout}, arrays {self.place}")


def everywhere(ndim, rng):
    """A `Setting` for each layout and place."""
    for layout in LAYOUTS[ndim]:
        for place in PLACES:
            yield Setting(layout, place, rng)


def whole_numbers(shape, dtype, rng):
    """Random whole numbers from -3 to 3."""
    return rng.integers(-3, 4, shape).astype(dtype)
