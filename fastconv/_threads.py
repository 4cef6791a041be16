"""How many threads the kernels use."""

from contextlib import contextmanager

from fastconv import _core


def get_num_threads():
    """Return the most threads that a call may use.

    At the start it is FASTCONV_NUM_THREADS, else OMP_NUM_THREADS, else the number of processors
    that affinity and the control group's quota leave to this process.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def set_num_threads(n):
    """Use at most `n` threads in all later calls of this process; for a block see `threads`.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer of at least 1.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.set_num_threads(fastconv.get_num_threads())
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"the number of threads must be an integer, got {n!r}")
    if not 1 <= n <= 256:
        raise ValueError(f"the number of threads must be from 1 to 256, got {n}")
    _core.set_num_threads(n)


@contextmanager
def threads(n):
    """Use at most `n` threads inside a `with` block. It holds for the process, not for one thread.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.threads(1):
    ...     fastconv.get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        _core.set_num_threads(before)


def register_with_threadpoolctl():
    """Let `threadpoolctl.threadpool_limits` see and steer the pool; needs threadpoolctl.

    threadpoolctl finds libraries by their file name and asks them through exported C symbols. As
    it says of itself, use it from the main thread.

    Examples
    --------
    >>> import fastconv, threadpoolctl
    >>> fastconv.register_with_threadpoolctl()
    >>> [pool["num_threads"] for pool in threadpoolctl.threadpool_info()
    ...  if pool["internal_api"] == "fastconv"] == [fastconv.get_num_threads()]
    True
    """
    from threadpoolctl import LibController, register

    class FastconvController(LibController):
        user_api = "fastconv"
        internal_api = "fastconv"
        filename_prefixes = ("_core",)
        check_symbols = ("fastconv_get_num_threads", "fastconv_set_num_threads")

        def get_num_threads(self):
            return self.dynlib.fastconv_get_num_threads()

        def set_num_threads(self, num_threads):
            self.dynlib.fastconv_set_num_threads(num_threads)

        def get_version(self):
            return _core.version

    register(FastconvController)
