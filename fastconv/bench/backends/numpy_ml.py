"""numpy-ml: layers forward and backward, and a training step of a small net, with and without."""

import numpy as np

from fastconv.bench.backends import BackendCase


def cases() -> list[BackendCase]:
    """Image layers at the sizes of a small net, a WaveNet block, a step of two such layers."""
    image = (8, 32, 32, 16)
    return [
        *_both("Conv2D 3x3 32 same (8,32,32,16)", _conv2d, image, 16 * 9, 32 * 9),
        *_both("Deconv2D 4x4 16 stride 2 (8,16,16,32)", _deconv2d, (8, 16, 16, 32), 512, 512),
        *_both("Pool2D max 2x2 (8,32,32,16)", _max_pool2d, image, 1, 1),
        *_both("Pool2D average 2x2 (8,32,32,16)", _average_pool2d, image, 4, 1),
        *_both("Conv1D 2 causal dilated (8,1024,32)", _conv1d, (8, 1024, 32), 64, 64),
        BackendCase("conv-pool-conv-pool-dense (16,28,28,1)", "step", _step, 20000, bar=5),
    ]


def _both(name, layer, shape, forward_terms, backward_terms):
    pixels = shape[0] * int(np.prod(shape[1:-1]))
    return [
        BackendCase(name, "forward", lambda: _pass(layer, shape, False), forward_terms),
        BackendCase(
            name,
            "backward",
            lambda: _pass(layer, shape, True),
            max(pixels, backward_terms),
        ),
    ]


def _conv2d():
    from numpy_ml.neural_nets.layers import Conv2D

    return Conv2D(32, (3, 3), pad="same", act_fn="ReLU")


def _deconv2d():
    from numpy_ml.neural_nets.layers import Deconv2D

    return Deconv2D(16, (4, 4), pad=1, stride=2, act_fn="ReLU")


def _max_pool2d():
    from numpy_ml.neural_nets.layers import Pool2D

    return Pool2D((2, 2), stride=2)


def _average_pool2d():
    from numpy_ml.neural_nets.layers import Pool2D

    return Pool2D((2, 2), stride=2, mode="average")


def _conv1d():
    from numpy_ml.neural_nets.layers import Conv1D

    return Conv1D(32, 2, pad="causal", dilation=3, act_fn="Tanh")


def _pass(make, shape, backward):
    """A call that runs the layer forward, or backward after one pass forward."""
    np.random.seed(0)  # the layers draw their filters from it
    layer = make()
    x = np.random.standard_normal(shape)
    if not backward:
        return lambda: layer.forward(x, retain_derived=False)
    dy = np.random.standard_normal(layer.forward(x).shape)

    def run():
        for gradient in layer.gradients.values():
            gradient[...] = 0
        return layer.backward(dy), layer.gradients

    return run


def _step():
    from numpy_ml.neural_nets import layers
    from numpy_ml.neural_nets.losses import CrossEntropy

    np.random.seed(0)
    net = [
        layers.Conv2D(16, (5, 5), pad="same", act_fn="ReLU"),
        layers.Pool2D((2, 2), stride=2),
        layers.Conv2D(32, (5, 5), pad="same", act_fn="ReLU"),
        layers.Pool2D((2, 2), stride=2),
        layers.Flatten(),
        layers.FullyConnected(10),
        layers.Softmax(),
    ]
    x = np.random.standard_normal((16, 28, 28, 1))
    y = np.eye(10)[np.random.randint(10, size=16)]

    def run():
        a = x
        for layer in net:
            a = layer.forward(a)
        d = CrossEntropy.grad(y, a) / len(x)
        for layer in reversed(net[:-1]):
            d = layer.backward(d)
        gradients = [dict(layer.gradients) for layer in net]
        for layer in net:
            layer.update()
        return a, gradients

    return run
