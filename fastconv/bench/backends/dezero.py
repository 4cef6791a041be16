"""DeZero: its functions, and a training step of a small convolutional net."""

from functools import partial

import numpy as np

from fastconv.bench.backends import BackendCase

X, W, POOL = (32, 16, 28, 28), (32, 16, 3, 3), (32, 32, 28, 28)


def cases() -> list[BackendCase]:
    return [
        BackendCase(f"conv2d 3x3 {_text(X)}", "forward", partial(_conv, "conv2d"), 144),
        BackendCase(
            f"conv2d 3x3 {_text(X)}", "backward", partial(_conv, "conv2d", True), 32 * 28 * 28
        ),
        BackendCase(f"deconv2d 3x3 {_text(X)}", "forward", partial(_conv, "deconv2d"), 144),
        BackendCase(f"pooling 2x2 {_text(POOL)}", "forward", partial(_pool, "pooling"), 4),
        BackendCase(f"pooling 2x2 {_text(POOL)}", "backward", partial(_pool, "pooling", True), 4),
        BackendCase(
            f"average_pooling 2x2 {_text(POOL)}",
            "backward",
            partial(_pool, "average_pooling", True),
            4,
        ),
        BackendCase("convnet (64,1,28,28)", "step", _step, 64 * 28 * 28, bar=5),
    ]


def _text(shape) -> str:
    return f"({','.join(map(str, shape))})"


def _normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _call(function, inputs, backward, *args):
    from dezero import Variable

    inputs = [Variable(array) for array in inputs]

    def forward():
        return function(*inputs, *args).data

    y = function(*inputs, *args)
    y.grad = Variable(_normal(*y.shape))

    def gradients():
        found = y.creator.backward(y.grad)
        return [v.data for v in (found if isinstance(found, tuple) else [found])]

    def without_graph():
        from dezero import no_grad

        with no_grad():
            return gradients()

    return without_graph if backward else forward


def _conv(name, backward=False):
    import dezero.functions as F

    w = _normal(*W) if name == "conv2d" else _normal(*W).transpose(1, 0, 2, 3)
    return _call(getattr(F, name), (_normal(*X), w, _normal(W[0])), backward, 1, 1)


def _pool(name, backward=False):
    import dezero.functions as F

    return _call(getattr(F, name), (_normal(*POOL),), backward, 2, 2)


def _step():
    """Two 5x5 convolutions with ReLU and pooling, a linear layer, SGD; float32 all through."""
    import dezero.functions as F
    from dezero import Variable

    rng = np.random.default_rng(0)
    x, t = _normal(64, 1, 28, 28), rng.integers(0, 10, 64)
    shapes = (20, 1, 5, 5), (20,), (50, 20, 5, 5), (50,), (50 * 49, 10), (10,)
    params = [Variable(0.05 * _normal(*shape)) for shape in shapes]

    def step():
        W1, b1, W2, b2, W3, b3 = params
        h = F.pooling(F.relu(F.conv2d(x, W1, b1, 1, 2)), 2, 2)
        h = F.pooling(F.relu(F.conv2d(h, W2, b2, 1, 2)), 2, 2)
        loss = F.softmax_cross_entropy(F.linear(F.flatten(h), W3, b3), t)
        for p in params:
            p.cleargrad()
        loss.backward()
        for p in params:
            p.data -= 0.01 * p.grad.data
        return [p.data for p in params]

    return step
