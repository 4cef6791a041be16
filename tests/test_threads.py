"""The thread pool in a real process: who decides its size, fork, exit, many callers, idleness."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from interpreter import output, run_python

import fastconv

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, affinity or fork")

# A product of whole numbers: exact, whoever computes which part of it.
PRELUDE = """
import os, sys, threading, time
import numpy as np
import fastconv

numbers = np.random.default_rng(0).integers
x = numbers(-3, 4, (2, 16, 40, 40)).astype(np.float32)
w = numbers(-3, 4, (32, 16, 3, 3)).astype(np.float32)
dy = numbers(-3, 4, (2, 32, 40, 40)).astype(np.float32)

def compute():
    # of whole numbers the GEMM's sums are exact, whatever their order
    return (fastconv.conv2d(x, w, padding=1, algo="gemm"),
            *fastconv.conv2d_backward(dy, x, w, padding=1, algo="gemm"), fastconv.max_pool2d(x, 2))

with fastconv.threads(1):
    right = compute()

def is_right():
    return all(np.array_equal(a, b) for a, b in zip(compute(), right))

def thread_count():
    return len(os.listdir("/proc/self/task"))
"""
NO_VARIABLES = {"FASTCONV_NUM_THREADS": None, "OMP_NUM_THREADS": None}


@pytest.fixture(autouse=True)
def same_number_afterwards():
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)


# ---- how many -----------------------------------------------------------------------------------


def test_set_and_get():
    for n in (1, 2, 7, np.int64(3), 256):
        fastconv.set_num_threads(n)
        assert fastconv.get_num_threads() == n


def test_threads_holds_inside_its_block():
    fastconv.set_num_threads(3)
    with fastconv.threads(2):
        assert fastconv.get_num_threads() == 2
        with fastconv.threads(5):
            assert fastconv.get_num_threads() == 5
        assert fastconv.get_num_threads() == 2
    with pytest.raises(KeyError), fastconv.threads(1):
        raise KeyError
    assert fastconv.get_num_threads() == 3


@pytest.mark.parametrize("n", [0, -1, 257, 2**40])
def test_numbers_out_of_range(n):
    for use in (fastconv.set_num_threads, lambda n: fastconv.threads(n).__enter__()):
        with pytest.raises(ValueError, match=f"from 1 to 256, got {n}"):
            use(n)


@pytest.mark.parametrize("n", [1.0, "2", None, True, [1]])
def test_things_that_are_no_number(n):
    with pytest.raises(TypeError, match="number of threads must be an integer, got"):
        fastconv.set_num_threads(n)


@pytest.mark.parametrize(
    ("own", "omp", "expected"),
    [
        ("3", None, 3),
        (None, "2", 2),
        ("3", "2", 3),
        ("5", "", 5),
        (None, "4,2", 4),  # OpenMP's list of numbers for nested levels
        ("999", None, 256),
        ("99999999999999999999", None, 256),
        ("0", "2", 2),
        ("-1", "2", 2),
        ("many", "2", 2),
        ("", "0", None),
        (None, "all", None),
    ],
)
def test_environment_variables(own, omp, expected):
    code = "import fastconv; print(fastconv.get_num_threads())"
    actual = int(output(code, FASTCONV_NUM_THREADS=own, OMP_NUM_THREADS=omp))
    default = int(output(code, **NO_VARIABLES))
    assert actual == (expected or default)


@linux
def test_affinity_is_respected():
    """A process that may use one processor gets one thread, whether it was limited before or after
    the import, as long as nothing has been computed."""
    code = """
import os
cpu = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cpu})
import fastconv
print(fastconv.get_num_threads())
"""
    assert output(code, **NO_VARIABLES) == "1"
    lines = code.strip().splitlines()
    assert output("\n".join([lines[0], lines[3], *lines[1:3], lines[4]]), **NO_VARIABLES) == "1"
    everything = "import fastconv; print(fastconv.get_num_threads())"
    assert 1 <= int(output(everything, **NO_VARIABLES)) <= len(os.sched_getaffinity(0))


@linux
@pytest.mark.parametrize("processors", [1, None])
def test_workers_stay_on_the_processors_of_the_process(processors):
    """Also more threads than processors, and workers that move out of their caller's way."""
    code = f"""
import os
allowed = set(sorted(os.sched_getaffinity(0))[:{processors}])
os.sched_setaffinity(0, allowed)
{PRELUDE}
fastconv.set_num_threads(4)
for _ in range(50):
    assert is_right()
for thread in os.listdir("/proc/self/task"):
    assert os.sched_getaffinity(int(thread)) <= allowed
assert os.sched_getaffinity(0) == allowed, "the caller's own is left alone"
print("done")
"""
    assert output(code) == "done"


@linux
def test_threads_start_when_they_are_needed_and_no_earlier():
    code = (
        PRELUDE
        + """
before = thread_count()
fastconv.set_num_threads(3)
fastconv.conv2d(x[:1, :, :5, :5], w)
assert thread_count() == before, "a small call needs no thread"
assert is_right()
assert thread_count() == before + 2, thread_count() - before
for n in (2, 1, 3):
    fastconv.set_num_threads(n)
    assert is_right()
assert thread_count() == before + 2, "threads are kept"
print("done")
"""
    )
    assert output(code) == "done"


# ---- callers ------------------------------------------------------------------------------------


def _case(seed):
    """A call whose size depends on the seed, and its answer by the reference's method."""
    rng = np.random.default_rng(seed)
    C, OC, size = (int(n) for n in rng.integers(3, 40, 3))
    x = rng.integers(-3, 4, (2, C, size + 4, size + 9)).astype(np.float32)
    w = rng.integers(-3, 4, (OC, C, 3, 3)).astype(np.float32)
    return (x, w), fastconv.conv2d(x, w, padding=1, algo="im2col")


def test_eight_python_threads_at_once():
    cases = [_case(seed) for seed in range(16)]

    def repeat(seed):
        (x, w), right = cases[seed]
        return all(
            np.array_equal(fastconv.conv2d(x, w, padding=1, algo="gemm"), right) for _ in range(20)
        )

    with fastconv.threads(4), ThreadPoolExecutor(8) as callers:
        assert all(callers.map(repeat, range(16)))


def test_callers_and_a_changing_number_of_threads():
    (x, w), right = _case(1)
    done = []

    def repeat(_):
        good = all(
            np.array_equal(fastconv.conv2d(x, w, padding=1, algo="gemm"), right) for _ in range(50)
        )
        done.append(good)

    with ThreadPoolExecutor(4) as callers:
        jobs = [callers.submit(repeat, n) for n in range(4)]
        n = 0
        while not all(job.done() for job in jobs):
            n += 1
            fastconv.set_num_threads(1 + n % 5)
            fastconv.release_memory()
    assert done == [True] * 4


def test_python_goes_on_while_c_computes():
    """The global lock is released: this thread sleeps and wakes while another one computes."""
    x, w = np.ones((1, 64, 64, 64), np.float32), np.ones((64, 64, 3, 3), np.float32)
    with fastconv.threads(1), ThreadPoolExecutor(1) as caller:
        job = caller.submit(fastconv.conv2d, x, w, algo="naive")
        naps = 0
        while not job.done():
            time.sleep(0.005)
            naps += 1
    assert naps > 3


# ---- fork ---------------------------------------------------------------------------------------


@linux
def test_fork_after_use():
    """Child and parent compute on, with pools of their own; also a child of the child."""
    code = (
        PRELUDE
        + """
fastconv.set_num_threads(4)
assert is_right()

def in_child(work):
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def child():
    return is_right() and is_right() and in_child(is_right) and fastconv.get_num_threads() == 4

for _ in range(5):
    assert in_child(child)
    assert is_right()
print("done")
"""
    )
    assert output(code, timeout=60) == "done"


@linux
def test_fork_while_another_thread_computes():
    code = (
        PRELUDE
        + """
fastconv.set_num_threads(4)
stop = False
wrong = []

def keep_computing():
    while not stop:
        if not is_right():
            wrong.append(1)

callers = [threading.Thread(target=keep_computing) for _ in range(2)]
for caller in callers:
    caller.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        os._exit(0 if is_right() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop = True
for caller in callers:
    caller.join()
assert not wrong
print("done")
"""
    )
    assert output(code, timeout=120) == "done"


@linux
def test_multiprocessing_with_fork():
    code = (
        PRELUDE
        + """
import multiprocessing

def work(number):
    return is_right()

if __name__ == "__main__":
    fastconv.set_num_threads(4)
    assert is_right()
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert all(pool.map(work, range(12)))
    assert is_right()
    print("done")
"""
    )
    assert output(code, timeout=60) == "done"


# ---- exit and idleness --------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_exit_while_a_call_runs(threads):
    """The interpreter ends at once, with status 0, though a daemon thread is inside C."""
    code = (
        PRELUDE
        + f"""
fastconv.set_num_threads({threads})
large = np.ones((8, 64, 112, 112), np.float32)
filters = np.ones((64, 64, 3, 3), np.float32)
inside = threading.Event()

def compute_forever():
    while True:
        inside.set()
        fastconv.conv2d(large, filters)

for _ in range(2):
    threading.Thread(target=compute_forever, daemon=True).start()
inside.wait()
time.sleep(0.1)
print("leaving", flush=True)
"""
    )
    for _ in range(3):
        done = run_python(code, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")


def test_an_idle_pool_uses_no_processor():
    """Workers watch for work for 30 us, then sleep."""
    code = (
        PRELUDE
        + """
fastconv.set_num_threads(8)
assert is_right()
time.sleep(0.1)
before = time.process_time()
time.sleep(0.5)
print(time.process_time() - before)
"""
    )
    # generous: eight spinning workers would use 0.5 s and more
    assert float(output(code, OPENBLAS_NUM_THREADS="1")) < 0.1


# ---- neighbours ---------------------------------------------------------------------------------


def test_threadpoolctl_sees_and_steers_the_pool():
    pytest.importorskip("threadpoolctl")
    code = (
        PRELUDE
        + """
import threadpoolctl

def pools():
    return [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "fastconv"]

assert not pools()
fastconv.register_with_threadpoolctl()
fastconv.set_num_threads(3)
[pool] = pools()
assert pool["num_threads"] == 3 and pool["internal_api"] == "fastconv", pool
assert pool["version"] == fastconv.__version__ and pool["prefix"] == "_core", pool
with threadpoolctl.threadpool_limits(1, user_api="fastconv"):
    assert fastconv.get_num_threads() == 1
    assert is_right()
assert fastconv.get_num_threads() == 3
with threadpoolctl.threadpool_limits(2):
    assert fastconv.get_num_threads() == 2
fastconv.register_with_threadpoolctl()
assert len(pools()) == 1
print("done")
"""
    )
    assert output(code) == "done"
