#!/usr/bin/env python3
"""Run other people's test suites with fastconv active: scripts/check_backends.py [NAME...]

The suites are read from checkouts of the nets' repositories, in the folder that the environment
variable FASTCONV_NETS names, or from the installed package. Each runs twice, as it is and through
``python -m fastconv.backends``: every test that passes on the net as it is must pass on fastconv.
"""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKOUTS = Path(os.environ.get("FASTCONV_NETS", ROOT / "nets"))


@dataclass(frozen=True)
class Suite:
    """Tests of a net.

    `folder` is the working directory, below the checkouts ("" for tests in an installed package);
    `shim` a function of tests/backends/shims.py that is called before anything is imported.
    A net that is not `alone` cannot be imported without the backend: all must pass on fastconv.
    """

    name: str
    folder: str
    tests: tuple[str, ...]
    shim: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    alone: bool = True


_CHAINER = "tests/chainer_tests/functions_tests/"
SUITES = (
    # Neither comes with tests: the first runs the checks of its notebook, and needs the compiled
    # im2col_cython (in the folder cs231n: python setup.py build_ext --inplace) without the backend;
    # the second runs its scripts.
    Suite("cs231n", "cs231n/assignment2", (str(ROOT / "tests/backends/suite_cs231n.py"),)),
    Suite("dlfs", "dlfs", (str(ROOT / "tests/backends/suite_dlfs.py"),)),
    Suite(
        "chainer",
        "chainer",
        (
            *("-o", "filterwarnings=ignore"),  # it has warnings of its age
            *("-m", "not gpu and not cudnn and not slow and not ideep and not chainerx"),
            _CHAINER + "connection_tests",
            _CHAINER + "pooling_tests",
            _CHAINER + "normalization_tests",
            _CHAINER + "activation_tests/test_relu.py",
            _CHAINER + "array_tests/test_im2col.py",
            "tests/chainer_tests/links_tests/connection_tests",
            "tests/chainer_tests/utils_tests/test_conv.py",
            "tests/chainer_tests/utils_tests/test_conv_nd.py",
        ),
        shim="chainer",
    ),
    # The conformance cases in the package. Four of Range's, here because their bodies hold a Relu,
    # fail as it is: the evaluator gives another shape than they want.
    Suite("onnx", "", (str(ROOT / "tests" / "backends" / "onnx_cases.py"),)),
    # They compare with Chainer, from the checkout beside. Left out is a test that wants
    # the bits of Chainer's result, which adds the bias after the sum (fastconv starts from it), and
    # the tests of VGG16 and ResNet, which download weights.
    Suite(
        "dezero",
        "dezero",
        (
            *(f"tests/test_{name}.py" for name in ("conv2d", "deconv2d", "im2col", "pooling")),
            "--deselect=tests/test_conv2d.py::TestConv2d::test_forward4",
        ),
        shim="dezero_tests",
    ),
    # Tests of training are for Keras' other backends; some of nn_test compare with JAX, and are
    # left out: none of them is about convolution or pooling.
    Suite(
        "keras", "",
        (
            "--pyargs", "keras.src.ops.nn_test", "keras.src.layers.convolutional",
            "keras.src.layers.pooling", "-m", "not requires_trainable_backend",
            "-k", "conv or pool or batch_norm",
        ),
        environment=(("KERAS_BACKEND", "numpy"),), alone=False,
    ),
    # Its plug-ins for coverage and for many processes are not needed.
    Suite(
        "autograd",
        "autograd",
        ("-o", "addopts=", "-o", "required_plugins=", "tests/test_scipy.py", "-k", "convolve"),
    ),
    # Needs torch and scikit-learn; TensorFlow, which only a loss needs, is made up.
    Suite(
        "numpy_ml",
        "numpy-ml",
        ("-p", "no:warnings", "numpy_ml/tests/test_nn.py", "-k", "onv or Pool or Wave or pad1D"),
        shim="numpy_ml_tests",
    ),
)  # fmt: skip


def outcomes(suite: Suite, backend: bool) -> dict[str, str]:
    """Node id -> "passed", "failed", ... of one run."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | dict(suite.environment)
        where = str(CHECKOUTS / suite.folder) if suite.folder else folder
        paths = [str(ROOT / "tests" / "backends"), where]
        if suite.shim:
            Path(folder, "sitecustomize.py").write_text(f"import shims; shims.{suite.shim}()\n")
            paths.insert(0, folder)
        environment["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
        run = ("fastconv.backends", suite.name, "-m") if backend else ()
        done = subprocess.run(
            [sys.executable, "-m", *run, "pytest", "-v", "-p", "no:cacheprovider", *suite.tests],
            cwd=where, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    output = re.sub(r" at 0x[0-9a-f]+", "", done.stdout)  # in a name, other in each run
    found = dict(re.findall(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)", output, re.M))
    if not found:
        sys.exit(f"{suite.name}: no test ran\n{done.stdout[-3000:]}")
    return found


def check(suite: Suite) -> bool:
    if suite.folder and not (CHECKOUTS / suite.folder).is_dir():
        print(f"{suite.name}: no {CHECKOUTS / suite.folder}, left out (FASTCONV_NETS)")
        return True
    patched = outcomes(suite, True)
    if suite.alone:
        original = outcomes(suite, False)
    else:
        original = {test: "PASSED" for test, found in patched.items() if found != "SKIPPED"}
    passed = {test for test, outcome in original.items() if outcome == "PASSED"}
    lost = sorted(test for test in passed if patched.get(test) != "PASSED")
    as_it_is = "pass as it is" if suite.alone else "cannot run without fastconv"
    print(f"{suite.name}: {len(passed)} of {len(original)} {as_it_is}, "
          f"{len(passed) - len(lost)} of these pass on fastconv")  # fmt: skip
    for test in lost:
        print(f"  {test}: {patched.get(test, 'not run')}")
    return not lost and bool(passed)


def main(names: list[str]) -> int:
    return int(not all([check(suite) for suite in SUITES if not names or suite.name in names]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
