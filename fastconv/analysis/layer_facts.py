"""What one layer costs and sees, without running it.

`facts` says it for one layer; it is a `functools.singledispatch`, so a layer class of one's own
joins in with ``@facts.register``.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch
from math import prod

from fastconv import _geometry, layers
from fastconv.analysis.field import Window

POINTWISE = Window((0, 0))
WHOLE = "whole"  # every output sees the whole map
UNKNOWN = None


@dataclass(frozen=True, slots=True)
class Facts:
    """One layer on an input of one shape.

    Attributes
    ----------
    detail : str
        The layer's arguments in short, in the words of the patterns of `fastconv.nets`.
    multiply_adds : int or None
        Products with weights that are summed; biases and layers without weights count nothing.
        None if unknown.
    unshared_parameters : int or None
        What they would be if every output place had parameters of its own (CS231n, "Parameter
        Sharing"); None if none is used at more than one place.
    window : Window, "whole" or None
        What an output sees of the input; None if unknown.
    cells : tuple of int or None
        Places (H, W) of the output, where that differs from the input's.
    keeps_input, keeps_output : bool
        Whether `backward` needs the arrays.
    keeps_bytes : int
        What `forward` keeps beside them.
    view : bool
        Whether the output is the input's memory.
    only_training : bool
        Whether the layer passes its input on as it is, and keeps nothing, for inference.
    """

    detail: str = ""
    multiply_adds: int | None = 0
    unshared_parameters: int | None = None
    window: Window | str | None = POINTWISE
    cells: tuple[int, int] | None = None
    keeps_input: bool = False
    keeps_output: bool = False
    keeps_bytes: int = 0
    view: bool = False
    only_training: bool = False


@singledispatch
def facts(layer, x_shape, y_shape):
    """`Facts` of `layer` for shapes of input and output with the batch size.

    Of a class that nobody has registered only shapes and parameters are known.

    Examples
    --------
    >>> from fastconv.layers import Conv2d
    >>> found = facts(Conv2d(3, 96, 11, stride=4), (1, 3, 227, 227), (1, 96, 55, 55))
    >>> found.detail, found.multiply_adds, found.unshared_parameters
    ('96, 11x11, s4', 105415200, 105705600)
    """
    return Facts(multiply_adds=None, window=UNKNOWN, keeps_input=True, keeps_output=True)


@facts.register
def _(layer: layers.Conv2d, x_shape, y_shape):
    w = layer.params["weight"]
    g = _geometry.conv_geometry(x_shape, w.shape, **layer.options)
    return Facts(
        detail=_text(g.OC, g),
        multiply_adds=prod(y_shape) * prod(w.shape[1:]),
        unshared_parameters=_size(layer) * prod(g.out_size),
        window=_window(g),
        cells=g.out_size,
        keeps_input=True,
    )


@facts.register
def _(layer: layers.ConvTranspose2d, x_shape, y_shape):
    w = layer.params["weight"]
    # g is the convolution whose input gradient this is: its input is our output
    g = _geometry.conv_transpose_geometry(x_shape, w.shape, **layer.options)
    spans = [_span(*axis) for axis in zip(g.kernel, g.dilation, strict=True)]
    per_axis = list(zip(spans, g.stride, g.pad_begin, strict=True))
    return Facts(
        detail=_text(g.C, g),
        multiply_adds=prod(x_shape) * prod(w.shape[1:]),
        # a copy of the filter at each input place, a bias at each output place
        unshared_parameters=w.size * prod(g.out_size) + (_size(layer) - w.size) * prod(g.in_size),
        window=Window(
            tuple(Fraction(span - 1, s) for span, s, _ in per_axis),
            tuple(Fraction(1, s) for s in g.stride),
            tuple(Fraction(span - 1 - p, s) for span, s, p in per_axis),
        ),
        cells=g.in_size,
        keeps_input=True,
    )


@facts.register
def _(layer: layers.LocallyConnected2d, x_shape, y_shape):
    w = layer.params["weight"]
    g = _geometry.conv_geometry(x_shape, w.shape[2:], **layer.options)
    return Facts(
        detail=_text(g.OC, g),
        multiply_adds=prod(y_shape) * prod(w.shape[3:]),
        window=_window(g),
        cells=g.out_size,
        keeps_input=True,
    )


@facts.register
def _(layer: layers.Linear, x_shape, y_shape):
    OUT, IN = layer.params["weight"].shape
    return Facts(
        detail=str(OUT),
        multiply_adds=x_shape[0] * OUT * IN,
        window=WHOLE,
        cells=(1, 1),
        keeps_input=True,
    )


@facts.register(layers.MaxPool2d)
def _(layer, x_shape, y_shape):
    g = layer._geometry(x_shape)
    offset = 1 if prod(g.kernel) <= 255 else 4
    return _pool(g, keeps_output=True, keeps_bytes=offset * prod(y_shape))


@facts.register(layers.AvgPool2d)
def _(layer, x_shape, y_shape):
    return _pool(layer._geometry(x_shape))


@facts.register(layers.LPPool2d)
def _(layer, x_shape, y_shape):
    return _pool(layer._geometry(x_shape), keeps_input=True, keeps_output=True)


@facts.register(layers.GlobalAvgPool2d)
def _(layer, x_shape, y_shape):
    return Facts(window=WHOLE, cells=(1, 1))


@facts.register(layers.ReLU)
@facts.register(layers.ReLU6)
@facts.register(layers.Sigmoid)
@facts.register(layers.Tanh)
def _(layer, x_shape, y_shape):
    return Facts(keeps_output=True)


@facts.register
def _(layer: layers.LeakyReLU, x_shape, y_shape):
    return Facts(detail=f"{layer.negative_slope:g}", keeps_input=True)


@facts.register
def _(layer: layers.PReLU, x_shape, y_shape):
    unshared = _size(layer) * prod(image_size(x_shape, layer.layout))
    return Facts(unshared_parameters=unshared, keeps_input=True)


@facts.register
def _(layer: layers.Softmax, x_shape, y_shape):
    # over the channels of an image each place sees itself; a row of numbers sees all of them
    axis = layer.axis % len(x_shape)
    window = WHOLE if len(x_shape) == 2 else POINTWISE if axis in (1, 3) else UNKNOWN
    return Facts(window=window, keeps_output=True)


@facts.register
def _(layer: layers.Dropout, x_shape, y_shape):
    mask = prod(x_shape)  # bools
    return Facts(detail=f"{layer.p:g}", keeps_bytes=mask, only_training=True)


@facts.register
def _(layer: layers.LocalResponseNorm, x_shape, y_shape):
    return Facts(detail=str(layer.size), keeps_input=True)


@facts.register
def _(layer: layers.BatchNorm2d, x_shape, y_shape):
    places = prod(image_size(x_shape, layer.layout))
    return Facts(
        unshared_parameters=_size(layer) * places,
        keeps_input=True,
        keeps_bytes=2 * layer.num_features * layer.dtype.itemsize,  # mean and variance
    )


@facts.register(layers.Flatten)
def _(layer, x_shape, y_shape):
    return Facts(view=True)


def _size(layer):
    return sum(value.size for value in layer.params.values())


def image_size(x_shape, layout):
    """(H, W) of a batch of images; one place for arrays that are none."""
    if len(x_shape) != 4:
        return 1, 1
    return tuple(x_shape[1:3] if layout == "NHWC" else x_shape[2:4])


def _pool(g, **kept):
    return Facts(detail=_text(None, g), window=_window(g), cells=g.out_size, **kept)


def _window(g):
    spans = (_span(*axis) for axis in zip(g.kernel, g.dilation, strict=True))
    return Window(tuple(span - 1 for span in spans), g.stride, g.pad_begin)


def _span(kernel, dilation):
    return dilation * (kernel - 1) + 1


def _text(filters, g):
    """Such as "64, 3x3, s2, p1": what is usual is left out."""
    pads = tuple(zip(g.pad_begin, g.pad_end, strict=True))
    words = [] if filters is None else [str(filters)]
    words.append("x".join(map(str, g.kernel)))
    words += [f"s{_pair(g.stride)}"] * (g.stride != (1, 1))
    if any(begin != end for begin, end in pads):
        words.append("p" + "x".join(f"{begin}+{end}" for begin, end in pads))
    elif any(g.pad_begin):
        words.append(f"p{_pair(g.pad_begin)}")
    words += [f"d{_pair(g.dilation)}"] * (g.dilation != (1, 1))
    groups = getattr(g, "groups", 1)
    words += [f"g{groups}"] * (groups > 1)
    return ", ".join(words)


def _pair(values):
    return str(values[0]) if values[0] == values[1] else "x".join(map(str, values))
