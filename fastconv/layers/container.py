"""Layers made of layers."""

from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

import numpy as np

from fastconv import functional as F
from fastconv.functional._in_place import add
from fastconv.layers.activation import ReLU
from fastconv.layers.base import Layer


class Container(Layer):
    """Base class of layers that are made of others; see `Sequential`, `Residual` and `Concat`.

    Parameters
    ----------
    children : dict of str to Layer
        The layers by name. Parameters are called after the layer and their name in it,
        "conv1.weight"; those of a layer named "" by the latter alone.

    Attributes
    ----------
    params, grads, buffers : mapping of str to ndarray
        Those of all layers. Change the arrays in place; to put in another array, use the dict of
        the layer itself.

    Raises
    ------
    TypeError
        If something is no layer.
    ValueError
        If a layer is in there twice, which could keep only one input for the backward pass, or if
        two parameters would have one name.
    """

    # The attributes of Layer are views of the layers' own here, so its __init__ does not run.
    def __init__(self, children):
        kind = type(self).__name__
        for name, layer in children.items():
            if not isinstance(name, str) or "." in name:
                raise ValueError(f"{kind}: {name!r} is no name, expected a string without dots")
            if not isinstance(layer, Layer):
                raise TypeError(f"{kind}: {_argument(name)} is {layer!r}, expected a layer")
        self._children = dict(children)
        self.training = True
        layers = Counter(layer for child in self._children.values() for layer in _all(child))
        for layer, count in layers.items():
            if count > 1:
                raise ValueError(f"{kind}: {layer!r} appears twice; make two layers")
        keys = Counter(key for key, _ in self._pairs(lambda layer: layer._state()))
        for key, count in keys.items():
            if count > 1:
                raise ValueError(f"{kind}: two arrays would be called {key!r}; name layers apart")

    def children(self):
        """The layers that this one is made of, by name."""
        return dict(self._children)

    @property
    def params(self):
        return self._merged(lambda layer: layer.params)

    @property
    def grads(self):
        return self._merged(lambda layer: layer.grads)

    @property
    def buffers(self):
        return self._merged(lambda layer: layer.buffers)

    def _state(self):
        return self._merged(lambda layer: layer._state())

    def _merged(self, arrays_of):
        # Read-only, because an array assigned to a merged dict would reach no layer.
        return MappingProxyType(dict(self._pairs(arrays_of)))

    def _pairs(self, arrays_of):
        for name, layer in self._children.items():
            for key, array in arrays_of(layer).items():
                yield joined(name, key), array

    def _child_reprs(self):
        return [f"({name}): {layer!r}" for name, layer in self._children.items()]

    def __repr__(self):
        body = "\n".join(self._child_reprs()).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)" if body else f"{type(self).__name__}()"


class Sequential(Container):
    """Layers in a row: each takes the output of the one before.

    Parameters
    ----------
    *layers : Layer
        The layers in order, called "0", "1", and so on; or one dict of layers by name. A layer
        named "" adds nothing to the names of its parameters. A layer may not appear twice, here
        or in a branch: it could keep only one input for the backward pass.

    Attributes
    ----------
    layers : tuple of Layer
        The layers; ``net[i]``, ``net["name"]``, ``net[i:j]``, ``len(net)`` and iteration work too.
        A part ``net[i:j]`` shares the layers and keeps their names.
    params, grads, buffers : mapping of str to ndarray
        Those of all layers, named as in PyTorch: "0.weight" is the weight of the first layer.
        Change the arrays in place; to put in another array, use the dict of the layer itself.

    Notes
    -----
    A `ReLU` behind a layer that can apply it, such as `Conv2d`, is applied while that layer's
    results are in registers. On the way back, a `Conv2d` or `MaxPool2d` behind a `ReLU` does its
    work, too: the convolution has the ReLU's output at hand, its own input, and a maximum is
    positive where the pixel was that it came from. It makes no difference how layers are nested
    in Sequentials. The numbers are those of layer after layer, and so is what each layer keeps.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
    >>> rng = np.random.default_rng(0)
    >>> net = Sequential(
    ...     Conv2d(1, 4, 3, padding=1, rng=rng), ReLU(), MaxPool2d(2),
    ...     Flatten(), Linear(4 * 4 * 4, 10, rng=rng),
    ... )
    >>> scores = net.forward(np.ones((2, 1, 8, 8), np.float32))
    >>> scores.shape
    (2, 10)
    >>> net.backward(np.ones_like(scores)).shape
    (2, 1, 8, 8)
    >>> list(net.grads)
    ['0.weight', '0.bias', '4.weight', '4.bias']

    With names:

    >>> net = Sequential({"conv1": Conv2d(1, 4, 3), "relu": ReLU()})
    >>> net["conv1"]
    Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))
    >>> list(net.params)
    ['conv1.weight', 'conv1.bias']
    """

    def __init__(self, *layers):
        super().__init__(_by_name(layers))
        self.layers = tuple(self._children.values())

    def forward(self, x):
        """Compute the output; each layer keeps what its backward needs."""
        return self._run(x, Layer._forward_with_relu, lambda layer: layer.forward)

    def __call__(self, x):
        """Compute the output in evaluation mode; no layer keeps anything."""
        return self._run(x, Layer._infer_with_relu, lambda layer: layer)

    def _run(self, x, with_relu, alone):
        steps = list(_steps(self))
        indices = iter(range(len(steps)))
        for i in indices:
            name, layer = steps[i]
            if _relu_at(steps, i + 1) and _declares(layer, "_applies_relu"):
                _, relu = steps[next(indices)]
                x = _named(name, layer, with_relu, layer, x, relu)
            else:
                x = _named(name, layer, alone(layer), x)
        return x

    def backward(self, dy, *, need_dx=True):
        """Run all layers backward; see `Layer.backward`.

        With ``need_dx=False``, as for training, the first layer with parameters computes no input
        gradient, and the layers before it do nothing.
        """
        steps = list(_steps(self))
        first = 0 if need_dx else _first_with_params(steps)
        indices = reversed(range(first, len(steps)))
        for i in indices:
            name, layer = steps[i]
            if i > first and _relu_at(steps, i - 1) and _declares(layer, "_undoes_relu"):
                _, relu = steps[next(indices)]
                dy = _named(name, layer, layer._backward_with_relu, dy, relu)
            else:
                dy = _named(name, layer, layer.backward, dy, need_dx=need_dx or i > first)
        return dy if need_dx else None

    def output_shape(self, in_shape):
        """Shape of the last layer's output for an input of shape `in_shape`."""
        for name, layer in _steps(self):
            in_shape = _named(name, layer, layer.output_shape, in_shape)
        return tuple(in_shape)

    def __len__(self):
        return len(self.layers)

    def __iter__(self):
        return iter(self.layers)

    def __getitem__(self, index):
        if isinstance(index, str):
            if index not in self._children:
                names = ", ".join(map(repr, self._children))
                raise KeyError(f"Sequential has no layer {index!r}, only {names}")
            return self._children[index]
        if isinstance(index, slice):
            return Sequential(dict(list(self._children.items())[index]))
        return self.layers[index]


class Residual(Container):
    """The sum of two branches, ``body(x) + x`` or ``body(x) + shortcut(x)``.

    Gradients reach the input through the sum unchanged, however deep the body is, so that nets of
    a hundred layers can be trained.

    Parameters
    ----------
    body : Layer
        What is learned: the difference from the shortcut.
    shortcut : Layer, optional
        Brings the input to the body's shape where that differs, usually a 1x1 convolution with
        the stride of the body, and batch normalization. None passes the input on as it is.
    activation : {None, "relu"}, optional
        Applied to the sum, in the same pass over memory.
    names : (str, str), optional
        What the names of the parameters of body and shortcut begin with. As they are, a block has
        the names of torchvision's ResNets: "conv1.weight", "downsample.0.weight".

    Raises
    ------
    ValueError
        If the branches' outputs differ in shape; the message names both.

    References
    ----------
    K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; CS231n,
    "Convolutional Networks", section "Case studies" (ResNet).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Conv2d, ReLU, Residual, Sequential
    >>> block = Residual(
    ...     Sequential({"conv1": Conv2d(4, 8, 3, 2, 1), "relu": ReLU(), "conv2": Conv2d(8, 8, 1)}),
    ...     Conv2d(4, 8, 1, 2),
    ...     activation="relu",
    ... )
    >>> block.forward(np.ones((1, 4, 6, 6), np.float32)).shape
    (1, 8, 3, 3)
    >>> [name for name in block.params if name.endswith("weight")]
    ['conv1.weight', 'conv2.weight', 'downsample.weight']
    """

    _applies_relu = _undoes_relu = True

    def __init__(self, body, shortcut=None, *, activation=None, names=("", "downsample")):
        if activation not in (None, "relu"):
            raise ValueError(f"Residual: activation must be None or 'relu', got {activation!r}")
        if not isinstance(body, Layer):
            raise TypeError(f"Residual: body is {body!r}, expected a layer")
        if len(names) != 2 or names[0] == names[1]:
            raise ValueError(f"Residual: names={names!r}, expected two different names")
        branches = zip(names, (body, shortcut), strict=True)
        super().__init__({name: layer for name, layer in branches if layer is not None})
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def _forward(self, x, relu=False):
        y = _named("body", self.body, self.body.forward, x)
        if self.shortcut is None:
            other = x
        else:
            other = _named("shortcut", self.shortcut, self.shortcut.forward, x)
        y = self._sum(x.shape, y, other, relu)
        return y, (x, y)

    def _infer(self, x, relu=False):
        y = _named("body", self.body, self.body, x)
        other = x if self.shortcut is None else _named("shortcut", self.shortcut, self.shortcut, x)
        return self._sum(x.shape, y, other, relu)

    def _sum(self, x_shape, y, other, relu):
        self._check_shapes(x_shape, y.shape, other.shape)
        return add(y, other, relu or self.activation == "relu")

    def _backward(self, dy, kept, need_dx, relu=False):
        x, y = kept
        if self.activation == "relu":
            dy = F.relu_backward(dy, y)
        dx = _named("body", self.body, self.body.backward, dy, need_dx=need_dx)
        other = dy
        if self.shortcut is not None:
            back = self.shortcut.backward
            other = _named("shortcut", self.shortcut, back, dy, need_dx=need_dx)
        if not need_dx:
            return None
        dx = add(dx, other)
        return F.relu_backward(dx, x) if relu else dx

    def output_shape(self, in_shape):
        in_shape = tuple(in_shape)
        shape = other = _named("body", self.body, self.body.output_shape, in_shape)
        if self.shortcut is None:
            other = in_shape
        else:
            other = _named("shortcut", self.shortcut, self.shortcut.output_shape, in_shape)
        self._check_shapes(in_shape, shape, other)
        return shape

    def _check_shapes(self, x_shape, shape, other):
        if shape == other:
            return
        branch = "no shortcut is given" if self.shortcut is None else f"shortcut gives {other}"
        raise ValueError(
            f"Residual: body turns {tuple(x_shape)} into {shape}, but {branch}; both branches of "
            "the sum must have one shape, for which a shortcut Conv2d(channels, out_channels, 1, "
            "stride) is usual"
        )

    def _child_reprs(self):
        lines = [f"(body): {self.body!r}"]
        if self.shortcut is not None:
            lines.append(f"(shortcut): {self.shortcut!r}")
        if self.activation is not None:
            lines.append(f"activation={self.activation!r}")
        return lines


class Concat(Container):
    """Branches side by side, their outputs joined along the channels: an inception block.

    Parameters
    ----------
    *branches : Layer
        The branches, called "0", "1", and so on; or one dict of layers by name.
    layout : {"NCHW", "NHWC"}, optional
        Says which axis holds the channels: 1, or the last.

    Raises
    ------
    ValueError
        If the branches' outputs differ in more than their channels; the message names them.

    References
    ----------
    C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015; CS231n, "Convolutional
    Networks", section "Case studies" (GoogLeNet).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Concat, Conv2d
    >>> block = Concat({"branch1": Conv2d(4, 2, 1), "branch2": Conv2d(4, 3, 3, padding=1)})
    >>> block.forward(np.ones((1, 4, 6, 6), np.float32)).shape
    (1, 5, 6, 6)
    >>> list(block.params)
    ['branch1.weight', 'branch1.bias', 'branch2.weight', 'branch2.bias']
    """

    def __init__(self, *branches, layout="NCHW"):
        if layout not in ("NCHW", "NHWC"):
            raise ValueError(f"Concat: layout must be 'NCHW' or 'NHWC', got {layout!r}")
        self.layout = layout
        super().__init__(_by_name(branches))
        if not self._children:
            raise ValueError("Concat: no branches were given")

    @property
    def axis(self):
        """The axis of the channels."""
        return 1 if self.layout == "NCHW" else -1

    def _forward(self, x):
        outputs = [_named(name, b, b.forward, x) for name, b in self._children.items()]
        return self._joined(x.shape, outputs), (x.shape, [y.shape for y in outputs])

    def _infer(self, x):
        outputs = [_named(name, b, b, x) for name, b in self._children.items()]
        return self._joined(x.shape, outputs)

    def _joined(self, x_shape, outputs):
        self._joined_shape(x_shape, [y.shape for y in outputs])
        return np.concatenate(outputs, self.axis)

    def _backward(self, dy, kept, need_dx):
        x_shape, shapes = kept
        expected = self._joined_shape(x_shape, shapes)
        if dy.shape != expected:
            raise ValueError(f"Concat.backward: dy has shape {dy.shape}, expected {expected}")
        ends = np.cumsum([shape[self.axis] for shape in shapes])
        parts = np.split(dy, ends[:-1], self.axis)
        total = None
        for (name, branch), part in zip(self._children.items(), parts, strict=True):
            dx = _named(name, branch, branch.backward, part, need_dx=need_dx)
            if need_dx:
                total = dx if total is None else add(total, dx)
        return total

    def output_shape(self, in_shape):
        shapes = [
            tuple(_named(name, branch, branch.output_shape, in_shape))
            for name, branch in self._children.items()
        ]
        return self._joined_shape(in_shape, shapes)

    def _joined_shape(self, x_shape, shapes):
        apart = [[*shape] for shape in shapes]
        for shape in apart:
            shape[self.axis] = None
        if any(shape != apart[0] for shape in apart):
            pairs = zip(self._children, shapes, strict=True)
            found = ", ".join(f"{name!r}: {shape}" for name, shape in pairs)
            raise ValueError(
                f"Concat: the branches turn {tuple(x_shape)} into outputs that differ in more "
                f"than their channels (axis {self.axis}): {found}"
            )
        joined = [*shapes[0]]
        joined[self.axis] = sum(shape[self.axis] for shape in shapes)
        return tuple(joined)

    def __getitem__(self, name):
        return self._children[name]

    def _child_reprs(self):
        layout = [] if self.layout == "NCHW" else [f"layout={self.layout!r}"]
        return super()._child_reprs() + layout


def joined(*names):
    """Names with dots between them; "" is none, so that it adds nothing."""
    return ".".join(name for name in names if name)


def _by_name(layers):
    """Layers by name: the one dict of `layers`, or all of them by their number."""
    if len(layers) == 1 and isinstance(layers[0], dict):
        return layers[0]
    return {str(i): layer for i, layer in enumerate(layers)}


def _argument(name):
    return f"argument {name}" if name.isdigit() else repr(name)


def _all(layer):
    """The layers that `layer` is made of in the end, or itself."""
    children = layer.children().values()
    if not children:
        yield layer
    for child in children:
        yield from _all(child)


def _steps(net, prefix=""):
    """The layers of a Sequential with their names; those of Sequentials in it one by one."""
    for name, layer in net.children().items():
        name = joined(prefix, name)
        if type(layer) is Sequential and not _is_patched(layer):
            yield from _steps(layer, name)
        else:
            yield name, layer


def _relu_at(steps, i):
    if not 0 <= i < len(steps):
        return False
    _, layer = steps[i]
    return type(layer) is ReLU and not _is_patched(layer)


def _first_with_params(steps):
    with_params = (i for i, (_, layer) in enumerate(steps) if layer.params)
    return next(with_params, len(steps))


def _declares(layer, ability):
    """Whether the layer's own class says so: a class derived from it may compute otherwise."""
    return vars(type(layer)).get(ability, False) and not _is_patched(layer)


def computes_as(layer, kind):
    """Whether a layer computes what `kind` does: not where a class or object has its own way."""
    methods = ("__call__", "_infer", "_forward")
    same = all(getattr(type(layer), name) is getattr(kind, name) for name in methods)
    return isinstance(layer, kind) and same and not _is_patched(layer)


def _is_patched(layer):
    """Whether somebody listens in by replacing methods of this one object."""
    return not vars(layer).keys().isdisjoint(("forward", "backward", "_forward", "_backward"))


_watcher = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher):
    """Let ``watcher(layer, function, args, kwargs)`` make each call from container to layer.

    What it returns is the result of the call. Nothing else changes: what is done in one pass still
    is, and `args` then hold the ReLU as well. The steps of a prepared net are watched in the same
    way. In force for this thread, until the block ends.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def _called(layer, function, *args, **kwargs):
    """Call `function`, which does the work of `layer`, or let the watcher call it."""
    watcher = _watcher.get()
    if watcher is not None:
        return watcher(layer, function, args, kwargs)
    return function(*args, **kwargs)


def _named(name, layer, function, *args, **kwargs):
    """Call `function`; an error's traceback says in which layer it happened."""
    try:
        return _called(layer, function, *args, **kwargs)
    except (ValueError, TypeError, RuntimeError) as error:
        # What a container consists of would fill pages, and its own layers' notes say more.
        shown = f"a {type(layer).__name__}" if layer.children() else repr(layer)
        error.add_note(f"in layer {name}: {shown}")
        raise
