"""The speed that fastconv sets itself, beside what was measured."""

import math
from dataclasses import asdict, dataclass

import numpy as np

import fastconv
from benchmarks.peers.measure import Table
from benchmarks.peers.tasks import BEST, MAIN, Task
from benchmarks.peers.work import ConvWork
from fastconv.bench.cases import select
from fastconv.bench.report import geometric_mean

# Arrays so many times the second-level caches of the threads are beyond the cache. The last level
# is no measure: on virtual machines it is that of many others as well.
BEYOND_L2 = 4
WORKSPACE_BATCH = 64


@dataclass(frozen=True, slots=True)
class Bar:
    """Times of two candidates on the layers of a task at one batch size, as a ratio.

    `mean` and `worst` are bars for the geometric mean and the worst layer: the other candidate's
    time over fastconv's has to be that large. With `at_most` it is fastconv's time over the
    other's, on arrays beyond the cache, and has to be that small.
    """

    what: str
    task: str
    N: int
    against: str
    mean: float | None
    worst: float | None
    at_most: bool = False

    @property
    def text(self) -> str:
        if self.at_most:
            return f"at most {self.worst:g}x the time"
        return " / ".join(f"{value:.2f}x" for value in (self.mean, self.worst) if value is not None)


BARS = (
    Bar("forward N=1, weights packed inside the call", "forward", 1, "torch", 2.0, 1.0),
    Bar("forward N=1, prepared weights", "prepared", 1, BEST, 1.25, 0.9),
    Bar("input gradient N=8", "input_grad", 8, "torch", 2.0, 1.0),
    Bar("weight gradient N=8", "weight_grad", 8, "torch", 2.0, 1.0),
    Bar("float64 forward N=1", "float64", 1, "torch", 3.0, 1.2),
    Bar("max pooling with indices N=8", "max_pool", 8, "torch", 8.0, 4.0),
    Bar("the same, arrays beyond the cache", "max_pool", 8, "copyto", None, 1.5, at_most=True),
    Bar("its backward N=8", "max_pool_grad", 8, "torch", 2.0, 1.0),
    Bar("one training step N=128", "step", 128, "torch", 2.5, None),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the summary; `met` is None where nothing was measured."""

    what: str
    against: str
    bar: str
    measured: str
    worst_layer: str
    met: bool | None

    def as_dict(self) -> dict:
        return asdict(self)


HEADINGS = ("what", "against", "bar", "measured", "worst layer", "")


def cells(line: Line) -> tuple[str, ...]:
    verdict = {True: "met", False: "missed", None: ""}[line.met]
    return (line.what, line.against, line.bar, line.measured, line.worst_layer, verdict)


def summary(tables: list[Table], threads: int) -> list[Line]:
    """A line for each bar whose task was measured."""
    lines = []
    for bar in BARS:
        for table in tables:
            if (table.task.key, table.N) == (bar.task, bar.N):
                lines.append(_line(bar, table.results, threads))
    for table in tables:
        if (table.task.key, table.N) == ("forward", 1) and table.results:
            cases = [result.case for result in table.results]
            lines += [winograd_error(table.task, cases), workspace(cases)]
    return lines


def _line(bar: Bar, results: list, threads: int) -> Line:
    if bar.at_most:
        least = BEYOND_L2 * threads * fastconv.show_config(as_dict=True)["caches"]["l2"]
        results = [result for result in results if 4 * math.prod(result.case.x_shape) >= least]
    ratios = {result.case.name: _ratio(bar, result) for result in results}
    ratios = {name: ratio for name, ratio in ratios.items() if not math.isnan(ratio)}
    if not ratios:
        return Line(bar.what, bar.against, bar.text, "not measured", "", None)
    worst_layer = (max if bar.at_most else min)(ratios, key=ratios.get)
    mean, worst = geometric_mean(ratios.values()), ratios[worst_layer]
    measured, what = f"{mean:.2f}x", bar.what
    if bar.worst is not None:
        measured += f" / {worst:.2f}x"
        what += f", {_layers(len(ratios), len(results))}"
    return Line(what, bar.against, bar.text, measured, worst_layer, _met(bar, mean, worst))


def _ratio(bar: Bar, result) -> float:
    ratio = result.rate(MAIN) / result.rate(bar.against)
    return 1 / ratio if bar.at_most else ratio


def _met(bar: Bar, mean: float, worst: float) -> bool:
    if bar.at_most:
        return worst <= bar.worst
    return mean >= bar.mean and (bar.worst is None or worst >= bar.worst)


def _layers(count: int, of: int | None = None) -> str:
    counted = f"{count} of {of}" if of not in (None, count) else f"{count}"
    return f"{counted} layer{'' if (of or count) == 1 else 's'}"


def winograd_error(task: Task, cases: list) -> Line:
    """Rms error of Winograd's algorithm over that of the plain sum, where "auto" takes it."""
    ratios = {}
    for case in cases:
        work = ConvWork(case, task.method, np.dtype(task.dtype))
        plan = fastconv.plan_conv2d(case.x_shape, case.w_shape, **work.options)
        if plan.algorithm == "winograd":
            ratios[case.name] = work.rms_error("winograd") / work.rms_error("gemm")
    what, against, bar = "Winograd's rms error", "plain float32 sum", "at most 2.5x"
    if not ratios:
        return Line(what, against, bar, "not measured", "", None)
    worst = max(ratios, key=ratios.get)
    measured = f"{geometric_mean(ratios.values()):.2f}x / {ratios[worst]:.2f}x"
    what += f", {_layers(len(ratios))}"
    return Line(what, against, bar, measured, worst, ratios[worst] <= 2.5)


def workspace(cases: list) -> Line:
    """Scratch memory of the largest plan."""
    sizes = {}
    for case in select(cases, None, WORKSPACE_BATCH):
        options = {"stride": case.stride, "padding": case.padding, "groups": case.groups}
        plan = fastconv.plan_conv2d(case.x_shape, case.w_shape, **options)
        sizes[case.name] = plan.workspace_bytes / 1e6
    worst = max(sizes, key=sizes.get)
    what = f"workspace, N={WORKSPACE_BATCH}, {_layers(len(sizes))}"
    return Line(what, "-", "48 MB", f"{sizes[worst]:.1f} MB", worst, sizes[worst] <= 48)
