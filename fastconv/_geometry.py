"""Shapes: every output size, every padding rule and every message about a wrong shape.

This is the only Python file with that arithmetic. It needs no NumPy. The three geometry functions
are cached, because a layer asks for the same shapes at every step and a call must cost less than
the smallest convolution; for that their arguments must be hashable, see `freeze`.

Sizes follow CS231n, "Convolutional Networks", section "Spatial arrangement": a kernel of size F
with stride S on an input of size W with P zeros on each side gives (W - F + 2P)/S + 1 outputs.
"""

import operator
import re
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

LAYOUTS = {
    "NCW": 1,
    "NWC": 1,
    "NCHW": 2,
    "NHWC": 2,
    "NCDHW": 3,
    "NDHWC": 3,
}
FITS = ("floor", "strict", "pad")

# Largest element count whose size in bytes, at 8 bytes an element, fits a signed 64-bit integer.
MAX_ELEMENTS = (2**63 - 1) // 8


def _arrange(layout, N, C, size):
    """The shape of an array of N images with C channels, in the order of `layout`."""
    return (N, *size, C) if layout.endswith("C") else (N, C, *size)


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """One convolution: sizes of x, w and y and how the kernel moves; spatial tuples are (D, H, W).

    `x_shape` and `y_shape` follow `layout`; `w_shape` is always (OC, C // groups, *kernel).
    """

    ndim: int
    layout: str
    N: int
    C: int
    OC: int
    groups: int
    in_size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad_begin: tuple[int, ...]
    pad_end: tuple[int, ...]
    out_size: tuple[int, ...]
    # Derived once, not properties: they are read at every call.
    channels_last: bool = field(init=False, repr=False, compare=False)
    x_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    w_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    y_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        derive = object.__setattr__
        derive(self, "channels_last", self.layout.endswith("C"))
        derive(self, "x_shape", _arrange(self.layout, self.N, self.C, self.in_size))
        derive(self, "w_shape", (self.OC, self.C // self.groups, *self.kernel))
        derive(self, "y_shape", _arrange(self.layout, self.N, self.OC, self.out_size))


@dataclass(frozen=True, slots=True)
class PoolGeometry:
    """One pooling: sizes of x and y and how the window moves; spatial tuples are (D, H, W).

    With `ceil_mode` the last window may reach beyond the end padding.
    """

    ndim: int
    layout: str
    N: int
    C: int
    in_size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad_begin: tuple[int, ...]
    pad_end: tuple[int, ...]
    out_size: tuple[int, ...]
    ceil_mode: bool
    channels_last: bool = field(init=False, repr=False, compare=False)
    x_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)
    y_shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        derive = object.__setattr__
        derive(self, "channels_last", self.layout.endswith("C"))
        derive(self, "x_shape", _arrange(self.layout, self.N, self.C, self.in_size))
        derive(self, "y_shape", _arrange(self.layout, self.N, self.C, self.out_size))


# ---- arguments ----------------------------------------------------------------------------------


class _NotAnInteger:
    """Stands for a wrong value inside a cache key; equal to nothing, prints as the value."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return repr(self.value)


def freeze(value):
    """Make an argument fit for the cached functions: lists become tuples, NumPy integers ints.

    As dictionary keys 1, 1.0 and True are equal, so (1.0, 2) would find the answer kept for (1, 2).
    Everything that is neither an integer, a string, None nor a sequence is therefore wrapped in an
    object equal to nothing, and the geometry function refuses it with the parameter's name.

    Examples
    --------
    >>> freeze([[1, 2], [3, 4]])
    ((1, 2), (3, 4))
    """
    kind = type(value)
    if kind is int or kind is str or value is None:
        return value
    if isinstance(value, (tuple, list)):
        return tuple([freeze(item) for item in value])
    if kind is not bool:
        try:
            return operator.index(value)
        except TypeError:
            pass
    return _NotAnInteger(value)


def _integer(op, name, value, lowest):
    if isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be an integer, got the bool {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {name} must be an integer, got {value!r}") from None
    if number < lowest:
        raise ValueError(f"{op}: {name} must be at least {lowest}, got {number}")
    if number > MAX_ELEMENTS:
        raise ValueError(f"{op}: integer overflow: {name}={number} exceeds {MAX_ELEMENTS}")
    return number


def _per_axis(op, name, value, ndim, lowest=1):
    """One integer for each spatial axis, from an integer or a sequence of ndim integers."""
    if not isinstance(value, (tuple, list)):
        return (_integer(op, name, value, lowest),) * ndim
    if len(value) != ndim:
        raise ValueError(
            f"{op}: {name} must be one integer or {ndim} (one per spatial axis), got {value!r}"
        )
    return tuple([_integer(op, name, item, lowest) for item in value])


def _padding(op, padding, ndim, words):
    """(begin, end) for each axis, or the word itself if `padding` is one of `words`."""
    if isinstance(padding, str):
        if padding not in words:
            allowed = ", ".join(map(repr, words)) or "numbers only"
            raise ValueError(f"{op}: padding={padding!r} is not allowed here; use {allowed}")
        return ((0, 0),) * ndim if padding == "valid" else padding
    if not isinstance(padding, (tuple, list)):
        return ((_integer(op, "padding", padding, 0),) * 2,) * ndim
    pairs = [item if isinstance(item, (tuple, list)) else (item, item) for item in padding]
    mixed = len({isinstance(item, (tuple, list)) for item in padding}) > 1
    if len(pairs) != ndim or mixed or any(len(pair) != 2 for pair in pairs):
        forms = f"an integer, {ndim} integers or {ndim} (begin, end) pairs"
        raise ValueError(f"{op}: padding must be {forms}, one per spatial axis, got {padding!r}")
    return tuple([tuple([_integer(op, "padding", p, 0) for p in pair]) for pair in pairs])


def _spatial_dimensions(op, layout):
    """The number of spatial axes that `layout` names; those of an `op` called ...2d are 2."""
    ndim = LAYOUTS.get(layout) if isinstance(layout, str) else None
    named = re.search("([123])d", op or "")
    expected = int(named[1]) if named else ndim
    if ndim is None or ndim != expected:
        allowed = " or ".join([repr(name) for name, n in LAYOUTS.items() if expected in (n, None)])
        raise ValueError(f"{op or 'fastconv'}: layout must be {allowed}, got {layout!r}")
    return ndim


def _check_ranks(op, layout, ndim, **shapes):
    for name, shape in shapes.items():
        if not isinstance(shape, (tuple, list)):
            raise TypeError(f"{op}: the shape of {name} must be a tuple of integers, got {shape!r}")
    if any(len(shape) != ndim + 2 for shape in shapes.values()):
        got = " and ".join(f"{name} of shape {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(f"{op}: with layout {layout} arrays have {ndim + 2} dimensions, got {got}")


def _image(op, x_shape, layout):
    """(N, C, spatial sizes) of an image batch whose rank has been checked."""
    N, *rest = x_shape
    C, size = (rest[-1], rest[:-1]) if layout.endswith("C") else (rest[0], rest[1:])
    where = f"in the shape {tuple(x_shape)} of x"
    N = _integer(op, f"batch size N {where}", N, 0)
    C = _integer(op, f"the number of channels {where}", C, 1)
    return N, C, tuple([_integer(op, f"each spatial size {where}", s, 1) for s in size])


def _check_size(op, what, sizes):
    """Refuse a product of sizes that would overflow; zeros count as one, as in NumPy."""
    if prod([max(s, 1) for s in sizes]) > MAX_ELEMENTS:
        raise ValueError(
            f"{op}: integer overflow: {what} of size {tuple(sizes)} would have more than "
            f"{MAX_ELEMENTS} elements"
        )


# ---- one axis -----------------------------------------------------------------------------------


def _span(kernel, dilation):
    """Cells from the first to the last kernel tap, both counted."""
    return dilation * (kernel - 1) + 1


def _same(size, span, stride, word):
    """Padding (begin, end) that gives ceil(size / stride) outputs."""
    out = -(-size // stride)
    total = max((out - 1) * stride + span - size, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if word == "same" else (more, less)


def _no_output(op, axis, size, kernel, dilation, begin, end):
    return (
        f"{op}: the kernel covers {_span(kernel, dilation)} cells along {axis} (size {kernel}, "
        f"dilation {dilation}), but the padded input has only {size + begin + end} (size {size}, "
        f"padding {begin} + {end}): there is no output"
    )


def _conv_axis(op, axis, size, kernel, stride, dilation, padding, fit):
    """(pad_begin, pad_end, outputs) along one axis of a convolution."""
    span = _span(kernel, dilation)
    same = isinstance(padding, str)
    begin, end = _same(size, span, stride, padding) if same else padding
    room = size + begin + end - span
    if room < 0:
        message = _no_output(op, axis, size, kernel, dilation, begin, end)
        raise ValueError(f"{message}; add at least {-room} cells")
    rest = room % stride
    if rest and fit == "strict":
        raise ValueError(_does_not_fit(op, axis, size, kernel, stride, dilation, begin, end))
    if rest and fit == "pad" and not same:
        end += stride - rest
        room += stride - rest
    return begin, end, room // stride + 1


def _does_not_fit(op, axis, size, kernel, stride, dilation, begin, end):
    """The message of fit="strict", in the terms of the lecture, with what would fit."""
    span = _span(kernel, dilation)
    room = size + begin + end - span
    rest = room % stride
    sizes = [str(s) for s in (size - rest, size + stride - rest) if s > 0]
    smaller = min(stride - 1, room)
    while room % smaller:
        smaller -= 1
    F = f"F={span}" + (f" (kernel {kernel} with dilation {dilation})" if dilation > 1 else "")
    P = f"P={begin}" if begin == end else f"P={begin} before and {end} after"
    return (
        f"{op}: {axis}={size}, {F}, {P}, S={stride} do not fit: ({axis} - F + 2P)/S + 1 = "
        f"({size} - {span} + {begin + end})/{stride} + 1 = {round(room / stride + 1, 3)}; "
        f"nearest that fit: {axis}={' or '.join(sizes)}, or S={smaller}, or {stride - rest} more "
        f"padding at the end (fit='pad'); fit='floor' drops the rest"
    )


def _pool_axis(op, axis, size, kernel, stride, dilation, padding, ceil_mode, fit):
    """(pad_begin, pad_end, outputs) along one axis of a pooling."""
    span = _span(kernel, dilation)
    begin, end = _same(size, span, stride, padding) if isinstance(padding, str) else padding
    if max(begin, end) >= span:
        raise ValueError(
            f"{op}: padding {begin} + {end} is too large for a kernel that covers {span} cells "
            f"along {axis} (size {kernel}, dilation {dilation}): it must be smaller than that"
        )
    room = size + begin + end - span
    if fit == "strict" and room > 0 and room % stride:
        raise ValueError(_does_not_fit(op, axis, size, kernel, stride, dilation, begin, end))
    out = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (out - 1) * stride >= size + begin:
        out -= 1  # the last window would start in the end padding
    if out < 1:
        raise ValueError(_no_output(op, axis, size, kernel, dilation, begin, end))
    # A window that starts before the input reaches it at the first tap that is not negative, which
    # is cell (start mod dilation). The other windows start on a real cell.
    if dilation > size:
        for start in range(-begin, 0, stride)[:out]:
            if start % dilation >= size:
                raise ValueError(
                    f"{op}: padding {begin} + {end} is too large for kernel {kernel} with dilation "
                    f"{dilation} along {axis} (size {size}): a window would see padding only"
                )
    return begin, end, out


def _padding_words(ceil_mode):
    return ("valid",) if ceil_mode else ("valid", "same", "same_lower")


def _rounds_up(op, ceil_mode, fit, padding):
    """Whether windows of a pooling may reach beyond the end, which fit="pad" allows, too."""
    _check_fit(op, fit)
    if ceil_mode and fit == "strict":
        raise ValueError(f"{op}: ceil_mode=True rounds up what fit='strict' refuses; choose one")
    return bool(ceil_mode) or (fit == "pad" and not isinstance(padding, str))


def _check_fit(op, fit):
    if fit not in FITS:
        raise ValueError(f"{op}: fit must be one of {', '.join(map(repr, FITS))}, got {fit!r}")


# ---- whole shapes -------------------------------------------------------------------------------


@lru_cache(maxsize=4096, typed=True)
def image_sizes(x_shape, *, layout="NCHW", op=None):
    """(N, C, spatial sizes) of a batch of images, checked."""
    ndim = _spatial_dimensions(op, layout)
    op = op or "image"
    _check_ranks(op, layout, ndim, x=x_shape)
    sizes = _image(op, x_shape, layout)
    _check_size(op, "x", x_shape)
    return sizes


@lru_cache(maxsize=4096, typed=True)
def conv_geometry(
    x_shape,
    w_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    fit="floor",
    op=None,
):
    """Geometry of a convolution of `x_shape` with `w_shape` (OC, C // groups, *kernel).

    `op` is the name used in messages. Arguments from a user go through `freeze` first.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If shapes do not suit each other, there is no output, or a size overflows.
    """
    ndim = _spatial_dimensions(op, layout)
    op = op or f"conv{ndim}d"
    _check_ranks(op, layout, ndim, x=x_shape, w=w_shape)
    N, C, in_size = _image(op, x_shape, layout)
    where = f"in the shape {tuple(w_shape)} of w"
    OC = _integer(op, f"the number of filters {where}", w_shape[0], 1)
    kernel = tuple([_integer(op, f"each kernel size {where}", k, 1) for k in w_shape[2:]])
    groups = _integer(op, "groups", groups, 1)
    expected = groups * _integer(op, f"the number of channels {where}", w_shape[1], 1)
    if expected != C:
        raise ValueError(
            f"{op}: x has {C} channels in shape {tuple(x_shape)}, but w of shape {tuple(w_shape)} "
            f"with groups={groups} expects {expected}"
        )
    if OC % groups:
        raise ValueError(
            f"{op}: groups={groups} must divide the {OC} filters of w of shape {tuple(w_shape)} "
            f"(x has shape {tuple(x_shape)})"
        )
    stride = _per_axis(op, "stride", stride, ndim)
    dilation = _per_axis(op, "dilation", dilation, ndim)
    pads = _padding(op, padding, ndim, ("valid", "same", "same_lower"))
    if isinstance(pads, str):
        pads = (pads,) * ndim
    _check_fit(op, fit)
    per_axis = zip("DHW"[-ndim:], in_size, kernel, stride, dilation, pads, strict=True)
    sizes = [_conv_axis(op, *axis, fit) for axis in per_axis]
    begin, end, out_size = zip(*sizes, strict=True)
    g = ConvGeometry(
        ndim, layout, N, C, OC, groups, in_size, kernel, stride, dilation, begin, end, out_size
    )
    _check_conv_sizes(op, g)
    return g


def check_filters(
    w_shape, *, stride=1, padding=0, dilation=1, groups=1, layout="NCHW", fit="floor", op=None
):
    """Refuse what `conv_geometry` would refuse whatever the images; return it for large ones."""
    known = isinstance(groups, int) and groups > 0 and len(w_shape) > 1
    channels, side = w_shape[1] * groups if known else 1, 2**20
    size = (side,) * LAYOUTS.get(layout if isinstance(layout, str) else None, 0)
    return conv_geometry(
        _arrange(str(layout), 0, channels, size),
        w_shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        layout=layout,
        fit="floor" if fit == "strict" else fit,
        op=op,
    )


def _check_conv_sizes(op, g):
    _check_size(op, "x", g.x_shape)
    _check_size(op, "w", g.w_shape)
    _check_size(op, "the output", g.y_shape)
    padded = [b + s + e for b, s, e in zip(g.pad_begin, g.in_size, g.pad_end, strict=True)]
    _check_size(op, "the padded image", padded)


@lru_cache(maxsize=4096, typed=True)
def conv_transpose_geometry(
    x_shape,
    w_shape,
    *,
    stride=1,
    padding=0,
    output_padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    op=None,
):
    """Geometry of the ordinary convolution whose input gradient is this transposed convolution.

    Its `y_shape` is the transposed convolution's input `x_shape`, its `x_shape` the transposed
    convolution's output, (in - 1) * stride - 2 * padding + dilation * (kernel - 1) +
    output_padding + 1 along each axis, and its `w_shape` is `w_shape`, (C, OC // groups, *kernel).
    Where output_padding >= stride, `out_size` is smaller than the ordinary convolution could be.
    """
    ndim = _spatial_dimensions(op, layout)
    op = op or f"conv_transpose{ndim}d"
    _check_ranks(op, layout, ndim, x=x_shape, w=w_shape)
    N, C, in_size = _image(op, x_shape, layout)
    where = f"in the shape {tuple(w_shape)} of w"
    expected = _integer(op, f"the number of channels {where}", w_shape[0], 1)
    if expected != C:
        raise ValueError(
            f"{op}: x has {C} channels in shape {tuple(x_shape)}, but w of shape {tuple(w_shape)} "
            f"(channels, filters // groups, *kernel) expects {expected}"
        )
    groups = _integer(op, "groups", groups, 1)
    if C % groups:
        raise ValueError(
            f"{op}: groups={groups} must divide the {C} channels of x of shape {tuple(x_shape)} "
            f"(w has shape {tuple(w_shape)})"
        )
    OC = groups * _integer(op, f"the number of filters {where}", w_shape[1], 1)
    kernel = tuple([_integer(op, f"each kernel size {where}", k, 1) for k in w_shape[2:]])
    stride = _per_axis(op, "stride", stride, ndim)
    dilation = _per_axis(op, "dilation", dilation, ndim)
    extra = _per_axis(op, "output_padding", output_padding, ndim, lowest=0)
    begin, end = zip(*_padding(op, padding, ndim, ()), strict=True)
    out_size = []
    per_axis = zip(in_size, kernel, stride, dilation, begin, end, extra, strict=True)
    for axis, (size, k, s, d, b, e, o) in zip("DHW"[-ndim:], per_axis, strict=True):
        if o >= max(s, d):
            raise ValueError(
                f"{op}: output_padding={o} must be smaller than the stride {s} or the dilation {d} "
                f"along {axis}"
            )
        out = (size - 1) * s + _span(k, d) - b - e + o
        if out < 1:
            raise ValueError(
                f"{op}: padding {b} + {e} leaves no output along {axis}: x {tuple(x_shape)} and w "
                f"{tuple(w_shape)} with stride {s} and dilation {d} cover {out + b + e} cells"
            )
        out_size.append(out)
    out = tuple(out_size)
    g = ConvGeometry(
        ndim, layout, N, OC, C, groups, out, kernel, stride, dilation, begin, end, in_size
    )
    _check_conv_sizes(op, g)
    return g


@lru_cache(maxsize=4096, typed=True)
def im2col_geometry(x_shape, kernel_size, *, stride=1, padding=0, dilation=1, op=None):
    """Geometry of im2col: that of a convolution of `x_shape` (N, C, spatial...) with one filter."""
    op = op or "im2col"
    ndim = len(x_shape) - 2 if isinstance(x_shape, (tuple, list)) else 0
    if ndim not in (1, 2, 3):
        raise ValueError(
            f"{op}: x must be (N, C, W), (N, C, H, W) or (N, C, D, H, W), got {x_shape!r}"
        )
    kernel = _per_axis(op, "kernel_size", kernel_size, ndim)
    g = conv_geometry(
        x_shape,
        (1, x_shape[1], *kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        layout=("NCW", "NCHW", "NCDHW")[ndim - 1],
        op=op,
    )
    _check_size(op, "the columns", (g.N, g.C, *g.kernel, *g.out_size))
    return g


@lru_cache(maxsize=4096, typed=True)
def pool_geometry(
    x_shape,
    kernel_size,
    *,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    fit="floor",
    layout="NCHW",
    op=None,
):
    """Geometry of a pooling of `x_shape`; `stride` None means `kernel_size`.

    Every window holds at least one cell of the input; paddings for which that cannot be are
    refused. With `ceil_mode` a window that would start in the end padding is dropped.
    """
    ndim = _spatial_dimensions(op, layout)
    op = op or f"pool{ndim}d"
    _check_ranks(op, layout, ndim, x=x_shape)
    N, C, in_size = _image(op, x_shape, layout)
    kernel = _per_axis(op, "kernel_size", kernel_size, ndim)
    stride = kernel if stride is None else _per_axis(op, "stride", stride, ndim)
    dilation = _per_axis(op, "dilation", dilation, ndim)
    pads = _padding(op, padding, ndim, _padding_words(ceil_mode))
    ceil_mode = _rounds_up(op, ceil_mode, fit, pads)
    if isinstance(pads, str):
        pads = (pads,) * ndim
    per_axis = zip("DHW"[-ndim:], in_size, kernel, stride, dilation, pads, strict=True)
    sizes = [_pool_axis(op, *axis, ceil_mode, fit) for axis in per_axis]
    begin, end, out_size = zip(*sizes, strict=True)
    g = PoolGeometry(
        ndim, layout, N, C, in_size, kernel, stride, dilation, begin, end, out_size, ceil_mode
    )
    _check_size(op, "x", g.x_shape)
    _check_size(op, "the output", g.y_shape)
    _check_size(op, "the kernel", g.kernel)
    _check_size(op, "the window", [_span(k, d) for k, d in zip(kernel, dilation, strict=True)])
    return g


# ---- public sizes -------------------------------------------------------------------------------


def _one_axis(op, size, kernel, stride, padding, dilation, words):
    size = _integer(op, "size", size, 1)
    kernel = _integer(op, "kernel", kernel, 1)
    stride = _integer(op, "stride", stride, 1)
    dilation = _integer(op, "dilation", dilation, 1)
    is_pair = isinstance(padding, (tuple, list)) and len(padding) == 2
    pads = _padding(op, (tuple(padding),) if is_pair else padding, 1, words)
    return size, kernel, stride, dilation, pads if isinstance(pads, str) else pads[0]


def conv_output_size(size, kernel, *, stride=1, padding=0, dilation=1, fit="floor"):
    """Number of outputs of a convolution along one axis.

    With dilated kernel size F = dilation * (kernel - 1) + 1 it is (size - F + 2 * padding) / stride
    + 1 (CS231n, "Convolutional Networks", "Spatial arrangement").

    Parameters
    ----------
    size, kernel : int
        Cells of the input and of the kernel along the axis.
    stride, dilation : int, optional
        Step of the kernel, and distance between its taps.
    padding : int, (int, int), "valid", "same" or "same_lower", optional
        Zeros on each side, or before and after.
    fit : {"floor", "strict", "pad"}, optional
        If the size is not whole: drop the rest, raise, or add zeros at the end.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If there is no output, or with fit="strict" if the size is not whole.

    Examples
    --------
    >>> conv_output_size(7, 3), conv_output_size(7, 3, stride=2)
    (5, 3)
    >>> conv_output_size(227, 11, stride=4)
    55
    """
    op = "conv_output_size"
    words = ("valid", "same", "same_lower")
    axis = _one_axis(op, size, kernel, stride, padding, dilation, words)
    _check_fit(op, fit)
    return _conv_axis(op, "W", *axis, fit)[2]


def pool_output_size(
    size, kernel, *, stride=None, padding=0, dilation=1, ceil_mode=False, fit="floor"
):
    """Number of outputs of a pooling along one axis.

    Parameters
    ----------
    size, kernel : int
        Cells of the input and of the window along the axis.
    stride : int, optional
        Step of the window; None means `kernel`.
    padding : int, (int, int), "valid", "same" or "same_lower", optional
        Cells added on each side, or before and after; fewer than the window covers.
    dilation : int, optional
        Distance between the cells of a window.
    ceil_mode : bool, optional
        Round up instead of down; a window that would start in the end padding is dropped.
    fit : {"floor", "strict", "pad"}, optional
        If the size is not whole: drop the rest, raise, or round up as with `ceil_mode`.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If there is no output, or with fit="strict" if the size is not whole.

    Examples
    --------
    >>> pool_output_size(55, 3, stride=2)
    27
    >>> pool_output_size(6, 3, stride=2), pool_output_size(6, 3, stride=2, ceil_mode=True)
    (2, 3)
    """
    op = "pool_output_size"
    stride = kernel if stride is None else stride
    axis = _one_axis(op, size, kernel, stride, padding, dilation, _padding_words(ceil_mode))
    ceil_mode = _rounds_up(op, ceil_mode, fit, axis[-1])
    return _pool_axis(op, "W", *axis, ceil_mode, fit)[2]


def same_padding(kernel):
    """Padding (F - 1)/2 that keeps the size under stride 1, for an odd kernel size F.

    Raises
    ------
    ValueError
        For an even kernel, which no symmetric padding suits; padding="same" does.

    Examples
    --------
    >>> same_padding(3), same_padding(5)
    (1, 2)
    """
    kernel = _integer("same_padding", "kernel", kernel, 1)
    if kernel % 2 == 0:
        raise ValueError(
            f"same_padding: (F - 1)/2 is not whole for the even kernel F={kernel}; use an odd "
            f"kernel, or padding='same', which adds the odd cell at the end"
        )
    return (kernel - 1) // 2
