"""``python -m benchmarks.peers``: the command line, and the run."""

import argparse
import contextlib
import functools
import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path

import fastconv
from benchmarks.peers import adapters, bars
from benchmarks.peers.measure import FULL, QUICK, Table, all_right, measure_case
from benchmarks.peers.summary import environment_lines, notes, show_summary, write_markdown
from benchmarks.peers.tasks import BATCHES, GROUPS, MAIN, TASKS
from fastconv.bench.command import check_writable, positive, write_json
from fastconv.bench.environment import (
    blas_threads,
    environment,
    measured_bandwidth,
    measured_peak,
    others_share,
)
from fastconv.bench.report import make_report
from fastconv.cli import INTERRUPTED, Parser

EPILOG = """\
Every candidate is verified against float64 before it is timed; candidates take turns in one
process with the same number of threads. Numbers are medians, in GFLOP/s of the plain sum (pooling:
GB/s).
  ±          distance between the quartiles, as a share of the median
  best peer  on each layer the fastest of torch, onnxruntime, openvino and ncnn
  ~          measured on fewer images or filters, and scaled up
All of it takes half an hour. Install the peers: pip install -r benchmarks/requirements-peers.txt
"""
OPS = (*(task.key for task in TASKS), *GROUPS)


def words(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Words separated by commas, each one of `known`, as an argument type."""
    found = tuple(word.strip() for word in text.split(","))
    for word in found:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
    return found


def batch_sizes(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(map(positive, text.split(","))))


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmarks.peers",
        description="Measure fastconv against other libraries, layer by layer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--op",
        type=functools.partial(words, known=OPS),
        default=("all",),
        metavar="OP,...",
        help=f"what to measure: {', '.join(OPS)} (default: all)",
    )
    parser.add_argument(
        "--filter",
        metavar="TEXT",
        help="only layers whose net/layer name contains TEXT (several: separated by commas)",
    )
    parser.add_argument(
        "--batch",
        type=batch_sizes,
        default=BATCHES,
        metavar="N,...",
        help="batch sizes (default: 1,8; the training step has 128 always)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of every candidate (default: as in `fastconv info`)",
    )
    parser.add_argument(
        "--peers",
        type=functools.partial(words, known=tuple(adapters.PEERS)),
        default=tuple(adapters.PEERS),
        metavar="NAME,...",
        help=f"of {', '.join(name for name in adapters.PEERS if name != MAIN)} (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a first impression")
    parser.add_argument("--list", action="store_true", help="list what would be measured and stop")
    parser.add_argument("--json", metavar="FILE", help="write all numbers to FILE (-: to stdout)")
    parser.add_argument("--markdown", metavar="FILE", help="write all tables to FILE")
    parser.add_argument(
        "--plot", metavar="FILE.png", help="draw the convolutions under the roofline"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process) and return the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    args.error = parser.error
    try:
        return run(args)
    except KeyboardInterrupt:
        print("\n" * sys.stderr.isatty() + f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except MemoryError:
        parser.error("not enough memory; make --batch smaller")


def run(args: argparse.Namespace) -> int:
    keys = {key for word in args.op for key in GROUPS.get(word, (word,))}
    plan = [
        (task, N, task.cases(args.filter, N))
        for task in TASKS
        if task.key in keys
        for N in task.batches(args.batch)
    ]
    plan = [(task, N, cases) for task, N, cases in plan if cases]
    if not plan:
        args.error(f"no layer's name contains {args.filter!r}; --list shows the names")
    if args.list:
        for task, N, cases in plan:
            print(f"{task.key}, N={N}: {' '.join(case.name for case in cases)}")
        return 0
    check_outputs(args, plan)
    threads = args.threads or fastconv.get_num_threads()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(fastconv.threads(threads))
        except ValueError as error:
            args.error(f"argument --threads: {error}")
        peers, missing = load_peers(args.peers, threads)
        # now that all libraries are loaded
        blas_control = stack.enter_context(blas_threads(threads))
        return measure(args, plan, peers, missing, threads, blas_control)


def check_outputs(args: argparse.Namespace, plan: list) -> None:
    """Refuse what would fail after half an hour of measuring."""
    for option in ("json", "markdown", "plot"):
        check_writable(args, f"--{option}", getattr(args, option))
    if args.plot is None:
        return
    if Path(args.plot).suffix.lower() not in (".png", ".svg", ".pdf"):
        args.error(f"argument --plot: {args.plot!r} does not end in .png, .svg or .pdf")
    if importlib.util.find_spec("matplotlib") is None:
        args.error("argument --plot: it needs matplotlib, which is not installed")
    if not any(task.kind == "conv" for task, _, _ in plan):
        args.error("argument --plot: it draws convolutions, and none was asked for")


def load_peers(names, threads: int) -> tuple[list[adapters.Peer], dict[str, str]]:
    """The peers that are installed, fastconv always first, and why the others are not there."""
    peers, missing = [], {}
    for name in adapters.PEERS:
        if name not in (MAIN, *names):
            continue
        try:
            peers.append(adapters.load(name, threads))
        except ImportError as error:
            missing[name] = f"not installed: {error}"
        except Exception as error:  # a broken installation of somebody else
            missing[name] = f"cannot be loaded: {error}"
    return peers, missing


def measure(args, plan: list, peers: list, missing: dict, threads: int, blas_control: str) -> int:
    budget = QUICK if args.quick else FULL
    report = make_report(sys.stderr if args.json == "-" else sys.stdout)
    machine = describe(peers, missing, plan, threads, blas_control)
    machine["quick"] = args.quick
    for word, text in environment_lines(machine):
        report.say(f"{word:<12} {text}")
    tables, interrupted = measure_all(plan, peers, budget, machine, report)
    lines = bars.summary(tables, threads)
    show_summary(report, lines)
    found = notes(tables, missing, interrupted)
    for text in found:
        report.say(text)
    content = {
        "environment": machine,
        "settings": settings(args, threads) | {"budget": asdict(budget)},
        "interrupted": interrupted,
        "bars": [line.as_dict() for line in lines],
        "notes": found,
        "tables": [table.as_dict() for table in tables],
    }
    if args.json:
        write_json(args.json, content)
    if args.markdown:
        write_markdown(args.markdown, machine, lines, found, tables)
    if args.plot and any(table.task.kind == "conv" for table in tables):
        from benchmarks.peers.chart import draw

        draw(args.plot, content)
    if interrupted:
        return INTERRUPTED
    return 0 if all_right(tables) else 1


def settings(args, threads: int) -> dict:
    asked = {name: getattr(args, name) for name in ("op", "filter", "batch", "peers", "quick")}
    return asked | {"threads": threads}


def describe(peers: list, missing: dict, plan: list, threads: int, blas_control: str) -> dict:
    """The machine with its roofs, and the versions of all libraries."""
    machine = environment()
    machine["blas"]["control"] = blas_control
    machine["others_share"] = others_share()
    dtypes = dict.fromkeys(["float32", *(task.dtype for task, _, _ in plan)])
    machine["peak"] = {dtype: measured_peak(dtype, threads, 0.1) for dtype in dtypes}
    machine["bandwidth"] = measured_bandwidth(threads, 0.1)
    machine["peers"] = {peer.name: {"version": peer.version, "note": peer.note} for peer in peers}
    machine["missing_peers"] = missing
    return machine


def measure_all(plan, peers, budget, machine, report) -> tuple[list[Table], bool]:
    """A table for each part of the plan; on Ctrl-C those measured so far."""
    tables, interrupted = [], False
    with report.running(sum(len(cases) for _, _, cases in plan)):
        for task, N, cases in plan:
            names = [name for peer in peers for name in peer.names(task)]
            operation = task.operation(N, names)
            roof, shown = machine["bandwidth"], f"{machine['bandwidth'] / 1e9:.1f} GB/s"
            if task.kind != "pool":
                roof = machine["peak"][task.dtype]
                shown = f"{roof / 1e9:.1f} GFLOP/s"
            table = Table(task, N, [])
            with report.table(operation, cases, shown) as add:
                try:
                    for case in cases:
                        report.step(f"{task.key} N={N} {case.name}")
                        result = measure_case(operation, task, case, peers, budget, roof)
                        table.results.append(result)
                        add(result)
                except KeyboardInterrupt:
                    interrupted = True
            if table.results:
                tables.append(table)
            if interrupted:
                break
    return tables, interrupted
