"""Patterns to nets, and nets to patterns (CS231n, "ConvNet Architectures", "Layer Patterns")."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastconv import _geometry
from fastconv.layers import Flatten, Sequential
from fastconv.nets._elements import COUNT, KINDS, SIZES, Kind, read_options
from fastconv.nets._language import Element, Group, PatternError, parse
from fastconv.nets._write import write_pattern

MOST_LAYERS = 1000
INPUT_TAKES = {"number": (COUNT, "a number such as 784"), "size": (SIZES, "sizes as 3x32x32")}


class Net(Sequential):
    """What `build` returns: a `Sequential` that prints as a pattern.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of one input, (C, H, W) or (n,).
    """

    def __init__(self, *layers, input_shape):
        super().__init__(*layers)
        self.input_shape = tuple(input_shape)

    def __str__(self):
        return write_pattern(self, self.input_shape)


def build(
    pattern,
    input_shape=None,
    classes=None,
    *,
    filters=32,
    hidden=128,
    optional=True,
    fit="floor",
    dtype=np.float32,
    rng=None,
    **counts,
):
    """Build a net from a layer pattern, in the notation of the lecture.

    A pattern is a row of layers joined by ``->``, beginning with INPUT. ``[...]*3`` repeats what
    is in the brackets, which nest; ``*0`` leaves it out, and ``*N`` takes the number from the
    argument `N`. ``POOL?`` or ``[...]?`` may be left out, see `optional`. Arguments stand in
    parentheses, in any order:

    ==================================  ==========================================================
    ``INPUT``, ``INPUT(3x32x32)``       the images; the shape here or in `input_shape`
    ``CONV(64, 3x3, s1, p1)``           `Conv2d`: filters, window, stride, padding; further
                                        ``d2`` (dilation), ``g2`` (groups), ``nobias``.
                                        Without arguments 3x3, stride 1, and the padding that
                                        keeps the size, (F - 1)/2 for a window of F
    ``POOL(2x2, s2)``                   `MaxPool2d`; further ``p1``, ``ceil``. Without arguments
                                        2x2, stride 2
    ``AVGPOOL(2x2, s2)``                `AvgPool2d`, the same way
    ``L2POOL(2x2, s2)``                 `LPPool2d` of power 2, without padding
    ``GAP``                             `GlobalAvgPool2d`
    ``FC(256)``                         `Linear`; further ``nobias``. Images are flattened first
    ``RELU``, ``RELU6``, ``TANH``,      the activations of these names
    ``SIGMOID``, ``SOFTMAX``,
    ``LEAKYRELU(0.01)``, ``PRELU(1)``
    ``LRN(5, a0.0005, b0.75, k2)``      `LocalResponseNorm`: size, alpha, beta, k; without
                                        arguments AlexNet's, which these are
    ``BN``                              `BatchNorm2d`
    ``DROPOUT(0.5)``                    `Dropout`, with the probability of dropping
    ``FLATTEN``                         `Flatten`
    ==================================  ==========================================================

    Parameters
    ----------
    pattern : str
        The pattern.
    input_shape : (C, H, W) or (n,)
        Shape of one input. Needed unless INPUT says it.
    classes : int
        The size of the last FC. Needed if that has no number of its own.
    filters : int or sequence of int
        For the CONVs without a number. An int is for all of them. A sequence has one number for
        each stage; a POOL, AVGPOOL or L2POOL ends a stage, even one that is left out.
    hidden : int or sequence of int
        For the FCs without a number, the last one of the pattern excepted: one number for all, or
        one for each.
    optional : bool or sequence of bool
        Whether what has a ``?`` is in the net: all, none, or one answer for each, in the order of
        the net with its repetitions.
    fit : {"floor", "strict"}
        Whether windows that leave a rest are refused, as the lecture does; see `Conv2d`.
    dtype : {numpy.float32, numpy.float64}
        Type of the parameters.
    rng : None, int or numpy.random.Generator
        Source of the initial weights of all layers.
    **counts : int
        What the letters behind ``*`` stand for: ``N=2``.

    Returns
    -------
    Net
        A `Sequential` whose ``str`` is a pattern with all numbers in it, which builds the same
        net: ``build(str(net))``.

    Raises
    ------
    PatternError
        A ValueError whose message shows the place in the pattern that is wrong: it cannot be read,
        names a layer that does not exist, lacks a number, or asks for what does not fit the image.
    ValueError
        If `filters`, `hidden` or `optional` has not as many entries as the pattern needs.
    TypeError
        If an argument is not of the type that is asked for, or is unknown.

    References
    ----------
    CS231n, "Convolutional Networks", "ConvNet Architectures": "Layer Patterns" and "Layer Sizing
    Patterns".

    Examples
    --------
    >>> from fastconv import nets
    >>> net = nets.build(
    ...     "INPUT -> [[CONV -> RELU]*2 -> POOL]*3 -> [FC -> RELU]*2 -> FC",
    ...     input_shape=(3, 32, 32), classes=10, filters=(32, 64, 128), hidden=(256, 128), rng=0,
    ... )
    >>> net(np.ones((5, 3, 32, 32), np.float32)).shape
    (5, 10)

    The lecture's general form, with small numbers:

    >>> net = nets.build(
    ...     "INPUT -> [[CONV -> RELU]*N -> POOL?]*M -> [FC -> RELU]*K -> FC",
    ...     (1, 8, 8), 10, filters=4, N=2, M=1, K=0,
    ... )
    >>> print(net)
    INPUT(1x8x8) -> [CONV(4, 3x3, s1, p1) -> RELU]*2 -> POOL(2x2, s2) -> FC(10)

    What is wrong is pointed at:

    >>> try:
    ...     nets.build("INPUT -> [CONV -> RELU]*2 -> POOL(3x) -> FC", (3, 32, 32), 10)
    ... except nets.PatternError as error:
    ...     print(error)
    POOL takes a window such as 3x3, a stride such as s2, a padding such as p1, ceil; not "3x"
      INPUT -> [CONV -> RELU]*2 -> POOL(3x) -> FC
                                        ^
    """
    if not isinstance(pattern, str):
        raise TypeError(f"nets.build: pattern must be a string, got {type(pattern).__name__}")
    if fit not in ("floor", "strict"):
        raise ValueError(f"nets.build: fit must be 'floor' or 'strict', got {fit!r}")
    plan = _Plan(pattern, counts, optional)
    shape = plan.input_shape(input_shape)
    plan.give_classes(classes)
    plan.give_filters(filters)
    plan.give_hidden(hidden)
    given = {"dtype": dtype, "rng": np.random.default_rng(rng)}
    return Net(*plan.layers(shape, fit, given), input_shape=shape)


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer to be."""

    element: Element
    kind: Kind
    options: dict
    stage: int


class _Plan:
    """A pattern written out without brackets, whose missing numbers are filled in."""

    def __init__(self, pattern, counts, optional):
        self.pattern = pattern
        tree = parse(pattern)
        self.counts = self._check_counts(tree, counts)
        self._size(tree)
        self.input = _first(tree[0])
        if self.input is not tree[0] or self.input.name != "INPUT":
            raise self.error('a pattern begins with INPUT: write "INPUT -> ..."', 0)
        self.parts = list(self._parts(self._written_out(tree[1:], _Answers(optional))))

    def error(self, message, at):
        return PatternError(message, self.pattern, at)

    # ---- brackets -------------------------------------------------------------------------------

    def _check_counts(self, tree, counts):
        letters = {text for text in _times_in(tree) if text.isalpha()}
        for name in counts:
            if name not in letters:
                there = f"; it has {', '.join(sorted(letters))}" if letters else ""
                raise TypeError(
                    f"nets.build: unknown argument {name}: the pattern has no *{name}{there}"
                )
        return {name: _geometry._integer("nets.build", name, n, 0) for name, n in counts.items()}

    def _times(self, group):
        if group.times is None:
            return 1
        text, at = group.times.text, group.times.at
        if text.isalpha():
            if text not in self.counts:
                raise self.error(f"how often is {text}? Give nets.build a number, as {text}=2", at)
            return self.counts[text]
        return int(text)

    def _size(self, parts):
        """Number of layers, checked before they are written out."""
        total = 0
        for part in parts:
            if isinstance(part, Element):
                total += 1
                continue
            total += self._times(part) * self._size(part.parts)
            if total > MOST_LAYERS:
                at = part.times.at if part.times else _first(part).at
                raise self.error(f"this makes more than {MOST_LAYERS} layers", at)
        return total

    def _written_out(self, tree, answers):
        """Every element as often as it is there, with whether it is built or left out."""
        written = list(self._unfold(tree, answers, True))
        answers.check_number()
        return written

    def _unfold(self, parts, answers, built):
        for part in parts:
            if isinstance(part, Element):
                yield part, built
            elif self._size(part.parts):  # else [[...]*0]*1000000 would take its time
                for _ in range(self._times(part)):
                    wanted = answers.next() if part.optional else True
                    yield from self._unfold(part.parts, answers, built and wanted)

    # ---- elements -------------------------------------------------------------------------------

    def _parts(self, written):
        stage = 0
        for element, built in written:
            kind = KINDS.get(element.name)
            if kind is None:
                raise self.error(_unknown(element.name), element.at)
            options = read_options(element, kind.takes, self.error)
            if built:
                yield _Part(element, kind, options, stage)
            stage += kind.ends_stage

    def input_shape(self, shape):
        """The shape of one input, from the argument or from INPUT."""
        said = read_options(self.input, INPUT_TAKES, self.error)
        written = said.get("size", (said["number"],) if "number" in said else None)
        if shape is None:
            if written is None:
                message = "the shape of the images is missing: INPUT(3x32x32), or input_shape"
                raise self.error(message, self.input.at)
            shape = written
        if not isinstance(shape, Sequence):
            raise TypeError(f"nets.build: input_shape={shape!r}, expected (C, H, W) or (n,)")
        shape = tuple(_geometry._integer("nets.build", "input_shape", n, 1) for n in shape)
        if written not in (None, shape):
            raise self.error(f"INPUT and input_shape={shape} are not the same", self.input.at)
        if len(shape) not in (1, 3):
            raise ValueError(f"nets.build: input_shape={shape}, expected (C, H, W) or (n,)")
        return shape

    # ---- numbers --------------------------------------------------------------------------------

    def give_classes(self, classes):
        """Make the last FC of the pattern that of the class scores."""
        last = next((part for part in reversed(self.parts) if part.element.name == "FC"), None)
        if classes is None:
            if last is not None and "number" not in last.options:
                message = "the size of the last FC is missing: FC(10), or classes=10"
                raise self.error(message, last.element.at)
            return
        classes = _geometry._integer("nets.build", "classes", classes, 1)
        if last is None:
            message = f'there is no FC for the {classes} classes: add "-> FC", or leave classes out'
            raise self.error(message, len(self.pattern.rstrip()))
        if last.options.setdefault("number", classes) != classes:
            raise self.error(f"the last FC is for the classes, classes={classes}", last.element.at)

    def give_filters(self, filters):
        """Give the CONVs without a number that of their stage."""
        parts = self._without_number("CONV")
        stages = max((part.stage for part in parts), default=-1) + 1
        what = f"{stages} stages of CONV without a number (a POOL ends a stage)"
        numbers = _numbers("filters", filters, stages, what)
        for part in parts:
            part.options["number"] = numbers[part.stage]

    def give_hidden(self, hidden):
        """Give the FCs without a number, the last one has its own, one each."""
        parts = self._without_number("FC")
        what = f"{len(parts)} FC without a number before the last FC"
        numbers = _numbers("hidden", hidden, len(parts), what)
        for part, n in zip(parts, numbers, strict=True):
            part.options["number"] = n

    def _without_number(self, name):
        return [p for p in self.parts if p.element.name == name and "number" not in p.options]

    # ---- layers ---------------------------------------------------------------------------------

    def layers(self, shape, fit, given):
        """Make the layers for images of a shape."""
        for part in self.parts:
            if part.element.name == "FC" and len(shape) == 3:
                yield (flatten := Flatten())
                shape = flatten.output_shape((1, *shape))[1:]
            layer, shape = self._layer(part, shape, fit, given)
            yield layer

    def _layer(self, part, shape, fit, given):
        name, at = part.element.name, part.element.at
        if part.kind.needs == 3 and len(shape) == 1:
            message = f"{name} needs images, but here are vectors of {shape[0]}: put it before FC"
            raise self.error(message, at)
        try:
            layer = part.kind.make(shape, part.options | {"fit": fit}, given)
            return layer, layer.output_shape((1, *shape))[1:]
        except ValueError as error:
            size = "x".join(map(str, shape))
            raise self.error(f"{name} on {size}: {error}", at) from error


class _Answers:
    """Whether each part with a "?" is built, in the order of the net."""

    def __init__(self, optional):
        self.optional = optional
        self.asked = 0

    def next(self):
        i, self.asked = self.asked, self.asked + 1
        if isinstance(self.optional, bool):
            return self.optional
        return i < len(self.optional) and bool(self.optional[i])

    def check_number(self):
        if not isinstance(self.optional, bool) and len(self.optional) != self.asked:
            raise ValueError(
                f"nets.build: optional has {len(self.optional)} answers, but there are {self.asked}"
                ' parts with a "?" when all brackets are written out'
            )


def _times_in(parts):
    """What stands behind the stars."""
    for part in parts:
        if isinstance(part, Group):
            if part.times:
                yield part.times.text
            yield from _times_in(part.parts)


def _first(part):
    return part if isinstance(part, Element) else _first(part.parts[0])


def _unknown(name):
    near = [name.upper()] if name.upper() in KINDS else difflib.get_close_matches(name, KINDS, 1)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
    if name == "INPUT":
        return "INPUT comes first, and once"
    return f"no layer is called {name}: {meant}"


def _numbers(name, value, needed, what):
    """One number for each, from one for all or from a sequence of as many."""
    if not isinstance(value, Sequence):
        value = (value,) * needed
    if len(value) != needed:
        raise ValueError(f"nets.build: {name} has {len(value)} numbers, the pattern {what}")
    return [_geometry._integer("nets.build", name, n, 1) for n in value]


def row(pattern, **arguments):
    """The layers that `build` makes, as a plain `Sequential`: a part of a larger net."""
    return Sequential(*build(pattern, **arguments))
