#!/bin/bash
# Memory errors, undefined behaviour and data races.
#   1. the C checks (tests/c) under AddressSanitizer and UndefinedBehaviorSanitizer,
#   2. the pool and the drivers under ThreadSanitizer,
#   3. the extension module built with ASan and UBSan, under the tests of kernels and bad input.
# Needs gcc with its sanitizer libraries, and a Python that has numpy, Cython, setuptools, pytest
# and hypothesis: $PYTHON, by default python. Nothing is written into the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python}
CC=${CC:-gcc}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

runs() { # whether a program built with this flag runs here
    echo 'int main(void) { return 0; }' > "$WORK/probe.c"
    "$CC" "$1" -o "$WORK/probe" "$WORK/probe.c" 2> "$WORK/probe.log" && "$WORK/probe" >> "$WORK/probe.log" 2>&1
}

ASAN="-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
if ! runs -fsanitize=address; then
    cat "$WORK/probe.log"
    echo "check_sanitizers: $CC has no working AddressSanitizer here"
    exit 1
fi

echo "== C checks, AddressSanitizer and UndefinedBehaviorSanitizer"
"$PYTHON" scripts/build_checks.py --cc "$CC" --flags="$ASAN" "$WORK/check"
"$WORK/check"

if runs -fsanitize=thread; then
    echo "== C checks of threads, ThreadSanitizer"
    "$PYTHON" scripts/build_checks.py --cc "$CC" --flags="-O1 -fsanitize=thread -g" "$WORK/check_threads"
    # the pool starts threads after fork, which is what is to be checked
    TSAN_OPTIONS="halt_on_error=1 die_after_fork=0" FASTCONV_ISA=scalar \
        "$WORK/check_threads" threads fork drivers
else
    echo "== ThreadSanitizer does not work here, its checks are left out:"
    cat "$WORK/probe.log"
fi

echo "== extension module, AddressSanitizer and UndefinedBehaviorSanitizer"
cp -r csrc fastconv setup.py pyproject.toml README.md LICENSE "$WORK"
# Python's own flags contain -fwrapv, under which no signed overflow would be reported.
if ! (cd "$WORK" && CC="$CC" FASTCONV_CFLAGS="-fno-wrapv $ASAN" "$PYTHON" -m pip install --quiet \
        --no-build-isolation --no-deps --target "$WORK/site" . > "$WORK/build.log" 2>&1); then
    cat "$WORK/build.log"
    exit 1
fi
# The interpreter itself is not instrumented: the library is loaded first, leaks are Python's own.
export LD_PRELOAD=$("$CC" -print-file-name=libasan.so)
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
export PYTHONPATH="$WORK/site" PYTHONDONTWRITEBYTECODE=1
"$PYTHON" -P -c "import fastconv; print(fastconv.__file__)" | grep -q "^$WORK/site"
# one instruction set is enough here: the C checks went through all of them
FASTCONV_ISA=$("$PYTHON" -P -c "import fastconv; print(fastconv.isa())")
export FASTCONV_ISA
"$PYTHON" -P -m pytest -q -p no:cacheprovider --maxfail=3 "$@" \
    tests/test_{errors,threads,pooling,columns,conv_transpose,gradients}.py
