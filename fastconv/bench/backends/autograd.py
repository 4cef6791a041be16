"""autograd: convolve, its gradients and a step of a small net, with and without fastconv."""

import numpy as np

from fastconv.bench.backends import BackendCase


def cases() -> list[BackendCase]:
    """The layer of autograd's example, plain convolutions, and a step of such a net."""
    return [
        BackendCase("convolve 5x5 16 (64,6,14,14)", "forward", _forward, 6 * 25),
        BackendCase("convolve 5x5 16 (64,6,14,14)", "backward", _backward, 64 * 100),
        BackendCase("convolve full (128,128) 9x9", "forward", _plain, 81),
        BackendCase("conv-pool-conv-pool-dense (32,1,28,28)", "step", _step, 40000, bar=5),
    ]


def _layer(x, w):
    from autograd.scipy.signal import convolve

    return convolve(x, w, axes=([2, 3], [2, 3]), dot_axes=([1], [0]), mode="valid")


def _forward():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((64, 6, 14, 14)), rng.standard_normal((6, 16, 5, 5))
    return lambda: _layer(x, w)


def _backward():
    from autograd import grad

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((64, 6, 14, 14)), rng.standard_normal((6, 16, 5, 5))
    weights = rng.standard_normal((64, 16, 10, 10))
    loss = grad(lambda x, w: (_layer(x, w) * weights).sum(), (0, 1))
    return lambda: loss(x, w)


def _plain():
    from autograd.scipy.signal import convolve

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((128, 128)), rng.standard_normal((9, 9))
    return lambda: convolve(x, w)


def _step():
    import autograd.numpy as anp
    from autograd import grad

    def pool(x):
        n, c, h, w = x.shape
        return anp.max(anp.max(anp.reshape(x, (n, c, h // 2, 2, w // 2, 2)), axis=3), axis=4)

    def loss(weights):
        w1, w2, w3 = weights
        a = anp.tanh(pool(_layer(pool(_layer(x, w1)), w2)))
        scores = anp.dot(anp.reshape(a, (len(x), -1)), w3)
        return anp.mean(anp.log(anp.sum(anp.exp(scores), axis=1)) - scores[anp.arange(len(x)), y])

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 1, 28, 28)), rng.integers(10, size=32)
    shapes = (1, 6, 5, 5), (6, 16, 5, 5), (256, 10)
    weights = [0.1 * rng.standard_normal(shape) for shape in shapes]
    gradient = grad(loss)

    def run():
        found = gradient(weights)
        weights[:] = [w - 0.01 * g for w, g in zip(weights, found, strict=True)]
        return found

    return run
