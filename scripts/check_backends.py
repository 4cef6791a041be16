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
    """

    name: str
    folder: str
    tests: tuple[str, ...]
    shim: str = ""
    environment: tuple[tuple[str, str], ...] = ()


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
)


def outcomes(suite: Suite, backend: bool) -> dict[str, str]:
    """Node id -> "passed", "failed", ... of one run."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | dict(suite.environment)
        paths = [str(ROOT / "tests" / "backends"), str(CHECKOUTS / suite.folder)]
        if suite.shim:
            Path(folder, "sitecustomize.py").write_text(f"import shims; shims.{suite.shim}()\n")
            paths.insert(0, folder)
        environment["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
        run = ("fastconv.backends", suite.name, "-m") if backend else ()
        done = subprocess.run(
            [sys.executable, "-m", *run, "pytest", "-v", "-p", "no:cacheprovider", *suite.tests],
            cwd=CHECKOUTS / suite.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    output = re.sub(r" at 0x[0-9a-f]+", "", done.stdout)  # in a name, other in each run
    found = dict(re.findall(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)", output, re.M))
    if not found:
        sys.exit(f"{suite.name}: no test ran\n{done.stdout[-3000:]}")
    return found


def check(suite: Suite) -> bool:
    if not (CHECKOUTS / suite.folder).is_dir():
        print(f"{suite.name}: no {CHECKOUTS / suite.folder}, left out (FASTCONV_NETS)")
        return True
    original, patched = outcomes(suite, False), outcomes(suite, True)
    passed = {test for test, outcome in original.items() if outcome == "PASSED"}
    lost = sorted(test for test in passed if patched.get(test) != "PASSED")
    print(f"{suite.name}: {len(passed)} of {len(original)} pass as it is, "
          f"{len(passed) - len(lost)} of these on fastconv")  # fmt: skip
    for test in lost:
        print(f"  {test}: {patched.get(test, 'not run')}")
    return not lost and bool(passed)


def main(names: list[str]) -> int:
    return int(not all([check(suite) for suite in SUITES if not names or suite.name in names]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
