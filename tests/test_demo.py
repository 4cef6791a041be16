"""The demonstration, with tiny settings."""

import argparse
import functools
import math
import sys

import numpy as np
import pytest

from fastconv import _demo_picture, cli, demo
from fastconv.data import load_digits


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Measure each way of convolving once, on a few images."""

    once = functools.partial(demo.compare, min_time=0, min_rounds=1, sample_time=0)
    monkeypatch.setattr(demo, "compare", once)
    monkeypatch.setattr(demo, "LOOP_IMAGES", 2)


def test_demo_trains_times_and_draws(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "picture.png"
    result = demo.run_demo(epochs=2, batch_size=64, seed=1, threads=1, plot=picture)
    assert result["accuracy"] > 0.5
    assert result["tested"] == 360
    assert result["wrong"] == round((1 - result["accuracy"]) * 360)
    assert result["threads"] == 1
    assert result["parameters"] == 35_914
    assert set(result["step_seconds"]) == set(demo.WAYS)
    assert set(result["speedup"]) == set(demo.WAYS) - {"auto"}
    assert len(result["history"]["loss"]) == 2 * math.ceil(1437 / 64)
    assert picture.read_bytes().startswith(b"\x89PNG")

    out = capsys.readouterr().out
    assert out.isascii()
    assert str(picture) in out
    assert max(len(line) for line in out.splitlines() if str(picture) not in line) <= 80
    for text in (*demo.WAYS.values(), "epoch 2/2", "test accuracy", "~ measured on 2 images"):
        assert text in out


def test_quiet_prints_the_result_alone(capsys):
    assert cli.main(["demo", "--quiet", "--epochs", "1", "--batch", "64"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("test accuracy ")
    assert out.count("\n") == 1


@pytest.mark.parametrize("rich_installed", [True, False])
def test_demo_on_a_terminal(rich_installed, monkeypatch, capsys):
    if rich_installed:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    demo.run_demo(epochs=1, batch_size=64)
    assert "epoch 1/1" in capsys.readouterr().out


def test_seeds_repeat_and_differ():
    def losses(seed):
        net = demo.build_net(seed)
        return demo.train(net, epochs=1, batch_size=512, rng=seed)["loss"]

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


@pytest.mark.parametrize("way", demo.WAYS)
def test_all_ways_compute_the_same_network(way, rng):
    x = rng.random((3, 1, 8, 8), np.float32)
    expected = demo.build_net(0)
    net = demo.build_net(0, way)
    y = net.forward(x)
    np.testing.assert_allclose(y, expected.forward(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.backward(y), expected.backward(y), rtol=1e-3, atol=1e-4)
    for name, grad in expected.grads.items():
        np.testing.assert_allclose(net.grads[name], grad, rtol=1e-3, atol=1e-4)


def test_wrong_gradients_are_not_timed(monkeypatch):
    monkeypatch.setattr(demo.loops, "weight_grad", lambda dy, x, w_shape, **_: np.ones(w_shape))
    with pytest.raises(RuntimeError, match=r"gradient 0\.weight of naive loops in C is wrong"):
        demo.time_steps(4)


def test_shift_moves_half_of_the_images_by_a_pixel(rng):
    images = np.zeros((400, 1, 5, 5), np.float32)
    images[:, 0, 2, 2] = 1
    moved = demo.shift(images, rng)
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    n, _, rows, columns = np.nonzero(moved)
    np.testing.assert_array_equal(n, np.arange(400))
    assert set(rows) == set(columns) == {1, 2, 3}
    # Half stay, and a ninth of the others.
    assert 0.4 < np.mean((rows == 2) & (columns == 2)) < 0.72


@pytest.mark.parametrize("wrong", [0, 1, 50])
def test_picture_with_any_number_of_mistakes(wrong, tmp_path):
    pytest.importorskip("matplotlib")
    x, y = load_digits("test")
    predictions = y.copy()
    predictions[:wrong] = (y[:wrong] + 1) % 10
    history = {"epoch_loss": [1.0, 0.1], "validation_accuracy": [0.5, 0.9]}
    path = tmp_path / "picture.svg"
    _demo_picture.draw(path, demo.build_net(0), x, y, predictions, history)
    assert "</svg>" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs: '0' is not a whole number from 1 up"),
        (["--batch", "x"], "--batch: 'x' is not a whole number"),
        (["--seed", "-1"], "--seed"),
        (["--threads", "1000"], "--threads: 1000 is more than 256"),
        (["--plot", "picture.txt"], "'picture.txt' does not end in .png"),
        (["--plot", "/no/such/folder/a.png"], "cannot write '/no/such/folder/a.png'"),
        (["--fast"], "--fast"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_plot_without_matplotlib_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(_demo_picture.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", "--plot", "picture.png"])
    assert caught.value.code == 2
    assert "pip install 'fastconv[plot]'" in capsys.readouterr().err


def test_arguments_have_the_defaults_of_run_demo():
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    args = parser.parse_args([])
    assert (args.epochs, args.batch, args.seed) == (demo.EPOCHS, demo.BATCH_SIZE, 0)
    assert (args.plot, args.threads, args.quiet) == (None, None, False)
