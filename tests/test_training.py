"""Optimizers against PyTorch and by hand; the training loop; the digits."""

import doctest
import importlib

import numpy as np
import pytest

from fastconv.data import load_digits
from fastconv.functional import softmax_loss, svm_loss
from fastconv.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    PReLU,
    ReLU,
    Sequential,
)
from fastconv.training import SGD, Adam, accuracy, add_l2_penalty, evaluate, fit, optim, predict


def test_examples_of_docstrings():
    for name in ("training.optim", "training.penalty", "training.trainer", "data.digits"):
        assert doctest.testmod(importlib.import_module(f"fastconv.{name}")).failed == 0


# ---- optimizers ---------------------------------------------------------------------------------

OPTIMIZERS = {
    "plain": (SGD, "SGD", {"lr": 0.1}),
    "momentum": (SGD, "SGD", {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (
        SGD,
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    "decay": (SGD, "SGD", {"lr": 0.1, "weight_decay": 0.1}),
    "adam": (Adam, "Adam", {"lr": 0.01}),
    "adam-all": (
        Adam,
        "Adam",
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_agree_with_torch(name, torch, rng, monkeypatch):
    monkeypatch.setattr(optim, "BLOCK", 7)  # more than one block
    make, torch_name, options = OPTIMIZERS[name]
    net = Linear(5, 4, dtype=np.float64, rng=0)
    twin = {key: torch.nn.Parameter(torch.tensor(p)) for key, p in net.params.items()}
    ours = make(net, **options)
    theirs = getattr(torch.optim, torch_name)(twin.values(), **options)
    for step in range(5):
        if step == 3:
            ours.lr *= 0.1
            theirs.param_groups[0]["lr"] *= 0.1
        for key, parameter in twin.items():
            net.grads[key] = rng.standard_normal(parameter.shape)
            parameter.grad = torch.tensor(net.grads[key])
        ours.step()
        theirs.step()
    for key, parameter in twin.items():
        np.testing.assert_allclose(net.params[key], parameter.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_in_place_and_keep_dtype_and_grads(name, dtype, rng):
    make, _, options = OPTIMIZERS[name]
    net = Linear(5, 4, dtype=dtype, rng=0)
    arrays = dict(net.params)
    before = net.state_dict()
    gradient = rng.standard_normal((4, 5)).astype(dtype)
    net.grads["weight"] = gradient.copy()
    optimizer = make(net, **options)
    optimizer.lr = np.float64(optimizer.lr)  # as a schedule written with NumPy gives it
    optimizer.step()
    assert net.params["weight"] is arrays["weight"]
    assert net.params["weight"].dtype == dtype
    assert (net.params["weight"] != before["weight"]).all()
    np.testing.assert_array_equal(net.grads["weight"], gradient)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("size", [1, 37, 40_000])
def test_sgd_in_one_pass(momentum, size, isa, dtype, rng):
    net = Linear(size, 1, bias=False, dtype=dtype, rng=0)
    optimizer = SGD(net, 0.1, momentum=momentum, weight_decay=0.5)
    p, v = net.params["weight"].astype(np.float64), 0
    for _ in range(3):
        g = rng.standard_normal((1, size)).astype(dtype)
        net.grads["weight"] = g
        optimizer.step()
        v = momentum * v + (g + 0.5 * p)
        p = p - 0.1 * v
    # three steps of five operations each, on numbers of this size
    bound = 15 * np.finfo(dtype).eps * (np.abs(v).max() + np.abs(p).max())
    assert np.abs(net.params["weight"] - p).max() <= bound


def test_sgd_on_arrays_that_c_does_not_take(rng):
    # gradients of another dtype or order, as somebody's own layer may give
    net, plain = Linear(5, 4, rng=0), Linear(5, 4, rng=0)
    g = rng.standard_normal((4, 5)).astype(np.float32)
    net.grads["weight"], plain.grads["weight"] = np.asfortranarray(g.astype(np.float64)), g
    SGD(net, 0.1, momentum=0.9).step()
    SGD(plain, 0.1, momentum=0.9).step()
    np.testing.assert_allclose(net.params["weight"], plain.params["weight"], rtol=1e-6)


def test_infinite_parameters_stay_what_they_are():
    net = Linear(1, 1, bias=False)
    net.params["weight"][:] = np.inf
    net.grads["weight"][:] = 1
    SGD(net, 0.1).step()
    assert net.params["weight"] == np.inf


def test_momentum_by_hand():
    net = Linear(1, 1, bias=False, dtype=np.float64)
    net.params["weight"][:] = 1
    net.grads["weight"][:] = 2
    optimizer = SGD(net, 0.5, momentum=0.5)
    optimizer.step()  # v = 2
    assert net.params["weight"][0, 0] == 0
    optimizer.step()  # v = 0.5 * 2 + 2 = 3
    assert net.params["weight"][0, 0] == -1.5


def test_parameters_in_any_memory_order_are_updated():
    net = Linear(3, 4, bias=False, dtype=np.float64)
    net.params["weight"] = np.zeros((4, 3), order="F")
    net.grads["weight"] = np.ones((4, 3))
    SGD(net, 1).step()
    np.testing.assert_array_equal(net.params["weight"], -1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda net: SGD(net, -1), ValueError, "lr=-1"),
        (lambda net: SGD(net, float("nan")), ValueError, "lr=nan"),
        (lambda net: SGD(net, "fast"), TypeError, "lr='fast'"),
        (lambda net: SGD(net, True), TypeError, "lr=True"),
        (lambda net: SGD(net, 1, momentum=1), ValueError, "momentum=1"),
        (lambda net: SGD(net, 1, weight_decay=-0.1), ValueError, "weight_decay=-0.1"),
        (lambda net: SGD(net, 1, nesterov=True), ValueError, "momentum above 0"),
        (lambda net: Adam(net, betas=0.9), ValueError, "betas=0.9"),
        (lambda net: Adam(net, betas=(0.9, 1.0)), ValueError, "betas=1.0"),
        (lambda net: Adam(net, eps=-1e-8), ValueError, "eps="),
    ],
)
def test_bad_hyperparameters_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make(Linear(2, 2))


# ---- the loop -----------------------------------------------------------------------------------


def stripes(n, rng):
    """Images with horizontal (0) or vertical (1) stripes under noise: needs a filter to tell."""
    labels = rng.integers(0, 2, n)
    wave = np.cos(np.pi * np.arange(6))
    images = np.where(labels[:, None, None] == 0, wave[:, None], wave)
    images = images * rng.choice([-1, 1], (n, 1, 1)) + 0.3 * rng.standard_normal((n, 6, 6))
    return images[:, np.newaxis].astype(np.float32), labels


def small_net(rng):
    return Sequential(
        Conv2d(1, 8, 3, rng=rng), ReLU(), MaxPool2d(2), Flatten(), Linear(32, 2, rng=rng)
    )


@pytest.mark.parametrize("loss", [softmax_loss, svm_loss])
@pytest.mark.parametrize("make", [lambda net: SGD(net, 0.05, momentum=0.9), Adam])
def test_fit_learns_a_toy_problem(make, loss):
    rng = np.random.default_rng(0)
    x, y = stripes(200, rng)
    test = stripes(100, rng)
    net = small_net(rng)
    history = fit(
        net,
        x,
        y,
        epochs=15,
        batch_size=32,
        optimizer=make(net),
        rng=rng,
        loss=loss,
        validation=test,
    )
    assert history["epoch_loss"][-1] < 0.3 * history["epoch_loss"][0]
    assert history["validation_accuracy"][-1] > 0.95
    assert history["validation_accuracy"][-1] == accuracy(net, *test)
    assert history["validation_loss"][-1] == evaluate(net, *test, loss=loss)[0]
    assert len(history["loss"]) == 15 * 7
    assert len(history["validation_loss"]) == len(history["epoch_loss"]) == 15


def test_fit_repeats_with_the_same_seed():
    def losses(seed):
        x, y = stripes(50, np.random.default_rng(0))
        net = small_net(1)
        optimizer = SGD(net, 0.1)
        return fit(net, x, y, epochs=2, batch_size=16, optimizer=optimizer, rng=seed)["loss"]

    assert losses(3) == losses(3)
    assert losses(3) != losses(4)


def test_fit_shows_each_image_once_in_an_epoch():
    x = np.arange(10, dtype=np.float32)[:, np.newaxis]
    seen = []

    def remember(images, rng):
        assert isinstance(rng, np.random.Generator)
        seen.append(images[:, 0])
        return images

    net = Linear(1, 2, rng=0)
    fit(
        net,
        x,
        np.zeros(10, int),
        epochs=2,
        batch_size=4,
        optimizer=SGD(net, 0),
        rng=0,
        augment=remember,
    )
    assert [len(batch) for batch in seen] == [4, 4, 2, 4, 4, 2]
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert (first != second).any()


def test_fit_reports_each_step():
    x, y = stripes(20, np.random.default_rng(0))
    net = small_net(0)
    steps = []
    history = fit(
        net,
        x,
        y,
        epochs=2,
        batch_size=8,
        optimizer=SGD(net, 0.1),
        rng=0,
        on_step=steps.append,
        validation=(x, y),
    )
    assert [(s.epoch, s.step) for s in steps] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert {(s.epochs, s.steps) for s in steps} == {(2, 3)}
    assert [s.loss for s in steps] == history["loss"]
    first, second = history["validation_accuracy"]
    assert [s.accuracy for s in steps] == [None, None, first, first, first, second]


def test_fit_trains_in_training_mode_without_image_gradients(monkeypatch):
    asked = []
    backward = Sequential.backward

    def spy(self, dy, *, need_dx=True):
        asked.append((self.training, need_dx))
        return backward(self, dy, need_dx=need_dx)

    monkeypatch.setattr(Sequential, "backward", spy)
    x, y = stripes(8, np.random.default_rng(0))
    net = small_net(0).eval()
    fit(net, x, y, epochs=1, batch_size=8, optimizer=SGD(net, 0.1))
    assert asked == [(True, False)]


def test_evaluation_in_batches_equals_evaluation_at_once():
    x, y = stripes(23, np.random.default_rng(0))
    net = small_net(0)
    labels = predict(net, x, batch_size=23)
    assert labels.shape == (23,)
    np.testing.assert_array_equal(predict(net, x, batch_size=5), labels)
    assert accuracy(net, x, y, batch_size=4) == np.mean(labels == y)
    loss, share = evaluate(net, x, y, batch_size=4)
    assert loss == pytest.approx(softmax_loss(net(x), y)[0], rel=1e-5)
    assert share == np.mean(labels == y)
    assert predict(net, x[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"epochs": 1.5}, TypeError, r"epochs=1\.5"),
        ({"batch_size": -1}, ValueError, "batch_size=-1"),
        ({"x": np.zeros((0, 1, 6, 6), np.float32)}, ValueError, "holds no images"),
        ({"y": np.zeros(7, int)}, ValueError, r"y of shape \(8,\), got \(7,\)"),
        ({"y": np.zeros((8, 2), int)}, ValueError, r"y of shape \(8,\), got \(8, 2\)"),
        ({"validation": (np.zeros((2, 1, 6, 6)), [0])}, ValueError, r"\(2,\), got \(1,\)"),
        ({"optimizer": SGD(Linear(1, 1), 0.1)}, ValueError, "another network"),
    ],
)
def test_fit_refuses_by_name(change, error, message):
    x, y = stripes(8, np.random.default_rng(0))
    net = small_net(0)
    arguments = {
        "x": x,
        "y": y,
        "epochs": 1,
        "batch_size": 4,
        "optimizer": SGD(net, 0.1),
    } | change
    with pytest.raises(error, match=message):
        fit(net, **arguments)


def test_evaluation_refuses_by_name():
    x, y = stripes(8, np.random.default_rng(0))
    net = small_net(0)
    with pytest.raises(ValueError, match="needs labels"):
        accuracy(net, x, y[:3])
    with pytest.raises(ValueError, match="holds no images"):
        evaluate(net, x[:0], y[:0])
    with pytest.raises(ValueError, match="batch_size=0"):
        predict(net, x, batch_size=0)


# ---- the digits ---------------------------------------------------------------------------------


def test_digits_are_those_of_the_data_set():
    images, labels = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(
        np.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    zero = [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]
    np.testing.assert_array_equal(images[0, 0] * 16, zero)
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert images.min() == 0
    assert images.max() == 1


def test_digits_split_is_stratified_and_complete():
    everything, labels = load_digits()
    (train, train_labels), (test, test_labels) = load_digits("train"), load_digits("test")
    assert train.shape == (1437, 1, 8, 8)
    assert test.shape == (360, 1, 8, 8)
    shares = np.bincount(test_labels) / np.bincount(labels)
    assert np.abs(shares - 0.2).max() < 0.01
    rows = np.concatenate([train, test]).reshape(1797, 64)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, everything.reshape(1797, 64)))
    np.testing.assert_array_equal(
        np.sort(np.concatenate([train_labels, test_labels])), np.sort(labels)
    )


def test_digits_never_change_and_are_ones_own():
    images, labels = load_digits("test", dtype=np.float64)
    assert images.dtype == np.float64
    images[:] = labels[:] = 7
    again, labels_again = load_digits("test")
    assert again.max() == 1
    assert labels_again.max() == 9


def test_digits_refuse_by_name():
    with pytest.raises(ValueError, match="split='valid'"):
        load_digits("valid")
    with pytest.raises(TypeError, match="float16"):
        load_digits(dtype=np.float16)


# ---- L2 regularization --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [softmax_loss, svm_loss])
def test_gradients_of_the_regularized_loss_are_its_slopes(loss, rng):
    net = Sequential(
        Conv2d(2, 3, 3, dtype=np.float64, rng=0), ReLU(), Flatten(),
        Linear(12, 4, dtype=np.float64, rng=1),
    )  # fmt: skip
    x, y = rng.standard_normal((5, 2, 4, 4)), rng.integers(0, 4, 5)

    def full_loss():
        value, dscores = loss(net.forward(x), y)
        net.backward(dscores)
        return value + add_l2_penalty(net, 0.3)

    full_loss()
    for name, gradient in dict(net.grads).items():
        p = net.params[name]
        for i in rng.permutation(p.size)[:6]:
            before, step = p.flat[i], 1e-6
            p.flat[i] = before + step
            above = full_loss()
            p.flat[i] = before - step
            below = full_loss()
            p.flat[i] = before
            assert gradient.flat[i] == pytest.approx((above - below) / (2 * step), 1e-5, 1e-6)


def test_the_penalty_leaves_biases_and_scales_alone():
    net = Sequential(Conv2d(2, 3, 3, rng=0), BatchNorm2d(3), PReLU(3), Flatten(), Linear(3, 2))
    weights = {name: net.params[name] for name in ("0.weight", "4.weight")}
    expected = sum(float((w.astype(np.float64) ** 2).sum()) for w in weights.values())
    assert add_l2_penalty(net, 2) == pytest.approx(expected, rel=1e-6)
    for name, gradient in net.grads.items():
        np.testing.assert_array_equal(gradient, 2 * weights.get(name, 0) * np.ones_like(gradient))


def test_fit_with_l2_is_weight_decay_with_the_penalty_in_the_loss(rng):
    """On a net without biases the updates are those of the optimizer's weight decay."""
    x, y = rng.standard_normal((40, 6)), rng.integers(0, 3, 40)
    nets = [Linear(6, 3, bias=False, dtype=np.float64, rng=0) for _ in range(2)]
    how = {"epochs": 2, "batch_size": 10, "rng": 5}
    penalized = fit(nets[0], x, y, optimizer=SGD(nets[0], 0.1), l2=0.2, **how)
    decayed = fit(nets[1], x, y, optimizer=SGD(nets[1], 0.1, weight_decay=0.2), **how)
    np.testing.assert_allclose(nets[0].params["weight"], nets[1].params["weight"], rtol=1e-12)
    first = 0.1 * (Linear(6, 3, dtype=np.float64, rng=0).params["weight"] ** 2).sum()
    assert penalized["loss"][0] - decayed["loss"][0] == pytest.approx(first)
    with pytest.raises(ValueError, match="fit: l2: strength must be finite and at least 0, got -1"):
        fit(nets[0], x, y, optimizer=SGD(nets[0], 0.1), l2=-1, **how)


@pytest.mark.parametrize("rule", [lambda net: SGD(net, 0.1, momentum=0.9), Adam])
def test_a_step_that_cannot_be_made_changes_nothing(rule):
    net = Sequential(Linear(3, 2, rng=0), Linear(2, 2, rng=1))
    optimizer = rule(net)
    before = net.state_dict()
    net[1].grads["weight"] = np.ones((4, 1), np.float32)
    with pytest.raises(ValueError, match=r"1.weight has shape \(2, 2\), its gradient \(4, 1\)"):
        optimizer.step()
    net[1].grads["weight"] = np.ones((2, 2), np.float32)
    net[1].params["bias"].flags.writeable = False
    with pytest.raises(ValueError, match=r"1.bias is read-only"):
        optimizer.step()
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
