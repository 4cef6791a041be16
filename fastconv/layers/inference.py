"""Nets made ready for inference: what ``net.prepare()`` returns.

`prepare` walks through the layers as `Sequential` would in evaluation mode and turns them into
steps, callables of one array. A convolution takes the batch normalization and the ReLU behind it
into one step; dropout leaves none. A step may overwrite its input where that is *fresh*: made by
the step before, and read by nobody else. The input of the net is not fresh, nor is what enters
the branches of a block.
"""

import copy
from collections.abc import Sequence

import numpy as np

from fastconv import _core
from fastconv import functional as F
from fastconv.functional._in_place import activate, add
from fastconv.functional.prepared import MOST_SHAPES
from fastconv.layers import container
from fastconv.layers.activation import ReLU, ReLU6
from fastconv.layers.container import Concat, Residual, Sequential
from fastconv.layers.conv import Conv2d
from fastconv.layers.dropout import Dropout
from fastconv.layers.linear import Flatten, Linear
from fastconv.layers.normalization import BatchNorm2d
from fastconv.layers.pooling import AvgPool2d, GlobalAvgPool2d, LPPool2d, MaxPool2d

ACTIVATIONS = {ReLU: "relu", ReLU6: "relu6"}
# Their results are new arrays.
FRESH = (AvgPool2d, BatchNorm2d, GlobalAvgPool2d, LPPool2d, Linear, MaxPool2d, ReLU, ReLU6)


class PreparedNet:
    """A net with fixed parameters, ready for images: what ``net.prepare()`` returns.

    ``p(x)`` equals what ``net(x)`` gave when it was made, within rounding: batch normalizations are
    part of the filters before them, ReLUs and the sums of residual blocks are done on the way, and
    filters are packed. Parameters are copies; later changes of the net do not matter. Several
    threads may call one object at the same time. It can be pickled and copied.

    Attributes
    ----------
    x_shape : tuple of int or None
        The shape that was planned beforehand; others are welcome.
    """

    def __init__(self, x_shape, steps):
        self.x_shape, self._steps = x_shape, steps

    def parts(self):
        """The steps, in the order of the net."""
        return self._steps

    def __call__(self, x):
        """Compute the net's output for images; see `fastconv.layers.Layer.prepare`."""
        return _run(self._steps, x)

    def __repr__(self):
        return f"PreparedNet(\n  {_indented(self._steps)}\n)"


def prepare(layer, x_shape=None):
    """Make a `PreparedNet` of any layer."""
    if x_shape is not None:
        if not isinstance(x_shape, Sequence):
            raise TypeError(f"prepare: x_shape={x_shape!r}, expected a shape: (1, 3, 8, 8)")
        x_shape = tuple(x_shape)
        layer.output_shape(x_shape)  # refuses what does not fit, in words
    steps = _Compiler(fresh=False, shape=x_shape).compile([("", layer)])
    return PreparedNet(x_shape, steps)


# ---- steps --------------------------------------------------------------------------------------


def _run(steps, x, out=None):
    """Run steps one after the other; the last one writes to `out`."""
    last = len(steps) - 1
    for i, step in enumerate(steps):
        try:
            if out is None or i < last:
                x = container._called(step, step, x)
            else:
                x = container._called(step, step.into, x, out)
        except (ValueError, TypeError) as error:
            error.add_note(f"in layer {step.name}: {step!r}")
            raise
    if out is not None and not steps:
        np.copyto(out, x)
        return out
    return x


def _indented(steps):
    return "\n".join(f"{step.name}: {step!r}" for step in steps).replace("\n", "\n  ")


class _Step:
    """One step: `name` of the layer it began as, whether its result is a new array."""

    fresh = True

    def parts(self):
        """The steps that this one is made of, in the order of the net."""
        return ()

    def into(self, x, out):
        """The same, written to `out`."""
        np.copyto(out, self(x))
        return out


class _Conv(_Step):
    """A convolution with the batch normalization and activation behind it."""

    def __init__(self, name, conv, what):
        self.name, self._conv, self._what = name, conv, what

    def __call__(self, x):
        return self._conv(x)

    def into(self, x, out):
        return self._conv(x, out)

    def __repr__(self):
        return self._what


class _Activation(_Step):
    """An activation, in place."""

    def __init__(self, name, kind):
        self.name, self._kind = name, kind

    def __call__(self, x):
        return activate(x, self._kind)

    def __repr__(self):
        return f"{self._kind}, in place"


class _Flatten(_Step):
    def __init__(self, name, fresh):
        self.name, self.fresh = name, fresh

    def __call__(self, x):
        return x.reshape(len(x), int(np.prod(x.shape[1:])))

    def __repr__(self):
        return "Flatten()"


class _Layer(_Step):
    """Any other layer: a copy of it, in evaluation mode."""

    def __init__(self, name, layer):
        self.name, self._layer = name, copy.deepcopy(layer).eval()
        self.fresh = type(layer) in FRESH

    def __call__(self, x):
        return self._layer(x)

    def __repr__(self):
        return repr(self._layer)


class _Sum(_Step):
    """A residual block."""

    def __init__(self, name, body, shortcut, relu):
        self.name, self._body, self._shortcut, self._relu = name, body, shortcut, relu
        self._writes_body = bool(body) and body[-1].fresh
        self._writes_shortcut = bool(shortcut) and shortcut[-1].fresh

    def parts(self):
        return (*self._body, *self._shortcut)

    def __call__(self, x):
        y, other = _run(self._body, x), _run(self._shortcut, x)
        out = y if self._writes_body else other if self._writes_shortcut else None
        return add(y, other, self._relu, out)

    def __repr__(self):
        return (
            f"body(\n  {_indented(self._body)}\n) + shortcut(\n  {_indented(self._shortcut)}\n)"
            + ", relu" * self._relu
        )


class _Joined(_Step):
    """Branches that write to parts of one array, whose sizes the first call has told."""

    def __init__(self, name, branches, axis):
        self.name, self._branches, self._axis = name, branches, axis
        self._channels = {}

    def parts(self):
        return [step for steps in self._branches for step in steps]

    def __call__(self, x):
        channels = self._channels.get(x.shape)
        if channels is None:
            parts = [_run(steps, x) for steps in self._branches]
            y = np.concatenate(parts, self._axis)
            if len(self._channels) >= MOST_SHAPES:
                self._channels = {}
            self._channels[x.shape] = y.shape, [part.shape[self._axis] for part in parts]
            return y
        shape, sizes = channels
        y, start = _core.empty(shape, x.dtype), 0
        for steps, size in zip(self._branches, sizes, strict=True):
            part = slice(start, start + size)
            _run(steps, x, y[:, part] if self._axis == 1 else y[..., part])
            start += size
        return y

    def __repr__(self):
        parts = [f"branch(\n  {_indented(steps)}\n)" for steps in self._branches]
        return "join(\n" + "\n".join(parts) + "\n)"


# ---- from layers to steps -----------------------------------------------------------------------


class _Compiler:
    """Turns layers in a row into steps.

    Attributes
    ----------
    fresh : bool
        Whether the next step may overwrite its input.
    shape : tuple of int or None
        Shape of that input, where it is known.
    """

    def __init__(self, fresh, shape):
        self.fresh, self.shape = fresh, shape
        self.steps = []

    def compile(self, layers):
        """The steps of (name, layer) pairs."""
        layers = list(_flat(layers))
        while layers:
            name, layer = layers.pop(0)
            shape = self.shape
            if container.computes_as(layer, Conv2d):
                step = self._conv(name, layer, layers)
            else:
                step = self._other(name, layer)
            if step is not None:
                self.steps.append(step)
                self.fresh = step.fresh
            if shape is not None and not container.computes_as(layer, Conv2d):
                self.shape = layer.output_shape(shape)
        return self.steps

    def _conv(self, name, conv, following):
        w, b = conv.params["weight"], conv.params.get("bias")
        what = [repr(conv)]
        if following and _folds(conv, following[0][1]):
            w, b = _folded(w, b, following[0][1])
            what.append(repr(following.pop(0)[1]))
        activation = None
        if following and any(container.computes_as(following[0][1], kind) for kind in ACTIVATIONS):
            activation = ACTIVATIONS[type(following[0][1])]
            what.append(repr(following.pop(0)[1]))
        how = {"algo": conv.algo, "activation": activation, **conv.options}
        prepared = F.prepare_conv2d(w, b, x_shape=self.shape, **how)
        if self.shape is not None:
            self.shape = conv.output_shape(self.shape)
        return _Conv(name, prepared, " + ".join(what))

    def _other(self, name, layer):
        if container.computes_as(layer, Dropout):
            return None
        if self.fresh and any(container.computes_as(layer, kind) for kind in ACTIVATIONS):
            return _Activation(name, ACTIVATIONS[type(layer)])
        if container.computes_as(layer, Flatten):
            return _Flatten(name, self.fresh)
        if container.computes_as(layer, Residual):
            return self._residual(name, layer)
        if container.computes_as(layer, Concat):
            return _Joined(name, list(self._branches(name, layer)), layer.axis)
        return _Layer(name, layer)

    def _residual(self, name, block):
        body, *shortcut = self._branches(name, block)
        return _Sum(name, body, shortcut[0] if shortcut else [], block.activation == "relu")

    def _branches(self, name, block):
        """Steps for each child, called as in the net's state dictionary."""
        for child, layer in block.children().items():
            pair = container.joined(name, child), layer
            yield _Compiler(fresh=False, shape=self.shape).compile([pair])


def _flat(layers):
    """Pairs (name, layer), those in Sequentials one by one."""
    for name, layer in layers:
        if container.computes_as(layer, Sequential):
            children = layer.children().items()
            yield from _flat((container.joined(name, child), inner) for child, inner in children)
        else:
            yield name, layer


def _folds(conv, norm):
    return container.computes_as(norm, BatchNorm2d) and (
        "running_mean" in norm.buffers
        and norm.num_features == len(conv.params["weight"])
        and norm.layout == conv.options["layout"]
    )


def _folded(w, b, norm):
    mean, var = norm.buffers["running_mean"], norm.buffers["running_var"]
    gamma, beta = norm.params.get("weight"), norm.params.get("bias")
    return F.fold_batch_norm(w, b, gamma, beta, mean, var, norm.eps)
