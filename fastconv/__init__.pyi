from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from typing import Any, Literal, overload

from numpy.typing import DTypeLike, NDArray

from fastconv.functional import *  # noqa: F403
from fastconv.functional import Fit, Layout2d, Padding, Steps
from fastconv.layers import Layer

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
class ReceptiveField:
    stride: tuple[int | Fraction, ...] = ...
    start: tuple[int | Fraction, ...] = ...
    reach: tuple[int | Fraction, ...] = ...
    @property
    def size(self) -> tuple[int, ...]: ...
    @property
    def padding(self) -> tuple[int | Fraction, ...]: ...
    def region(self, *position: int) -> tuple[tuple[int, int], ...]: ...

@dataclass(frozen=True)
class Summary:
    input_shape: tuple[int, ...]
    batch: int
    dtype: str
    rows: tuple[Any, ...]
    totals: Any
    def text(self, width: int | None = None) -> str: ...
    def table(self, width: int | None = None) -> Any: ...
    def to_dict(self) -> dict[str, Any]: ...
    def to_json(self, indent: int | None = 1) -> str: ...

@dataclass(frozen=True)
class Profile:
    title: str
    input_shape: tuple[int, ...]
    batch: int
    dtype: str
    mode: str
    rows: tuple[Any, ...]
    seconds: float
    other_seconds: float
    rounds: int
    peak: float
    machine: dict[str, Any]
    @property
    def flops(self) -> float: ...
    def text(self, width: int | None = None) -> str: ...
    def table(self, width: int | None = None) -> Any: ...
    def slowest_first(self) -> Profile: ...
    def by_kind(self) -> dict[str, float]: ...
    def draw(self, path: str | PathLike[str]) -> None: ...
    def to_dict(self) -> dict[str, Any]: ...
    def to_json(self, indent: int | None = 1) -> str: ...

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
def profile(
    net: Layer,
    x: NDArray[Any] | Sequence[int],
    *,
    batch: int = 1,
    training: bool = False,
    prepared: bool = False,
    seconds: float = 1.0,
    title: str | None = None,
) -> Profile: ...
def receptive_field(net: Layer, input_shape: Sequence[int]) -> ReceptiveField | None: ...
def register_with_threadpoolctl() -> None: ...
def release_memory() -> None: ...
def same_padding(kernel: int) -> int: ...
def set_num_threads(n: int) -> None: ...
@overload
def show_config(*, as_dict: Literal[False] = False) -> None: ...
@overload
def show_config(*, as_dict: Literal[True]) -> dict[str, Any]: ...
def summary(
    net: Layer,
    input_shape: Sequence[int],
    *,
    batch: int = 1,
    dtype: DTypeLike | None = None,
) -> Summary: ...
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
