from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastconv._geometry import ConvGeometry, PoolGeometry

Floats = NDArray[np.float32] | NDArray[np.float64]

version: str
compiler: str

class Conv:
    geometry: ConvGeometry
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    cols_shape: tuple[int, int, int]
    N: int
    C: int
    OC: int
    channels_last: bool
    suits_winograd: bool
    def __init__(self, geometry: ConvGeometry) -> None: ...

class Pool:
    geometry: PoolGeometry
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    channels_last: bool
    offset_dtype: np.dtype[Any]
    def __init__(self, geometry: PoolGeometry) -> None: ...

def conv_forward(
    g: Conv,
    x: Floats,
    w: Floats,
    b: Floats | None = None,
    relu: int = 0,
    algo: str = "auto",
    out: Floats | None = None,
) -> Floats: ...
def conv_input_grad(
    g: Conv,
    dy: Floats,
    w: Floats,
    b: Floats | None = None,
    algo: str = "auto",
    out: Floats | None = None,
) -> Floats: ...
def conv_input_grad_relu(
    g: Conv, dy: Floats, w: Floats, x: Floats, algo: str = "auto"
) -> Floats: ...
def conv_weight_grad(g: Conv, dy: Floats, x: Floats, algo: str = "auto") -> Floats: ...
def bias_grad(g: Conv, dy: Floats) -> Floats: ...
def input_bias_grad(g: Conv, dx: Floats) -> Floats: ...
def im2col(g: Conv, x: Floats) -> Floats: ...
def col2im(g: Conv, cols: Floats) -> Floats: ...
def relu(x: Floats, relu: int = 1, out: Floats | None = None) -> Floats: ...
def empty(shape: Sequence[int], dtype: DTypeLike) -> Floats: ...
def relu_grad(dy: Floats, x: Floats, out: Floats | None = None) -> Floats: ...
def add(a: Floats, b: Floats, relu: int = 0, out: Floats | None = None) -> Floats: ...
def batch_norm(
    x: Floats,
    weight: Floats | None,
    bias: Floats | None,
    mean: Floats,
    var: Floats,
    training: bool,
    eps: float,
    channels_last: bool,
    relu: int,
) -> Floats: ...
def batch_norm_grad(
    dy: Floats,
    x: Floats,
    weight: Floats | None,
    mean: Floats,
    var: Floats,
    training: bool,
    eps: float,
    channels_last: bool,
    need_dx: bool,
) -> tuple[Floats | None, Floats, Floats]: ...
def sgd_step(
    p: Floats,
    g: Floats,
    v: Floats | None,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None: ...
def conv_plan(g: Conv, dtype: DTypeLike) -> dict[str, Any]: ...

class PreparedConv:
    g: Conv
    stale: bool
    def __init__(
        self,
        g: Conv,
        w: Floats,
        b: Floats | None,
        relu: bool,
        algo: str,
        forms: dict[int, NDArray[np.uint8]],
    ) -> None: ...
    def __call__(self, x: Floats, out: Floats | None = None) -> Floats: ...
    def plan(self) -> dict[str, Any]: ...

def max_pool(
    g: Pool, x: Floats, offsets: bool = False, indices: bool = False
) -> tuple[Floats, NDArray[Any] | None]: ...
def max_pool_backward(g: Pool, dy: Floats, offsets: NDArray[Any]) -> Floats: ...
def unpool(g: Pool, dy: Floats, indices: NDArray[np.int64]) -> Floats: ...
def sum_pool(g: Pool, x: Floats, kind: str) -> Floats: ...
def sum_pool_backward(g: Pool, dy: Floats, kind: str) -> Floats: ...
def available_isas() -> tuple[str, ...]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def cpu_features() -> dict[str, bool]: ...
def cpu_caches() -> dict[str, int]: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def default_threads() -> int: ...
def release_memory() -> None: ...
def cached_memory() -> int: ...
def measure_peak(dtype: DTypeLike, threads: int, seconds: float) -> float: ...
def measure_bandwidth(threads: int, bytes: int, seconds: float) -> float: ...
def measure_tile(dtype: DTypeLike, seconds: float) -> float: ...
