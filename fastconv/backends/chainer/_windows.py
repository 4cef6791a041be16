"""Which arrays fastconv takes, how they lie in memory, and where the windows lie on them."""

from typing import NamedTuple

import numpy as np

import fastconv
from fastconv.backends._arrays import fast

# Layouts and transpositions by the number of spatial axes.
FIRST = {1: "NCW", 2: "NCHW", 3: "NCDHW"}
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
TO_LAST = {1: (0, 2, 1), 2: (0, 2, 3, 1), 3: (0, 2, 3, 4, 1)}
TO_FIRST = {1: (0, 2, 1), 2: (0, 3, 1, 2), 3: (0, 4, 1, 2, 3)}


def takes(*arrays) -> bool:
    """Whether fastconv can compute with these, and iDeep is not asked to."""
    from chainer.backends import intel64

    return (
        fast(*arrays)
        and all(a is None or a.size for a in arrays)
        and not intel64.should_use_ideep(">=auto")
    )


def channels_last(x) -> bool:
    """Whether the channels of an image (N, C, ...) are neighbours in memory, all in one piece."""
    return x.ndim - 2 in TO_LAST and x.transpose(TO_LAST[x.ndim - 2]).flags.c_contiguous


def order(*arrays) -> str | None:
    """How NumPy lays out an element-wise result: "first", "last", or None for anything else.

    It keeps the order that all arrays have, and takes C order where they differ.
    """
    first = [a.flags.c_contiguous for a in arrays]
    if all(first):
        return "first"
    last = [c or channels_last(a) for a, c in zip(arrays, first, strict=True)]
    if not all(last):
        return None
    return "first" if any(first) else "last"


def in_c_order(x):
    """x, or a copy in C order; the columns of 1x1 windows are one, made by all threads."""
    if channels_last(x) and not x.flags.c_contiguous:
        return fastconv.im2col(x, 1).reshape(x.shape)
    return np.asarray(x, order="C")  # ascontiguousarray gives numbers an axis


class Windows(NamedTuple):
    """Windows of a convolution or a pooling, one number for each spatial axis."""

    kernel: tuple
    stride: tuple
    pad: tuple
    dilation: tuple

    def outs(self, sizes, cover_all=False) -> tuple:
        """How many windows there are along each axis; with `cover_all` rounded up."""
        return tuple(
            (size + 2 * p - d * (k - 1) - 1 + (s - 1 if cover_all else 0)) // s + 1
            for size, k, s, p, d in zip(sizes, *self, strict=True)
        )

    def reach_beyond(self, sizes, outs) -> list:
        """How far the last window reaches beyond the image; negative if it ends before that."""
        return [
            (out - 1) * s + d * (k - 1) + 1 - p - size
            for size, out, k, s, p, d in zip(sizes, outs, *self, strict=True)
        ]

    def padding(self, sizes, outs):
        """Zeros around an image that give just these windows; None if the original's do not."""
        if min(*outs, *sizes) < 1:
            return None
        beyond = self.reach_beyond(sizes, outs)
        if not all(-s < b < p + s for b, s, p in zip(beyond, self.stride, self.pad, strict=True)):
            return None
        return tuple((p, max(b, 0)) for p, b in zip(self.pad, beyond, strict=True))

    def see_the_image(self, sizes, outs) -> bool:
        """Whether there are windows, and all of them hold at least one cell of the image."""
        return min(outs) > 0 and all(
            p < k and (out - 1) * s - p < size
            for size, out, k, s, p in zip(sizes, outs, *self[:3], strict=True)
        )
