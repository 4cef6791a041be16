"""Fixtures for all tests: random numbers that can be repeated, dtypes, ISAs, thread counts."""

import os
import secrets
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# The tests are for the installed package. `python -m pytest` puts the current folder on sys.path
# first, and in a checkout that holds the sources of fastconv, which lack the compiled core unless
# the installation is an editable one. So the checkout is no place to import from or to start other
# Python processes in. (The tests' own folder is put on sys.path by pytest.)
TESTS = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != TESTS.parent]

# A shared machine is slow now and then, and no test asserts a time. Fixtures such as `isa` and
# `dtype` hold for all examples of a property.
hypothesis.settings.register_profile(
    "fastconv",
    deadline=None,
    max_examples=100,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("fastconv")


def pytest_addoption(parser):
    parser.addoption(
        "--seed", type=int, help="seed of the tests' random numbers (default: a new one)"
    )


def pytest_configure(config):
    os.environ["FASTCONV_CACHE"] = "off"  # no test depends on what was tuned on this machine
    os.chdir(TESTS)  # not earlier: pytest has to find its `testpaths` first
    if config.getoption("--seed") is None:
        config.option.seed = secrets.randbits(32)


def pytest_report_header(config):
    return f"fastconv: --seed={config.getoption('--seed')}"


@pytest.fixture
def rng(request):
    """A generator of its own for each test, so that a test run alone sees the same numbers."""
    name = zlib.crc32(request.node.nodeid.encode())
    return np.random.default_rng([request.config.getoption("--seed"), name])


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


def _isas():
    """The ISAs to test: all of this machine, or the one that FASTCONV_ISA asks for."""
    forced = os.environ.get("FASTCONV_ISA")
    if forced:
        return [forced]
    try:
        import fastconv

        return list(fastconv.available_isas())
    except (ImportError, AttributeError):
        return []


@contextmanager
def _using_isa(name):
    import fastconv
    from fastconv import _core

    previous = fastconv.isa()
    _core.set_isa(name)
    yield name
    _core.set_isa(previous)


@pytest.fixture(params=_isas())
def isa(request):
    """Runs the test once for each ISA, with its kernels in use."""
    with _using_isa(request.param) as name:
        yield name


def _algos():
    """(isa, algo) pairs; the naive loops are the same code whatever the ISA."""
    isas = _isas()
    return [(isa, algo) for algo in ("gemm", "im2col") for isa in isas] + [
        (isa, "naive") for isa in isas[:1]
    ]


@pytest.fixture(params=_algos(), ids="-".join)
def algo(request):
    """Runs the test once for each algorithm of convolution and each ISA it depends on."""
    isa, name = request.param
    with _using_isa(isa):
        yield name


@pytest.fixture(params=[1, 2, 4], ids=lambda n: f"{n}threads")
def threads(request):
    """Runs the test with 1, 2 and 4 threads."""
    import fastconv

    with fastconv.threads(request.param):
        yield request.param


@pytest.fixture(scope="session")
def torch():
    """PyTorch, on one thread; the test is skipped where it is not installed."""
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module
