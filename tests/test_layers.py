"""Layers: gradients, what is kept for them, state dictionaries, shapes and messages."""

import copy
import doctest
import importlib
import pickle
import pkgutil

import numpy as np
import pytest

import fastconv.functional as F
import fastconv.layers
from fastconv import nets
from fastconv.layers import (
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    Linear,
    LocallyConnected2d,
    LocalResponseNorm,
    LPPool2d,
    MaxPool2d,
    PReLU,
    ReLU,
    ReLU6,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)


def build(dtype=np.float64):
    """Layers with unusual arguments, by name, each with the shape of an input."""
    both = {"dtype": dtype, "rng": 0}
    image = (2, 4, 7, 6)
    return {
        "Conv2d": (Conv2d(4, 6, 3, **both), image),
        "Conv2d-all": (Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, False, **both), image),
        "Conv2d-pairs": (Conv2d(4, 3, 3, padding=((0, 1), (2, 1)), **both), image),
        "Conv2d-same": (Conv2d(4, 3, 4, 2, "same", **both), image),
        "Conv2d-NHWC": (Conv2d(6, 3, 3, padding=1, layout="NHWC", **both), image),
        "Conv2d-pad": (Conv2d(4, 3, 3, 2, fit="pad", **both), image),
        "Conv2d-im2col": (Conv2d(4, 3, 3, algo="im2col", **both), image),
        "ConvTranspose2d": (ConvTranspose2d(4, 6, 3, **both), image),
        "ConvTranspose2d-all": (
            ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, 2, **both),
            image,
        ),
        "ConvTranspose2d-NHWC": (ConvTranspose2d(6, 2, 2, 2, layout="NHWC", **both), image),
        "MaxPool2d": (MaxPool2d(2), image),
        "MaxPool2d-all": (MaxPool2d((3, 2), (1, 2), (1, 0), (2, 1), True), image),
        "MaxPool2d-NHWC": (MaxPool2d(2, layout="NHWC"), image),
        "MaxPool2d-overlapping": (MaxPool2d(3, 2, fit="pad"), image),
        "AvgPool2d": (AvgPool2d(2), image),
        "AvgPool2d-all": (AvgPool2d(3, 2, 1, True, False), image),
        "LPPool2d": (LPPool2d(2, 2), image),
        "LPPool2d-all": (LPPool2d(4, (3, 2), 2, True), image),
        "GlobalAvgPool2d": (GlobalAvgPool2d(), image),
        "GlobalAvgPool2d-NHWC": (GlobalAvgPool2d(layout="NHWC"), image),
        "ReLU": (ReLU(), image),
        "ReLU6": (ReLU6(), image),
        "LeakyReLU": (LeakyReLU(0.2), image),
        "PReLU": (PReLU(dtype=dtype), image),
        "PReLU-4": (PReLU(4, 0.5, dtype=dtype), image),
        "PReLU-NHWC": (PReLU(6, layout="NHWC", dtype=dtype), image),
        "Sigmoid": (Sigmoid(), image),
        "Tanh": (Tanh(), image),
        "Softmax": (Softmax(), image),
        "Softmax-last": (Softmax(-1), image),
        "Dropout": (Dropout(0.4).eval(), image),
        "LocalResponseNorm": (LocalResponseNorm(3, 0.5, 0.75, 2.0), image),
        "LocalResponseNorm-NHWC": (LocalResponseNorm(4, 0.5, 0.6, layout="NHWC"), image),
        "LocallyConnected2d": (LocallyConnected2d((7, 6), 4, 3, 3, **both), image),
        "LocallyConnected2d-all": (
            LocallyConnected2d((7, 6), 4, 3, (3, 2), 2, (1, 0), (1, 2), False, **both),
            image,
        ),
        "LocallyConnected2d-NHWC": (
            LocallyConnected2d((4, 7), 6, 3, 2, padding=1, layout="NHWC", **both),
            image,
        ),
        "Flatten": (Flatten(), image),
        "Linear": (Linear(5, 3, **both), (4, 5)),
        "Linear-no-bias": (Linear(5, 3, False, **both), (4, 5)),
        "Sequential": (small_net(dtype), (2, 2, 8, 8)),
    }


def small_net(dtype=np.float32, rng=0):
    rng = np.random.default_rng(rng)
    return Sequential(
        ReLU(),
        Conv2d(2, 4, 3, padding=1, dtype=dtype, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Sequential(Conv2d(4, 3, 3, dtype=dtype, rng=rng), AvgPool2d(2)),
        Flatten(),
        Linear(3, 5, dtype=dtype, rng=rng),
    )


LAYERS = list(build())


@pytest.fixture(params=LAYERS)
def case(request):
    return build()[request.param]


# ---- gradients ----------------------------------------------------------------------------------


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


def test_gradients_are_the_slopes(case, rng):
    layer, shape = case
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(layer.output_shape(shape))

    def loss():
        return np.sum(layer(x) * dy)

    layer.forward(x)
    dx = layer.backward(dy)
    assert set(layer.grads) == set(layer.params)
    checked = 0
    pairs = [(x, dx)] + [(layer.params[name], layer.grads[name]) for name in layer.params]
    for array, gradient in pairs:
        assert gradient.shape == array.shape
        assert gradient.dtype == array.dtype
        for flat in rng.choice(array.size, min(array.size, 12), replace=False):
            index = np.unravel_index(flat, array.shape)
            expected = slope(loss, array, index)
            if expected is not None:
                checked += 1
                assert gradient[index] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert checked > 0.8 * sum(min(array.size, 12) for array, _ in pairs)


def test_backward_without_dx_fills_the_same_grads(case, rng):
    layer, shape = case
    y = layer.forward(rng.standard_normal(shape))
    dy = rng.standard_normal(y.shape)
    layer.backward(dy)
    expected = {name: value.copy() for name, value in layer.grads.items()}
    for value in layer.grads.values():
        value.fill(np.nan)
    assert layer.backward(dy, need_dx=False) is None
    for name, value in layer.grads.items():
        np.testing.assert_array_equal(value, expected[name])


def test_sequential_asks_the_first_conv_for_no_input_gradient(monkeypatch, rng):
    net = small_net()
    asked = []
    real = F.conv2d_backward

    def spy(*args, needs, **kwargs):
        asked.append(needs)
        return real(*args, needs=needs, **kwargs)

    monkeypatch.setattr(F, "conv2d_backward", spy)
    y = net.forward(rng.standard_normal((2, 2, 8, 8), np.float32))
    assert net.backward(y, need_dx=False) is None
    assert asked == [("x", "w", "b"), ("w", "b")]


def test_sequential_without_parameters_needs_no_work(rng):
    net = Sequential(ReLU(), MaxPool2d(2))
    y = net.forward(rng.standard_normal((1, 1, 4, 4)))
    assert net.backward(y, need_dx=False) is None
    assert Sequential().forward(3) == 3


# ---- keeping ------------------------------------------------------------------------------------


def test_calling_gives_what_forward_gives(case, rng):
    layer, shape = case
    x = rng.standard_normal(shape)
    np.testing.assert_array_equal(layer(x), layer.forward(x))


def test_input_and_dy_stay_as_they_are(case, rng):
    layer, shape = case
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(layer.output_shape(shape))
    x_before, dy_before = x.copy(), dy.copy()
    x.flags.writeable = dy.flags.writeable = False
    layer.forward(x)
    layer.backward(dy)
    layer(x)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(dy, dy_before)


def test_backward_needs_forward(case, rng):
    layer, shape = case
    dy = np.ones(layer.output_shape(shape))
    with pytest.raises(RuntimeError, match=r"call y = layer\.forward"):
        layer.backward(dy)
    layer.forward(rng.standard_normal(shape))
    layer.backward(dy)
    layer(rng.standard_normal(shape))
    with pytest.raises(RuntimeError, match="only evaluates"):
        layer.backward(dy)


def test_forward_keeps_in_evaluation_mode_too(rng):
    net = small_net(np.float64)
    x = rng.standard_normal((2, 2, 8, 8))
    y = net.eval().forward(x)
    assert net.backward(y).shape == x.shape


def test_conv_keeps_its_input_without_copying_it(rng):
    conv = Conv2d(2, 3, 3)
    x = rng.standard_normal((1, 2, 5, 5), np.float32)
    conv.forward(x)
    assert conv._kept is x


def test_max_pool_keeps_one_byte_for_each_output(rng):
    pool = MaxPool2d(3, 2)
    y = pool.forward(rng.standard_normal((2, 3, 9, 9), np.float32))
    offsets = pool._kept[0]
    assert offsets.dtype == np.uint8
    assert offsets.size == y.size


def test_copies_and_pickles_hold_no_images(rng):
    net = small_net()
    x = rng.standard_normal((2, 2, 8, 8), np.float32)
    y = net.forward(x)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with pytest.raises(RuntimeError):
            twin.backward(y)
        np.testing.assert_array_equal(twin(x), y)
        twin.params["1.weight"][:] = 0
        np.testing.assert_array_equal(net(x), y)
        net.forward(x)


# ---- parameters ---------------------------------------------------------------------------------


def test_parameters_have_torch_names_and_shapes():
    shapes = {name: value.shape for name, value in small_net().state_dict().items()}
    assert shapes == {
        "1.weight": (4, 2, 3, 3),
        "1.bias": (4,),
        "4.0.weight": (3, 4, 3, 3),
        "4.0.bias": (3,),
        "6.weight": (5, 3),
        "6.bias": (5,),
    }
    assert set(Conv2d(2, 3, 3, bias=False).params) == {"weight"}
    assert ConvTranspose2d(4, 6, 3, groups=2).params["weight"].shape == (4, 3, 3, 3)


def test_the_lecture_counts_parameters():
    # CS231n: 10 filters 5x5 on 32x32x3, then AlexNet's first layer, 96 filters 11x11.
    assert sum(p.size for p in Conv2d(3, 10, 5).params.values()) == 760
    assert sum(p.size for p in Conv2d(3, 96, 11, stride=4).params.values()) == 34_944
    assert Conv2d(3, 96, 11, stride=4).output_shape((1, 3, 227, 227)) == (1, 96, 55, 55)


def test_initial_weights_are_he_normal_and_biases_zero(dtype):
    for layer, fan_in in [
        (Conv2d(16, 300, 3, dtype=dtype, rng=1), 16 * 9),
        (Conv2d(16, 300, 3, groups=4, dtype=dtype, rng=1), 4 * 9),
        (ConvTranspose2d(300, 16, 4, stride=2, dtype=dtype, rng=1), 300 * 16 / 4),
        (Linear(200, 300, dtype=dtype, rng=1), 200),
    ]:
        weight = layer.params["weight"]
        assert weight.dtype == dtype
        assert weight.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.03)
        assert abs(weight.mean()) < 0.05 * weight.std()
        assert not layer.params["bias"].any()
        assert layer.params["bias"].dtype == dtype


def test_rng_repeats_the_weights():
    def weight(rng):
        return Conv2d(2, 3, 3, rng=rng).params["weight"]

    np.testing.assert_array_equal(weight(5), weight(5))
    np.testing.assert_array_equal(weight(np.random.default_rng(5)), weight(5))
    assert (weight(None) != weight(None)).any()
    assert (weight(5) != weight(6)).any()


def test_grads_start_as_zeros():
    net = small_net()
    assert set(net.grads) == set(net.params)
    assert not any(value.any() for value in net.grads.values())


def test_sequential_refuses_new_arrays_in_its_merged_dicts():
    net = small_net()
    with pytest.raises(TypeError):
        net.params["1.weight"] = np.zeros((4, 2, 3, 3), np.float32)


def test_state_dict_round_trip(rng):
    a, b = small_net(rng=1), small_net(rng=2)
    x = rng.standard_normal((2, 2, 8, 8), np.float32)
    assert (a(x) != b(x)).any()
    arrays = b.params["1.weight"]
    state = a.state_dict()
    b.load_state_dict(state)
    assert b.params["1.weight"] is arrays
    np.testing.assert_array_equal(a(x), b(x))
    for value in state.values():
        value.fill(0)
    np.testing.assert_array_equal(a(x), b(x))


def test_load_state_dict_converts_and_reads_npz(tmp_path):
    net = small_net(np.float64)
    np.savez(tmp_path / "net.npz", **net.state_dict())
    single = small_net(np.float32, rng=3)
    with np.load(tmp_path / "net.npz") as stored:
        single.load_state_dict(stored)
    assert single.params["6.weight"].dtype == np.float32
    np.testing.assert_allclose(single.params["6.weight"], net.params["6.weight"], rtol=1e-6)
    single.load_state_dict({name: np.ones(p.shape, int).tolist() for name, p in net.params.items()})
    assert (single.params["1.bias"] == 1).all()


def test_load_state_dict_names_all_that_is_wrong_and_changes_nothing():
    net = small_net()
    before = net.state_dict()
    state = net.state_dict() | {"6.bias": np.zeros(4), "7.weight": np.zeros(1)}
    state["1.bias"] = np.zeros(4, complex)
    state["4.0.weight"] += 1
    del state["1.weight"]
    with pytest.raises(ValueError) as caught:
        net.load_state_dict(state)
    message = str(caught.value)
    assert 'missing key "1.weight"' in message
    assert 'unexpected key "7.weight"' in message
    assert '"6.bias" has shape (4,), expected (5,)' in message
    assert '"1.bias" has dtype complex128, expected float32' in message
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


# ---- against PyTorch ----------------------------------------------------------------------------


def torch_twin(torch, name):
    nn = torch.nn
    twins = {
        "Conv2d": lambda: nn.Conv2d(4, 6, 3),
        "Conv2d-all": lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, False),
        "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 6, 3),
        "ConvTranspose2d-all": lambda: nn.ConvTranspose2d(
            4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, 2
        ),
        "MaxPool2d": lambda: nn.MaxPool2d(2),
        "MaxPool2d-all": lambda: nn.MaxPool2d((3, 2), (1, 2), (1, 0), (2, 1), ceil_mode=True),
        "AvgPool2d": lambda: nn.AvgPool2d(2),
        "AvgPool2d-all": lambda: nn.AvgPool2d(3, 2, 1, True, False),
        "LPPool2d": lambda: nn.LPPool2d(2, 2),
        "GlobalAvgPool2d": lambda: nn.AdaptiveAvgPool2d(1),
        "ReLU": lambda: nn.ReLU(),
        "ReLU6": lambda: nn.ReLU6(),
        "LeakyReLU": lambda: nn.LeakyReLU(0.2),
        "PReLU": lambda: nn.PReLU(),
        "PReLU-4": lambda: nn.PReLU(4, 0.5),
        "Sigmoid": lambda: nn.Sigmoid(),
        "Tanh": lambda: nn.Tanh(),
        "Softmax": lambda: nn.Softmax(dim=1),
        "Dropout": lambda: nn.Dropout(0.4).eval(),
        "LocalResponseNorm": lambda: nn.LocalResponseNorm(3, 0.5, 0.75, 2.0),
        "Flatten": lambda: nn.Flatten(),
        "Linear": lambda: nn.Linear(5, 3),
        "Linear-no-bias": lambda: nn.Linear(5, 3, False),
        "Sequential": lambda: nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Sequential(nn.Conv2d(4, 3, 3), nn.AvgPool2d(2)),
            nn.Flatten(),
            nn.Linear(3, 5),
        ),
    }
    return twins[name]().double()


TORCH_CASES = [
    "Conv2d",
    "Conv2d-all",
    "ConvTranspose2d",
    "ConvTranspose2d-all",
    "MaxPool2d",
    "MaxPool2d-all",
    "AvgPool2d",
    "AvgPool2d-all",
    "LPPool2d",
    "GlobalAvgPool2d",
    "ReLU",
    "ReLU6",
    "LeakyReLU",
    "PReLU",
    "PReLU-4",
    "Sigmoid",
    "Tanh",
    "Softmax",
    "Dropout",
    "LocalResponseNorm",
    "Flatten",
    "Linear",
    "Linear-no-bias",
    "Sequential",
]


@pytest.mark.parametrize("name", TORCH_CASES)
def test_layers_agree_with_torch(name, torch, rng):
    layer, shape = build()[name]
    twin = torch_twin(torch, name)
    layer.load_state_dict(twin.state_dict())
    x = rng.standard_normal(shape)
    x_torch = torch.tensor(x, requires_grad=True)
    expected = twin(x_torch)
    y = layer.forward(x)
    dy = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(y, expected.detach().numpy(), **close)
    np.testing.assert_allclose(layer.backward(dy), x_torch.grad.numpy(), **close)
    for key, parameter in twin.named_parameters():
        np.testing.assert_allclose(layer.grads[key], parameter.grad.numpy(), **close)


@pytest.mark.parametrize("name", TORCH_CASES)
def test_state_dict_loads_into_torch(name, torch):
    layer, _ = build()[name]
    twin = torch_twin(torch, name)
    twin.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})


@pytest.mark.parametrize(
    "name", [name for name in TORCH_CASES if name not in ("GlobalAvgPool2d", "LPPool2d")]
)
def test_repr_begins_as_torch_writes_it(name, torch):
    ours, theirs = repr(build()[name][0]), repr(torch_twin(torch, name))
    if name.startswith("AvgPool2d"):
        assert ours.startswith(theirs[:-1])
    elif name == "Sequential":
        assert [line.split("(")[:2] for line in ours.splitlines()] == [
            line.split("(")[:2] for line in theirs.splitlines()
        ]
    else:
        ours = ours.replace("axis=", "dim=").replace("p=0.4", "p=0.4, inplace=False")
        assert ours.replace("Flatten()", theirs) == theirs


# ---- shapes, modes, containers ------------------------------------------------------------------


def test_output_shape_is_that_of_the_output(case, rng):
    layer, shape = case
    y = layer.forward(rng.standard_normal(shape))
    assert layer.output_shape(shape) == y.shape
    assert layer.output_shape(list(shape)) == y.shape


def test_empty_batch(case):
    layer, shape = case
    x = np.zeros((0, *shape[1:]))
    y = layer.forward(x)
    assert y.shape == layer.output_shape(x.shape)
    assert layer.backward(y).shape == x.shape
    assert all(not grad.any() for grad in layer.grads.values())


def test_modes_reach_all_layers():
    net = small_net()
    assert net.eval() is net
    assert not any(layer.training for layer in [net, *net, *net[4]])
    assert net.train() is net
    assert all(layer.training for layer in [net, *net, *net[4]])


def test_sequential_is_a_sequence():
    net = small_net()
    assert len(net) == 7
    assert list(net)[3] is net[3]
    assert net[-1] is net[6]
    assert isinstance(net[1:3], Sequential)
    assert net[1:3][0] is net[1]


def test_sequential_refuses_what_is_no_layer_or_comes_twice():
    with pytest.raises(TypeError, match=r"argument 1 is .*relu"):
        Sequential(ReLU(), F.relu)
    relu = ReLU()
    with pytest.raises(ValueError, match="twice"):
        Sequential(relu, Sequential(MaxPool2d(2), relu))


def test_errors_in_a_sequential_name_the_layer(rng):
    net = small_net()
    with pytest.raises(ValueError) as caught:
        net.forward(rng.standard_normal((2, 3, 8, 8), np.float32))
    assert caught.value.__notes__ == [f"in layer 1: {net[1]!r}"]
    with pytest.raises(ValueError) as caught:
        net.output_shape((2, 2, 9, 12))
    assert caught.value.__notes__ == [f"in layer 6: {net[6]!r}"]
    with pytest.raises(RuntimeError) as caught:
        net.backward(np.ones((2, 5), np.float32))
    assert caught.value.__notes__ == [f"in layer 6: {net[6]!r}"]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda fit: Conv2d(1, 1, 3, 2, fit=fit), "Conv2d"),
        (lambda fit: MaxPool2d(3, 2, fit=fit), "MaxPool2d"),
        (lambda fit: AvgPool2d(3, 2, fit=fit), "AvgPool2d"),
        (lambda fit: LPPool2d(2, 3, 2, fit=fit), "LPPool2d"),
    ],
)
def test_fit_decides_about_sizes_that_are_not_whole(make, name, rng):
    x = rng.standard_normal((1, 1, 9, 10), np.float32)
    outputs = {fit: make(fit).output_shape(x.shape)[3] for fit in ("floor", "pad")}
    assert outputs == {"floor": 4, "pad": 5}
    assert make("pad")(x).shape[3] == 5
    strict = make("strict")
    assert strict(x[..., :9]).shape == (1, 1, 4, 4)
    for call in (lambda: strict.output_shape(x.shape), lambda: strict(x)):
        with pytest.raises(ValueError, match=r"W=10, F=3, P=0, S=2 do not fit: .* = 4\.5"):
            call()
    assert "fit='strict'" in repr(strict) and "fit" not in repr(make("floor"))
    with pytest.raises(ValueError, match=rf"{name}: fit must be one of"):
        make("ceil")


def test_subclass_without_methods_says_so():
    with pytest.raises(NotImplementedError):
        Layer().forward(1)


# ---- bad arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Conv2d(0, 4, 3), ValueError, "in_channels"),
        (lambda: Flatten()(None), TypeError, "Flatten: x must be a NumPy array, got NoneType"),
        (lambda: ReLU().prepare(3), TypeError, r"x_shape=3, expected a shape: \(1, 3"),
        (
            lambda: nets.build("INPUT -> FC(2)", 5),
            TypeError,
            r"input_shape=5, expected \(C, H, W\)",
        ),
        (lambda: Conv2d(4, 2.0, 3), TypeError, "out_channels"),
        (lambda: Conv2d(True, 2, 3), TypeError, "in_channels"),
        (lambda: Conv2d(4, 6, 3, groups=3), ValueError, "groups=3.*4.*6"),
        (lambda: Conv2d(4, 6, 0), ValueError, "kernel_size"),
        (lambda: Conv2d(4, 6, (3, 3, 3)), ValueError, "kernel_size"),
        (lambda: Conv2d(4, 6, 3, stride=0), ValueError, "stride"),
        (lambda: Conv2d(4, 6, 3, stride=1.5), TypeError, "stride"),
        (lambda: Conv2d(4, 6, 3, padding=-1), ValueError, "padding"),
        (lambda: Conv2d(4, 6, 3, padding="full"), ValueError, "full"),
        (lambda: Conv2d(4, 6, 3, dilation=(1, 0)), ValueError, "dilation"),
        (lambda: Conv2d(4, 6, 3, layout="CHWN"), ValueError, "CHWN"),
        (lambda: Conv2d(4, 6, 3, layout=None), ValueError, "layout"),
        (lambda: Conv2d(4, 6, 3, dtype=np.float16), TypeError, "float16"),
        (lambda: Conv2d(4, 6, 3, dtype=int), TypeError, "int64"),
        (lambda: Conv2d(4, 6, 3, rng="seed"), TypeError, "seed"),
        (lambda: ConvTranspose2d(4, 6, 3, padding="same"), ValueError, "same"),
        (lambda: ConvTranspose2d(4, 6, 3, output_padding=1), ValueError, "output_padding"),
        (lambda: MaxPool2d(0), ValueError, "kernel_size"),
        (lambda: MaxPool2d(2, padding=2), ValueError, "padding"),
        (lambda: MaxPool2d(2, 2.5), TypeError, "stride"),
        (lambda: AvgPool2d("2"), TypeError, "kernel_size"),
        (lambda: LPPool2d(2, 2, layout="NCW"), ValueError, "layout"),
        (lambda: GlobalAvgPool2d(layout="HW"), ValueError, "layout"),
        (lambda: Linear(3, 0), ValueError, "out_features"),
        (lambda: Linear(3, None), TypeError, "out_features"),
    ],
)
def test_bad_arguments_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("name", [n for n in LAYERS if n != "ReLU"])
def test_wrong_dy_is_refused(name, rng):
    layer, shape = build()[name]
    y = layer.forward(rng.standard_normal(shape))
    with pytest.raises(ValueError):
        layer.backward(np.ones((*y.shape[:-1], y.shape[-1] + 1)))


def test_wrong_inputs_are_refused(rng):
    conv = Conv2d(3, 4, 3)
    with pytest.raises(ValueError, match=r"\(1, 2, 5, 5\)"):
        conv(np.zeros((1, 2, 5, 5), np.float32))
    with pytest.raises(TypeError, match="float64"):
        conv(np.zeros((1, 3, 5, 5)))
    with pytest.raises(ValueError, match=r"\(4, 6\), expected \(N, 5\)"):
        Linear(5, 2).output_shape((4, 6))
    with pytest.raises(ValueError, match="shape"):
        Flatten().forward(np.zeros(()))


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(fastconv.layers.__path__)])
def test_examples_of_docstrings(module):
    module = importlib.import_module(f"fastconv.layers.{module}")
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("need_dx", [True, False])
def test_relu_done_by_its_neighbours_changes_nothing(layout, need_dx, dtype, rng):
    """Outputs, gradients and what layers keep are those of layer after layer, bit by bit."""

    def layers():
        both = {"layout": layout, "dtype": dtype, "rng": 0}
        yield from (ReLU(), Conv2d(3, 8, 3, padding=1, **both), ReLU(), ReLU())
        yield from (Conv2d(8, 8, 3, padding=1, **both), ReLU())
        yield MaxPool2d(3, 2, padding=1, layout=layout)

    shape = (2, 3, 9, 8) if layout == "NCHW" else (2, 9, 8, 3)
    x = rng.standard_normal(shape).astype(dtype)
    x.flat[5] = np.nan
    net, chain = Sequential(*layers()), list(layers())
    expected = x
    for layer in chain:
        expected = layer.forward(expected)
    y = net.forward(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(net(x), expected)
    y = net.forward(x)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dy_before, slope = dy.copy(), dy
    dx = net.backward(dy, need_dx=need_dx)
    for layer in reversed(chain):
        slope = layer.backward(slope)
    np.testing.assert_array_equal(dy, dy_before)
    if need_dx:
        np.testing.assert_array_equal(dx, slope)
    for layer, alone in zip(net, chain, strict=True):
        for name in layer.grads:
            np.testing.assert_array_equal(layer.grads[name], alone.grads[name])
    for layer in reversed(net):  # each has kept what it needs when called by itself
        dy = layer.backward(dy)
    np.testing.assert_array_equal(dy, slope)


def test_relu_is_left_alone_beside_layers_that_somebody_changed(rng):
    class Doubled(Conv2d):
        def _forward(self, x):
            y, kept = super()._forward(x)
            return 2 * y, kept

        def _infer(self, x):
            return super()._infer(x)

    seen = []
    x = rng.standard_normal((8, 2, 12, 12)).astype(np.float32)
    net = Sequential(Doubled(2, 3, 3, rng=0), ReLU(), Conv2d(3, 2, 3, rng=0), ReLU())
    forward = net[2].forward
    net[2].forward = lambda x: seen.append(forward(x)) or seen[-1]
    y = net.forward(x)
    assert (seen[0] < 0).any()
    np.testing.assert_array_equal(y, np.maximum(seen[0], 0))
    assert net.backward(y).shape == x.shape


def test_slopes_for_other_channels_are_refused():
    assert PReLU(3).output_shape((2, 3, 4, 4)) == (2, 3, 4, 4)
    assert PReLU(1).output_shape((2, 7)) == (2, 7)
    for shape in ((2, 4, 4, 4), (3,)):
        with pytest.raises(ValueError, match="PReLU: 3 slopes"):
            PReLU(3).output_shape(shape)
