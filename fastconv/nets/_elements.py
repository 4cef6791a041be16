"""The words of layer patterns: what each may be given, the layer it makes, and how it is written.

A `Kind` does both, makes the layer of a word with its arguments, and writes the arguments of a
layer, so that a net prints as the pattern that builds it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from fastconv import layers
from fastconv.nets._language import Argument, Element

COUNT, REAL, PAIR, SIZE, SIZES, FLAG = "count", "real", "pair", "size", "sizes", "flag"

# What an argument means, by its key: its type, and what to call it.
FILTERS = {"number": (COUNT, "a number of filters such as 64")}
UNITS = {"number": (COUNT, "a number of units such as 256")}
WINDOW = {"size": (SIZE, "a window such as 3x3")}
STRIDE = {"s": (PAIR, "a stride such as s2")}
PADDING = {"p": (PAIR, "a padding such as p1")}
DILATION = {"d": (PAIR, "a dilation such as d2")}
GROUPS = {"g": (COUNT, "groups such as g2")}
NO_BIAS = {"nobias": (FLAG, "nobias")}
CEIL = {"ceil": (FLAG, "ceil")}


@dataclass(frozen=True, slots=True)
class Kind:
    """What one word of the language stands for.

    Attributes
    ----------
    layer : type
        The class of the layers that it makes.
    make : callable
        ``make(shape, options, given)`` returns the layer for inputs of shape (C, H, W) or (n,).
        `options` are the arguments by key, and "fit"; `given` has the dtype and rng of parameters.
    write : callable
        ``write(layer)`` returns the arguments that make such a layer, a list of words.
    takes : mapping
        The arguments that there are.
    needs : {3, 1, None}
        What goes in: images, vectors, either.
    ends_stage : bool
        Whether the CONVs behind it take the next number of filters.
    """

    layer: type
    make: Callable
    write: Callable = lambda layer: []
    takes: Mapping = field(default_factory=dict)
    needs: int | None = None
    ends_stage: bool = False


def read_options(element: Element, takes: Mapping, error: Callable) -> dict:
    """The arguments of an element by key; ``error(message, at)`` makes the exception to raise."""
    options = {}
    for argument in element.arguments:
        if argument.key not in takes:
            known = ", ".join(name for _, name in takes.values()) or "no arguments"
            message = f'{element.name} takes {known}; not "{argument.text}"'
            raise error(message, argument.at)
        kind, name = takes[argument.key]
        value = _value(argument, kind)
        if value is None:
            raise error(f'"{argument.text}": expected {name}', argument.at)
        if argument.key in options:
            hint = "; a window is written 3x3" if kind == COUNT and "size" in takes else ""
            raise error(f'"{argument.text}": {element.name} has {name} already{hint}', argument.at)
        options[argument.key] = value
    return options


def _value(argument: Argument, kind: str):
    """The value as what is asked for, or None."""
    value = argument.value
    if kind == FLAG:
        return value
    if isinstance(value, tuple):
        fits = {PAIR: len(value) == 2, SIZE: len(value) == 2, SIZES: len(value) == 3}
        if kind == PAIR and value[0] == value[-1]:
            value = value[0]
        return value if fits.get(kind) else None
    return value if kind == REAL else int(value) if value == int(value) else None


def pair(value):
    """(2, 2) for 2; what a layer may have beyond that cannot be written in a pattern."""
    sizes = (value, value) if isinstance(value, int) else value
    if len(sizes) != 2 or not all(isinstance(size, int) for size in sizes):
        raise ValueError(f"{value!r} cannot be written in a pattern, only one or two integers")
    return sizes


def _sizes(value, key="", *, short=True):
    """Write 2 as "2", (2, 1) as "2x1"; not `short`: 2 as "2x2"."""
    a, b = pair(value)
    return f"{key}{a}" if short and a == b else f"{key}{a}x{b}"


def number(value: float) -> str:
    """Write a number without an exponent, which the language does not have."""
    return format(Decimal(repr(float(value))), "f").removesuffix(".0")


# ---- convolution, pooling, fully connected ------------------------------------------------------


def _make_conv(shape, options, given):
    kernel, spacing = options.get("size", (3, 3)), pair(options.get("d", 1))
    same = tuple(d * (F - 1) // 2 for F, d in zip(kernel, spacing, strict=True))
    padding = pair(options.get("p", same))
    if "p" not in options and any(d * (F - 1) % 2 for F, d in zip(kernel, spacing, strict=True)):
        raise ValueError("no padding keeps the size under an even window: give one, such as p0")
    step, G, bias = options.get("s", 1), options.get("g", 1), "nobias" not in options
    return layers.Conv2d(
        shape[0],
        options["number"],
        kernel,
        step,
        padding,
        spacing,
        G,
        bias,
        fit=options["fit"],
        **given,
    )


def _write_conv(conv):
    options = conv.options
    words = [str(len(conv.params["weight"])), _sizes(conv.kernel_size, short=False)]
    words += [_sizes(options["stride"], "s"), _sizes(options["padding"], "p")]
    if pair(options["dilation"]) != (1, 1):
        words.append(_sizes(options["dilation"], "d"))
    if options["groups"] != 1:
        words.append(f"g{options['groups']}")
    return words + ["nobias"] * ("bias" not in conv.params)


def _pool_kind(layer, *first, takes=PADDING):
    """MaxPool2d and its kin; `first` are arguments before the window."""

    def make(shape, options, given):
        padding = {"padding": options["p"]} if "p" in options else {}
        window, step = options.get("size", (2, 2)), options.get("s", 2)
        how = {"ceil_mode": "ceil" in options, "fit": options["fit"]} | padding
        return layer(*first, window, step, **how)

    def write(pool):
        words = [_sizes(pool.kernel_size, short=False), _sizes(pool.options["stride"], "s")]
        if pair(pool.options.get("padding", 0)) != (0, 0):
            words.append(_sizes(pool.options["padding"], "p"))
        return words + ["ceil"] * pool.options["ceil_mode"]

    return Kind(layer, make, write, WINDOW | STRIDE | takes | CEIL, needs=3, ends_stage=True)


def _make_fc(shape, options, given):
    return layers.Linear(shape[0], options["number"], "nobias" not in options, **given)


def _write_fc(fc):
    return [str(len(fc.params["weight"])), *(["nobias"] * ("bias" not in fc.params))]


# ---- all others ---------------------------------------------------------------------------------


def _plain(layer, needs=None):
    """A layer without arguments."""
    return Kind(layer, lambda shape, options, given: layer(), needs=needs)


def _make_prelu(shape, options, given):
    return layers.PReLU(options.get("number", 1), dtype=given["dtype"])


def _make_batch_norm(shape, options, given):
    return layers.BatchNorm2d(shape[0], dtype=given["dtype"])


def _make_lrn(shape, options, given):
    alpha, beta = options.get("a", 5e-4), options.get("b", 0.75)
    return layers.LocalResponseNorm(options.get("number", 5), alpha, beta, options.get("k", 2.0))


def _write_lrn(lrn):
    return [str(lrn.size), f"a{number(lrn.alpha)}", f"b{number(lrn.beta)}", f"k{number(lrn.k)}"]


def _make_dropout(shape, options, given):
    return layers.Dropout(options.get("number", 0.5), rng=given["rng"])


def _make_leaky_relu(shape, options, given):
    return layers.LeakyReLU(options.get("number", 0.01))


KINDS = {
    "CONV": Kind(
        layers.Conv2d,
        _make_conv,
        _write_conv,
        FILTERS | WINDOW | STRIDE | PADDING | DILATION | GROUPS | NO_BIAS,
        needs=3,
    ),
    "POOL": _pool_kind(layers.MaxPool2d),
    "AVGPOOL": _pool_kind(layers.AvgPool2d),
    "L2POOL": _pool_kind(layers.LPPool2d, 2, takes={}),
    "GAP": _plain(layers.GlobalAvgPool2d, needs=3),
    "FC": Kind(layers.Linear, _make_fc, _write_fc, UNITS | NO_BIAS, needs=1),
    "RELU": _plain(layers.ReLU),
    "RELU6": _plain(layers.ReLU6),
    "LEAKYRELU": Kind(
        layers.LeakyReLU,
        _make_leaky_relu,
        lambda layer: [number(layer.negative_slope)],
        {"number": (REAL, "a slope such as 0.01")},
    ),
    "PRELU": Kind(
        layers.PReLU,
        _make_prelu,
        lambda layer: [str(layer.params["weight"].size)],
        {"number": (COUNT, "a number of slopes, 1 or the channels")},
    ),
    "TANH": _plain(layers.Tanh),
    "SIGMOID": _plain(layers.Sigmoid),
    "SOFTMAX": _plain(layers.Softmax),
    "LRN": Kind(
        layers.LocalResponseNorm,
        _make_lrn,
        _write_lrn,
        {
            "number": (COUNT, "a number of channels such as 5"),
            "a": (REAL, "an alpha such as a0.0005"),
            "b": (REAL, "a beta such as b0.75"),
            "k": (REAL, "a constant such as k2"),
        },
        needs=3,
    ),
    "BN": Kind(layers.BatchNorm2d, _make_batch_norm, needs=3),
    "DROPOUT": Kind(
        layers.Dropout,
        _make_dropout,
        lambda layer: [number(layer.p)],
        {"number": (REAL, "a probability such as 0.5")},
    ),
    "FLATTEN": _plain(layers.Flatten),
}
