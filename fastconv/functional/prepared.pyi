from collections.abc import Sequence
from typing import Generic, Literal

from numpy.typing import NDArray

from fastconv._plan import ConvPlan
from fastconv.functional import Algo, Fit, Layout2d, Padding, Real, Steps

class PreparedConv2d(Generic[Real]):
    x_shape: tuple[int, ...] | None
    def __init__(
        self,
        w: NDArray[Real],
        b: NDArray[Real] | None = None,
        *,
        x_shape: Sequence[int] | None = None,
        stride: Steps = 1,
        padding: Padding = 0,
        dilation: Steps = 1,
        groups: int = 1,
        layout: Layout2d = "NCHW",
        activation: Literal["relu", "relu6"] | None = None,
        fit: Fit = "floor",
        algo: Algo = "auto",
    ) -> None: ...
    def __call__(self, x: NDArray[Real], out: NDArray[Real] | None = None) -> NDArray[Real]: ...
    @property
    def plan(self) -> ConvPlan | None: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
