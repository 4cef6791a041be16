"""Layers made of layers."""

from collections import Counter
from types import MappingProxyType

from fastconv.layers.activation import ReLU
from fastconv.layers.base import Layer


class Sequential(Layer):
    """Layers in a row: each takes the output of the one before.

    Parameters
    ----------
    *layers : Layer
        The layers in order. A layer may not appear twice: it could keep only one input for the
        backward pass.

    Attributes
    ----------
    layers : tuple of Layer
        The layers; ``net[i]``, ``net[i:j]``, ``len(net)`` and iteration work too.
    params, grads : mapping of str to ndarray
        Those of all layers, named as in PyTorch: "0.weight" is the weight of the first layer.
        Change the arrays in place; to put in another array, use the dict of the layer itself.

    Notes
    -----
    A `ReLU` behind a `Conv2d` is applied while the convolution's results are in registers. On the
    way back, a `Conv2d` or `MaxPool2d` behind a `ReLU` does its work, too: the convolution has the
    ReLU's output at hand, its own input, and a maximum is positive where the pixel was that it
    came from. The numbers are those of layer after layer, and so is what each layer keeps.

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
    """

    # The attributes of Layer are views of the layers' own here, so its __init__ does not run.
    def __init__(self, *layers):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: argument {i} is {layer!r}, expected a layer")
        repeated = [layer for layer, n in Counter(_leaves(layers)).items() if n > 1]
        if repeated:
            raise ValueError(f"Sequential: {repeated[0]!r} appears twice; make two layers")
        self.layers = tuple(layers)
        self.training = True

    @property
    def params(self):
        return self._merged("params")

    @property
    def grads(self):
        return self._merged("grads")

    def _merged(self, kind):
        # Read-only, because an array assigned to a merged dict would reach no layer.
        return MappingProxyType(
            {
                f"{i}.{name}": value
                for i, layer in enumerate(self.layers)
                for name, value in getattr(layer, kind).items()
            }
        )

    def forward(self, x):
        """Compute the output; each layer keeps what its backward needs."""
        return self._run(x, lambda layer: layer.forward, _forward_with_relu)

    def __call__(self, x):
        """Compute the output in evaluation mode; no layer keeps anything."""
        return self._run(x, lambda layer: layer, _infer_with_relu)

    def _run(self, x, alone, with_relu):
        layers = enumerate(self.layers)
        for i, layer in layers:
            if self._relu_at(i + 1) and _declares(layer, "_applies_relu"):
                _, relu = next(layers)
                x = _named(i, layer, with_relu, layer, relu, x)
            else:
                x = _named(i, layer, alone(layer), x)
        return x

    def backward(self, dy, *, need_dx=True):
        """Run all layers backward; see `Layer.backward`.

        With ``need_dx=False``, as for training, the first layer with parameters computes no input
        gradient, and the layers before it do nothing.
        """
        first = 0 if need_dx else self._first_with_params()
        indices = reversed(range(first, len(self.layers)))
        for i in indices:
            layer = self.layers[i]
            if i > first and self._relu_at(i - 1) and _declares(layer, "_undoes_relu"):
                relu = self.layers[next(indices)]
                dy = _named(i, layer, _backward_with_relu, layer, relu, dy)
            else:
                dy = _named(i, layer, layer.backward, dy, need_dx=need_dx or i > first)
        return dy if need_dx else None

    def _relu_at(self, i):
        if not 0 <= i < len(self.layers):
            return False
        layer = self.layers[i]
        return type(layer) is ReLU and not _is_patched(layer)

    def _first_with_params(self):
        with_params = (i for i, layer in enumerate(self.layers) if layer.params)
        return next(with_params, len(self.layers))

    def output_shape(self, in_shape):
        """Shape of the last layer's output for an input of shape `in_shape`."""
        for i, layer in enumerate(self.layers):
            in_shape = _named(i, layer, layer.output_shape, in_shape)
        return tuple(in_shape)

    def train(self, mode=True):
        """Switch all layers to training mode (or, with False, to evaluation mode)."""
        for layer in self.layers:
            layer.train(mode)
        return super().train(mode)

    def __len__(self):
        return len(self.layers)

    def __iter__(self):
        return iter(self.layers)

    def __getitem__(self, index):
        chosen = self.layers[index]
        return Sequential(*chosen) if isinstance(index, slice) else chosen

    def __repr__(self):
        lines = [f"({i}): {layer!r}" for i, layer in enumerate(self.layers)]
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"Sequential(\n  {body}\n)" if lines else "Sequential()"


def _leaves(layers):
    for layer in layers:
        yield from _leaves(layer) if isinstance(layer, Sequential) else (layer,)


def _declares(layer, ability):
    """Whether the layer's own class says so: a class derived from it may compute otherwise."""
    return vars(type(layer)).get(ability, False) and not _is_patched(layer)


def _is_patched(layer):
    """Whether somebody listens in by replacing methods of this one object."""
    return not vars(layer).keys().isdisjoint(("forward", "backward", "_forward", "_backward"))


def _forward_with_relu(layer, relu, x):
    y, layer._kept = layer._forward(x, relu=True)
    relu._kept = y
    return y


def _infer_with_relu(layer, relu, x):
    layer._kept = relu._kept = None
    return layer._infer(x, relu=True)


def _backward_with_relu(layer, relu, dy):
    relu._kept_by_forward()
    return layer._backward(dy, layer._kept_by_forward(), need_dx=True, relu=True)


def _named(i, layer, function, *args, **kwargs):
    """Call `function`; an error's traceback says in which layer it happened."""
    try:
        return function(*args, **kwargs)
    except (ValueError, TypeError, RuntimeError) as error:
        error.add_note(f"in layer {i}: {layer!r}")
        raise
