"""Prepared nets: the same outputs as in evaluation mode, whatever is folded, fused and in place."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_containers import SHAPE, branched_net

import fastconv
import fastconv.functional as F
import fastconv.reference as R
from fastconv import layers
from fastconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    ReLU6,
    Residual,
    Sequential,
)

# Roundings of a sum of some hundreds of terms, folded and not, through a handful of layers; a few
# of them would be enough. It is compared with the largest number of the output.
ROUNDINGS = 200


def assert_equal_within(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    size = np.abs(expected).max(initial=0)
    assert (
        np.abs(actual - expected).max(initial=0) <= ROUNDINGS * np.finfo(expected.dtype).eps * size
    )


def settle(net, rng):
    """Random parameters and statistics everywhere, as a trained net has them."""
    for name, array in [*net.params.items(), *net.buffers.items()]:
        if name.endswith(("bias", "running_mean")):
            array[:] = rng.standard_normal(array.shape)
        elif name.endswith("running_var") or array.ndim == 1:
            array[:] = rng.uniform(0.5, 2, array.shape)
    return net.eval()


def options(dtype, layout="NCHW"):
    return {"dtype": dtype, "layout": layout, "rng": 0}


def cases(dtype, layout="NCHW"):
    """Nets by name, for images of 4 channels."""
    both = options(dtype, layout)
    norm = {"dtype": dtype, "layout": layout}
    where = {"layout": layout}

    def conv(C=4, OC=4, size=3, **how):
        return Conv2d(C, OC, size, padding=size // 2, **how, **both)

    def block(**how):
        return Residual(Sequential(conv(), BatchNorm2d(4, **norm)), **how)

    return {
        "nothing": Sequential(),
        "conv": conv(),
        "conv-bn": Sequential(conv(), BatchNorm2d(4, **norm)),
        "conv-bn-relu": Sequential(conv(bias=False), BatchNorm2d(4, **norm), ReLU()),
        "conv-bn-relu6": Sequential(conv(4, 8), BatchNorm2d(8, **norm), ReLU6()),
        "depthwise-bn-relu6": Sequential(conv(groups=4), BatchNorm2d(4, **norm), ReLU6()),
        "conv-relu-bn": Sequential(conv(), ReLU(), BatchNorm2d(4, **norm)),
        "bn-relu-conv": Sequential(BatchNorm2d(4, **norm), ReLU(), conv()),
        "batch-statistics": Sequential(conv(), BatchNorm2d(4, 1e-5, 0.1, True, False, **norm)),
        "without-scale": Sequential(conv(), BatchNorm2d(4, affine=False, **norm)),
        "nested": Sequential(Sequential(conv()), Sequential(BatchNorm2d(4, **norm), ReLU())),
        "relu-first": Sequential(ReLU(), conv(), ReLU(), ReLU6()),
        "two-relu6": Sequential(conv(), MaxPool2d(2, **where), ReLU6(), ReLU()),
        "dropout": Sequential(Dropout(), conv(), Dropout(), ReLU(), Dropout()),
        "flatten-relu": Sequential(Flatten(), ReLU()),
        "pool-flatten-relu": Sequential(AvgPool2d(2, **where), Flatten(), ReLU(), Flatten()),
        "block": block(),
        "block-relu": block(activation="relu"),
        "blocks": Sequential(block(activation="relu"), block(), ReLU()),
        "block-shortcut": block(shortcut=conv(size=1), activation="relu"),
        "block-of-nothing": Residual(Sequential(), activation="relu"),
        "block-nothing-conv": Residual(Sequential(), conv()),
        "block-flatten": Sequential(conv(), Residual(Sequential(Dropout()), conv(size=1))),
        "block-relus": Sequential(conv(), Residual(Sequential(ReLU()), ReLU6())),
        "block-in-block": Residual(Sequential(block(activation="relu"), conv()), block()),
        "concat": Concat(
            Sequential(conv(4, 2, 1), ReLU()),
            Sequential(conv(4, 3, 1), ReLU(), conv(3, 5), BatchNorm2d(5, **norm), ReLU()),
            Sequential(MaxPool2d(3, 1, 1, **where), conv(4, 1, 1)),
            Sequential(MaxPool2d(3, 1, 1, **where), ReLU6()),
            Sequential(),
            **where,
        ),
        "concat-of-concat": Concat(Concat(conv(), ReLU(), **where), block(), **where),
        "shared-input": Sequential(conv(), Concat(ReLU6(), Sequential(ReLU(), conv()), **where)),
    }


CASES = list(cases(np.float32))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_evaluation(name, layout, isa, dtype, rng):
    net = cases(dtype, layout)[name]
    settle(net, rng)
    for shape in ((2, 4, 6, 8), (1, 4, 6, 8), (0, 4, 6, 8), (2, 4, 10, 6)):
        if layout == "NHWC":
            shape = (shape[0], *shape[2:], shape[1])
        x = (3 * rng.standard_normal(shape)).astype(dtype)
        x.flags.writeable = False
        before, expected = x.copy(), net(x)
        for ready in (net.prepare(), net.prepare(shape)):
            for _ in range(2):  # a block of branches learns their sizes in the first call
                assert_equal_within(ready(x), expected)
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("threads", [1, 2])
def test_whole_nets(threads, dtype, rng):
    net = settle(branched_net(dtype), rng)
    with fastconv.threads(threads):
        ready = net.prepare(SHAPE)
        for _ in range(3):
            x = rng.standard_normal(SHAPE).astype(dtype)
            assert_equal_within(ready(x), net(x))


def test_results_are_not_written_again(rng):
    net = settle(branched_net(np.float64), rng)
    ready = net.prepare()
    images = [rng.standard_normal(SHAPE) for _ in range(4)]
    results = [ready(x) for x in images]
    for x, y in zip(images, results, strict=True):
        assert_equal_within(y, net(x))


def test_later_changes_do_not_reach_it(rng):
    net = settle(branched_net(np.float64), rng)
    x = rng.standard_normal(SHAPE)
    ready, expected = net.prepare(), net(x)
    for array in [*net.params.values(), *net.buffers.values()]:
        array[...] = 7
    assert_equal_within(ready(x), expected)


def test_copies_and_pickles_give_the_same(rng):
    net = settle(branched_net(np.float64), rng)
    x = rng.standard_normal(SHAPE)
    ready = net.prepare(SHAPE)
    for twin in (copy.deepcopy(ready), pickle.loads(pickle.dumps(ready))):
        assert twin.x_shape == SHAPE
        np.testing.assert_array_equal(twin(x), ready(x))


def test_threads_may_share_one(rng):
    net = settle(branched_net(np.float64), rng)
    ready = net.prepare()
    images = [rng.standard_normal((n % 3 + 1, *SHAPE[1:])) for n in range(24)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ready, images))
    for x, y in zip(images, results, strict=True):
        assert_equal_within(y, net(x))


def test_training_mode_is_left_as_it_is(rng):
    net = branched_net(np.float64)
    x = rng.standard_normal(SHAPE)
    ready = net.prepare()
    assert net.training
    assert net["bn1"].training
    assert_equal_within(ready(x), net(x))


def test_own_layers_run_as_they_are(rng):
    class Twice(Conv2d):
        def _infer(self, x, relu=False):
            return 2 * super()._infer(x, relu)

    class Same(Layer):
        def _forward(self, x):
            return x, x

        def output_shape(self, in_shape):
            return in_shape

    net = Sequential(Twice(4, 4, 1, rng=0, dtype=np.float64), Same(), ReLU(), Same(), ReLU6())
    x = 4 * rng.standard_normal((1, 4, 3, 3))
    before = x.copy()
    assert_equal_within(net.prepare()(x), net(x))
    net = Sequential(Same(), ReLU())
    assert_equal_within(net.prepare()(x), net(x))
    np.testing.assert_array_equal(x, before)


def test_what_is_fused_is_shown():
    text = repr(cases(np.float32)["block-shortcut"].prepare())
    assert text.count("BatchNorm2d(4") == 1
    assert "shortcut(\n" in text
    assert "+ ReLU6()" in repr(cases(np.float32)["depthwise-bn-relu6"].prepare())


def test_errors_name_the_layer_and_the_shapes(rng):
    net = branched_net()
    with pytest.raises(ValueError, match="channels"):
        net.prepare((1, 3, 8, 8))
    ready = net.prepare()
    with pytest.raises(ValueError) as caught:
        ready(np.zeros((1, 3, 8, 8), np.float32))
    assert caught.value.__notes__[0].startswith("in layer conv1: Conv2d(2, 4")
    with pytest.raises(TypeError, match="float64"):
        ready(np.zeros(SHAPE))


def test_sums_of_two_shapes_are_refused(rng):
    """Not even of as many numbers."""
    pool = Residual(Conv2d(4, 1, 1, rng=0), Conv2d(4, 4, 2, 2, rng=0))
    ready = Sequential(pool).prepare()
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\) and \(1, 4, 2, 2\)"):
        ready(rng.standard_normal((1, 4, 4, 4)).astype(np.float32))


# ---- what it is made of -------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", "b", "gb", "bg", "g", "bgB"])
def test_folding_is_that_of_the_reference(given, dtype, rng):
    w = rng.standard_normal((5, 3, 2, 2)).astype(dtype)
    b, gamma, beta, mean = (rng.standard_normal(5).astype(dtype) for _ in range(4))
    var = rng.uniform(0.5, 2, 5).astype(dtype)
    arguments = (
        w,
        b if "b" in given else None,
        gamma if "g" in given else None,
        beta if "B" in given else None,
        mean,
        var,
    )
    actual, expected = F.fold_batch_norm(*arguments), R.fold_batch_norm(*arguments)
    # Both round a few times; what is added up in the bias may cancel, its roundings do not.
    eps = np.finfo(dtype).eps
    scale = np.abs(1 if arguments[2] is None else gamma) / np.sqrt(var)
    terms = (np.abs(0 if arguments[1] is None else b) + np.abs(mean)) * scale
    terms = terms + np.abs(0 if arguments[3] is None else beta)
    for a, e, size in zip(actual, expected, (np.abs(expected[0]), terms), strict=True):
        assert a.dtype == e.dtype
        assert (np.abs(a - e) <= 4 * eps * size).all()


@pytest.mark.parametrize("algo", ["gemm", "winograd", "im2col", "naive"])
@pytest.mark.parametrize("groups", [1, 4])
def test_relu6_of_convolutions(algo, groups, isa, dtype, rng):
    x = rng.integers(-3, 4, (2, 4, 9, 11)).astype(dtype)
    w = rng.integers(-1, 2, (8, 4 // groups, 3, 3)).astype(dtype)
    for layout in ("NCHW", "NHWC"):
        image = x if layout == "NCHW" else np.moveaxis(x, 1, -1)
        how = {"padding": 1, "groups": groups, "layout": layout}
        expected = R.conv2d(image, w, activation="relu6", **how)
        assert (expected == 6).any()
        assert (expected == 0).any()
        actual = F.conv2d(image, w, activation="relu6", algo=algo, **how)
        rounding = 0 if algo != "winograd" else 100 * np.finfo(dtype).eps * 30
        np.testing.assert_allclose(actual, expected, rtol=0, atol=rounding)
        ready = F.prepare_conv2d(w, activation="relu6", algo=algo, **how)
        np.testing.assert_allclose(ready(image), expected, rtol=0, atol=rounding)


def test_every_layer_prepares(rng):
    """No layer of the library is forgotten: those without a step of their own run as copies."""
    for layer, shape in (
        (layers.LPPool2d(2, 2), (1, 2, 4, 4)),
        (layers.GlobalAvgPool2d(), (1, 2, 4, 4)),
        (Linear(4, 3, rng=0), (2, 4)),
        (layers.ConvTranspose2d(2, 3, 3, rng=0), (1, 2, 4, 4)),
        (layers.Softmax(), (2, 5)),
    ):
        x = rng.standard_normal(shape).astype(np.float32)
        assert_equal_within(layer.prepare(shape)(x), layer(x))
