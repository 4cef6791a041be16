#!/usr/bin/env python3
"""Build the C checks of tests/c with the sources and flags of setup.py.

For example: scripts/build_checks.py --cc clang --flags="-fsanitize=address,undefined" /tmp/check
"""

import argparse
import os
import platform
import runpy
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent


def build_settings(machine):
    """Global names of setup.py as it would run on `machine`, without building anything."""
    with mock.patch("setuptools.setup"), mock.patch.object(platform, "machine", lambda: machine):
        return runpy.run_path(str(ROOT / "setup.py"))


def units(settings):
    """(source, flags of its own) for the library and the checks."""
    for path in sorted((ROOT / "csrc").glob("*.c")):
        isa = path.stem.removeprefix("isa_")
        if isa == path.stem:
            yield path, []
        elif isa in settings["ISA_FLAGS"]:
            yield path, settings["ISA_FLAGS"][isa]
    for path in sorted((ROOT / "tests" / "c").glob("*.c")):
        yield path, [f"-I{ROOT / 'csrc'}"]


def compile_unit(cc, path, flags, folder):
    target = Path(folder) / (path.parent.name + "_" + path.stem + ".o")
    done = subprocess.run(
        [*cc, *flags, "-c", path, "-o", target], stderr=subprocess.PIPE, text=True
    )
    if done.stderr:
        sys.stderr.write(done.stderr)
    if done.returncode or "warning" in done.stderr:
        raise SystemExit(f"{path.relative_to(ROOT)} does not compile without warnings")
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cc", default="gcc", help="compiler, by default gcc")
    parser.add_argument("--machine", default=platform.machine(), help="architecture to build for")
    parser.add_argument("--flags", default="", help="flags for compiler and linker")
    parser.add_argument("output", help="the program to make")
    args = parser.parse_args()
    settings = build_settings(args.machine)
    cc, extra = args.cc.split(), args.flags.split()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(compile_unit, cc, path, settings["COMMON"] + flags + extra, folder)
            for path, flags in units(settings)
        ]
        objects = [job.result() for job in jobs]
        subprocess.run([*cc, *objects, *extra, "-pthread", "-lm", "-o", args.output], check=True)


if __name__ == "__main__":
    main()
