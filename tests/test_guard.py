"""The tools of the other tests do what they say."""

import signal
import subprocess
import sys
from pathlib import Path

import guard
import numpy as np
import pytest

SHAPES = [(3,), (2, 3, 5), (0, 3), (1, 2, 3, 4), ()]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "place",
    [guard.misaligned, guard.unaligned, guard.read_only, guard.before_wall, guard.after_wall],
)
def test_places_keep_the_values(place, shape, dtype, rng):
    array = rng.uniform(size=shape).astype(dtype)
    placed = place(array)
    assert placed.dtype == dtype and np.array_equal(placed, array)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8])
def test_restride_keeps_the_values(shape, kind, rng):
    array = rng.integers(0, 100, shape).astype(kind)
    for _ in range(20):
        strided = guard.restride(array, rng)
        assert strided.dtype == kind and np.array_equal(strided, array)


def test_restride_finds_all_layouts(rng):
    array = np.zeros((3, 4, 5))
    strides = [guard.restride(array, rng).strides for _ in range(200)]
    assert any(min(s) < 0 for s in strides)
    assert len({tuple(np.argsort(np.abs(s))) for s in strides}) == 6


def test_misaligned_by_one_element(dtype):
    array = guard.misaligned(np.zeros(7, dtype))
    assert array.ctypes.data % guard.ALIGNMENT == dtype.itemsize
    assert array.flags.aligned
    assert not guard.unaligned(np.zeros(7, dtype)).flags.aligned


def test_guard_notices_a_write(dtype):
    for direction in (1, -1):
        array, check = guard.guarded((15,), dtype)
        assert np.isnan(array).all()
        array[...] = 1
        check()
        beyond = np.lib.stride_tricks.as_strided(
            array[::direction], (16,), (direction * dtype.itemsize,)
        )
        beyond[15] = 1
        with pytest.raises(AssertionError, match="overwritten"):
            check()


@pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")
@pytest.mark.parametrize("array", ["before_wall(zeros)", "after_wall(zeros)[::-1]"])
def test_walls_stop_a_read(array):
    code = f"""
import guard, numpy as np
zeros = np.zeros(3, np.float32)
array = guard.{array}
beyond = np.lib.stride_tricks.as_strided(array, (4,), array.strides)
print(beyond[2], flush=True)
print(beyond[3], flush=True)
"""
    folder = Path(guard.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout.split() == ["0.0"]
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS)
