"""``fastconv bench --check-auto``: is the algorithm that "auto" takes the fastest, or near it?

Every algorithm is timed on every layer, forward and for the gradient of the input, single images
and batches, on one thread and on all. The choice is right if its time is at most 10 % above that of
the best; im2col takes part, although "auto" never takes it, because its scratch memory has no
bound; another line counts what is right among the algorithms that it may take. Choices of
`fastconv.tune` are left out: it is the estimate that is checked.
"""

import argparse
import math
import sys
from dataclasses import dataclass, replace

import numpy as np

import fastconv
from fastconv import _tuned
from fastconv.bench.candidates import prepare
from fastconv.bench.cases import OPERATIONS, ConvCase, conv_cases, select
from fastconv.bench.environment import blas_threads, plural
from fastconv.bench.report import milliseconds
from fastconv.bench.timing import compare
from fastconv.functional.conv import conv_shape

BATCHES = (1, 8)
NEAR = 1.1  # the choice's time over the best one's
SHARE = 0.9  # of the layers
TIMED = ("gemm", "winograd", "im2col")
WIDTHS = (8, 8, 7, 11, 9, 5)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured on a layer; `seconds` of the algorithms, "auto" where it takes several."""

    operation: str
    case: ConvCase
    threads: int
    picked: str
    seconds: dict[str, float]

    @property
    def best(self) -> str:
        return min(self.seconds, key=self.seconds.get, default=self.picked)

    @property
    def ratio(self) -> float:
        if self.picked not in self.seconds:  # its result was wrong
            return math.inf
        return self.seconds[self.picked] / self.seconds[self.best]

    @property
    def right(self) -> bool:
        return self.ratio <= NEAR

    @property
    def right_among_its_own(self) -> bool:
        own = [seconds for name, seconds in self.seconds.items() if name != "im2col"]
        return self.picked in self.seconds and self.seconds[self.picked] <= NEAR * min(own)

    def line(self, width: int) -> str:
        times = (self.seconds.get(name, math.nan) for name in TIMED)
        cells = [self.picked, self.best]
        cells += ["-" if math.isnan(time) else milliseconds(time) for time in times]
        cells.append(f"{self.ratio:.2f}")
        text = "  ".join(f"{cell:>{size}}" for cell, size in zip(cells, WIDTHS, strict=True))
        return f"{self.case.name:<{width}}  {text}{'' if self.right else '  <'}"

    def as_dict(self) -> dict:
        return {
            "operation": self.operation,
            "name": self.case.name,
            "case": self.case.as_dict(),
            "threads": self.threads,
            "auto": self.picked,
            "best": self.best,
            "ratio": self.ratio,
            "seconds": self.seconds,
        }


def run(args: argparse.Namespace, budget, machine: dict) -> tuple[int, dict]:
    """Measure and print; returns the exit status and everything for JSON."""
    operations = [op for op in OPERATIONS[:2] if args.op in ("all", op.key)]
    if not operations:
        args.error("--check-auto is about forward and input_grad: the others have no choice")
    out = sys.stderr if args.json == "-" else sys.stdout
    _tuned.clear()
    counts = [args.threads] if args.threads else sorted({1, fastconv.get_num_threads()})
    batches = [args.batch] if args.batch else BATCHES
    print(f"fastconv {machine['fastconv']}, {machine['cpu']['model']}, {machine['isa']}", file=out)
    verdicts = []
    for threads in counts:
        with fastconv.threads(threads), blas_threads(threads):
            for N in batches:
                for operation in operations:
                    title = f"{operation.title}, batch {N}, {plural(threads, 'thread')}"
                    cases = select(conv_cases(), args.filter, N)
                    verdicts += _table(title, operation, cases, args.dtype, budget, out)
    right = sum(verdict.right for verdict in verdicts)
    own = sum(verdict.right_among_its_own for verdict in verdicts)
    share = right / len(verdicts)
    print(f"\nwithout im2col, which it never takes: right on {own} of {len(verdicts)}", file=out)
    print(
        f'"auto" is within {NEAR - 1:.0%} of the best on {right} of {len(verdicts)} layers '
        f"({share:.1%}; {SHARE:.0%} are asked for)",
        file=out,
    )
    summary = {"right": right, "right without im2col": own, "layers": len(verdicts), "share": share}
    results = [verdict.as_dict() for verdict in verdicts]
    return int(share < SHARE), {"results": results, "summary": summary}


def _table(title: str, operation, cases: list, dtype: str, budget, out) -> list[Verdict]:
    width = max(len(case.name) for case in cases)
    headings = ("auto", "best", *(f"{name} ms" for name in TIMED), "ratio")
    text = "  ".join(f"{word:>{size}}" for word, size in zip(headings, WIDTHS, strict=True))
    print(f"\n{title}\n{'layer':<{width}}  {text}", file=out)
    verdicts = []
    for case in cases:
        verdicts.append(_judge(operation, case, np.dtype(dtype), budget))
        print(verdicts[-1].line(width), file=out, flush=True)
    return verdicts


def _judge(operation, case: ConvCase, dtype, budget) -> Verdict:
    steps = case.stride, case.padding, 1, case.groups
    g = conv_shape("bench", case.x_shape, case.w_shape, *steps, "NCHW", "floor")
    picked = _tuned.estimate(operation.key, g, dtype)
    # Winograd's algorithm only where it is precise enough
    names = ["gemm", *_tuned.candidates(operation.key, g)[1:], "im2col"]
    names += [picked] if picked not in names else []
    candidates = prepare(replace(operation, candidates=tuple(names)), case, dtype, budget)
    calls = {name: found.call for name, found in candidates.items() if not found.failure}
    timings = compare(calls, **budget.timing())
    seconds = {name: timing.median for name, timing in timings.items()}
    return Verdict(operation.key, case, fastconv.get_num_threads(), picked, seconds)
