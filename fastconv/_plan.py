"""What a convolution will do, in words and numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvPlan:
    """What a forward convolution will do; from `plan_conv2d` and `PreparedConv2d.plan`."""

    algorithm: str  # "gemm", "winograd" or "depthwise"
    reason: str  # why that one, in words
    multiply_adds: float  # of the convolution
    workspace_bytes: int  # scratch memory beyond input, filters and output
    threads: int
    tasks: int  # this and what follows: of the GEMM, chosen or not
    tile: tuple[int, int]  # output channels x pixels
    sum_block: tuple[int, int]  # channels x kernel cells summed at a time


def _reason(plan):
    """Why the algorithm of a `_core.conv_plan` was chosen."""
    if plan["algorithm"] == "depthwise":
        return "each group has one channel: a weighted sum of shifted rows, memory sets the pace"
    if plan["multiply_adds"] == 0:
        return "there are no images"
    gemm, winograd = plan["costs"]["gemm"], plan["costs"]["winograd"]
    if winograd < 0:
        return "Winograd's algorithm needs 3x3 or 5x5 filters, stride 1 and dilation 1"
    m = plan["tile_outputs"]
    ratio = f"by estimate {winograd / gemm:.2f} times the work of the GEMM, transforms included"
    if plan["algorithm"] == "winograd":
        return f"Winograd's tiles of {m}x{m} outputs take {ratio}"
    if winograd < gemm:
        return "the direct sum is more precise where channels are few, or there is little to save"
    return f"Winograd's tiles of {m}x{m} outputs would take {ratio}"


def describe(plan, reason=None):
    """The `ConvPlan` of what `_core` tells; `reason` takes the place of the usual ones."""
    return ConvPlan(
        plan["algorithm"],
        reason or _reason(plan),
        plan["multiply_adds"],
        plan["workspaces"]["winograd" if plan["algorithm"] == "winograd" else "gemm"],
        plan["threads"],
        plan["tasks"],
        plan["tile"],
        plan["sum_block"],
    )
