"""A net in numbers, a row a layer: sizes, parameters, work, memory, receptive fields."""

import json
from dataclasses import asdict, dataclass
from math import prod

import numpy as np

from fastconv import _geometry
from fastconv.analysis import table
from fastconv.analysis.field import ReceptiveField
from fastconv.analysis.table import Column
from fastconv.analysis.walk import walk


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One layer of a `Summary`. Shapes are those of one image; the rest is of the whole batch.

    Attributes
    ----------
    name, kind : str
        Where it stands, as in the keys of ``state_dict``, and its class.
    detail : str
        Its arguments in short: "64, 3x3, s2, p1".
    input_shape, output_shape : tuple of int
    parameters : int
        Trainable numbers, biases too.
    unshared_parameters : int
        What they would be if every place of the output had parameters of its own.
    multiply_adds : int or None
        Products with weights that are summed. None if unknown.
    activations : int
        Numbers in the array that the layer makes: 0 where it works in place, as a ReLU behind a
        convolution does, or passes on a view.
    forward_bytes : int
        Bytes of that array.
    training_bytes : int
        Bytes that exist because of the layer from `forward` to `backward`: its output, if
        somebody needs it, and what the layer notes beside it.
    receptive_field : ReceptiveField or None
        Of one output number, in pixels of the input; None if unknown.
    """

    name: str
    kind: str
    detail: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    unshared_parameters: int
    multiply_adds: int | None
    activations: int
    forward_bytes: int
    training_bytes: int
    receptive_field: ReceptiveField | None

    def to_dict(self):
        """Plain values, as they go into JSON."""
        content = asdict(self)
        content["receptive_field"] = _field_dict(self.receptive_field)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in content.items()}


@dataclass(frozen=True, slots=True)
class SummaryTotals:
    """The last lines of a `Summary`; of the whole batch.

    Attributes
    ----------
    parameters, unshared_parameters, multiply_adds : int
        Sums over the layers; layers whose work is unknown count as nothing.
    activations, activation_bytes : int
        Every volume once, that of the input too: the lecture's count.
    peak_bytes : int
        Of activations alive at one time in a forward pass for inference, the input included.
        Scratch memory, which is bounded, comes on top.
    training_bytes : int
        Of the input and all that ``forward`` keeps for ``backward``.
    parameter_bytes : int
        Of the parameters. Gradients take as much again; momentum and Adam once or twice more.
    """

    parameters: int
    unshared_parameters: int
    multiply_adds: int
    activations: int
    activation_bytes: int
    peak_bytes: int
    training_bytes: int
    parameter_bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """What `summary` returns: ``print`` it, or take ``rows``, ``totals``, `to_dict`, `table`."""

    input_shape: tuple[int, ...]
    batch: int
    dtype: str
    rows: tuple[SummaryRow, ...]
    totals: SummaryTotals

    def __str__(self):
        return self.text()

    __repr__ = __str__

    def text(self, width=None):
        """Plain text; with `width`, without the columns that do not fit into so many characters."""
        lines = [self._title(), table.plain(self._columns(), width), ""]
        return "\n".join([*lines, *self._totals_text()])

    def table(self, width=None):
        """A `rich.table.Table` of the rows, at most `width` characters wide.

        Raises
        ------
        ImportError
            If rich is not installed; it comes with the extra ``fastconv[cli]``.
        """
        table.needs_rich("Summary.table")
        return table.rich_table(self._columns(), self._title(), width, self._styles())

    def __rich_console__(self, console, options):
        yield self.table(options.max_width)
        yield ""
        yield from self._totals_text()

    def to_dict(self):
        """Plain dicts, lists and numbers."""
        return {
            "input_shape": list(self.input_shape),
            "batch": self.batch,
            "dtype": self.dtype,
            "rows": [row.to_dict() for row in self.rows],
            "totals": asdict(self.totals),
        }

    def to_json(self, indent=1):
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=indent)

    def _title(self):
        images = f"{self.batch} x " if self.batch != 1 else ""
        return f"input {images}{table.shape_text(self.input_shape)}, {self.dtype}"

    def _styles(self):
        return [None if row.parameters else "dim" for row in self.rows]

    def _columns(self):
        rows, fields = self.rows, [row.receptive_field for row in self.rows]
        return [
            Column("layer", [row.name for row in rows], right=False),
            Column("kind", [row.kind for row in rows], right=False, spare=3),
            Column("", [row.detail for row in rows], right=False, spare=6),
            Column("output", [table.shape_text(row.output_shape) for row in rows], right=False),
            Column("parameters", [_or_blank(row.parameters, "{:,}") for row in rows]),
            Column("unshared", [_compact(row.unshared_parameters) for row in rows], spare=7),
            Column("mult-adds", [_compact(row.multiply_adds) for row in rows], spare=2),
            Column("forward", [_size(row.forward_bytes) for row in rows], spare=4),
            Column("training", [_size(row.training_bytes) for row in rows], spare=5),
            Column("sees", [table.pair(f and f.size) for f in fields], spare=1),
            Column("stride", [table.pair(f and f.stride) for f in fields], spare=8),
            Column("pad", [table.pair(f and f.padding) for f in fields], spare=9),
        ]

    def _totals_text(self):
        t = self.totals
        lines = [
            ("parameters", f"{t.parameters:,} ({table.size(t.parameter_bytes)})"),
            ("without sharing", f"{t.unshared_parameters:,}"),
            ("multiply-adds", f"{t.multiply_adds:,}"),
            ("activations", f"{t.activations:,} ({table.size(t.activation_bytes)}), every volume"),
            ("inference holds", f"{table.size(t.peak_bytes)} of them at most at a time"),
            ("training holds", f"{table.size(t.training_bytes)} from forward to backward"),
        ]
        if any(row.multiply_adds is None for row in self.rows):
            lines[2] = (lines[2][0], lines[2][1] + ", without the layers marked ?")
        width = max(len(word) for word, _ in lines)
        return [f"{word:<{width}}  {text}" for word, text in lines]


def summary(net, input_shape, *, batch=1, dtype=None):
    """Describe a net layer by layer, without running it.

    Parameters
    ----------
    net : Layer
        A layer or a net: `Sequential`, `Residual` and `Concat` are opened up.
    input_shape : tuple of int
        Shape of one image, without the batch: (C, H, W), or (H, W, C) for layers of that layout.
    batch : int, optional
        Images at a time: multiplies work and memory, not the shapes.
    dtype : numpy.float32 or numpy.float64, optional
        Type of the activations; by default that of the parameters.

    Returns
    -------
    Summary
        ``rows`` (`SummaryRow`), ``totals`` (`SummaryTotals`), ``to_dict()``, ``to_json()`` and
        ``table()``; printed, it is a table.

    Raises
    ------
    TypeError, ValueError
        If `net` is no layer, `input_shape` no shape, or a layer does not take what the one before
        gives: the message names both shapes, and the layer.

    Notes
    -----
    Memory is counted as fastconv runs the net: a ReLU behind a convolution is applied to the
    convolution's results in registers and makes no volume, `Flatten` passes on a view. For
    training a volume stays if a layer needs it on the way back; max pooling also notes a byte for
    each of its outputs. The lecture counts every volume once but no ReLU, and doubles the sum
    for training; ``totals.activations`` is that sum, where ReLUs stand behind convolutions.
    Parameters include biases, which the lecture's table of VGG-16 leaves out; "unshared" is the
    lecture's number "without parameter sharing": every place of the output has its own.

    The receptive field of a fully connected layer spans the whole map before it, as if the layer
    were the convolution that `fastconv.convert` makes of it. Normalization over the batch, in
    training, mixes images; that is not counted.

    References
    ----------
    CS231n, "Convolutional Networks", sections "Convolutional Layer", "Layer Patterns" and "Case
    studies" (VGGNet in detail).

    Examples
    --------
    >>> import fastconv
    >>> from fastconv.layers import Conv2d, MaxPool2d, ReLU, Sequential
    >>> net = Sequential(Conv2d(3, 96, 11, stride=4), ReLU(), MaxPool2d(3, 2))
    >>> found = fastconv.summary(net, (3, 227, 227))
    >>> found.rows[1].output_shape, found.rows[1].parameters, found.rows[1].unshared_parameters
    ((96, 55, 55), 34944, 105705600)
    >>> found.rows[-1].receptive_field.size, found.rows[-1].receptive_field.stride
    ((19, 19), (8, 8))
    """
    batch = _geometry._integer("summary", "batch", batch, 1)
    shape = check_input_shape("summary", input_shape)
    dtype = _dtype(net, dtype)
    x_shape, itemsize = (batch, *shape), dtype.itemsize
    inference, x, _ = walk(net, x_shape)
    training, _, _ = walk(net, x_shape, training=True)
    rows = [_input_row(shape, batch, itemsize, x)]
    for stop, trained in zip(inference.stops, training.stops, strict=True):
        kept = training.sizes[trained.y.array] if trained.makes_what_is_kept(training) else 0
        rows.append(_row(stop, kept * itemsize + trained.facts.keeps_bytes, itemsize))
    totals = SummaryTotals(
        parameters=sum(row.parameters for row in rows),
        unshared_parameters=sum(row.unshared_parameters for row in rows),
        multiply_adds=sum(row.multiply_adds or 0 for row in rows),
        activations=sum(row.activations for row in rows),
        activation_bytes=sum(row.forward_bytes for row in rows),
        peak_bytes=inference.peak * itemsize,
        training_bytes=sum(row.training_bytes for row in rows),
        parameter_bytes=sum(value.nbytes for value in net.params.values()),
    )
    return Summary(shape, batch, dtype.name, tuple(rows), totals)


def receptive_field(net, input_shape):
    """Find which part of the input one number of a net's output sees.

    Parameters
    ----------
    net : Layer
        A layer or a net.
    input_shape : tuple of int
        Shape of one image, without the batch: (C, H, W), or (H, W, C) for layers of that layout.
        Matters where paddings follow from the size ("same"), and to layers that see the whole map.

    Returns
    -------
    ReceptiveField or None
        ``size``, ``stride`` and ``padding`` along (H, W), and ``region(i, j)``, the rows and
        columns that the output at (i, j) sees. Where branches meet, it is the smallest one that
        holds what each branch sees. None behind a layer of which it is unknown.

    Raises
    ------
    TypeError, ValueError
        As `summary`.

    References
    ----------
    CS231n, "Convolutional Networks", section "Layer Patterns" ("Prefer a stack of small filter CONV
    to one large receptive field CONV layer"); A. Araujo, W. Norris, J. Sim, "Computing Receptive
    Fields of Convolutional Neural Networks", Distill 2019.

    Examples
    --------
    Three layers of 3x3 filters see what one of 7x7 sees:

    >>> import fastconv
    >>> from fastconv.layers import Conv2d, ReLU, Sequential
    >>> three = [layer for _ in range(3) for layer in (Conv2d(8, 8, 3, padding=1), ReLU())]
    >>> field = fastconv.receptive_field(Sequential(*three), (8, 32, 32))
    >>> field.size, field.stride, field.padding
    ((7, 7), (1, 1), (3, 3))
    >>> field.region(0, 10)
    ((-3, 3), (7, 13))
    """
    _, _, y = walk(net, (1, *check_input_shape("receptive_field", input_shape)))
    return y.field


def check_input_shape(op, input_shape):
    """`input_shape` as a tuple of positive ints."""
    try:
        shape = tuple(input_shape)
    except TypeError:
        shape = ()
    if not shape:
        raise TypeError(
            f"{op}: input_shape must be the shape of one image without the batch, such as "
            f"(3, 224, 224), got {input_shape!r}"
        )
    return tuple(_geometry._integer(op, "each size in input_shape", s, 1) for s in shape)


def _dtype(net, dtype):
    if dtype is None:
        dtype = next((value.dtype for value in getattr(net, "params", {}).values()), np.float32)
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"summary: dtype={dtype}, expected float32 or float64")
    return dtype


def _input_row(shape, batch, itemsize, x):
    count = batch * prod(shape)
    memory = count * itemsize
    return SummaryRow("input", "", "", shape, shape, 0, 0, 0, count, memory, memory, x.field)


def _row(stop, training_bytes, itemsize):
    parameters = 0
    if not stop.opened:
        parameters = sum(value.size for value in stop.layer.params.values())
    unshared = stop.facts.unshared_parameters
    return SummaryRow(
        name=stop.name,
        kind=stop.kind,
        detail=stop.facts.detail,
        input_shape=stop.x.shape[1:],
        output_shape=stop.y.shape[1:],
        parameters=parameters,
        unshared_parameters=parameters if unshared is None else unshared,
        multiply_adds=stop.facts.multiply_adds,
        activations=stop.makes,
        forward_bytes=stop.makes * itemsize,
        training_bytes=training_bytes,
        receptive_field=stop.y.field,
    )


def _field_dict(field):
    if field is None:
        return None
    names = ("size", "stride", "padding")
    return {name: [_plain(v) for v in getattr(field, name)] for name in names}


def _plain(value):
    return value if isinstance(value, int) else float(value)


def _or_blank(value, form):
    return form.format(value) if value else ""


def _compact(value):
    return "" if value == 0 else table.compact(value)


def _size(value):
    return table.size(value) if value else ""
