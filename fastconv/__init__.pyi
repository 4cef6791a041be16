from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, overload

from numpy.typing import DTypeLike

from fastconv.functional import *  # noqa: F403
from fastconv.functional import Fit, Layout2d, Padding, Steps

__version__: str

@dataclass(frozen=True)
class ConvPlan:
    algorithm: str
    reason: str
    multiply_adds: float
    predicted_seconds: float | None
    workspace_bytes: int
    threads: int
    tile: tuple[int, int]
    sum_block: tuple[int, int]

@dataclass(frozen=True)
class TunedConv:
    op: str
    shapes: str
    dtype: str
    threads: int
    isa: str
    seconds: dict[str, float]
    estimated: str
    algo: str

@dataclass(frozen=True)
class TuneResult:
    convolutions: tuple[TunedConv, ...]
    file: str | None

def available_isas() -> tuple[str, ...]: ...
def conv_output_size(
    size: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: Padding = 0,
    dilation: int = 1,
    fit: Fit = "floor",
) -> int: ...
def cpu_features() -> dict[str, bool]: ...
def get_num_threads() -> int: ...
def isa() -> str: ...
def plan_conv2d(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    fit: Fit = "floor",
    dtype: DTypeLike = ...,
) -> ConvPlan: ...
def pool_output_size(
    size: int,
    kernel: int,
    *,
    stride: int | None = None,
    padding: Padding = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    fit: Fit = "floor",
) -> int: ...
def register_with_threadpoolctl() -> None: ...
def release_memory() -> None: ...
def same_padding(kernel: int) -> int: ...
def set_num_threads(n: int) -> None: ...
@overload
def show_config(*, as_dict: Literal[False] = False) -> None: ...
@overload
def show_config(*, as_dict: Literal[True]) -> dict[str, Any]: ...
def threads(n: int) -> AbstractContextManager[None]: ...
def tune(
    function: Callable[..., object],
    *args: Any,
    seconds: float = 0.2,
    cache: str | PathLike[str] | Literal[False] | None = None,
) -> TuneResult: ...
def tune_clear(*, cache: str | PathLike[str] | Literal[False] | None = None) -> None: ...
def tune_conv2d(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    stride: Steps = 1,
    padding: Padding = 0,
    dilation: Steps = 1,
    groups: int = 1,
    layout: Layout2d = "NCHW",
    fit: Fit = "floor",
    dtype: DTypeLike = ...,
    op: str | Sequence[str] = ("forward", "input_grad"),
    seconds: float = 0.2,
    cache: str | PathLike[str] | Literal[False] | None = None,
) -> TuneResult: ...
