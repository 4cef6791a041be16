"""Measure the cases of backends: verify, time in turns, tabulate."""

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator
from importlib import import_module

import numpy as np

from fastconv import backends
from fastconv.analysis.table import Column, plain
from fastconv.bench.backends import BackendCase
from fastconv.bench.environment import blas_threads
from fastconv.bench.report import geometric_mean
from fastconv.bench.timing import Timing, compare

ROUNDING = 4  # the two sum in other orders, and Winograd's rounding is about twice a plain sum's


def run(args: argparse.Namespace, budget, threads: int) -> tuple[int, dict]:
    """Measure all cases; return the exit status and what was found."""
    found = []
    names = backends.available() if args.backend == "all" else [args.backend]
    with contextlib.ExitStack() as stack:
        stack.enter_context(blas_threads(threads))
        for name in names:
            try:
                with backends.use(name):  # imports the net
                    pass
            except backends.BackendError as error:
                if args.backend != "all":
                    raise
                print(f"{name} is left out: {error}", end="\n\n", file=sys.stderr)
                continue
            cases = import_module(f"fastconv.bench.backends.{name}").cases()
            results = [
                measure(name, case, budget)
                for case in cases
                if not args.filter or any(text in case.name for text in args.filter.split(","))
            ]
            if results and args.json != "-":
                print(table(name, results), end="\n\n", flush=True)
            found += results
    if not found:
        args.error(
            f"no case's name contains {args.filter!r}" if args.filter else "no net can be measured"
        )
    return int(any(result["failure"] for result in found)), {"cases": found}


def measure(name: str, case: BackendCase, budget) -> dict:
    """Verify one case, then time it with the net's own functions and with the backend's."""
    backends.uninstall(name)
    original = (case.baseline or case.build)()
    expected = list(arrays(original()))
    with backends.use(name):
        patched = case.build()
        failure = difference(expected, list(arrays(patched())), case.terms)
    result = {
        "backend": name,
        "case": case.name,
        "kind": case.kind,
        "against": case.against,
        "bar": case.bar,
        "failure": failure,
    }
    if failure:
        return result

    def switch(candidate: str) -> None:
        (backends.install if candidate == "fastconv" else backends.uninstall)(name)

    try:
        times = compare(
            {"original": original, "fastconv": patched}, switch=switch, **budget.timing()
        )
    finally:
        backends.uninstall(name)
    return result | {key: seconds(timing) for key, timing in times.items()}


def seconds(timing: Timing) -> dict:
    return {"seconds": timing.median, "spread": timing.spread, "rounds": timing.rounds}


def difference(expected: list, got: list, terms: int) -> str:
    """What is wrong with the results; "" if nothing is."""
    if len(expected) != len(got):
        return f"{len(got)} arrays instead of {len(expected)}"
    for i, (a, b) in enumerate(zip(expected, got, strict=True)):
        if a.shape != b.shape:
            return f"array {i} has shape {b.shape} instead of {a.shape}"
        if a.size == 0 or np.array_equal(a, b):
            continue
        kinds = [array.dtype for array in (a, b) if array.dtype.kind == "f"]
        eps = max((np.finfo(kind).eps for kind in kinds), default=0.0)
        tolerance = ROUNDING * float(eps) * terms * float(np.abs(a).max())
        error = float(np.abs(a.astype(float) - b).max())
        if not error <= tolerance:
            return f"array {i} is off by {error:.3g}, allowed is {tolerance:.3g}"
    return ""


def arrays(result) -> Iterator[np.ndarray]:
    """The arrays in what a case returns."""
    if isinstance(result, dict):
        result = [result[key] for key in sorted(result)]
    if isinstance(result, tuple | list):
        for part in result:
            yield from arrays(part)
    elif result is not None:
        yield np.array(result)  # a copy: the net may change it in the next call


def table(name: str, results: list[dict]) -> str:
    """Aligned text: milliseconds of both, how many times as fast, and what is promised."""

    def column(cell) -> list[str]:
        return [cell(result) for result in results]

    def milliseconds(key):
        return column(lambda r: f"{r[key]['seconds'] * 1e3:.3g}" if key in r else "")

    columns = [
        Column("", column(lambda r: r["kind"]), right=False),
        Column(name, column(lambda r: r["case"]), right=False),
        Column("original ms", milliseconds("original")),
        Column("fastconv ms", milliseconds("fastconv")),
        Column("times", column(lambda r: r["failure"] or f"{speedup(r):.3g}")),
        Column("promised", column(lambda r: f"{r['bar']:g}" if r["bar"] else "")),
    ]
    others = sorted({r["against"] for r in results} - {"original"})
    text = plain(columns)
    for other in others:
        cases = ", ".join(r["case"] for r in results if r["against"] == other)
        text += f"\noriginal is {other}: {cases}"
    mean = geometric_mean(map(speedup, results))
    return text if math.isnan(mean) else f"{text}\ngeometric mean: {mean:.3g} times as fast"


def speedup(result: dict) -> float:
    if result["failure"]:
        return math.nan
    return result["original"]["seconds"] / result["fastconv"]["seconds"]
