"""Where a number was measured: the machine, the kernels, the threads and NumPy's BLAS."""

import contextlib
import importlib.util
import os
import platform
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import fastconv
from fastconv import _core
from fastconv._machine import cpu_model
from fastconv.bench.timing import settle


def environment() -> dict:
    """Describe the machine and the libraries, as plain values that go into JSON."""
    return {
        "fastconv": fastconv.__version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu": {
            "model": cpu_model(),
            "logical_cores": os.cpu_count() or 1,
            "usable_cores": usable_cores(),
            "caches": caches(),
        },
        "isa": fastconv.isa(),
        "available_isas": list(fastconv.available_isas()),
        "features": [name for name, present in fastconv.cpu_features().items() if present],
        "threads": fastconv.get_num_threads(),
        "blas": blas(),
        "build": build(),
    }


def usable_cores() -> int:
    """Logical cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def others_share(seconds: float = 0.3) -> float | None:
    """Share of the machine's processors in use while this process sleeps; None if unknown."""

    def ticks() -> tuple[int, int]:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        user, nice, system, idle, waiting, *rest = map(int, first.split()[1:9])
        return user + nice + system + sum(rest), idle + waiting

    settle()  # the threads of our own libraries
    try:
        busy, idle = ticks()
        time.sleep(seconds)
        busy_later, idle_later = ticks()
    except (OSError, ValueError):  # no Linux
        return None
    passed = busy_later - busy + idle_later - idle
    return (busy_later - busy) / passed if passed > 0 else None


def caches() -> dict[str, str]:
    """Caches of the first core as Linux reports them, e.g. ``{"L1d": "32K", "L2": "512K"}``."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = (
                (index / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
            if kind != "Instruction":
                found[f"L{level}{'d' if kind == 'Data' else ''}"] = size
    return found


def blas() -> dict:
    """NumPy's BLAS: name, version and, if threadpoolctl is installed, kernels and threads."""
    # NumPy releases before 1.26 cannot tell, and a build may leave out any of the keys.
    try:
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    except (TypeError, KeyError):
        built = {}
    info = {"name": built.get("name", "unknown"), "version": built.get("version", "")}
    for pool in _blas_pools():
        info["kernels"] = pool.get("architecture")
        info["threads"] = pool["num_threads"]
    info["coretype"] = os.environ.get("OPENBLAS_CORETYPE")
    return info


def build() -> dict:
    """The compiled module: its file, its size and the compiler."""
    module = Path(_core.__file__)
    return {
        "module": str(module),
        "bytes": module.stat().st_size,
        "compiler": getattr(_core, "compiler", "unknown"),
    }


def _blas_pools() -> list[dict]:
    if importlib.util.find_spec("threadpoolctl") is None:
        return []
    import threadpoolctl

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    numpy_pools = [pool for pool in pools if "numpy" in pool["filepath"]]
    return numpy_pools[:1] or pools[:1]


@contextlib.contextmanager
def blas_threads(count: int):
    """Let NumPy's BLAS use `count` threads; yields a sentence that says whether it does."""
    if importlib.util.find_spec("threadpoolctl") is None:
        yield "threads not controlled: install threadpoolctl or set OPENBLAS_NUM_THREADS"
        return
    import threadpoolctl

    with threadpoolctl.threadpool_limits(limits=count, user_api="blas"):
        if _blas_pools():
            yield f"{plural(count, 'thread')}, set through threadpoolctl"
        else:
            yield "threads not controlled: threadpoolctl does not know this BLAS"


def measured_peak(dtype: str, threads: int, seconds: float) -> float:
    """FMA peak in FLOP/s: the best of five tries, other programs can only make it lower."""
    return max(_core.measure_peak(dtype, threads, seconds) for _ in range(5))


def measured_bandwidth(threads: int, seconds: float) -> float:
    """Bytes a second copied beyond the caches, read and written: the best of five tries."""
    size = max(2**24, 2**27 // threads)  # bytes that a thread copies
    return max(_core.measure_bandwidth(threads, size, seconds) for _ in range(5))


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def thread_source() -> str:
    """What the number of threads follows from when nobody has set it from Python."""
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        leading = re.match(r"\s*\+?0*[1-9]", os.environ.get(name, ""))  # "4" and "4,2", not "0"
        if leading:
            return f"{name}={os.environ[name]}"
    return "the cores that this process may use (CPU affinity, cgroup quota)"
