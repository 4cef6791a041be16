#!/bin/bash
# The kernels for aarch64 (scalar and NEON) on any machine: cross-compiles the C checks and runs
# them under emulation. On Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross
# qemu-user. $PYTHON, by default python, needs setuptools.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

if [ "$(uname -m)" = aarch64 ]; then
    CROSS=${CC:-gcc} EMULATOR=
else
    CROSS=aarch64-linux-gnu-gcc
    EMULATOR=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
    if [ -z "$EMULATOR" ] || ! command -v "$CROSS" > /dev/null; then
        echo "check_aarch64: needs $CROSS and qemu-aarch64, see the head of this script"
        exit 1
    fi
fi

"$PYTHON" scripts/build_checks.py --cc "$CROSS" --machine aarch64 --flags=-static "$WORK/check"
# not fork: the emulator itself does not survive one in a process with threads
$EMULATOR "$WORK/check" kernels drivers threads | tee "$WORK/log"
grep -q "^neon f64" "$WORK/log"
