#!/bin/bash
# A processor of 2008 that knows no AVX: nothing outside the kernels for newer ones may use it, and
# dispatch must not choose them. Runs the C checks under qemu's Nehalem (Debian: qemu-user).
# $PYTHON, by default python, needs setuptools.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

EMULATOR=$(command -v qemu-x86_64-static || command -v qemu-x86_64 || true)
if [ "$(uname -m)" != x86_64 ] || [ -z "$EMULATOR" ]; then
    echo "check_old_cpu: needs an x86-64 machine and qemu-x86_64, see the head of this script"
    exit 1
fi

"$PYTHON" scripts/build_checks.py --flags=-static "$WORK/check"
# not fork: the emulator itself does not survive one in a process with threads
"$EMULATOR" -cpu Nehalem "$WORK/check" kernels drivers threads | tee "$WORK/log"
grep -q "^sse2 f64" "$WORK/log"
grep -q "^avx2: not available" "$WORK/log"
