"""Chainer's functions and a step of training, with its own NumPy code and with fastconv."""

import numpy as np

from fastconv.bench.backends import BackendCase


def cases() -> list[BackendCase]:
    image = (32, 16, 28, 28)
    volume = (4, 8, 8, 16, 16)
    pixels = 32 * 28 * 28
    return [
        BackendCase(f"conv2d 3x3 {image}", "forward", _forward(_conv, image), 16 * 9),
        BackendCase(f"conv2d 3x3 {image}", "backward", _backward(_conv, image), pixels),
        BackendCase(f"depthwise 3x3 {image}", "forward", _forward(_depthwise, image), 9),
        BackendCase(f"depthwise 3x3 {image}", "backward", _backward(_depthwise, image), pixels),
        BackendCase(f"deconv2d 4x4/2 {image}", "forward", _forward(_deconv, image), 16 * 4),
        BackendCase(f"deconv2d 4x4/2 {image}", "backward", _backward(_deconv, image), 4 * pixels),
        BackendCase(f"max pool 2x2 {image}", "forward", _forward(_max_pool, image), 1),
        BackendCase(f"max pool 2x2 {image}", "backward", _backward(_max_pool, image), 1),
        BackendCase(f"average pool 3x3/2 {image}", "forward", _forward(_average_pool, image), 9),
        BackendCase(f"average pool 3x3/2 {image}", "backward", _backward(_average_pool, image), 4),
        BackendCase(f"response norm {image}", "forward", _forward(_response_norm, image), 5),
        BackendCase(f"conv3d 3x3x3 {volume}", "forward", _forward(_conv3d, volume), 8 * 27),
        BackendCase(f"conv3d 3x3x3 {volume}", "backward", _backward(_conv3d, volume), 4 * 8 * 256),
        BackendCase("small net (32,3,32,32)", "step", _small_net, 20 * pixels, bar=5),
        BackendCase("net with batch norm (32,3,32,32)", "step", _normed_net, 20 * pixels, bar=5),
    ]  # fmt: skip


def _random(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


def _conv(F, x, W, b):
    return F.convolution_2d(x, W, b, pad=1)


def _depthwise(F, x, W, b):
    return F.depthwise_convolution_2d(x, W, b, pad=1)


def _deconv(F, x, W, b):
    return F.deconvolution_2d(x, W, b, stride=2, pad=1)


def _conv3d(F, x, W, b):
    return F.convolution_nd(x, W, b, pad=1)


def _max_pool(F, x):
    return F.max_pooling_2d(x, 2)


def _average_pool(F, x):
    return F.average_pooling_2d(x, 3, 2, 1)


def _response_norm(F, x):
    return F.local_response_normalization(x)


_PARAMETERS = {
    _conv: ((32, 16, 3, 3), (32,)),
    _depthwise: ((1, 16, 3, 3), (16,)),
    _deconv: ((16, 8, 4, 4), (8,)),
    _conv3d: ((16, 8, 3, 3, 3), (16,)),
}


def _inputs(function, shape):
    return [_random(*s) for s in (shape, *_PARAMETERS.get(function, ()))]


def _forward(function, shape):
    def build():
        import chainer.functions as F

        inputs = _inputs(function, shape)
        return lambda: function(F, *inputs).array

    return build


def _backward(function, shape):
    """Gradients of all that a function is given, through a graph that is kept."""

    def build():
        import chainer
        import chainer.functions as F

        inputs = [chainer.Variable(x) for x in _inputs(function, shape)]
        y = function(F, *inputs)
        gy = chainer.Variable(_random(*y.shape))
        return lambda: [g.array for g in chainer.grad([y], inputs, [gy])]

    return build


def _small_net():
    return _step(normed=False)


def _normed_net():
    return _step(normed=True)


def _step(normed):
    """Forward, backward and update of a net with two convolutions and two layers of pooling."""
    import chainer
    import chainer.functions as F
    import chainer.links as L

    rng = np.random.RandomState(0)
    weights = chainer.initializers.HeNormal(rng=rng)
    norms = [[L.BatchNormalization(size)] if normed else [] for size in (32, 64)]
    options = {"pad": 1, "initialW": weights, "nobias": normed}  # a bias would have no gradient
    net = chainer.Sequential(
        L.Convolution2D(3, 32, 3, **options), *norms[0], F.relu,
        lambda x: F.max_pooling_2d(x, 2),
        L.Convolution2D(32, 64, 3, **options), *norms[1], F.relu,
        lambda x: F.max_pooling_2d(x, 2),
        L.Linear(64 * 8 * 8, 10, initialW=weights),
    )  # fmt: skip
    optimizer = chainer.optimizers.MomentumSGD(1e-3).setup(net)
    x = rng.standard_normal((32, 3, 32, 32)).astype(np.float32)
    t = rng.randint(10, size=32).astype(np.int32)

    def call():
        loss = F.softmax_cross_entropy(net(x), t)
        net.cleargrads()
        loss.backward()
        optimizer.update()
        return [loss.array, *(p.array for p in net.params())]

    return call
