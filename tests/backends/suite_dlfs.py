"""What the book runs in chapter 7, for scripts/check_backends.py: its scripts, as they are."""

import pickle
import runpy
from pathlib import Path

import common
import numpy as np
import pytest

ROOT = Path(common.__path__[0]).parent


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Run a script of ch07 in an empty folder; returns its names."""
    monkeypatch.syspath_prepend(ROOT / "ch07")
    monkeypatch.chdir(tmp_path)
    return lambda name: runpy.run_path(str(ROOT / "ch07" / name), run_name="__main__")


def test_gradient_check(script, capsys):
    np.random.seed(0)
    script("gradient_check.py")
    differences = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(differences) == {"W1", "b1", "W2", "b2", "W3", "b3"}
    # steps of 1e-4 cross some of ReLU's and pooling's bends
    assert max(map(float, differences.values())) < 1e-4


def test_trained_filters_give_the_same_scores(script):
    names = script("simple_convnet.py")
    net = names["SimpleConvNet"]()
    net.load_params(ROOT / "ch07" / "params.pkl")
    scores = net.predict(np.linspace(0, 1, 2 * 784).reshape(2, 1, 28, 28))
    assert scores.dtype == np.float64 and np.isfinite(scores).all()


@pytest.mark.filterwarnings("ignore:.*non-interactive")
def test_train_convnet(script, monkeypatch, tmp_path, capsys):
    """On digits that are bars in ten places, in the format of MNIST: learnt within seconds."""
    pytest.importorskip("matplotlib").use("Agg")
    rng = np.random.default_rng(0)
    data = {}
    for part, size in (("train", 300), ("test", 100)):
        labels = rng.integers(0, 10, size).astype(np.uint8)
        images = rng.integers(0, 40, (size, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, 2 * label + 4 : 2 * label + 6] = 255
        data |= {f"{part}_img": images.reshape(size, 784), f"{part}_label": labels}
    (tmp_path / "mnist.pkl").write_bytes(pickle.dumps(data))
    monkeypatch.setattr("dataset.mnist.save_file", str(tmp_path / "mnist.pkl"))
    np.random.seed(0)
    trainer = script("train_convnet.py")["trainer"]
    assert trainer.test_acc_list[-1] > 0.9 and (tmp_path / "params.pkl").exists()
    assert "Saved Network Parameters!" in capsys.readouterr().out
