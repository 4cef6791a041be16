"""Speed with pytest-benchmark: ``python -m pytest benchmarks --benchmark-compare`` and the like.

`fastconv bench` compares algorithms; this file follows one algorithm from commit to commit.
"""

import numpy as np
import pytest

from fastconv.bench.candidates import prepare
from fastconv.bench.cases import OPERATIONS, conv_cases
from fastconv.bench.command import FULL

pytest.importorskip("pytest_benchmark")

LAYERS = (
    "cs231n-notes/demo",
    "cs231n-cifar/3x3-32",
    "alexnet/conv1",
    "vgg16/3_2",
    "resnet50/3_3x3s2",
    "resnet50/3_1x1",
    "mobilenet/dw112",
)
CASES = {case.name: case for case in conv_cases()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("algo", ["im2col", "gemm", "auto"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("operation", OPERATIONS[:3], ids=lambda operation: operation.key)
def test_convolution(benchmark, operation, layer, algo, dtype):
    only = operation.restricted_to(algo)
    candidate = prepare(only, CASES[layer], dtype, FULL)[algo]
    assert not candidate.failure
    benchmark.extra_info["gflop"] = CASES[layer].work / 1e9
    benchmark(candidate.call)


@pytest.mark.parametrize("operation", OPERATIONS[3:], ids=lambda operation: operation.key)
@pytest.mark.parametrize("layer", ["alexnet/pool1", "resnet50/pool1"])
def test_pooling(benchmark, operation, layer):
    case = next(case for case in operation.cases() if case.name == layer)
    candidate = prepare(operation, case, np.float32, FULL)[operation.main]
    assert not candidate.failure
    benchmark(candidate.call)
