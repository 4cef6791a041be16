#!/usr/bin/env python3
"""Check what a wheel and a source distribution hold: scripts/check_dist.py dist/*

The wheel holds fastconv/ alone, its module exports its initialiser and what thread control needs,
and it is small; the source distribution has all that a build needs.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

EXPORTS = {
    "PyInit__core",
    "fastconv_get_num_threads",
    "fastconv_get_version",
    "fastconv_set_num_threads",
}
SOURCES = ("setup.py", "pyproject.toml", "LICENSE", "csrc/fastconv.h", "csrc/kernels/gemm.inc")
MOST_BYTES = 3_000_000


def check_wheel(path):
    assert "-cp311-abi3-" in path.name, f"{path.name} is no cp311-abi3 wheel"
    with zipfile.ZipFile(path) as wheel, tempfile.TemporaryDirectory() as folder:
        names = wheel.namelist()
        strange = [n for n in names if not n.startswith(("fastconv/", "fastconv-"))]
        assert not strange, f"{path.name} holds {strange}"
        modules = [n for n in names if n.endswith(".so")]
        assert modules == ["fastconv/_core.abi3.so"], f"{path.name} holds modules {modules}"
        for needed in ("fastconv/py.typed", "fastconv/data/digits.npz"):
            assert needed in names, f"{path.name} lacks {needed}"
        size = sum(info.file_size for info in wheel.infolist())
        assert size <= MOST_BYTES, f"{path.name} takes {size} bytes installed"
        symbols = subprocess.run(
            ["nm", "-D", "--defined-only", wheel.extract(modules[0], folder)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    found = {line.split()[-1] for line in symbols.splitlines()}
    assert found == EXPORTS, f"{path.name} exports {sorted(found)}"
    print(f"{path.name}: {len(names)} files, {size} bytes installed")


def check_sdist(path):
    with tarfile.open(path) as sdist:
        names = {name.split("/", 1)[-1] for name in sdist.getnames()}
    missing = [name for name in SOURCES if name not in names]
    assert not missing, f"{path.name} lacks {missing}"
    print(f"{path.name}: {len(names)} files")


def main(paths):
    kinds = {path.suffix for path in paths}
    assert kinds == {".whl", ".gz"}, f"a wheel and a source distribution are needed, got {paths}"
    for path in paths:
        (check_wheel if path.suffix == ".whl" else check_sdist)(path)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
