"""Python in a process of its own: for what may crash, hang or end the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent


def run_python(code, *, timeout=120, **environment):
    """Run code; a variable of the environment set to None is removed.

    -P keeps the current folder off sys.path, where a source folder of fastconv might be.
    """
    return _run(["-P", "-c", code], timeout, environment)


def run_script(name, *args, timeout=300):
    """Run a script of the tests' folder."""
    return _run([str(TESTS / name), *map(str, args)], timeout, {})


def _run(args, timeout, environment):
    variables = {**os.environ, **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    return subprocess.run(
        [sys.executable, *args], env=variables, capture_output=True, text=True, timeout=timeout
    )


def output(code, *, timeout=120, **environment):
    """What code prints; it must exit with status 0."""
    done = run_python(code, timeout=timeout, **environment)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()
