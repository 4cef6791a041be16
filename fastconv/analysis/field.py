"""Receptive fields: which pixels of the input an output sees.

A layer whose window of F cells moves by S over an input with P zeros before it turns the field of
its input (size r, step j, first cell u) into one of size r + (F - 1) j, step j S and first cell
u - P j. Branches that meet see the union of what each sees.

References
----------
A. Araujo, W. Norris, J. Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill
2019; CS231n, "Convolutional Networks", "Layer Patterns": three 3x3 layers see 7x7.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor


@dataclass(frozen=True, slots=True)
class Window:
    """How the outputs of one layer see its input, along (H, W).

    Output i sees the cells from ``i * stride - begin`` on, ``reach`` further; a fraction where the
    outputs lie closer than the inputs (transposed convolution).
    """

    reach: tuple
    stride: tuple = (1, 1)
    begin: tuple = (0, 0)


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The part of the input that one output number can see, along (H, W).

    Where all numbers are whole, output i sees the ``size`` cells from ``i * stride - padding`` on,
    padding of the image included. Behind a transposed convolution they may be fractions.

    Attributes
    ----------
    stride : tuple
        How far the field moves from one output to the next. Behind a layer that sees the whole
        map (fully connected, global pooling) there is one output; its stride is that of the map,
        with which the layer, made a convolution, would move over a larger image.
    start : tuple
        First cell that output (0, 0) sees; negative where that is padding.
    reach : tuple
        From its first cell to its last one.

    Examples
    --------
    >>> field = ReceptiveField(stride=(2, 2), start=(-3, -3), reach=(6, 6))
    >>> field.size, field.padding, field.region(0, 10)
    ((7, 7), (3, 3), ((-3, 3), (17, 23)))
    """

    stride: tuple = (1, 1)
    start: tuple = (0, 0)
    reach: tuple = (0, 0)

    @property
    def size(self):
        """Cells that one output can see, along each axis."""
        return tuple(floor(reach) + 1 for reach in self.reach)

    @property
    def padding(self):
        """Cells before the image that output (0, 0) sees."""
        return tuple(-start for start in self.start)

    def region(self, *position):
        """First and last cell, along each axis, that the output at `position` can see.

        Cells below zero, or beyond the image, are padding.
        """
        per_axis = zip(position, self.stride, self.start, self.reach, strict=True)
        return tuple(
            (ceil(first), floor(first + reach))
            for first, reach in (
                (start + i * stride, reach) for i, stride, start, reach in per_axis
            )
        )

    def through(self, window):
        """The field behind a layer with this window."""
        per_axis = list(zip(self.stride, self.start, self.reach, strict=True))
        return ReceptiveField(
            _numbers(j * s for (j, _, _), s in zip(per_axis, window.stride, strict=True)),
            _numbers(u - b * j for (j, u, _), b in zip(per_axis, window.begin, strict=True)),
            _numbers(r + f * j for (j, _, r), f in zip(per_axis, window.reach, strict=True)),
        )


def union(fields, cells):
    """The smallest field that holds what each of `fields` sees, for all of `cells` outputs (H, W).

    Branches of one stride see the same region relative to every output. Where strides differ the
    regions drift apart, farthest at the first or the last output.
    """
    axes = [
        _axis(
            [(f.stride[axis], f.start[axis], f.start[axis] + f.reach[axis]) for f in fields], count
        )
        for axis, count in enumerate(cells)
    ]
    return ReceptiveField(*map(_numbers, zip(*axes, strict=True)))


def _axis(branches, count):
    stride = max(stride for stride, _, _ in branches)
    ends = (0, count - 1)
    first = min(low + i * (step - stride) for step, low, _ in branches for i in ends)
    last = max(high + i * (step - stride) for step, _, high in branches for i in ends)
    return stride, first, last - first


def _numbers(values):
    """Whole numbers as ints, others as fractions."""
    return tuple(int(v) if Fraction(v).denominator == 1 else Fraction(v) for v in values)
