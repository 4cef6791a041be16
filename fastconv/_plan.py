"""What a convolution will do, in words and numbers."""

import functools
import math
from dataclasses import dataclass

from fastconv import _core

# Times of the kernels over those of their estimates at the peak, which count vector operations and
# what is packed or transformed, but not every wait for memory (docs/performance.md).
OVER_THE_ESTIMATE = 1.35
DEPTHWISE_BYTES = 16e9  # read and written a second, for each thread
CALL_SECONDS = 3e-6


@dataclass(frozen=True)
class ConvPlan:
    """What a forward convolution will do; from `plan_conv2d` and `PreparedConv2d.plan`.

    Attributes
    ----------
    algorithm : str
        "gemm", "winograd" or "depthwise"; "naive" or "im2col" where that was asked for.
    reason : str
        Why that one, in words.
    multiply_adds : float
        Of the convolution as it is defined.
    predicted_seconds : float or None
        Rough estimate, most often within a third: from what the algorithm computes and the rate
        of multiply-adds, which is measured once in a process, in some 10 ms. None for "naive" and
        "im2col".
    workspace_bytes : int
        Scratch memory beyond input, filters and output.
    threads : int
        Threads that share the work.
    tile : tuple of int
        Filters and output pixels that the innermost kernel computes at a time.
    sum_block : tuple of int
        Channels and filter taps summed at a time.
    """

    algorithm: str
    reason: str
    multiply_adds: float
    predicted_seconds: float | None
    workspace_bytes: int
    threads: int
    tile: tuple[int, int]
    sum_block: tuple[int, int]


def tile_in_words(plan):
    """Winograd's tile of a `_core.conv_plan`."""
    m = plan["winograd"]["tile_outputs"]
    return f"tiles of {m}x{m} outputs"


def _reason(plan):
    """Why the algorithm of a `_core.conv_plan` was chosen."""
    if plan["algorithm"] == "depthwise":
        return "each group has one channel: a weighted sum of shifted rows, memory sets the pace"
    if plan["multiply_adds"] == 0:
        return "there are no images"
    gemm, winograd = plan["gemm"]["cost"], plan["winograd"]["cost"]
    if winograd < 0:
        return "Winograd's algorithm needs 3x3 or 5x5 filters, stride 1 and dilation 1"
    tiles = f"Winograd's {tile_in_words(plan)}"
    ratio = f"by estimate {winograd / gemm:.2f} times the work of the GEMM, transforms included"
    if plan["algorithm"] == "winograd":
        return f"{tiles} take {ratio}"
    if winograd < gemm:
        return "the direct sum is more precise where channels are few, or there is little to save"
    return f"{tiles} would take {ratio}"


@functools.cache
def _peak(isa, dtype):
    """Multiply-adds a second of one thread, in vector registers."""
    return _core.measure_peak(dtype, 1, 0.005) / 2


def _predicted_seconds(plan, g, dtype):
    if plan["algorithm"] == "depthwise":
        moved = math.prod(g.x_shape) + math.prod(g.y_shape)
        work = moved * dtype.itemsize / DEPTHWISE_BYTES
    elif plan["algorithm"] in plan:
        work = OVER_THE_ESTIMATE * plan[plan["algorithm"]]["cost"] / _peak(_core.isa(), dtype)
    else:
        return None
    return CALL_SECONDS + work / plan["threads"]


def describe(plan, g, dtype, reason=None):
    """The `ConvPlan` of what `_core` tells of `g`; `reason` takes the place of the usual ones."""
    blocks = plan["winograd" if plan["algorithm"] == "winograd" else "gemm"]
    return ConvPlan(
        algorithm=plan["algorithm"],
        reason=reason or _reason(plan),
        multiply_adds=plan["multiply_adds"],
        predicted_seconds=_predicted_seconds(plan, g, dtype),
        workspace_bytes=blocks["workspace_bytes"],
        threads=plan["threads"],
        tile=blocks["tile"],
        sum_block=blocks["sum_block"],
    )
