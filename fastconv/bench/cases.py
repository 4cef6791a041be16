"""The layers that are measured: those of the lecture and of the nets it discusses."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib import resources
from math import prod

from fastconv._geometry import conv_output_size, pool_output_size
from fastconv.functional.conv import conv_shape


@dataclass(frozen=True, slots=True)
class ConvCase:
    """A convolutional layer: square stride and padding, NCHW."""

    net: str
    layer: str
    C: int
    H: int
    W: int
    OC: int
    KH: int
    KW: int
    stride: int
    padding: int
    groups: int
    N: int = 1

    @property
    def name(self) -> str:
        return f"{self.net}/{self.layer}"

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.H, self.W

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return self.OC, self.C // self.groups, self.KH, self.KW

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        OH = conv_output_size(self.H, self.KH, stride=self.stride, padding=self.padding)
        OW = conv_output_size(self.W, self.KW, stride=self.stride, padding=self.padding)
        return self.N, self.OC, OH, OW

    @property
    def shape_text(self) -> str:
        text = f"{self.C}x{self.H}x{self.W} {self.OC}@{self.KH}x{self.KW}"
        text += f"/{self.stride}" if self.stride > 1 else ""
        text += f" g{self.groups}" if self.groups > 1 else ""
        return f"{self.N}x{text}" if self.N > 1 else text

    @property
    def work(self) -> int:
        """Floating-point operations: two for each multiply-add, those with padding included."""
        return 2 * prod(self.y_shape) * prod(self.w_shape[1:])

    @property
    def options(self) -> dict:
        """What the functions of `fastconv.functional` take besides the arrays."""
        return {"stride": self.stride, "padding": self.padding, "groups": self.groups}

    @property
    def suits_winograd(self) -> bool:
        shapes = self.x_shape, self.w_shape
        steps = self.stride, self.padding, 1, self.groups
        return conv_shape("bench", *shapes, *steps, "NCHW", "floor").suits_winograd

    def shrunk(self, limit: float) -> "ConvCase":
        """The same layer with fewer images, groups or filters, so that `work` is near `limit`.

        The loops spend the same time on every image, group and filter, so that their time on the
        whole layer is that on the shrunk one times the ratio of their `work`.
        """
        case = self
        if case.work > limit:
            case = replace(case, N=_fewer(case.N, limit / case.work))
        if case.work > limit:
            groups = _fewer(case.groups, limit / case.work)
            case = replace(
                case,
                groups=groups,
                C=case.C // case.groups * groups,
                OC=case.OC // case.groups * groups,
            )
        if case.work > limit:
            filters = _fewer(case.OC // case.groups, limit / case.work)
            case = replace(case, OC=filters * case.groups)
        return case

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PoolCase:
    """A pooling layer: square window, stride and padding, NCHW."""

    net: str
    layer: str
    C: int
    H: int
    W: int
    kernel: int
    stride: int
    padding: int = 0
    N: int = 1

    @property
    def name(self) -> str:
        return f"{self.net}/{self.layer}"

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.H, self.W

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        OH, OW = (
            pool_output_size(size, self.kernel, stride=self.stride, padding=self.padding)
            for size in (self.H, self.W)
        )
        return self.N, self.C, OH, OW

    @property
    def shape_text(self) -> str:
        text = f"{self.C}x{self.H}x{self.W} {self.kernel}x{self.kernel}/{self.stride}"
        return f"{self.N}x{text}" if self.N > 1 else text

    @property
    def work(self) -> int:
        """Elements of input and output, each of which has to be moved once."""
        return prod(self.x_shape) + prod(self.y_shape)

    def as_dict(self) -> dict:
        return asdict(self)


def _fewer(count: int, share: float) -> int:
    return max(1, int(count * share))


# The examples that the lecture computes by hand: so small that they show the cost of a call.
LECTURE_CASES = (
    ConvCase("cs231n-notes", "demo", 3, 5, 5, 2, 3, 3, stride=2, padding=1, groups=1),
    ConvCase("cs231n-notes", "numpy", 4, 11, 11, 2, 5, 5, stride=2, padding=0, groups=1),
)

POOL_CASES = (
    PoolCase("cs231n-notes", "pool", 64, 224, 224, 2, 2),
    PoolCase("cs231n-cifar", "pool", 32, 32, 32, 2, 2),
    PoolCase("alexnet", "pool1", 96, 55, 55, 3, 2),
    PoolCase("alexnet", "pool5", 256, 13, 13, 3, 2),
    PoolCase("vgg16", "pool3", 256, 56, 56, 2, 2),
    PoolCase("resnet50", "pool1", 64, 112, 112, 3, 2, padding=1),
    PoolCase("googlenet", "pool3x3", 192, 28, 28, 3, 1, padding=1),
    PoolCase("googlenet", "global", 1024, 7, 7, 7, 1),
)


def conv_cases() -> list[ConvCase]:
    """The lecture's worked examples, then the layers of ``layers.json``."""
    text = resources.files("fastconv.bench").joinpath("layers.json").read_text(encoding="utf-8")
    return [*LECTURE_CASES, *(ConvCase(**layer) for layer in json.loads(text))]


@dataclass(frozen=True, slots=True)
class Operation:
    """One table of the report.

    `main` is the candidate whose time is shown; `baselines` those it is compared with.
    """

    key: str
    title: str
    candidates: tuple[str, ...]
    main: str
    baselines: tuple[str, ...]
    pooling: bool = False

    def cases(self) -> list:
        return list(POOL_CASES) if self.pooling else conv_cases()

    def restricted_to(self, candidate: str) -> "Operation":
        """The same operation with a single candidate."""
        return replace(self, candidates=(candidate,), main=candidate, baselines=())

    @property
    def roof(self) -> str:
        """Word for the machine's limit."""
        return "copy" if self.pooling else "peak"

    @property
    def unit(self) -> str:
        return "GB/s" if self.pooling else "GFLOP/s"


_CONV = {
    "candidates": ("python", "naive", "im2col", "gemm", "winograd", "auto"),
    "main": "auto",
    "baselines": ("naive", "im2col"),
}
_MAX = {
    "candidates": ("numpy", "indices", "compact"),
    "main": "indices",
    "baselines": ("numpy",),
    "pooling": True,
}
_AVG = {
    "candidates": ("numpy", "fastconv"),
    "main": "fastconv",
    "baselines": ("numpy",),
    "pooling": True,
}
OPERATIONS = (
    Operation("forward", "Convolution, forward", **_CONV),
    Operation("input_grad", "Convolution, gradient of the input", **_CONV),
    Operation("weight_grad", "Convolution, gradient of the weights", **_CONV),
    Operation("max_pool", "Max pooling with its indices", **_MAX),
    Operation("max_pool_grad", "Max pooling, gradient", **_MAX),
    Operation("avg_pool", "Average pooling", **_AVG),
    Operation("avg_pool_grad", "Average pooling, gradient", **_AVG),
)
# the words that --op takes
OP_CHOICES = {
    "forward": ("forward",),
    "input_grad": ("input_grad",),
    "weight_grad": ("weight_grad",),
    "pool": ("max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad"),
    "all": tuple(op.key for op in OPERATIONS),
}


def select(cases: Iterable, filter_text: str | None, N: int) -> list:
    """Cases whose name contains one of the comma-separated words, at batch size `N`."""
    words = [word.strip().lower() for word in (filter_text or "").split(",")]
    return [
        replace(case, N=N) for case in cases if any(word in case.name.lower() for word in words)
    ]
