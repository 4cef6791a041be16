"""``fastconv bench``: verify, time and tabulate every algorithm on every layer."""

import argparse
import contextlib
import importlib.util
import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import fastconv
from fastconv import _tuned
from fastconv.backends import NAMES, BackendError
from fastconv.bench.candidates import prepare
from fastconv.bench.cases import OP_CHOICES, OPERATIONS, conv_cases, select
from fastconv.bench.environment import (
    blas_threads,
    environment,
    measured_bandwidth,
    measured_peak,
    others_share,
    plural,
)
from fastconv.bench.report import Measured, Result, make_report, means, right
from fastconv.bench.timing import compare

EPILOG = """\
The numbers are GFLOP/s (pooling: GB/s) of each candidate: medians of rounds in which the
candidates take turns, after every result has been verified against float64.
  python, naive  the loops of the lecture, in Python (small layers only) and in C
  im2col         the lecture's matrix product, with NumPy's BLAS
  gemm           fastconv's implicit matrix product
  winograd       Winograd's algorithm, where it suits
  auto           what fastconv picks by itself, by fastconv.tune's choices if there are any
  ±              distance between the quartiles, as a share of the median
  peak, copy     share of the machine's limit, which is measured first
  ~              measured on fewer images, groups or filters, and scaled up
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to measure; see `fastconv.bench.compare` for the first four."""

    min_time: float
    min_rounds: int
    max_time: float
    sample_time: float
    python_outputs: int  # the loops in Python run on layers with at most so many outputs
    naive_work: float  # floating-point operations that the loops in C do in a call
    roof_time: float  # seconds for one of five tries at each of the machine's limits

    def timing(self) -> dict:
        names = ("min_time", "min_rounds", "max_time", "sample_time")
        return {name: getattr(self, name) for name in names}


FULL = Budget(0.1, 7, 1.0, 0.01, 40_000, 5e7, 0.2)
QUICK = Budget(0.03, 3, 0.25, 0.005, 4_000, 1e7, 0.05)

LARGEST = 65536  # images or threads: more than anyone has use for, less than overflows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Verify and time fastconv's convolutions and pooling, layer by layer.\n"
        "Everything takes some minutes; --quick, --op and --filter make it shorter."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--filter",
        metavar="TEXT",
        help="only layers whose net/layer name contains TEXT (several: separated by commas)",
    )
    parser.add_argument(
        "--op",
        choices=OP_CHOICES,
        default="all",
        help="what to measure (default: all)",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="(default: float32)"
    )
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="images in a batch (default: 1)"
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of fastconv and of NumPy's BLAS (default: as in `fastconv info`)",
    )
    parser.add_argument(
        "--check-auto",
        action="store_true",
        help="check that what auto picks is within 10 %% of the best; status 1 if it is not on "
        "90 %% of the layers (batches of 1 and 8, 1 and all threads, unless they are given)",
    )
    parser.add_argument(
        "--scaling",
        action="store_true",
        help="how time and memory grow with images, channels, image size and threads, from one "
        "layer (--filter; default: resnet50/3_3x3)",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        choices=(*NAMES, "all"),
        help="a NumPy net with its own functions against the same with its backend, verified "
        f"first: {', '.join(NAMES)}, or all that are here",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a first impression")
    parser.add_argument("--list", action="store_true", help="list the layers and stop")
    parser.add_argument(
        "--json", metavar="FILE", help="write all numbers to FILE (-: to standard output)"
    )
    parser.add_argument(
        "--plot", metavar="FILE.png", help="draw the convolutions as a bar chart (needs matplotlib)"
    )


def positive(text: str) -> int:
    """A whole number from 1 up, as an argument type."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {LARGEST}")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the command; `args.error` prints a line and exits with status 2."""
    if args.backend:
        return compare_backend(args)
    operations = [op for op in OPERATIONS if op.key in OP_CHOICES[args.op]]
    plan = [(op, select(op.cases(), args.filter, args.batch or 1)) for op in operations]
    plan = [(op, cases) for op, cases in plan if cases]
    if not plan:
        args.error(f"no layer's name contains {args.filter!r}; --list shows the names")
    if args.list:
        return list_layers(plan)
    check_outputs(args, plan)
    if args.check_auto or args.scaling:
        return special(args)
    args.batch = args.batch or 1

    with allowed_threads(args) as threads:
        return measure(args, plan, threads)


@contextlib.contextmanager
def allowed_threads(args: argparse.Namespace):
    """As many threads as the options ask for; what cannot be had ends the command."""
    with contextlib.ExitStack() as stack:
        threads = args.threads or fastconv.get_num_threads()
        try:
            stack.enter_context(fastconv.threads(threads))
        except ValueError as error:
            args.error(f"argument --threads: {error}")
        try:
            yield threads
        except MemoryError:
            args.error(f"not enough memory for a batch of {args.batch}; make --batch smaller")


def special(args: argparse.Namespace) -> int:
    """What is no comparison of algorithms layer by layer."""
    from fastconv.bench import check_auto, scaling

    if not select(conv_cases(), args.filter, 1):
        args.error(f"no convolution's name contains {args.filter!r}; --list shows the names")
    machine, budget = environment(), QUICK if args.quick else FULL
    with allowed_threads(args):
        module = check_auto if args.check_auto else scaling
        status, found = module.run(args, budget, machine)
    if args.json:
        write_json(args.json, {"environment": machine, "budget": asdict(budget)} | found)
    return status


def compare_backend(args: argparse.Namespace) -> int:
    """A net as it is against the same net on fastconv."""
    from fastconv.backends.command import look_here
    from fastconv.bench.backends import run as comparison

    only = "--backend times what a net does with its own arrays"
    for option in ("op", "dtype", "batch", "check_auto", "scaling", "list", "plot"):
        if getattr(args, option) not in (None, False, "all", "float32"):
            args.error(f"{only}: it takes no --{option.replace('_', '-')}")
    check_writable(args, "--json", args.json)
    machine, budget = environment(), QUICK if args.quick else FULL
    look_here()
    with allowed_threads(args) as threads:
        try:
            status, found = comparison.run(args, budget, threads)
        except BackendError as error:
            args.error(str(error))
    if args.json:
        write_json(args.json, {"environment": machine, "budget": asdict(budget)} | found)
    return status


def list_layers(plan: list) -> int:
    shown = {case.name: case for _, cases in plan for case in cases}
    width = max(map(len, shown))
    for name, case in shown.items():
        work = "" if hasattr(case, "kernel") else f"  {case.work / 1e9:.3f} GFLOP"
        print(f"{name:<{width}}  {case.shape_text:<28}{work}".rstrip())
    return 0


def check_outputs(args: argparse.Namespace, plan: list) -> None:
    """Refuse what would fail after minutes of measuring."""
    for option, target in (("--json", args.json), ("--plot", args.plot)):
        check_writable(args, option, target)
    if args.check_auto and args.scaling:
        args.error("--check-auto and --scaling are two commands")
    if args.plot is None:
        return
    if args.check_auto:
        args.error("--plot draws no --check-auto")
    if Path(args.plot).suffix.lower() not in (".png", ".svg", ".pdf"):
        args.error(f"argument --plot: {args.plot!r} does not end in .png, .svg or .pdf")
    if importlib.util.find_spec("matplotlib") is None:
        args.error("--plot needs matplotlib: pip install 'fastconv[plot]'")
    if all(op.pooling for op, _ in plan):
        args.error("--plot draws convolutions, and only pooling was asked for")


def check_writable(args: argparse.Namespace, option: str, target: str | None) -> None:
    if target in (None, "-"):
        return
    path = Path(target)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        args.error(f"argument {option}: cannot write {target!r}")


def measure(args: argparse.Namespace, plan: list, threads: int) -> int:
    budget = QUICK if args.quick else FULL
    report = make_report(sys.stderr if args.json == "-" else sys.stdout)
    tables: list[list] = []
    with contextlib.ExitStack() as stack:
        blas_control = stack.enter_context(blas_threads(threads))
        machine = environment()
        machine["blas"]["control"] = blas_control
        machine["others_share"] = others_share()
        machine["peak"] = measured_peak(args.dtype, threads, budget.roof_time)
        machine["bandwidth"] = measured_bandwidth(threads, budget.roof_time)
        for line in header(args, machine):
            report.say(line)
        roofs = {
            False: f"{machine['peak'] / 1e9:.1f} GFLOP/s",
            True: f"{machine['bandwidth'] / 1e9:.1f} GB/s",
        }
        stack.enter_context(report.running(sum(len(cases) for _, cases in plan)))
        for operation, cases in plan:
            unit = np.dtype(args.dtype).itemsize if operation.pooling else 1
            roof = machine["bandwidth" if operation.pooling else "peak"]
            with report.table(operation, cases, roofs[operation.pooling]) as add:
                tables.append([])
                for case in cases:
                    report.step(f"{operation.key} {case.name}")
                    result = measure_case(operation, case, args.dtype, budget, unit, roof)
                    tables[-1].append(result)
                    add(result)

    wrong = [result for table in tables for result in table if not right(result)]
    for result in wrong:
        for name, found in result.measured.items():
            if found.failure == "wrong":
                report.say(
                    f"WRONG: {name} on {result.case.name}, {result.operation.key}: "
                    f"the error is {found.error:.3g} times the tolerance"
                )
    if args.json:
        write_json(args.json, summary(args, machine, budget, tables))
    if args.plot:
        from fastconv.bench.plot import draw

        draw(args.plot, tables, machine, dtype=args.dtype, batch=args.batch)
        report.say(f"\nchart: {args.plot}")
    return 1 if wrong else 0


def measure_case(operation, case, dtype, budget: Budget, unit: int, roof: float):
    candidates = prepare(operation, case, dtype, budget)
    timings = compare(
        {name: found.call for name, found in candidates.items() if not found.failure},
        **budget.timing(),
    )
    measured = {
        name: Measured(timings.get(name), found.scale, found.error, found.failure)
        for name, found in candidates.items()
    }
    return Result(operation, case, case.work * unit, roof, measured)


def header(args: argparse.Namespace, machine: dict) -> list[str]:
    """What the numbers below depend on."""
    cpu, blas = machine["cpu"], machine["blas"]
    sizes = ", ".join(f"{name} {size}" for name, size in cpu["caches"].items())
    kernels = f" ({blas['kernels']} kernels)" if blas.get("kernels") else ""
    lines = [
        f"fastconv {machine['fastconv']}, {machine['time']}",
        f"CPU      {cpu['model']}, {plural(cpu['usable_cores'], 'core')}"
        + (f", {sizes}" if sizes else ""),
        f"kernels  {machine['isa']}, {plural(machine['threads'], 'thread')}",
        f"NumPy    {machine['numpy']}, {blas['name']} {blas['version']}{kernels}, "
        f"{blas['control']}",
        f"limits   {machine['peak'] / 1e9:.1f} GFLOP/s {args.dtype} FMA, "
        f"{machine['bandwidth'] / 1e9:.1f} GB/s copied, both measured",
        f"batch    {args.batch}, {args.dtype}" + (", quick" if args.quick else ""),
    ]
    tuned = _tuned.status()
    if tuned["choices"]:
        lines.append(f"tuned    {plural(tuned['choices'], 'convolution')} in {tuned['file']}")
    if blas["coretype"]:
        lines.append(
            f"warning  OPENBLAS_CORETYPE={blas['coretype']} chooses NumPy's BLAS kernels: im2col "
            "may be slower than NumPy can be"
        )
    if (machine["others_share"] or 0) > 0.1:
        lines.append(
            f"warning  other programs use {machine['others_share']:.0%} of the processors: numbers "
            "are too low, those of im2col most of all, as OpenBLAS waits for all its threads"
        )
    return lines


def summary(args, machine: dict, budget: Budget, tables: list[list]) -> dict:
    """Everything, as it goes into JSON."""
    return {
        "environment": machine,
        "settings": {
            "dtype": args.dtype,
            "batch": args.batch,
            "threads": machine["threads"],
            "quick": args.quick,
            "filter": args.filter,
            "budget": asdict(budget),
        },
        "results": [result.as_dict() for table in tables for result in table],
        "geometric_means": {table[0].operation.key: means(table) for table in tables},
    }


def write_json(target: str, content: dict) -> None:
    text = json.dumps(_without_nan(content), indent=1, ensure_ascii=False)
    if target == "-":
        print(text)
    else:
        Path(target).write_text(text + "\n", encoding="utf-8")


def _without_nan(value):
    """JSON has no NaN and no infinity: missing means become null, an endless error a word."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
