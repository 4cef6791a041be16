"""Is a result right? Every candidate has to show that before it is timed.

Results are compared with float64 sums at places picked at random and at the corners, each
computed here from its definition: layers of any size can be checked in milliseconds, and an error
of a kernel does not hide in single values. `agreement` then compares whole results.
"""

from collections.abc import Callable

import numpy as np

from fastconv.bench.cases import ConvCase

PLACES = 256
# The transforms of Winograd's algorithm make the summands larger, and their rounding errors with
# them: in root mean square by up to 9.5 times (F(5x5, 2x2); test_winograd.py has the sum).
WINOGRAD_SLACK = 10


def tolerance(dtype, terms: int, *maxima: float) -> float:
    """Largest error accepted in a sum of `terms` products of values up to `maxima`."""
    return float(np.finfo(dtype).eps * terms * np.prod(maxima))


def sampled_error(result: np.ndarray, value_at: Callable, rng) -> float:
    """Largest difference of `result` from ``value_at(place)`` at the sampled places."""
    if not np.isfinite(result).all():
        return float("inf")
    shape = np.array(result.shape)
    places = [tuple(place) for place in rng.integers(0, shape, (PLACES, len(shape)))]
    places += [(0,) * len(shape), tuple(shape - 1)]
    return max(abs(float(result[place]) - value_at(*place)) for place in places)


def agreement(result: np.ndarray, other: np.ndarray) -> float:
    """Largest difference between two whole results."""
    return float(np.abs(result - other).max(initial=0.0))


class ConvOracle:
    """Single values of a convolution and its gradients in float64, from their definitions."""

    def __init__(self, case: ConvCase, x, w, dy):
        P = case.padding
        self.case = case
        self.xp = np.pad(x, ((0, 0), (0, 0), (P, P), (P, P)))
        self.w = w
        self.dy = dy
        self.group_in, self.group_out = case.C // case.groups, case.OC // case.groups

    def forward(self, n, k, i, j) -> float:
        case = self.case
        first = k // self.group_out * self.group_in
        top, left = i * case.stride, j * case.stride
        window = self.xp[
            n, first : first + self.group_in, top : top + case.KH, left : left + case.KW
        ]
        return _dot(window, self.w[k])

    def input_grad(self, n, c, h, w) -> float:
        case = self.case
        OH, OW = self.dy.shape[2:]
        group, member = divmod(c, self.group_in)
        filters = slice(group * self.group_out, (group + 1) * self.group_out)
        total = 0.0
        for r in range(case.KH):
            i, off_row = divmod(h + case.padding - r, case.stride)
            for s in range(case.KW):
                j, off_column = divmod(w + case.padding - s, case.stride)
                if off_row == off_column == 0 and 0 <= i < OH and 0 <= j < OW:
                    total += _dot(self.dy[n, filters, i, j], self.w[filters, member, r, s])
        return total

    def weight_grad(self, k, c, r, s) -> float:
        OH, OW = self.dy.shape[2:]
        S = self.case.stride
        channel = k // self.group_out * self.group_in + c
        seen = self.xp[:, channel, r : r + (OH - 1) * S + 1 : S, s : s + (OW - 1) * S + 1 : S]
        return _dot(self.dy[:, k], seen)

    def tolerance(self, op: str) -> float:
        case, dy = self.case, self.dy
        x_max, w_max, dy_max = (np.abs(a).max(initial=0.0) for a in (self.xp, self.w, dy))
        terms, maxima = {
            "forward": (self.group_in * case.KH * case.KW, (x_max, w_max)),
            "input_grad": (self.group_out * case.KH * case.KW, (dy_max, w_max)),
            "weight_grad": (dy.size // case.OC, (dy_max, x_max)),
        }[op]
        return tolerance(dy.dtype, terms, *maxima)


def _dot(a, b) -> float:
    return float(np.sum(a.astype(np.float64) * b))
