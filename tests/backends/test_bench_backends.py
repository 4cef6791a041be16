"""`fastconv bench --backend`: verified, then timed with the backend and without it."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest

from fastconv import backends, cli
from fastconv.backends import Backend, Replacement
from fastconv.bench.backends import BackendCase
from fastconv.bench.backends.run import arrays, difference

EPS32 = float(np.finfo(np.float32).eps)


@pytest.fixture
def net(monkeypatch):
    """A net `toynet` with a backend, whose calls it keeps, and cases that a test fills in."""
    toynet, backend, bench = (ModuleType(n) for n in ("toynet", "backend", "bench"))
    toynet.double = lambda x: x + x
    toynet.calls = []

    def double(original, x):
        toynet.calls.append(x)
        return 2 * x

    backend.backend = lambda: Backend("toynet", "toynet 1", [Replacement("toynet.double", double)])
    toynet.__spec__ = type(sys.__spec__)("toynet", None)
    bench.cases = lambda: toynet.cases
    monkeypatch.setitem(sys.modules, "toynet", toynet)
    monkeypatch.setitem(sys.modules, "fastconv.backends.toynet", backend)
    monkeypatch.setitem(sys.modules, "fastconv.bench.backends.toynet", bench)
    monkeypatch.setitem(backends.NAMES, "toynet", "a toy")
    yield toynet
    backends.uninstall("toynet")


def bench(capsys, *argv):
    try:
        status = cli.main(["bench", "--backend", "toynet", "--quick", *argv])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


def test_verified_timed_and_left_as_it_was(net, capsys, tmp_path):
    x = np.ones((64, 64), np.float32)
    net.cases = [
        BackendCase("double", "forward", lambda: lambda: net.double(x), terms=1, bar=0.001),
        BackendCase("step", "step", lambda: lambda: {"y": [net.double(x), None]}, terms=1),
    ]
    original = net.double
    status, out, err = bench(capsys, "--json", str(tmp_path / "found.json"))
    assert (status, err) == (0, "") and net.double is original and net.calls
    assert "forward  double" in out and "geometric mean" in out and "0.001" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["environment"] and [case["kind"] for case in found["cases"]] == ["forward", "step"]
    for case in found["cases"]:
        assert not case["failure"] and case["original"]["seconds"] > 0
        assert case["fastconv"]["rounds"] > 1


def test_wrong_results_are_not_timed(net, capsys):
    def build():
        return lambda: net.double(1.0) + (1e-3 if net.calls else 0)

    net.cases = [BackendCase("wrong", "forward", build, terms=1)]
    status, out, _ = bench(capsys)
    assert status == 1 and "array 0 is off by 0.001" in out and "geometric" not in out


def test_a_baseline_in_place_of_the_original(net, capsys):
    net.cases = [
        BackendCase("double", "forward", lambda: lambda: net.double(3.0), terms=1,
                    baseline=lambda: lambda: 3.0 + 3.0, against="a sum")
    ]  # fmt: skip
    status, out, _ = bench(capsys)
    assert status == 0 and "original is a sum: double" in out


def test_what_cannot_be_asked_for(net, capsys):
    net.cases = []
    for argv, words in [
        (("--filter", "none"), "no case's name contains 'none'"),
        (("--op", "forward"), "it takes no --op"),
        (("--batch", "8"), "it takes no --batch"),
        (("--list",), "it takes no --list"),
        (("--threads", "100000"), "--threads"),
        (("--json", "/nowhere/x.json"), "cannot write"),
    ]:
        status, _, err = bench(capsys, *argv)
        assert status == 2 and words in err, argv


def test_a_missing_net_is_told(net, capsys, monkeypatch):
    net.cases = [BackendCase("x", "forward", lambda: lambda: 0, terms=1)]
    monkeypatch.setattr(backends, "find", lambda package: None)
    status, _, err = bench(capsys)
    assert status == 2 and "there is no module toynet here; this backend needs toynet 1" in err


def test_all_goes_on_without_a_net_that_cannot_be_imported(net, capsys, monkeypatch):
    net.cases = [BackendCase("double", "forward", lambda: lambda: net.double(3.0), terms=1)]
    broken = ModuleType("broken")  # as a net of another age is on today's NumPy
    broken.backend = lambda: Backend("broken.part", "broken 2", [])
    monkeypatch.setitem(sys.modules, "fastconv.backends.broken", broken)
    monkeypatch.setitem(backends.NAMES, "broken", "broken")
    monkeypatch.setattr(backends, "find", lambda package: "1")
    monkeypatch.setattr(backends, "available", lambda: ["broken", "toynet"])
    status, out, err = bench(capsys, "--backend", "all")
    assert status == 0 and "forward  double" in out
    assert err.startswith("broken is left out: cannot import broken.part: ModuleNotFoundError")
    monkeypatch.setattr(backends, "available", lambda: ["broken"])
    status, _, err = bench(capsys, "--backend", "all")
    assert status == 2 and "no net can be measured" in err
    status, _, err = bench(capsys, "--backend", "broken")
    assert status == 2 and "this backend needs broken 2" in err and "Traceback" not in err


def test_differences():
    a = np.ones((2, 3), np.float32)
    assert difference([a], [a * (1 + 8 * EPS32)], terms=2) == ""
    assert "off by" in difference([a], [a * (1 + 8 * EPS32)], terms=1)
    assert "off by nan" in difference([a], [a * np.nan], terms=100)
    assert "shape (3, 2) instead of (2, 3)" in difference([a], [a.T], terms=1)
    assert difference([a], [], terms=1) == "0 arrays instead of 1"
    assert "off by" in difference([np.arange(3)], [np.arange(3) + 1], terms=100)
    assert len(list(arrays({"b": [1, (2, None)], "a": np.ones(3)}))) == 3
