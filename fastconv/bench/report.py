"""The tables of ``fastconv bench``: rich on a terminal, aligned plain text elsewhere."""

import math
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass

from fastconv.bench.cases import Operation
from fastconv.bench.environment import plural
from fastconv.bench.timing import Timing


@dataclass(frozen=True, slots=True)
class Measured:
    """A verified and timed candidate, or the reason why there is no time."""

    timing: Timing | None
    scale: float
    error: float
    failure: str = ""

    @property
    def seconds(self) -> float:
        """Time on the whole layer."""
        return self.timing.median * self.scale if self.timing else math.nan

    def as_dict(self) -> dict:
        if not self.timing:
            return {"failure": self.failure, "error_in_tolerances": self.error}
        return {
            "seconds": self.seconds,
            "spread": self.timing.spread,
            "rounds": self.timing.rounds,
            "calls_per_round": self.timing.calls,
            "scale": self.scale,
            "error_in_tolerances": self.error,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """An operation on a layer, measured."""

    operation: Operation
    case: object
    work: float  # floating-point operations, or bytes for pooling
    roof: float  # what the machine can do of them in a second
    measured: dict[str, Measured]

    def rate(self, name: str) -> float:
        """GFLOP/s or GB/s of a candidate; nan if it has no time."""
        found = self.measured.get(name)
        return self.work / found.seconds / 1e9 if found and found.timing else math.nan

    def speedup(self, baseline: str) -> float:
        return self.rate(self.operation.main) / self.rate(baseline)

    def as_dict(self) -> dict:
        candidates = {}
        for name, found in self.measured.items():
            candidates[name] = found.as_dict()
            if found.timing:
                candidates[name]["rate"] = self.rate(name)
                candidates[name]["share_of_roof"] = self.rate(name) * 1e9 / self.roof
        return {
            "operation": self.operation.key,
            "name": self.case.name,
            "case": self.case.as_dict(),
            "work": self.work,
            "unit": self.operation.unit,
            "candidates": candidates,
        }


def geometric_mean(values: Iterable[float]) -> float:
    """Geometric mean; nan when a value is missing or there is none."""
    values = list(values)
    if not values or any(math.isnan(value) for value in values):
        return math.nan
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def means(results: list[Result]) -> dict:
    """Geometric means over the layers of one operation: rates, shares of the roof, speed-ups."""
    operation = results[0].operation
    return {
        "layers": len(results),
        "rate": {
            name: geometric_mean(result.rate(name) for result in results)
            for name in operation.candidates
        },
        "share_of_roof": {
            name: geometric_mean(result.rate(name) * 1e9 / result.roof for result in results)
            for name in operation.candidates
        },
        "speedup": {
            name: geometric_mean(result.speedup(name) for result in results)
            for name in operation.baselines
        },
    }


# ---- rows of text -------------------------------------------------------------------------------

MEAN = "geometric mean"


@dataclass(frozen=True, slots=True)
class Layout:
    """Headings and widths of a table, the same for all its rows; numbers are set flush right."""

    headings: list[str]
    widths: list[int]

    def line(self, cells: list[str]) -> str:
        first, *rest = zip(cells, self.widths, strict=True)
        second, *numbers = rest
        text = [f"{cell:<{width}}" for cell, width in (first, second)]
        return "  ".join(text + [f"{cell:>{width}}" for cell, width in numbers]).rstrip()


def layout(operation: Operation, cases: list) -> Layout:
    headings = ["layer", "shape", *operation.candidates]
    headings += [
        f"{operation.main} ms",
        "±",
        operation.roof,
        *(f"x {name}" for name in operation.baselines),
    ]
    names = [*map(_names, cases), (MEAN, plural(len(cases), "layer"))]
    widths = [max(map(len, column)) for column in zip(*names, strict=True)]
    widths += [6] * len(operation.candidates) + [9, 4, 5] + [7] * len(operation.baselines)
    widths = [max(width, len(text)) for width, text in zip(widths, headings, strict=True)]
    return Layout(headings, widths)


def _names(case) -> tuple[str, str]:
    return case.name, case.shape_text


def row(result: Result) -> list[str]:
    operation = result.operation
    main = result.measured[operation.main]
    cells = [*_names(result.case)]
    for name in operation.candidates:
        found = result.measured.get(name)
        if found is None:
            cells.append("-")
        elif found.timing is None:
            cells.append({"wrong": "WRONG", "out of memory": "memory"}.get(found.failure, "-"))
        else:
            cells.append(("~" if found.scale != 1 else "") + significant(result.rate(name)))
    if main.timing is None:
        return cells + ["-"] * (3 + len(operation.baselines))
    share = result.rate(operation.main) * 1e9 / result.roof
    cells += [milliseconds(main.seconds), f"{main.timing.spread:.0%}", percent(share)]
    for name in operation.baselines:
        scaled = name in result.measured and result.measured[name].scale != 1
        cells.append(("~" if scaled else "") + significant(result.speedup(name)))
    return cells


def foot(results: list[Result]) -> list[list[str]]:
    """The two last lines: geometric means, and the same as shares of the roof."""
    operation, summary = results[0].operation, means(results)
    rates = [significant(summary["rate"][name]) for name in operation.candidates]
    shares = [percent(summary["share_of_roof"][name]) for name in operation.candidates]
    speedups = [significant(summary["speedup"][name]) for name in operation.baselines]
    blank = [""] * len(speedups)
    return [
        [MEAN, plural(len(results), "layer"), *rates, "", "", "", *speedups],
        [f"share of {operation.roof}", "", *shares, "", "", "", *blank],
    ]


def significant(value: float) -> str:
    """Three figures or so: 0.034, 0.85, 12.3, 152."""
    if math.isnan(value):
        return "-"
    return f"{value:.{3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.{4 if value < 0.1 else 3 if value < 10 else 2}f}"


def percent(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0%}" if value >= 0.0995 else f"{value:.1%}"


# ---- two ways to show them ----------------------------------------------------------------------


class PlainReport:
    """Lines of text; each row appears as soon as it is measured."""

    def __init__(self, stream):
        self.stream = stream

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    @contextmanager
    def running(self, total: int):
        yield

    def step(self, text: str) -> None:
        pass

    @contextmanager
    def table(self, operation: Operation, cases: list, roof: str):
        """Yields the function that adds a result."""
        shape, results = layout(operation, cases), []
        self.say(f"\n{operation.title} ({operation.unit}; {operation.roof}: {roof})")
        self.say(shape.line(shape.headings))

        def add(result: Result) -> None:
            results.append(result)
            self.say(shape.line(row(result)))

        yield add
        for cells in foot(results) if results else ():
            self.say(shape.line(cells))


class RichReport:
    """Tables and a progress bar; a table appears when its last layer is measured."""

    def __init__(self, stream):
        import rich.console
        import rich.progress

        self.console = rich.console.Console(file=stream, highlight=False)
        self.progress = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    @contextmanager
    def running(self, total: int):
        self.task = self.progress.add_task("", total=total)
        with self.progress:
            yield

    def step(self, text: str) -> None:
        """Say what is measured now; the one before is done."""
        done = self.progress.tasks[0].description != ""
        self.progress.update(self.task, description=text, advance=int(done))

    @contextmanager
    def table(self, operation: Operation, cases: list, roof: str):
        results = []
        yield results.append
        if not results:  # interrupted
            return
        headings = layout(operation, cases).headings
        title = f"{operation.title} ({operation.unit}; {operation.roof}: {roof})"
        unlimited = self.console.options.update(max_width=1000)
        # a narrow terminal leaves out what it can do without
        spare = ("shape", "python", "±", f"{operation.main} ms", "numpy", "x naive", "winograd")
        for count in range(len(spare) + 1):
            keep = [i for i, heading in enumerate(headings) if heading not in spare[:count]]
            table = self._table(title, headings, keep, results)
            if self.console.measure(table, options=unlimited).maximum <= self.console.width:
                break
        self.console.print(table, "")

    @staticmethod
    def _table(title: str, headings: list[str], keep: list[int], results: list[Result]):
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        main = results[0].operation.main
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.padding, table.pad_edge, table.show_edge = (0, 1, 0, 0), False, False
        for i in keep:
            style = "bold green" if headings[i] == main else None
            justify = "left" if i < 2 else "right"
            table.add_column(headings[i], justify=justify, style=style, no_wrap=True)
        for result in results:
            cells = row(result)
            table.add_row(*(cells[i] for i in keep), style=None if right(result) else "red")
        table.add_section()
        for cells in foot(results):
            table.add_row(*(cells[i] for i in keep), style="bold")
        return table


def right(result: Result) -> bool:
    return all(found.failure != "wrong" for found in result.measured.values())


def make_report(stream):
    """Rich if `stream` is a terminal and rich is installed."""
    if stream.isatty():
        try:
            return RichReport(stream)
        except ImportError:
            pass
    return PlainReport(stream)
