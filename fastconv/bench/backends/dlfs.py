"""Cases of the backend for Deep Learning from Scratch."""

from functools import partial
from importlib import import_module

import numpy as np

from fastconv.bench.backends import BackendCase

# (filters, 3x3, pad 1; pool after it): the six convolutions of the book's deep net, ch08, and the
# one of 5x5 of its small net, ch07
DEEP = [
    (16, 3, 1),
    (16, 3, 1),
    "pool",
    (32, 3, 1),
    (32, 3, 2),
    "pool",
    (64, 3, 1),
    (64, 3, 1),
    "pool",
]
SMALL = [(30, 5, 0), "pool"]


def cases() -> list[BackendCase]:
    deep, small = (32, 16, 28, 28), (100, 1, 28, 28)
    return [
        BackendCase(
            f"Convolution 3x3 {deep}", "forward", partial(convolution, deep, 32, 3, 1), 144
        ),
        BackendCase(
            f"Convolution 3x3 {deep}", "backward", partial(convolution, deep, 32, 3, 1, True), 25088
        ),
        BackendCase(
            f"Convolution 5x5 {small}", "forward", partial(convolution, small, 30, 5, 0), 25
        ),
        BackendCase(
            f"Convolution 5x5 {small}",
            "backward",
            partial(convolution, small, 30, 5, 0, True),
            57600,
        ),
        BackendCase("Pooling 2x2 (100, 30, 24, 24)", "forward", pooling, 1),
        BackendCase("Pooling 2x2 (100, 30, 24, 24)", "backward", partial(pooling, True), 1),
        BackendCase(f"im2col 3x3 {deep}", "forward", partial(columns, deep), 1),
        BackendCase(f"col2im 3x3 {deep}", "backward", partial(columns, deep, True), 9),
        BackendCase("DeepConvNet of ch08, batch 100", "step", partial(step, DEEP), 78400, bar=5),
        BackendCase("SimpleConvNet of ch07, batch 100", "step", partial(step, SMALL), 57600),
    ]


def convolution(shape, filters, size, pad, backward=False):
    rng = np.random.default_rng(0)
    W = rng.standard_normal((filters, shape[1], size, size))
    layer = import_module("common.layers").Convolution(W, rng.standard_normal(filters), pad=pad)
    x = rng.standard_normal(shape)
    y = layer.forward(x)
    if not backward:
        return lambda: layer.forward(x)
    dout = rng.standard_normal(y.shape)
    return lambda: (layer.backward(dout), layer.dW, layer.db)


def pooling(backward=False):
    layer = import_module("common.layers").Pooling(2, 2)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 30, 24, 24))
    dout = rng.standard_normal(layer.forward(x).shape)
    return (lambda: layer.backward(dout)) if backward else lambda: layer.forward(x)


def columns(shape, backward=False):
    util = import_module("common.util")
    x = np.random.default_rng(0).standard_normal(shape)
    if not backward:
        return lambda: util.im2col(x, 3, 3, pad=1)
    cols = util.im2col(x, 3, 3, pad=1)
    return lambda: util.col2im(cols, shape, 3, 3, pad=1)


def step(plan):
    """A step of SGD: loss, gradients and update, as the book's nets and trainer do it."""
    net = import_module("common.layers")
    rng = np.random.default_rng(0)
    x = rng.random((100, 1, 28, 28), np.float32)
    t = rng.integers(0, 10, 100)
    layers, y = [], x
    for entry in plan:
        if entry == "pool":
            new = [net.Pooling(2, 2)]
        else:
            filters, size, pad = entry
            fan_in = y.shape[1] * size * size
            W = rng.standard_normal((filters, y.shape[1], size, size)) * np.sqrt(2 / fan_in)
            new = [net.Convolution(W, np.zeros(filters), pad=pad), net.Relu()]
        for layer in new:
            y = layer.forward(y)
        layers += new
    for inputs, outputs in ((y[0].size, 100), (100, 10)):
        W = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        layers += [net.Affine(W, np.zeros(outputs)), net.Relu()]
    layers[-1] = net.SoftmaxWithLoss()
    return lambda: _step(layers, x, t)


def _step(layers, x, t):
    *hidden, last = layers
    for layer in hidden:
        x = layer.forward(x)
    loss, dout = last.forward(x, t), last.backward()
    for layer in reversed(hidden):
        dout = layer.backward(dout)
    gradients = []
    for layer in hidden:
        if hasattr(layer, "dW"):
            gradients += [layer.dW, layer.db]
            layer.W -= 0.01 * layer.dW
            layer.b -= 0.01 * layer.db
    return np.array(loss), gradients
