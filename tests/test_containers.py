"""Containers: names, branches, what is fused in them, state dictionaries and messages."""

import copy
import pickle

import numpy as np
import pytest

from fastconv.layers import (
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)


def basic_block(C, OC, stride, **both):
    """The block of ResNet-18, with torchvision's names."""
    shortcut = None
    if (C, stride) != (OC, 1):
        shortcut = Sequential(
            Conv2d(C, OC, 1, stride, bias=False, **both), BatchNorm2d(OC, dtype=both["dtype"])
        )
    body = {
        "conv1": Conv2d(C, OC, 3, stride, 1, bias=False, **both),
        "bn1": BatchNorm2d(OC, dtype=both["dtype"]),
        "relu": ReLU(),
        "conv2": Conv2d(OC, OC, 3, 1, 1, bias=False, **both),
        "bn2": BatchNorm2d(OC, dtype=both["dtype"]),
    }
    return Residual(Sequential(body), shortcut, activation="relu")


def branched_net(dtype=np.float32, seed=0):
    """A bit of everything: named layers, residual blocks, an inception block, nesting."""
    both = {"dtype": dtype, "rng": np.random.default_rng(seed)}
    inception = {
        "branch1": Sequential({"conv": Conv2d(6, 2, 1, **both), "relu": ReLU()}),
        "branch2": Sequential(Conv2d(6, 3, 1, **both), ReLU(), Conv2d(3, 3, 3, 1, 1, **both)),
        "branch3": Sequential(MaxPool2d(3, 1, 1), Conv2d(6, 1, 1, **both)),
    }
    return Sequential(
        {
            "conv1": Conv2d(2, 4, 3, padding=1, **both),
            "bn1": BatchNorm2d(4, dtype=dtype),
            "relu": ReLU(),
            "layer1": Sequential(basic_block(4, 4, 1, **both), basic_block(4, 6, 2, **both)),
            "inception": Concat(inception),
            "relu2": ReLU(),
            "head": Sequential({"pool": GlobalAvgPool2d(), "": Flatten()}),
            "fc": Linear(6, 5, dtype=dtype, rng=both["rng"]),
        }
    )


SHAPE = (3, 2, 9, 8)


def warmed(net, rng, dtype=np.float64):
    """The net in evaluation mode, with running statistics of some images."""
    net.forward(rng.standard_normal(SHAPE).astype(dtype))
    return net.eval()


# ---- names --------------------------------------------------------------------------------------


def test_names_follow_the_layers():
    net = Sequential({"a": Conv2d(1, 2, 3), "": Sequential({"b": Linear(2, 3, False)})})
    assert list(net.params) == list(net.grads) == ["a.weight", "a.bias", "b.weight"]
    assert list(net.state_dict()) == list(net.params)
    assert net["a"] is net[0] is net.children()["a"]
    assert list(net[1:].params) == ["b.weight"]
    assert list(Sequential(ReLU(), Conv2d(1, 2, 3))[1:].params) == ["1.weight", "1.bias"]
    with pytest.raises(KeyError, match="no layer 'c', only 'a', ''"):
        net["c"]


def test_residual_has_the_names_of_torchvision(rng):
    block = basic_block(2, 4, 2, dtype=np.float32)
    expected = ["conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias"]
    downsample = ["downsample.0.weight", "downsample.1.weight", "downsample.1.bias"]
    assert list(block.params) == expected + downsample
    assert "downsample.1.running_var" in block.state_dict()
    other = Residual(Conv2d(2, 2, 1), Conv2d(2, 2, 1), names=("left", "right"))
    assert list(other.children()) == ["left", "right"]


def test_buffers_belong_to_the_state_and_not_to_the_parameters():
    net = branched_net()
    state = net.state_dict()
    assert set(state) == set(net.params) | set(net.buffers)
    assert not set(net.params) & set(net.buffers)
    assert state["layer1.1.downsample.1.num_batches_tracked"].dtype == np.int64
    with pytest.raises(TypeError):
        net.buffers["bn1.running_mean"] = np.zeros(4, np.float32)


def test_state_goes_from_net_to_net(rng):
    a, b = branched_net(np.float64, 1), branched_net(np.float64, 2)
    warmed(a, rng)
    x = rng.standard_normal(SHAPE)
    assert (a(x) != b(x)).any()
    b.load_state_dict(a.state_dict())
    np.testing.assert_array_equal(a(x), b(x))
    assert b.buffers["bn1.num_batches_tracked"] == 1
    state = a.state_dict()
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]
    b.load_state_dict(state)
    del state["bn1.running_mean"]
    with pytest.raises(ValueError, match=r'missing key "bn1\.running_mean"'):
        b.load_state_dict(state)


def test_copies_and_pickles_are_nets_of_their_own(rng):
    net = warmed(branched_net(np.float64), rng)
    x = rng.standard_normal(SHAPE)
    y = net(x)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(twin(x), y)
        twin.params["layer1.0.conv1.weight"][:] = 0
        twin.buffers["bn1.running_mean"][:] = 1
        np.testing.assert_array_equal(net(x), y)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Sequential({"a.b": ReLU()}), ValueError, "'a.b' is no name"),
        (lambda: Sequential({1: ReLU()}), ValueError, "1 is no name"),
        (lambda: Sequential({"a": 3}), TypeError, "'a' is 3, expected a layer"),
        (
            lambda: Sequential({"a": Linear(1, 1), "": Sequential({"a": Linear(1, 1)})}),
            ValueError,
            "two arrays would be called 'a.weight'",
        ),
        (lambda: Concat(), ValueError, "no branches"),
        (lambda: Concat(ReLU(), layout="CHW"), ValueError, "CHW"),
        (lambda: Concat(ReLU(), max), TypeError, "argument 1 is .*max"),
        (lambda: Residual(None), TypeError, "Residual: body is None, expected a layer"),
        (lambda: Residual(ReLU(), activation="tanh"), ValueError, "tanh"),
        (lambda: Residual(ReLU(), names=("a", "a")), ValueError, "two different names"),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layer_may_not_be_in_two_branches():
    relu = ReLU()
    for make in (
        lambda: Concat(relu, Sequential(relu)),
        lambda: Residual(Sequential(relu), relu),
        lambda: Sequential(Concat(relu, ReLU()), Residual(relu)),
    ):
        with pytest.raises(ValueError, match="twice"):
            make()


def test_modes_reach_the_branches():
    net = branched_net()
    leaves = [net["layer1"][0].body["bn1"], net["inception"]["branch1"]["relu"]]
    net.eval()
    assert not any(layer.training for layer in leaves)
    net.train()
    assert all(layer.training for layer in leaves)


def test_repr_shows_the_branches():
    text = repr(branched_net())
    for line in ("(inception): Concat(", "    (branch3): Sequential(", "activation='relu'"):
        assert line in text
    assert "(shortcut): Sequential(" in text


# ---- values and gradients -----------------------------------------------------------------------


def alone(layer, x):
    """Forward through layer after layer, without anything fused."""
    if isinstance(layer, Sequential):
        for child in layer:
            x = alone(child, x)
        return x
    if isinstance(layer, Residual):
        other = x if layer.shortcut is None else alone(layer.shortcut, x)
        y = alone(layer.body, x) + other
        return np.maximum(y, 0) if layer.activation else y
    if isinstance(layer, Concat):
        return np.concatenate([alone(b, x) for b in layer.children().values()], layer.axis)
    return layer.forward(x)


@pytest.mark.parametrize("training", [True, False])
def test_branches_give_what_their_layers_give(training, dtype, rng):
    net = warmed(branched_net(dtype), rng, dtype).train(training)
    x = rng.standard_normal(SHAPE).astype(dtype)
    twin = copy.deepcopy(net)
    np.testing.assert_array_equal(net.forward(x), alone(twin, x))
    for name, value in net.buffers.items():
        np.testing.assert_array_equal(value, twin.buffers[name])
    if not training:
        np.testing.assert_array_equal(net(x), net.forward(x))


def slope(function, array, index, step=1e-6):
    """Central difference of `function()` for one element of `array`; None across a kink."""
    middle, before = function(), array[index]
    array[index] = before + step
    above = function()
    array[index] = before - step
    below = function()
    array[index] = before
    # Curvature bends by about step**2, the corner of a ReLU or a maximum by about step.
    return (above - below) / (2 * step) if abs(above - 2 * middle + below) < 1e-9 else None


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_the_slopes(training, rng):
    net = warmed(branched_net(np.float64), rng).train(training)
    for name, array in net.params.items():
        if name.endswith("bias"):
            array[:] = rng.standard_normal(array.shape)  # none is 0, where a ReLU bends
    x = rng.standard_normal(SHAPE)
    dy = rng.standard_normal(net.output_shape(SHAPE))

    def loss():
        return np.sum(net.forward(x) * dy)

    loss()
    dx = net.backward(dy)
    grads = {name: value.copy() for name, value in net.grads.items()}
    checked = 0
    for name, array in [("x", x), *net.params.items()]:
        gradient = dx if name == "x" else grads[name]
        for flat in rng.choice(array.size, min(array.size, 4), replace=False):
            index = np.unravel_index(flat, array.shape)
            expected = slope(loss, array, index)
            if expected is not None:
                checked += 1
                assert gradient[index] == pytest.approx(expected, rel=1e-4, abs=1e-5), name
    assert checked > 4 * len(grads) / 2


def test_backward_without_dx_fills_the_same_grads(rng):
    net = branched_net(np.float64)
    x = rng.standard_normal(SHAPE)
    y = net.forward(x)
    dy = rng.standard_normal(y.shape)
    dy.flags.writeable = x.flags.writeable = False
    net.backward(dy)
    expected = {name: value.copy() for name, value in net.grads.items()}
    net.forward(x)
    assert net.backward(dy, need_dx=False) is None
    for name, value in net.grads.items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_concat_in_both_layouts(layout, rng):
    both = {"layout": layout, "dtype": np.float64, "rng": 0}
    net = Concat(Conv2d(3, 2, 1, **both), Conv2d(3, 4, 3, padding=1, **both), layout=layout)
    shape = (2, 3, 5, 6) if layout == "NCHW" else (2, 5, 6, 3)
    x = rng.standard_normal(shape)
    y = net.forward(x)
    assert y.shape == net.output_shape(shape)
    parts = [branch(x) for branch in net.children().values()]
    np.testing.assert_array_equal(y, np.concatenate(parts, net.axis))
    np.testing.assert_array_equal(net(x), y)
    net.forward(x)
    dy = rng.standard_normal(y.shape)
    dx = net.backward(dy)
    halves = np.split(dy, [2], net.axis)
    branches = net.children().values()
    expected = [b.backward(half) for b, half in zip(branches, halves, strict=True)]
    np.testing.assert_allclose(dx, sum(expected), rtol=1e-12)


def test_empty_batches_pass(rng):
    net = branched_net(np.float64)
    before = net.state_dict()
    y = net.forward(np.zeros((0, *SHAPE[1:])))
    assert y.shape == (0, 5)
    assert net.backward(y).shape == (0, *SHAPE[1:])
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


# ---- fusion -------------------------------------------------------------------------------------


def test_relu_is_fused_through_nesting_and_in_branches(monkeypatch, rng):
    net = warmed(branched_net(np.float64), rng).train()
    calls = []
    real = ReLU._forward
    monkeypatch.setattr(ReLU, "_forward", lambda self, x: calls.append(self) or real(self, x))
    x = rng.standard_normal(SHAPE)
    net.forward(x)
    assert calls == [net["relu2"]]  # behind the concat; all others have a layer that applies them
    nested = Sequential(Sequential(Conv2d(2, 3, 3)), Sequential(Sequential(ReLU()), MaxPool2d(2)))
    y = nested.forward(x.astype(np.float32))
    assert len(calls) == 1
    assert (y >= 0).all()
    assert nested.backward(y).shape == x.shape


def test_residual_does_the_relus_beside_it(rng):
    """Values, gradients and what layers keep are those of layer after layer."""

    def layers():
        both = {"dtype": np.float64, "rng": 0}
        yield from (ReLU(), Residual(Conv2d(2, 2, 3, 1, 1, **both)), ReLU())
        yield Residual(Sequential(Conv2d(2, 2, 1, **both)), Conv2d(2, 2, 1, **both))

    x = rng.standard_normal((2, 2, 5, 6))
    net, chain = Sequential(*layers()), list(layers())
    expected = x
    for layer in chain:
        expected = layer.forward(expected)
    y = net.forward(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(net(x), expected)
    net.forward(x)
    dy = rng.standard_normal(y.shape)
    dx, slope = net.backward(dy), dy
    for layer in reversed(chain):
        slope = layer.backward(slope)
    np.testing.assert_array_equal(dx, slope)


# ---- messages -----------------------------------------------------------------------------------


def test_errors_name_the_branch_and_the_shapes(rng):
    x = rng.standard_normal((2, 4, 8, 8)).astype(np.float32)
    block = Residual(Conv2d(4, 8, 3, 2, 1))
    for act in (block.forward, block, lambda x: block.output_shape(x.shape)):
        with pytest.raises(ValueError, match=r"body turns \(2, 4, 8, 8\) into \(2, 8, 4, 4\), but"):
            act(x)
    block = Residual(Conv2d(4, 8, 3, 2, 1), Conv2d(4, 8, 1))
    with pytest.raises(ValueError, match=r"but shortcut gives \(2, 8, 8, 8\)"):
        block.forward(x)
    inception = Concat({"a": Conv2d(4, 2, 1), "b": Conv2d(4, 2, 3)})
    for act in (inception.forward, inception, lambda x: inception.output_shape(x.shape)):
        with pytest.raises(ValueError, match=r"'a': \(2, 2, 8, 8\), 'b': \(2, 2, 6, 6\)"):
            act(x)
    inception = Concat({"a": Conv2d(4, 2, 1)})
    inception.forward(x)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 3, 8, 8\), expected \(2, 2, 8, 8\)"):
        inception.backward(np.zeros((2, 3, 8, 8), np.float32))


def test_errors_tell_the_way_to_the_layer(rng):
    net = branched_net()
    broken = net["layer1"][1].body["conv2"]
    broken.params["weight"] = np.zeros((6, 5, 3, 3), np.float32)
    with pytest.raises(ValueError) as caught:
        net(rng.standard_normal(SHAPE).astype(np.float32))
    assert caught.value.__notes__ == [
        f"in layer conv2: {broken!r}",
        "in layer body: a Sequential",
        "in layer layer1.1: a Residual",
    ]
