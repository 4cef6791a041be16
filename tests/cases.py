"""Adversarial geometries, small enough that a whole table runs in seconds.

Channel counts sit around the tile sizes of the kernels (6 rows; 4, 8 or 16 columns and twice that),
spatial sizes are prime where nothing else is asked, and each case stresses one thing, its name.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from fastconv import _core, _geometry

CHANNELS_FIRST = {1: "NCW", 2: "NCHW", 3: "NCDHW"}
CHANNELS_LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


@dataclass(frozen=True)
class ConvCase:
    """One convolution; x_shape is (N, C, spatial...) whatever the layout of a test."""

    name: str
    x_shape: tuple
    OC: int
    kernel: tuple
    stride: object = 1
    padding: object = 0
    dilation: object = 1
    groups: int = 1

    @property
    def ndim(self):
        return len(self.kernel)

    @property
    def w_shape(self):
        return (self.OC, self.x_shape[1] // self.groups, *self.kernel)

    @property
    def terms(self):
        """Products in the sum that makes one output."""
        return int(np.prod(self.w_shape[1:]))

    @property
    def parameters(self):
        """Keyword arguments of conv1d, conv2d or conv3d."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def geometry(self, layout=None):
        first = CHANNELS_FIRST[self.ndim]
        layout = layout or first
        x_shape = self.x_shape if layout == first else channels_last_shape(self.x_shape)
        return _geometry.conv_geometry(x_shape, self.w_shape, **self.parameters, layout=layout)

    @property
    def suits_winograd(self):
        """Whether Winograd's algorithm can compute it, and auto therefore might."""
        return _core.Conv(self.geometry()).suits_winograd

    def arrays(self, dtype, rng, layout=None, draw=None):
        """Random x, w, b and dy, x and dy in the order of `layout`, by default uniform in -1, 1."""
        g = self.geometry(layout)
        shapes = (g.x_shape, g.w_shape, (g.OC,), g.y_shape)
        return tuple((draw or uniform)(shape, dtype, rng) for shape in shapes)


@dataclass(frozen=True)
class PoolCase:
    """One pooling; x_shape is (N, C, spatial...) whatever the layout of a test."""

    name: str
    x_shape: tuple
    kernel: tuple
    stride: object = None
    padding: object = 0
    dilation: object = 1
    ceil_mode: bool = False

    @property
    def ndim(self):
        return len(self.kernel)

    @property
    def parameters(self):
        """Keyword arguments of max_pool1d, max_pool2d or max_pool3d."""
        return {**self.avg_parameters, "dilation": self.dilation}

    @property
    def avg_parameters(self):
        """Keyword arguments of average pooling, which has no dilation."""
        return {"stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}

    def geometry(self, layout=None):
        first = CHANNELS_FIRST[self.ndim]
        layout = layout or first
        x_shape = self.x_shape if layout == first else channels_last_shape(self.x_shape)
        return _geometry.pool_geometry(x_shape, self.kernel, **self.parameters, layout=layout)

    def x(self, dtype, rng, layout=None):
        """Random x with ties: values are multiples of 1/8."""
        return np.round(uniform(self.geometry(layout).x_shape, dtype, rng) * 8) / 8


def channels_last_shape(shape):
    N, C, *size = shape
    return (N, *size, C)


def uniform(shape, dtype, rng):
    return rng.uniform(-1, 1, shape).astype(dtype)


def parametrize(name, cases):
    """`pytest.mark.parametrize` over cases, which give their names to the test ids."""
    return pytest.mark.parametrize(name, cases, ids=lambda case: f"{case.ndim}d-{case.name}")


def assert_sums_close(actual, expected, terms, *factors, bias=None):
    """Compare sums of `terms` products of elements of `factors` with the reference.

    The tolerance is the rounding error of that many terms, eps * terms * max|x| * max|w|; one term
    more for the rounding of the result and one for the bias.
    """
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    largest = [float(np.abs(f).max(initial=0)) for f in factors]
    bound = (terms + 2) * float(np.prod(largest))
    if bias is not None:
        bound += 2 * float(np.abs(bias).max(initial=0))
    tolerance = np.finfo(actual.dtype).eps * bound
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def _around_tiles():
    """Filters and channels around the tile sizes, each with an uneven number of pixels."""
    for C, OC in [
        (5, 6),
        (6, 7),
        (7, 13),
        (13, 14),
        (14, 15),
        (15, 16),
        (16, 17),
        (31, 5),
        (33, 33),
    ]:
        yield ConvCase(f"tile-{C}-{OC}", (1, C, 5, 7), OC, (3, 3), padding=1)
        yield ConvCase(f"tile-1x1-{C}-{OC}", (2, C, 3, 5), OC, (1, 1))


CONV_CASES = [
    ConvCase("one-pixel", (1, 1, 1, 1), 1, (1, 1)),
    ConvCase("one-pixel-padded", (1, 2, 1, 1), 3, (3, 3), padding=1),
    ConvCase("plain", (2, 3, 8, 8), 4, (3, 3)),
    ConvCase("same-3x3", (2, 3, 7, 11), 5, (3, 3), padding=1),
    ConvCase("same-5x5", (1, 4, 9, 8), 3, (5, 5), padding=2),
    ConvCase("even-kernel", (1, 3, 7, 6), 4, (2, 4), padding=1),
    ConvCase("kernel-is-image", (3, 4, 5, 7), 6, (5, 7)),
    ConvCase("kernel-is-padded-image", (2, 3, 3, 4), 5, (5, 6), padding=1),
    ConvCase("1x1", (2, 17, 5, 5), 31, (1, 1)),
    ConvCase("1x1-widening", (3, 48, 5, 7), 70, (1, 1)),
    ConvCase("1x1-groups", (3, 34, 4, 5), 38, (1, 1), groups=2),
    ConvCase("1x1-stride", (2, 5, 7, 8), 7, (1, 1), stride=2),
    ConvCase("1x1-padded", (1, 3, 4, 5), 2, (1, 1), padding=2),
    ConvCase("stride", (2, 3, 11, 13), 5, (3, 3), stride=2, padding=1),
    ConvCase("stride-uneven", (1, 3, 11, 13), 4, (3, 5), stride=(3, 2), padding=(1, 2)),
    ConvCase("stride-over-kernel", (2, 3, 13, 17), 4, (2, 3), stride=(5, 4)),
    ConvCase("stride-over-image", (1, 2, 5, 5), 3, (3, 3), stride=7, padding=1),
    ConvCase("stride-rest", (1, 2, 10, 12), 3, (3, 3), stride=4),
    ConvCase("alexnet-stem", (1, 3, 35, 35), 9, (11, 11), stride=4),
    ConvCase("resnet-stem", (1, 3, 21, 21), 8, (7, 7), stride=2, padding=3),
    ConvCase("dilation", (2, 3, 13, 11), 4, (3, 3), padding=2, dilation=2),
    ConvCase("dilation-uneven", (1, 2, 17, 13), 3, (3, 2), padding=(3, 0), dilation=(4, 3)),
    ConvCase("dilation-stride", (1, 3, 15, 16), 4, (3, 3), stride=2, padding=3, dilation=3),
    ConvCase("dilation-over-stride", (1, 2, 19, 19), 3, (2, 3), stride=(2, 3), dilation=(5, 4)),
    ConvCase("dilation-and-stride-share-factor", (1, 2, 17, 19), 3, (3, 3), stride=4, dilation=6),
    ConvCase("groups", (2, 6, 7, 5), 9, (3, 3), padding=1, groups=3),
    ConvCase("groups-one-filter-each", (1, 8, 5, 6), 4, (3, 3), padding=1, groups=4),
    ConvCase("groups-stride-dilation", (1, 4, 11, 12), 6, (3, 3), 2, 2, 2, groups=2),
    ConvCase("depthwise", (2, 7, 9, 10), 7, (3, 3), padding=1, groups=7),
    ConvCase("depthwise-stride", (1, 17, 9, 9), 17, (5, 5), stride=2, padding=2, groups=17),
    ConvCase("depthwise-multiplier", (1, 3, 6, 7), 6, (3, 3), padding=1, groups=3),
    ConvCase("padding-four-sided", (1, 3, 6, 7), 4, (3, 3), padding=((0, 2), (3, 1))),
    ConvCase("padding-one-sided", (1, 2, 5, 5), 3, (4, 4), padding=((3, 0), (0, 3))),
    ConvCase("padding-four-sided-stride", (1, 3, 8, 9), 4, (3, 4), 3, ((2, 0), (1, 4))),
    ConvCase("padding-more-than-needed", (1, 2, 3, 4), 3, (2, 2), padding=5),
    ConvCase("padding-more-than-needed-stride", (1, 2, 3, 4), 3, (2, 2), stride=3, padding=7),
    ConvCase("padding-same-even", (1, 2, 7, 9), 3, (4, 2), stride=(2, 1), padding="same"),
    ConvCase("padding-same-lower", (1, 2, 7, 9), 3, (4, 2), stride=(2, 1), padding="same_lower"),
    ConvCase("no-images", (0, 3, 5, 5), 4, (3, 3), padding=1),
    ConvCase("one-channel", (2, 1, 9, 9), 6, (3, 3), padding=1),
    ConvCase("one-filter", (2, 6, 9, 9), 1, (3, 3), padding=1),
    ConvCase("wide", (1, 3, 1, 101), 4, (1, 3), padding=(0, 1)),
    ConvCase("tall", (1, 3, 101, 1), 4, (3, 1), padding=(1, 0)),
    ConvCase("one-output", (5, 3, 3, 3), 7, (3, 3)),
    ConvCase("primes", (3, 5, 13, 17), 7, (3, 5), stride=(2, 3), padding=(1, 2)),
    ConvCase("many-channels", (1, 67, 3, 3), 37, (3, 3), padding=1),
    ConvCase("rows-of-two-tiles", (2, 5, 9, 45), 7, (3, 3), padding=1),
    ConvCase("long-sum", (1, 131, 7, 19), 5, (3, 3), padding=1),
    ConvCase("stem-stride-4-wide", (1, 2, 9, 150), 5, (5, 11), stride=4, padding=2),
    ConvCase("stem-strides-uneven", (2, 3, 23, 37), 10, (4, 6), stride=(2, 4), padding=(1, 2)),
    ConvCase("stem-groups", (1, 4, 9, 17), 6, (3, 3), stride=2, padding=1, groups=2),
    ConvCase("tiles-side-by-side", (2, 3, 8, 12), 5, (2, 4), stride=(2, 4)),
    *_around_tiles(),
    ConvCase("plain", (2, 3, 17), 5, (3,)),
    ConvCase("one-sample", (1, 1, 1), 1, (1,)),
    ConvCase("wide-kernel", (1, 2, 31), 3, (13,), padding=6),
    ConvCase("stride-over-kernel", (2, 3, 23), 4, (2,), stride=5, padding=1),
    ConvCase("dilation-stride-groups", (1, 4, 29), 6, (3,), 2, 4, 4, groups=2),
    ConvCase("padding-two-sided", (1, 3, 11), 4, (4,), padding=((1, 3),)),
    ConvCase("depthwise", (2, 13, 19), 13, (5,), padding=2, groups=13),
    ConvCase("no-images", (0, 3, 9), 2, (3,)),
    ConvCase("plain", (2, 3, 5, 6, 7), 4, (3, 3, 3)),
    ConvCase("one-cell", (1, 2, 1, 1, 1), 3, (1, 1, 1)),
    ConvCase("all-uneven", (1, 2, 7, 8, 9), 3, (2, 3, 1), (2, 1, 3), (1, 2, 0), (3, 1, 2)),
    ConvCase("padding-six-sided", (1, 2, 3, 4, 5), 3, (2, 2, 3), padding=((0, 1), (2, 0), (1, 2))),
    ConvCase("stride-over-kernel", (1, 2, 7, 7, 7), 3, (2, 2, 2), stride=3),
    ConvCase("groups", (2, 4, 4, 5, 4), 6, (3, 3, 3), padding=1, groups=2),
    ConvCase("depthwise", (1, 5, 4, 5, 6), 5, (3, 3, 3), padding=1, groups=5),
    ConvCase("kernel-is-image", (2, 3, 3, 4, 5), 4, (3, 4, 5)),
    ConvCase("no-images", (0, 2, 3, 3, 3), 2, (2, 2, 2)),
]

# Large enough that every level of blocking has several blocks, which test_conv.py checks.
LARGE_CONV_CASES = [
    ConvCase("channel-blocks", (1, 400, 5, 6), 9, (3, 3), padding=1),
    ConvCase("tap-blocks", (1, 1, 80, 81), 2, (79, 79)),
    ConvCase("361-taps", (1, 1, 20, 20), 5, (19, 19)),
    ConvCase("343-taps", (1, 2, 9, 8, 10), 5, (7, 7, 7), padding=(1, 0, 2)),
    ConvCase("pixel-blocks", (2, 6, 47, 53), 13, (3, 3)),
    ConvCase("filter-blocks", (1, 150, 2, 1), 389, (3, 3), padding=1),
    ConvCase("tiny-maps", (67, 19, 2, 2), 29, (3, 3), padding=1),
    ConvCase("one-pixel-maps", (131, 67, 1, 1), 71, (1, 1)),
    ConvCase("16-MB-of-weights", (1, 1024, 4, 4), 600, (3, 3), padding=1),
    ConvCase("16-MB-of-weights-in-groups", (1, 1024, 4, 4), 1024, (3, 3), padding=1, groups=2),
    ConvCase("stride-2", (2, 16, 29, 31), 24, (3, 3), stride=2, padding=1),
    ConvCase("stride-3", (1, 17, 40, 41), 24, (5, 5), stride=3, padding=2),
    ConvCase("stride-4-3-channels", (2, 3, 47, 45), 20, (11, 11), stride=4, padding=2),
    ConvCase("long-filters", (2, 2, 30, 43), 20, (8, 5), stride=(1, 2), padding=1, dilation=(2, 1)),
    ConvCase("stride-2-many-channels", (2, 40, 22, 21), 290, (3, 3), stride=2, padding=1),
    ConvCase("stride-2-groups-dilation", (1, 32, 33, 26), 48, (3, 2), 2, 2, (3, 2), groups=2),
    ConvCase("stride-3-1x1", (2, 30, 29, 31), 40, (1, 1), stride=3),
    ConvCase("stride-2-1d-like", (2, 24, 1, 301), 16, (1, 5), stride=(1, 2), padding=(0, 2)),
    ConvCase("stride-2-3d", (1, 5, 13, 14, 15), 9, (3, 3, 3), stride=2, padding=1),
    ConvCase("groups", (2, 24, 15, 17), 36, (3, 3), padding=1, groups=4),
    ConvCase("depthwise", (3, 40, 33, 35), 40, (3, 3), padding=1, groups=40),
    ConvCase("depthwise-stride", (2, 37, 33, 35), 74, (5, 5), stride=2, padding=2, groups=37),
    ConvCase("1x1", (2, 130, 14, 13), 70, (1, 1)),
    ConvCase("1x1-chunks-of-images", (3, 48, 37, 41), 60, (1, 1)),
    ConvCase("1x1-rows-in-one-set", (2, 20, 32, 32), 33, (1, 1)),
    ConvCase("dilation", (1, 16, 40, 41), 20, (3, 3), padding=3, dilation=3),
    ConvCase("filters-of-half-a-vector-and-more", (2, 3, 19, 21), 12, (5, 5), padding=2),
    ConvCase("long", (2, 40, 1001), 30, (5,), padding=2),
    ConvCase("row-blocks-of-the-weight-gradient", (1, 16, 400, 401), 3, (3, 3)),
    ConvCase("column-blocks-of-the-weight-gradient", (1, 24, 100_001), 2, (2,)),
    ConvCase("bands-of-the-weight-gradient", (5, 32, 170, 171), 2, (1, 1), padding=1),
]

POOL_CASES = [
    PoolCase("one-pixel", (1, 1, 1, 1), (1, 1)),
    PoolCase("2x2", (2, 3, 8, 10), (2, 2)),
    PoolCase("2x2-rest", (2, 3, 9, 11), (2, 2)),
    PoolCase("2x2-ceil", (2, 3, 9, 11), (2, 2), ceil_mode=True),
    PoolCase("3x3-overlap", (2, 3, 13, 13), (3, 3), stride=2),
    PoolCase("3x3-overlap-ceil", (1, 3, 12, 13), (3, 3), stride=2, ceil_mode=True),
    PoolCase("3x3-padded", (1, 3, 12, 13), (3, 3), stride=2, padding=1),
    PoolCase("3x3-padded-ceil", (1, 3, 12, 13), (3, 3), stride=2, padding=1, ceil_mode=True),
    PoolCase("3x3-stride-1", (1, 2, 7, 8), (3, 3), stride=1, padding=1),
    PoolCase("ceil-drops-last-window", (1, 2, 4, 5), (2, 2), stride=3, padding=1, ceil_mode=True),
    PoolCase("ceil-kernel-over-image", (1, 2, 2, 2), (3, 3), stride=2, ceil_mode=True),
    PoolCase("stride-over-kernel", (1, 3, 13, 17), (2, 3), stride=(5, 4)),
    PoolCase("1x1-stride", (1, 3, 7, 8), (1, 1), stride=2),
    PoolCase("kernel-is-image", (2, 5, 7, 5), (7, 5)),
    PoolCase("dilation", (1, 2, 13, 11), (3, 2), stride=2, padding=1, dilation=(2, 3)),
    PoolCase("dilation-ceil", (1, 2, 12, 11), (3, 3), 3, 1, 2, ceil_mode=True),
    PoolCase("dilation-disjoint-strides", (1, 2, 15, 15), (2, 2), stride=6, dilation=4),
    PoolCase("padding-four-sided", (1, 2, 6, 7), (3, 4), 2, ((0, 2), (3, 1))),
    PoolCase("padding-four-sided-ceil", (1, 2, 6, 8), (3, 4), 2, ((0, 2), (3, 1)), ceil_mode=True),
    PoolCase("padding-same", (1, 2, 7, 8), (3, 2), stride=2, padding="same"),
    PoolCase("255-cells", (1, 1, 17, 17), (15, 17)),
    PoolCase("256-cells", (1, 1, 18, 17), (16, 16)),
    PoolCase("large-kernel-overlap", (1, 2, 23, 23), (17, 17), stride=3, padding=4),
    PoolCase("no-images", (0, 3, 5, 5), (2, 2)),
    PoolCase("one-channel-wide", (1, 1, 1, 101), (1, 3), stride=(1, 2)),
    PoolCase("tall", (1, 3, 101, 1), (3, 1), stride=(2, 1)),
    PoolCase("around-vectors", (2, 5, 3, 67), (2, 2)),
    *[PoolCase(f"pairs-{OW}", (2, 3, 11, 2 * OW + OW % 3), (2, 2)) for OW in (2, 4, 8, 16, 21, 35)],
    PoolCase("pairs-high-overlap", (2, 3, 14, 17), (3, 2), stride=(1, 2), dilation=(2, 1)),
    PoolCase("pairs-low", (2, 3, 7, 17), (1, 2), stride=(2, 2)),
    PoolCase("pairs-one-row", (2, 3, 2, 16), (2, 2)),
    PoolCase("pairs-volume", (1, 3, 5, 6, 16), (1, 2, 2), stride=(2, 2, 2)),
    PoolCase("pairs-volume-tiled", (2, 3, 4, 6, 17), (2, 2, 2)),
    *[PoolCase(f"channels-{C}", (1, C, 5, 7), (2, 2)) for C in (7, 8, 9, 15, 16, 17, 31, 33)],
    PoolCase("planes-overlap-padded", (3, 11, 10, 9), (3, 3), stride=2, padding=1),
    PoolCase("planes-stride-1", (2, 9, 6, 13), (3, 2), stride=1),
    PoolCase("planes-uneven-ceil", (1, 21, 14, 11), (5, 4), (3, 2), 2, ceil_mode=True),
    PoolCase("planes-gaps", (2, 17, 11, 12), (2, 2), stride=(3, 5)),
    PoolCase("planes-dilation", (2, 17, 11, 12), (2, 3), stride=2, dilation=(4, 3)),
    PoolCase("planes-bands", (1, 17, 90, 31), (3, 3), stride=2, padding=1),
    PoolCase("planes-padded-image", (2, 9, 5, 4), (7, 7), stride=9, padding=((1, 1), (2, 1))),
    PoolCase("wide-stride-3", (1, 2, 8, 75), (5, 4), stride=3, padding=2),
    PoolCase("plain", (2, 3, 17), (2,)),
    PoolCase("overlap-padded", (2, 3, 18), (3,), stride=2, padding=1),
    PoolCase("ceil", (2, 3, 18), (4,), stride=3, padding=((2, 1),), ceil_mode=True),
    PoolCase("dilation", (1, 3, 19), (3,), stride=1, padding=2, dilation=3),
    PoolCase("no-images", (0, 2, 5), (2,)),
    PoolCase("plain", (2, 3, 4, 6, 8), (2, 2, 2)),
    PoolCase("overlap-padded", (1, 2, 5, 6, 7), (3, 3, 3), stride=2, padding=1),
    PoolCase("all-uneven", (1, 2, 7, 8, 9), (2, 3, 1), (2, 1, 3), (1, 1, 0), (2, 1, 2)),
    PoolCase("planes-overlap", (2, 9, 6, 5, 8), (3, 2, 3), (2, 2, 1), (1, 0, 1)),
    PoolCase("ceil", (1, 2, 5, 6, 7), (2, 3, 2), (3, 2, 2), (1, 0, 1), ceil_mode=True),
    PoolCase("no-images", (0, 2, 3, 3, 3), (2, 2, 2)),
]
