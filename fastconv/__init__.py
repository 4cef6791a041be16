"""Convolutional networks in NumPy at the speed of native engines.

Functions take and return NumPy arrays (`conv2d`, `max_pool2d`, ...); `fastconv.layers` holds them
with their parameters, `fastconv.training` trains nets of layers, and `fastconv.reference` is every
function again as readable loops.
"""

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

# behind the functions, which the layers are made of
from fastconv.analysis import (  # isort: skip
    Profile,
    ReceptiveField,
    Summary,
    profile,
    receptive_field,
    summary,
)

__all__ = [
    "ConvPlan",
    "Profile",
    "ReceptiveField",
    "Summary",
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
    "profile",
    "receptive_field",
    "register_with_threadpoolctl",
    "release_memory",
    "same_padding",
    "set_num_threads",
    "show_config",
    "summary",
    "threads",
    "tune",
    "tune_clear",
    "tune_conv2d",
    *_functional,
]
