"""Kernel cells, the windows they see, and arrays in one order: what all families share."""

from itertools import product

import numpy as np

from fastconv import _geometry
from fastconv._geometry import freeze

# Inf - Inf is a NaN by IEEE arithmetic, and rounding to float32 may overflow: no cause to warn.
ieee = np.errstate(all="ignore")


def float64(array):
    """A copy as float64 and as plain ndarray."""
    return np.asarray(array).astype(np.float64)


def channels_first(array, layout):
    """`array` as float64 in the order (N, C, spatial...), where all arithmetic is done."""
    return float64(np.moveaxis(array, -1, 1) if layout.endswith("C") else array)


def in_layout(array, dtype, layout="NCHW", out=None):
    """Round `array` (N, C, spatial...) to `dtype`, in the order of `layout`."""
    array = np.moveaxis(array, 1, -1) if layout.endswith("C") else array
    if out is None:
        return array.astype(dtype, order="C")
    out[...] = array
    return out


def taps(g):
    """All cells of the kernel, (kd, kh, kw), in row-major order."""
    return product(*[range(k) for k in g.kernel])


def seen_by(tap, g):
    """Index of the cells of the padded image that `tap` meets, one for each output."""
    starts = [t * d for t, d in zip(tap, g.dilation, strict=True)]
    slices = [
        slice(start, start + (out - 1) * stride + 1, stride)
        for start, out, stride in zip(starts, g.out_size, g.stride, strict=True)
    ]
    return (..., *slices)


def padded_size(g):
    """Size of the image with its padding, and beyond it if the last windows reach further."""
    reach = [
        (out - 1) * s + d * (k - 1) + 1
        for out, s, d, k in zip(g.out_size, g.stride, g.dilation, g.kernel, strict=True)
    ]
    padded = [sum(sizes) for sizes in zip(g.pad_begin, g.in_size, g.pad_end, strict=True)]
    return tuple(map(max, reach, padded))


def unpadded(g):
    """Index of the image inside the padded image."""
    return (..., *[slice(p, p + size) for p, size in zip(g.pad_begin, g.in_size, strict=True)])


def pad(x, g, fill=0.0):
    """The image (N, C, spatial...) surrounded by `fill`."""
    padded = np.full(x.shape[:2] + padded_size(g), fill)
    padded[unpadded(g)] = x
    return padded


def pool_geometry(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode, fit, layout):
    """The geometry of a pooling, from arguments as the user gave them."""
    return _geometry.pool_geometry(
        freeze(x_shape),
        freeze(kernel_size),
        stride=freeze(stride),
        padding=freeze(padding),
        dilation=freeze(dilation),
        ceil_mode=bool(ceil_mode),
        fit=freeze(fit),
        layout=freeze(layout),
        op=op,
    )


def real_cells(g):
    """True where a cell of the padded image is a cell of the image."""
    real = np.zeros(padded_size(g), dtype=bool)
    real[unpadded(g)] = True
    return real


def sum_windows(padded, g):
    """Sum of each window."""
    return sum(padded[seen_by(tap, g)] for tap in taps(g))
