"""``fastconv bench --scaling``: how time and memory grow, one axis of a layer at a time.

Starting from one layer, the number of images, the channels, the size of the image and the threads
are changed in turn; the points of an axis are measured in turns, like candidates elsewhere. Scratch
memory is what a call really takes from the system; beside it stands the matrix of im2col.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import fastconv
from fastconv import _core, _tuned
from fastconv.bench.candidates import prepare
from fastconv.bench.cases import OPERATIONS, ConvCase, conv_cases, select
from fastconv.bench.environment import measured_peak, plural
from fastconv.bench.report import milliseconds, percent, significant
from fastconv.bench.timing import Timing, compare
from fastconv.functional.conv import conv_shape

BASE = "resnet50/3_3x3"
IMAGES = (1, 2, 4, 8, 16, 32, 64)
FACTORS = (1 / 4, 1 / 2, 1, 2, 4)
LARGEST = 2**29  # bytes of input and output: larger points are left out
AXES = {"N": "images", "C": "channels", "H": "image size", "threads": "threads"}
HEADINGS = ("algorithm", "ms", "±", "GFLOP/s", "peak", "scratch MB", "im2col MB")
WIDTHS = (9, 8, 4, 7, 5, 10, 9)


@dataclass(frozen=True, slots=True)
class Point:
    """A layer with one size changed, measured."""

    axis: str
    value: int
    case: ConvCase
    threads: int
    algorithm: str
    timing: Timing
    peak: float  # operations per second of that many threads
    scratch: int  # bytes, measured
    columns: int  # bytes of im2col's matrix

    @property
    def rate(self) -> float:
        return self.case.work / self.timing.median

    def line(self) -> str:
        cells = (
            self.algorithm,
            milliseconds(self.timing.median),
            f"{self.timing.spread:.0%}",
            significant(self.rate / 1e9),
            percent(self.rate / self.peak),
            significant(self.scratch / 1e6),
            significant(self.columns / 1e6),
        )
        return _line(f"{self.value}", cells)

    def as_dict(self) -> dict:
        return {
            "axis": self.axis,
            "value": self.value,
            "case": self.case.as_dict(),
            "threads": self.threads,
            "algorithm": self.algorithm,
            "seconds": self.timing.median,
            "spread": self.timing.spread,
            "rate": self.rate / 1e9,
            "share_of_peak": self.rate / self.peak,
            "scratch_bytes": self.scratch,
            "im2col_bytes": self.columns,
        }


def _line(first: str, cells: tuple) -> str:
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
    return "  ".join((f"{first:>7}", *padded))


def run(args: argparse.Namespace, budget, machine: dict) -> tuple[int, dict]:
    """Measure and print; returns the exit status and everything for JSON."""
    wanted = args.filter or BASE
    found = select(conv_cases(), wanted, args.batch or 1)
    exact = [case for case in found if case.name == wanted]
    if len(exact or found) > 1:
        names = ", ".join(case.name for case in found[:3])
        args.error(f"--scaling starts from one layer, and --filter names several: {names}, ...")
    (base,) = exact or found
    operation = next((op for op in OPERATIONS[:3] if args.op in ("all", op.key)), None)
    if operation is None:
        args.error("--scaling is about convolutions")
    out = sys.stderr if args.json == "-" else sys.stdout
    print(
        f"fastconv {machine['fastconv']}, {machine['cpu']['model']}, {machine['isa']}\n"
        f"{operation.title}, {args.dtype}: {base.name}, {base.shape_text}, "
        f"{plural(fastconv.get_num_threads(), 'thread')}, where not said otherwise",
        file=out,
    )
    points = []
    for axis in AXES:
        print(f"\n{AXES[axis]}\n{_line(axis, HEADINGS)}", file=out)
        axis_points = _measure(axis, base, operation, np.dtype(args.dtype), budget)
        for point in axis_points:
            print(point.line(), file=out, flush=True)
        points += axis_points
    if args.plot:
        from fastconv.bench.plot import draw_scaling

        title = (
            f"fastconv {machine['fastconv']}: {operation.title.lower()}, {args.dtype}, "
            f"{base.name} ({base.shape_text})\n"
            f"{machine['cpu']['model']}, {machine['isa']}, "
            f"{plural(fastconv.get_num_threads(), 'thread')}"
        )
        words = {axis: f"{axis} ({word})" for axis, word in AXES.items()} | {"threads": "threads"}
        draw_scaling(args.plot, points, words, title)
        print(f"\nchart: {args.plot}", file=out)
    return 0, {"base": base.as_dict(), "results": [point.as_dict() for point in points]}


def values(axis: str, base: ConvCase) -> list[int]:
    """What is measured along an axis."""
    if axis == "N":
        return list(IMAGES)
    if axis == "threads":
        most = fastconv.get_num_threads()
        return sorted({*(2**i for i in range(most.bit_length())), most})
    scaled = {int(getattr(base, axis) * factor) for factor in FACTORS}
    return sorted(size for size in scaled if size >= 1)


def changed(axis: str, value: int, base: ConvCase) -> ConvCase | None:
    """The layer with one size changed; None if that makes no layer, or one too large."""
    case = base
    if axis == "N":
        case = replace(base, N=value)
    elif axis == "H":
        case = replace(base, H=value, W=max(1, value * base.W // base.H))
        if min(case.H, case.W) + 2 * case.padding < max(case.KH, case.KW):
            return None
    elif axis == "C" and base.groups == base.C:  # depthwise
        case = replace(base, C=value, groups=value, OC=value * (base.OC // base.C))
    elif axis == "C":
        case = replace(base, C=value)
        if value % base.groups:
            return None
    elements = math.prod(case.x_shape) + math.prod(case.y_shape)
    return case if elements * 8 <= LARGEST else None


def _measure(axis: str, base: ConvCase, operation, dtype, budget) -> list[Point]:
    before = fastconv.get_num_threads()
    cases, calls, scratch = {}, {}, {}
    for value in values(axis, base):
        case = changed(axis, value, base)
        if case is None:
            continue
        candidate = prepare(operation.restricted_to("auto"), case, dtype, budget)["auto"]
        if candidate.failure:
            raise RuntimeError(f"{operation.key} of {case} is {candidate.failure}")
        threads = value if axis == "threads" else before
        cases[value] = case, threads
        calls[value] = _with_threads(threads, candidate.call)
        scratch[value] = _scratch(calls[value])
    timings = compare(calls, **budget.timing())
    fastconv.set_num_threads(before)
    points = []
    peaks = {
        threads: measured_peak(dtype, threads, budget.roof_time)
        for threads in {threads for _, threads in cases.values()}
    }
    for value, (case, threads) in cases.items():
        steps = case.stride, case.padding, 1, case.groups
        g = conv_shape("bench", case.x_shape, case.w_shape, *steps, "NCHW", "floor")
        points.append(
            Point(
                axis,
                value,
                case,
                threads,
                _algorithm(operation.key, g, dtype),
                timings[value],
                peaks[threads],
                scratch[value],
                math.prod(g.cols_shape) * dtype.itemsize,
            )
        )
    return points


def _with_threads(threads: int, call: Callable) -> Callable:
    def run():
        _core.set_num_threads(threads)
        return call()

    return run


def _scratch(call: Callable) -> int:
    """Bytes of scratch memory that a call takes and gives back."""
    fastconv.release_memory()
    result = call()
    scratch = _core.cached_memory()
    del result  # alive until here: its memory is kept, too, once it is free
    return scratch


def _algorithm(op: str, g, dtype) -> str:
    if g.geometry.groups == g.C > 1:
        return "depthwise"
    if op == "weight_grad":
        return "auto"  # GEMM or Winograd's algorithm: C does not tell
    tuned = _tuned.choose(op, g, dtype)
    return _tuned.estimate(op, g, dtype) if tuned == "auto" else tuned
