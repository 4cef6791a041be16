"""Layers made of layers."""

from collections import Counter
from types import MappingProxyType

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
        for i, layer in enumerate(self.layers):
            x = _named(i, layer, layer.forward, x)
        return x

    def __call__(self, x):
        """Compute the output in evaluation mode; no layer keeps anything."""
        for i, layer in enumerate(self.layers):
            x = _named(i, layer, layer, x)
        return x

    def backward(self, dy, *, need_dx=True):
        """Run all layers backward; see `Layer.backward`.

        With ``need_dx=False``, as for training, the first layer with parameters computes no input
        gradient, and the layers before it do nothing.
        """
        first = 0 if need_dx else self._first_with_params()
        for i in reversed(range(first, len(self.layers))):
            layer = self.layers[i]
            dy = _named(i, layer, layer.backward, dy, need_dx=need_dx or i > first)
        return dy if need_dx else None

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


def _named(i, layer, function, *args, **kwargs):
    """Call `function`; an error's traceback says in which layer it happened."""
    try:
        return function(*args, **kwargs)
    except (ValueError, TypeError, RuntimeError) as error:
        error.add_note(f"in layer {i}: {layer!r}")
        raise
