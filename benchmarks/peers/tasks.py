"""What is measured: operations on the layers of well-known nets, and a whole training step."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod

from fastconv.bench.cases import LECTURE_CASES, POOL_CASES, Operation, conv_cases, select


@dataclass(frozen=True, slots=True)
class StepCase:
    """A step of training ``[CONV-RELU-CONV-RELU-POOL]*3 -> FC -> RELU -> FC`` on RGB images.

    Convolutions are 3x3 and keep the size, pooling halves it. The loss is softmax, the optimizer
    SGD with momentum.
    """

    N: int = 128
    size: int = 32
    filters: tuple[int, ...] = (32, 64, 128)
    hidden: int = 256
    classes: int = 10
    net: str = "convnet"
    layer: str = "step"

    @property
    def name(self) -> str:
        return f"{self.net}/{self.layer}"

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.N, 3, self.size, self.size

    @property
    def shape_text(self) -> str:
        return f"{self.N}x3x{self.size}x{self.size} {'-'.join(map(str, self.filters))}"

    def sums(self) -> list[tuple[int, int, int]]:
        """(filters, pixels, terms) of each layer with weights, for one image."""
        found, channels, size = [], 3, self.size
        for filters in self.filters:
            found += [(filters, size**2, 9 * channels), (filters, size**2, 9 * filters)]
            channels, size = filters, size // 2
        flat = channels * size**2
        return [*found, (self.hidden, 1, flat), (self.classes, 1, self.hidden)]

    @property
    def work(self) -> int:
        """Operations of the convolutions and products: forward and both gradients.

        Nobody needs the gradient of the images.
        """
        layers = [2 * self.N * filters * pixels * terms for filters, pixels, terms in self.sums()]
        return 3 * sum(layers) - layers[0]

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Task:
    """An operation in one dtype; each batch size makes a table."""

    key: str  # the word that --op takes
    title: str
    method: str  # of the adapters
    kind: str  # "conv", "pool" or "step"
    dtype: str = "float32"
    baselines: tuple[str, ...] = ("torch",)

    def cases(self, filter_text: str | None, N: int) -> list:
        """The layers whose name contains the text, at batch size `N`."""
        layers = {
            "conv": conv_cases()[len(LECTURE_CASES) :],
            "pool": POOL_CASES,
            "step": [StepCase()],
        }[self.kind]
        return select(layers, filter_text, N)

    def batches(self, wanted: Iterable[int]) -> tuple[int, ...]:
        """Batch sizes to measure; that of the training step is given."""
        return (StepCase().N,) if self.kind == "step" else tuple(wanted)

    def operation(self, N: int, candidates: Iterable[str]) -> Operation:
        """What the tables of fastconv.bench want to know."""
        candidates = tuple(candidates)
        baselines = tuple(name for name in self.baselines if name in (*candidates, BEST))
        title = f"{self.title}, N={N}"
        return Operation(self.key, title, candidates, MAIN, baselines, self.kind == "pool")

    def amount(self, case) -> int:
        """Floating-point operations, or for pooling bytes: what a rate is a rate of."""
        return case.work * self.itemsize if self.kind == "pool" else case.work

    def least_bytes(self, case) -> int | None:
        """Bytes that have to be moved at least once; None for a net."""
        if self.kind == "step":
            return None
        shapes = [case.x_shape, case.y_shape]
        shapes += [case.w_shape] if self.kind == "conv" else []
        return self.itemsize * sum(map(prod, shapes))

    @property
    def itemsize(self) -> int:
        return 8 if self.dtype == "float64" else 4


MAIN = "fastconv"
BEST = "best peer"  # on each layer the fastest of them all but NumPy and SciPy
BATCHES = (1, 8)

TASKS = (
    Task(
        "forward",
        "Convolution, weights packed inside the call",
        "forward",
        "conv",
        baselines=("torch", "numpy"),
    ),
    Task("prepared", "Convolution, weights prepared", "prepared", "conv", baselines=(BEST,)),
    Task("input_grad", "Gradient of the input", "input_grad", "conv"),
    Task("weight_grad", "Gradient of the weights", "weight_grad", "conv"),
    Task("max_pool", "Max pooling with indices", "max_pool", "pool", baselines=("torch", "copyto")),
    Task("max_pool_grad", "Max pooling, gradient", "max_pool_grad", "pool"),
    Task("float64", "Convolution in float64", "forward", "conv", "float64"),
    Task("step", "One training step", "step", "step"),
)
# the words that --op takes beside the keys
GROUPS = {"pool": ("max_pool", "max_pool_grad"), "all": tuple(task.key for task in TASKS)}
