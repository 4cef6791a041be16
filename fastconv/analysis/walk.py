"""A net from its input to its output, layer by layer, in shapes: nothing is computed.

`walk` says where each layer stands, what it takes and gives, and which arrays are alive meanwhile.
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import singledispatch
from math import prod

from fastconv import layers
from fastconv.analysis.field import ReceptiveField, Window, union
from fastconv.analysis.layer_facts import POINTWISE, UNKNOWN, WHOLE, Facts, facts, image_size
from fastconv.layers import container


@dataclass(frozen=True, slots=True)
class Volume:
    """What flows from one layer to the next.

    `array` tells arrays apart: a ReLU in place, or a view, passes on the one it got. `cells` are
    the places (H, W) its numbers stand for, also where `Flatten` has made a row of them.
    """

    shape: tuple
    cells: tuple
    field: ReceptiveField | None
    array: int


@dataclass(slots=True)
class Stop:
    """One layer on the way: its place, its facts, its volumes."""

    name: str
    kind: str
    layer: object
    facts: Facts
    x: Volume
    y: Volume
    makes: int  # numbers of a new array; 0 where the output is an array that was there
    with_last: bool = False  # done in the pass of the layer before, as a ReLU by a convolution
    opened: bool = False  # a container whose parts have stops of their own

    def makes_what_is_kept(self, journey):
        """Whether its output is an array of its own that some layer needs for backward."""
        return self.makes > 0 and self.y.array in journey.kept


class Walk:
    """The stops, and what is known of arrays: how many numbers, who keeps them, who is alive."""

    def __init__(self, training):
        self.training = training
        self.stops: list[Stop] = []
        self.sizes: dict[int, int] = {}
        self.kept: set[int] = set()
        self.peak = 0
        self._held: list[int] = []

    def new_array(self, shape):
        self.sizes[len(self.sizes)] = prod(shape)
        return len(self.sizes) - 1

    @contextmanager
    def holding(self, *volumes):
        """These are alive until the block ends."""
        self._held += [volume.array for volume in volumes]
        yield
        del self._held[len(self._held) - len(volumes) :]

    def pass_through(self, *volumes):
        """All of these are alive at one time."""
        alive = {volume.array for volume in volumes} | set(self._held)
        self.peak = max(self.peak, sum(self.sizes[array] for array in alive))

    def keep(self, volume):
        self.kept.add(volume.array)

    def stop(self, name, kind, layer, x, y, found, **more):
        """Note a layer that has turned x into y."""
        if found.keeps_input:
            self.keep(x)
        if found.keeps_output:
            self.keep(y)
        self.pass_through(x, y)
        makes = 0 if y.array == x.array else prod(y.shape)
        self.stops.append(Stop(name, kind, layer, found, x, y, makes, **more))
        return y


def walk(net, x_shape, training=False):
    """Follow a batch of `x_shape` through `net`; returns the walk, the input and the output.

    Raises
    ------
    TypeError
        If `net` is no layer.
    ValueError
        If the shape does not suit a layer; a note says which.
    """
    if not isinstance(net, layers.Layer):
        raise TypeError(f"expected a layer or a net of layers, got {net!r}")
    journey = Walk(training)
    cells = image_size(x_shape, layout_of(net))
    x = Volume(x_shape, cells, ReceptiveField(), journey.new_array(x_shape))
    with journey.holding(x):
        y = visit(net, journey, "", x)
    return journey, x, y


def layout_of(net):
    """ "NHWC" if any layer has its axes in that order, else "NCHW"."""
    own = getattr(net, "options", {}).get("layout", getattr(net, "layout", None))
    parts = (layout_of(child) for child in net.children().values())
    return "NHWC" if own == "NHWC" or "NHWC" in parts else "NCHW"


@singledispatch
def visit(layer, journey, name, x):
    """Note `layer`, called `name`, on the volume `x`; returns the volume that it gives.

    Containers visit their parts. One that is not registered counts as a single layer.
    """
    return _note(layer, journey, name, x)


def _note(layer, journey, name, x, **more):
    shape = container._named(name, layer, layer.output_shape, x.shape)
    found = facts(layer, x.shape, shape)
    if found.only_training and not journey.training:
        found = replace(found, keeps_bytes=0, view=True)
    in_place = found.view or more.get("with_last")
    y = Volume(
        shape,
        found.cells or x.cells,
        _field(x, found.window),
        x.array if in_place else journey.new_array(shape),
    )
    return journey.stop(name, type(layer).__name__, layer, x, y, found, **more)


def _field(x, window):
    if window is UNKNOWN or x.field is None:
        return None
    if window is WHOLE:
        window = Window(tuple(size - 1 for size in x.cells))
    return x.field.through(window)


@visit.register
def _(net: layers.Sequential, journey, name, x):
    steps = list(container._steps(net, name))
    fused = False
    with journey.holding(x):
        for i, (path, layer) in enumerate(steps):
            if fused:
                x, fused = _note(layer, journey, path, x, with_last=True), False
                continue
            x = visit(layer, journey, path, x)
            fused = container._relu_at(steps, i + 1) and container._declares(layer, "_applies_relu")
    return x


@visit.register
def _(block: layers.Residual, journey, name, x):
    names = dict(zip(map(id, block.children().values()), block.children(), strict=True))
    with journey.holding(x):
        body = visit(block.body, journey, container.joined(name, names[id(block.body)]), x)
        with journey.holding(body):
            other = x
            if block.shortcut is not None:
                path = container.joined(name, names[id(block.shortcut)])
                other = visit(block.shortcut, journey, path, x)
            block._check_shapes(x.shape, body.shape, other.shape)
            y = replace(body, field=_union([body, other]), array=journey.new_array(body.shape))
            journey.pass_through(body, other, y)
    detail = "sum" if block.activation is None else f"sum, {block.activation}"
    found = Facts(detail=detail, window=POINTWISE, keeps_output=True)
    return journey.stop(name, "Residual", block, body, y, found, opened=True)


@visit.register
def _(block: layers.Concat, journey, name, x):
    outputs = []
    with journey.holding(x):
        for child, branch in block.children().items():
            with journey.holding(*outputs):
                outputs.append(visit(branch, journey, container.joined(name, child), x))
        shape = block._joined_shape(x.shape, [y.shape for y in outputs])
        y = Volume(shape, outputs[0].cells, _union(outputs), journey.new_array(shape))
        journey.pass_through(*outputs, y)
    found = Facts(detail=f"{len(outputs)} branches")
    return journey.stop(name, "Concat", block, outputs[0], y, found, opened=True)


def _union(volumes):
    if any(volume.field is None for volume in volumes):
        return None
    return union([volume.field for volume in volumes], volumes[0].cells)
