"""The case studies: sizes, torchvision's names, and PyTorch's outputs and gradients."""

import json
import pickle
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fastconv import layers, nets
from fastconv.layers import Dropout, Sequential

ROOT = Path(__file__).resolve().parent.parent

# From the papers, the lecture, or the documentation of torchvision.
PARAMETERS = {
    "lenet5": 61_706,
    "alexnet": 61_100_840,
    "alexnet_2012": 60_965_224,
    "zfnet": 107_627_624,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "all_cnn_c": 1_369_738,
    "squeezenet1_1": 1_235_496,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
}

# Names and shapes of the state dictionaries of torchvision 0.28.
TORCHVISION = json.loads(Path(__file__).with_name("torchvision_keys.json").read_text())

# Nets that take images of any size, and with how many pixels a side to compare them.
ANY_SIZE = {
    "googlenet": 96,
    "resnet18": 64,
    "resnet34": 48,
    "resnet50": 48,
    "resnet101": 48,
    "squeezenet1_1": 64,
    "mobilenet_v1": 64,
    "mobilenet_v2": 64,
}


@contextmanager
def zeros(*modules):
    """Layers of these modules start with weights of zero, which take neither time nor memory."""
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(
                module, "he_normal", lambda shape, fan_in, dtype, rng: np.zeros(shape, dtype)
            )
        yield


@cache
def shapes(name, **options):
    """Shapes of parameters, of the whole state, and of the scores for two images."""
    with zeros(layers.conv, layers.linear):
        net = nets.NAMES[name].build(**options)
    parameters = {key: value.shape for key, value in net.params.items()}
    state = {key: value.shape for key, value in net._state().items()}
    return parameters, state, net.output_shape((2, *nets.NAMES[name].input_shape))


def numbers(shapes):
    return sum(int(np.prod(shape)) for shape in shapes.values())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_scores(name):
    parameters, _, scores = shapes(name)
    assert numbers(parameters) == PARAMETERS[name]
    assert scores == (2, 10 if name in ("lenet5", "all_cnn_c") else 1000)


def test_registry_has_all():
    assert set(nets.NAMES) == set(PARAMETERS)
    for name, entry in nets.NAMES.items():
        assert entry.build is getattr(nets, name) and name in nets.__all__


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_are_those_of_torchvision(name):
    options = {"aux_heads": True} if name == "googlenet" else {}
    _, state, _ = shapes(name, **options)
    assert state == {key: tuple(shape) for key, shape in TORCHVISION[name].items()}


def test_googlenet_with_heads_has_its_parameters():
    assert numbers(shapes("googlenet", aux_heads=True)[0]) == 13_004_888


def test_the_lecture_on_vgg(rng):
    """CS231n, "VGGNet in detail": volumes, and where the parameters are."""
    with zeros(layers.conv, layers.linear):
        net = nets.vgg16()
    volumes = [
        net["features"][:end].output_shape((1, 3, 224, 224))[1:] for end in (4, 5, 10, 17, 24, 31)
    ]
    assert volumes[0] == (64, 224, 224)
    assert volumes[1:] == [(64 * 2**i if i < 3 else 512, 112 >> i, 112 >> i) for i in range(5)]
    assert net["classifier"][0].params["weight"].size == 102_760_448
    assert net["features"][2].params["weight"].size == 36_864


def test_zfnet_of_the_paper():
    assert numbers(shapes("zfnet", middle=(384, 384, 256))[0]) == 62_357_608


@pytest.mark.parametrize("name", ["lenet5", "all_cnn_c", "squeezenet1_1", "mobilenet_v2"])
def test_options(name):
    build = nets.NAMES[name].build
    net = build(classes=7, dtype=np.float64, rng=5)
    assert net.output_shape((3, *nets.NAMES[name].input_shape)) == (3, 7)
    again, other = (build(classes=7, dtype=np.float64, rng=rng) for rng in (5, 6))
    assert all(value.dtype == np.float64 for value in net.params.values())
    for key, value in net.params.items():
        np.testing.assert_array_equal(value, again.params[key])
        assert value.ndim == 1 or (value != other.params[key]).any()


def test_nets_pickle(rng):
    net = nets.googlenet(aux_heads=True, classes=3, rng=0)
    copy = pickle.loads(pickle.dumps(net))
    assert copy.trunk["conv1"] is copy.children()["conv1"] is copy.stages[0]["conv1"]
    x = rng.standard_normal((1, 3, 64, 64), np.float32)
    np.testing.assert_array_equal(net.eval()(x), copy.eval()(x))


def test_heads_of_googlenet(rng):
    net = nets.googlenet(aux_heads=True, classes=3, rng=0)
    x = rng.standard_normal((2, 3, 224, 224), np.float32)
    before = net.state_dict()
    outputs = net.forward(x)
    assert [y.shape for y in outputs] == [(2, 3)] * 3
    with pytest.raises(TypeError, match=r"scores, aux2, aux1.*got ndarray"):
        net.backward(outputs[0])
    assert net.backward(outputs, need_dx=False) is None
    assert all(grad.any() for name, grad in net.grads.items() if "aux" in name)
    assert (net.buffers["aux1.conv.bn.running_mean"] != before["aux1.conv.bn.running_mean"]).any()
    net.eval()
    np.testing.assert_array_equal(net.forward(x), net(x))
    assert_near(net.prepare()(x), net(x), "prepared")
    assert net(x).shape == net.output_shape(x.shape) == (2, 3)


# ---- the same in PyTorch ------------------------------------------------------------------------


@pytest.fixture
def torch_nets(torch):
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("not in a checkout")
    sys.path.append(str(ROOT))  # last: fastconv stays the installed package
    try:
        from benchmarks import torch_nets
    finally:
        sys.path.remove(str(ROOT))
    return torch_nets


def part_and_images(name, N, rng):
    """A net, or where images must be large the part before the first vector, and such images."""
    build = nets.NAMES[name].build
    if name in ("lenet5", "all_cnn_c"):
        shape = nets.NAMES[name].input_shape
        return build(dtype=np.float64, rng=0), rng.standard_normal((N, *shape))
    if name in ANY_SIZE:
        images = rng.standard_normal((N, 3, ANY_SIZE[name], ANY_SIZE[name]))
        return build(classes=10, dtype=np.float64, rng=0), images
    with zeros(layers.linear):
        net = build(dtype=np.float64, rng=0)["features"]
    return net, rng.standard_normal((N, 3, 80, 80))


def make_lively(net, rng):
    """Statistics and biases as in a trained net; no dropout, which draws its own numbers."""
    for key, array in net._state().items():
        if key.endswith("running_var"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
        elif key.endswith(("running_mean", "bias")):
            array[...] = rng.normal(0, 0.1, array.shape)
    for layer in leaves(net):
        if isinstance(layer, Dropout):
            layer.p = 0.0


def leaves(layer):
    for child in layer.children().values():
        yield from leaves(child)
    if not layer.children():
        yield layer


def assert_near(actual, expected, where, largest=None):
    """Sums of some thousand terms, through up to 100 layers, compared with the largest number."""
    largest = np.abs(expected).max() if largest is None else largest
    error = np.abs(actual - expected).max()
    assert error <= 2e4 * np.finfo(actual.dtype).eps * largest, where


ALL_KINDS = [name for name in PARAMETERS if name not in ("vgg19", "resnet34", "resnet101")]
WITH_BATCH_NORM = ["googlenet", "resnet18", "resnet50", "mobilenet_v1", "mobilenet_v2"]


@pytest.mark.parametrize(
    ("name", "training"),
    [(name, False) for name in ALL_KINDS] + [(name, True) for name in WITH_BATCH_NORM],
)
def test_outputs_and_gradients_are_pytorchs(name, training, torch, torch_nets, rng):
    # Statistics of a few pixels only, in the last layers, would be ill-conditioned.
    net, x = part_and_images(name, 4 if training else 2, rng)
    make_lively(net, rng)
    net.train(training)
    pairs = []
    module = torch_nets.to_torch(net, pairs)
    images = torch.from_numpy(x.copy()).requires_grad_()
    scores = module(images)
    dy = rng.standard_normal(tuple(scores.shape)).astype(x.dtype)
    scores.backward(torch.from_numpy(dy))
    y = net.forward(x)
    dx = net.backward(dy)
    assert_near(y, scores.detach().numpy(), name)
    assert_near(dx, images.grad.numpy(), name)
    # Some gradients are zero but for rounding: a bias's before batch normalization, in training.
    largest = max(float(parameter.grad.abs().max()) for parameter in module.parameters())
    for layer, leaf in pairs:
        for key, grad in layer.grads.items():
            expected = getattr(leaf, key).grad.numpy()
            assert_near(grad, expected, f"{name}, {layer!r}.{key}", largest)
        for key, buffer in layer.buffers.items():
            np.testing.assert_allclose(buffer, getattr(leaf, key).numpy(), rtol=1e-10, atol=1e-10)


def test_heads_of_googlenet_are_pytorchs(torch, torch_nets, rng):
    net = nets.googlenet(aux_heads=True, classes=5, rng=0)
    make_lively(net, rng)
    module = torch_nets.to_torch(net)
    x = rng.standard_normal((1, 3, 224, 224), np.float32)
    outputs = module(torch.from_numpy(x))
    for y, expected in zip(net.forward(x), outputs, strict=True):
        assert_near(y, expected.detach().numpy(), "googlenet")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("resnet18", lambda m, state, x: m.resnet(state, x, (2, 2, 2, 2), 2)),
        ("resnet50", lambda m, state, x: m.resnet(state, x, (3, 4, 6, 3), 3)),
        ("googlenet", lambda m, state, x: m.googlenet(state, x)),
    ],
)
def test_outputs_are_those_of_models_written_by_hand(name, model, torch, rng):
    import torch_models

    net, x = part_and_images(name, 1, rng)
    make_lively(net, rng)
    state = {key: torch.from_numpy(value) for key, value in net.state_dict().items()}
    expected = model(torch_models, state, torch.from_numpy(x)).numpy()
    assert_near(net.eval()(x), expected, name)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet18", "googlenet"])
def test_outputs_are_torchvisions(name, torch, rng):
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # not there, or not made for this PyTorch
        pytest.skip(f"torchvision: {error}")
    net, x = part_and_images(name, 1, rng)
    make_lively(net, rng)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = getattr(models, name)(num_classes=10, **options).double().eval()
    model.load_state_dict({key: torch.from_numpy(v) for key, v in net.state_dict().items()})
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    assert_near(net.eval()(x), expected, name)


def test_nets_of_one_row_print_as_their_pattern():
    for net in (nets.lenet5(rng=0), nets.all_cnn_c(rng=0)):
        again = nets.build(str(net), rng=0)
        assert repr(again) == repr(net) and isinstance(net, Sequential)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_2012", "vgg16", "zfnet", "all_cnn_c"])
@pytest.mark.parametrize("classes", [0, -1, "3, nobias", 2.5])
def test_classes_must_be_a_number_of_them(name, classes):
    with pytest.raises((TypeError, ValueError), match="classes"):
        nets.NAMES[name].build(classes=classes)
