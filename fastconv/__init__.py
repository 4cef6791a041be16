"""Convolutional networks in NumPy at the speed of native engines.

Functions take and return NumPy arrays (`conv2d`, `max_pool2d`, ...); `fastconv.layers` holds them
with their parameters, `fastconv.training` trains nets of layers, and `fastconv.reference` is every
function again as readable loops.
"""

from importlib import import_module as _import_module

try:
    from fastconv._core import version as __version__
except ModuleNotFoundError as error:
    if error.name != "fastconv._core":
        raise
    raise ImportError(
        f"fastconv: {__path__[0]} holds the sources without the compiled core; start Python in "
        "another folder to use the installed fastconv, or build it here: python -m pip install -e ."
    ) from None

from fastconv._config import (
    available_isas,
    cpu_features,
    isa,
    plan_conv2d,
    release_memory,
    show_config,
)
from fastconv._geometry import conv_output_size, pool_output_size, same_padding
from fastconv._plan import ConvPlan
from fastconv._threads import (
    get_num_threads,
    register_with_threadpoolctl,
    set_num_threads,
    threads,
)
from fastconv._tune import TunedConv, TuneResult, tune, tune_clear, tune_conv2d
from fastconv.functional import *  # noqa: F403
from fastconv.functional import __all__ as _functional

# Imported when they are asked for: `import fastconv` is for those, too, who only call a function.
_PACKAGES = ("analysis", "backends", "convert", "layers", "nets", "reference", "training")
_ANALYSIS = ("Profile", "ReceptiveField", "Summary", "profile", "receptive_field", "summary")

__all__ = [
    "ConvPlan",
    "TuneResult",
    "TunedConv",
    "__version__",
    "available_isas",
    "conv_output_size",
    "cpu_features",
    "get_num_threads",
    "isa",
    "plan_conv2d",
    "pool_output_size",
    "register_with_threadpoolctl",
    "release_memory",
    "same_padding",
    "set_num_threads",
    "show_config",
    "threads",
    "tune",
    "tune_clear",
    "tune_conv2d",
    *_ANALYSIS,
    *_functional,
]


def __getattr__(name):
    if name in _PACKAGES:
        return _import_module(f"fastconv.{name}")
    if name in _ANALYSIS:
        value = getattr(_import_module("fastconv.analysis"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_PACKAGES, *_ANALYSIS})
