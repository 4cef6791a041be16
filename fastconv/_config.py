"""What this build and this machine are, and what a convolution will do."""

import numpy as np

from fastconv import _core, _tuned
from fastconv._geometry import freeze
from fastconv._plan import describe
from fastconv.functional.conv import conv_shape


def isa():
    """Return the name of the instruction set in use, for example "avx2"."""
    return _core.isa()


def available_isas():
    """Return the instruction sets FASTCONV_ISA may name on this machine, narrowest first."""
    return _core.available_isas()


def cpu_features():
    """Return which of the processor features the kernels ask for are there, as a dict of bools."""
    return _core.cpu_features()


def release_memory():
    """Free the memory that is kept for later calls: of scratch, and of results that are gone.

    At most 64 MB are kept, and as much again as the results take that are alive.
    """
    _core.release_memory()


def show_config(*, as_dict=False):
    """Print version, instruction sets, caches and threads, or return them as a dict.

    Examples
    --------
    >>> import fastconv
    >>> sorted(fastconv.show_config(as_dict=True))
    ['available_isas', 'caches', 'cpu_features', 'isa', 'numpy', 'threads', 'version']
    """
    config = {
        "version": _core.version,
        "numpy": np.__version__,
        "isa": _core.isa(),
        "available_isas": _core.available_isas(),
        "cpu_features": _core.cpu_features(),
        "caches": _core.cpu_caches(),
        "threads": _core.get_num_threads(),
    }
    if as_dict:
        return config
    for name, value in config.items():
        print(f"{name}: {value}")
    return None


def plan_conv2d(
    x_shape,
    w_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    fit="floor",
    dtype=np.float32,
):
    """Tell what `conv2d` with algo="auto" would do with arrays of these shapes.

    It goes by what `tune` measured with as many threads, or else by estimates of the work.

    Returns
    -------
    ConvPlan
        Algorithm and the reason for it, multiply-adds, predicted time, bytes of scratch memory,
        threads and blocking.

    Examples
    --------
    VGG's second layer in a batch of 16: the columns of im2col would take 1.8 GB.

    >>> import fastconv
    >>> plan = fastconv.plan_conv2d((16, 64, 224, 224), (64, 64, 3, 3), padding=1)
    >>> plan.multiply_adds, plan.workspace_bytes < 48e6
    (29595009024.0, True)
    >>> plan.algorithm
    'winograd'
    """
    shapes = freeze(x_shape), freeze(w_shape)
    g = conv_shape("plan_conv2d", *shapes, stride, padding, dilation, groups, layout, fit)
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"plan_conv2d: dtype must be float32 or float64, got {dtype}")
    plan = _core.conv_plan(g, dtype)
    tuned = _tuned.choose("forward", g, dtype)
    if tuned == "auto":
        return describe(plan, g, dtype)
    reason = "it was the fastest when measured by fastconv.tune"
    return describe(plan | {"algorithm": tuned}, g, dtype, reason)
