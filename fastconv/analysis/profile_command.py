"""``fastconv profile``: where the time of a net goes, as a table, a picture and JSON."""

import argparse
import importlib.util
import os
from pathlib import Path

import fastconv
from fastconv.analysis import chosen_net
from fastconv.analysis.profiler import profile
from fastconv.analysis.summarize import summary
from fastconv.analysis.summary_command import show
from fastconv.analysis.table import size
from fastconv.bench.command import check_writable, positive, write_json

DESCRIPTION = (
    "Time every layer of a net while the net runs: medians, shares of the whole, and of the\n"
    "machine's FMA peak, which is measured too. What is one pass is one row: Conv2d + ReLU."
)
PICTURES = (".png", ".svg", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    chosen_net.add_arguments(parser, "profile")
    parser.description = DESCRIPTION
    parser.add_argument(
        "--training", action="store_true", help="forward and backward instead of inference"
    )
    parser.add_argument(
        "--prepared", action="store_true", help="the net that net.prepare() makes for inference"
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="(default: as in `fastconv info`)"
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=2.0,
        metavar="S",
        help="how long to measure (default: 2)",
    )
    parser.add_argument(
        "--sort", action="store_true", help="the slowest layers first, not in the net's order"
    )
    parser.add_argument(
        "--png", metavar="FILE", help="draw a bar for each layer (.png, .svg, .pdf; matplotlib)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers to FILE (-: print them)")


def run(args: argparse.Namespace) -> int:
    check_outputs(args)
    title, net, shape = chosen_net.build(args)
    try:
        check_memory(args, net, shape)
        found = measure(args, title, net, shape)
    except (ValueError, TypeError, RuntimeError) as error:
        args.error(chosen_net.said(error, shape))
    except MemoryError:
        args.error(f"not enough memory for a batch of {args.batch}; make --batch smaller")
    if args.sort:
        found = found.slowest_first()
    if args.png:
        found.draw(args.png)
    if args.json:
        write_json(args.json, found.to_dict())
    if args.json != "-":
        show(found)
        if args.png:
            print(f"picture  {args.png}")
    return 0


def check_memory(args: argparse.Namespace, net, shape: tuple[int, ...]) -> None:
    """Refuse what the system would kill the process for."""
    totals = summary(net, shape, batch=args.batch).totals
    needed = totals.training_bytes if args.training else totals.peak_bytes
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system, or one that does not tell
        return
    if needed > there:
        args.error(
            f"a batch of {args.batch} needs {size(needed)} for activations, but the machine has "
            f"{size(there)}; make --batch or --input smaller"
        )


def measure(args: argparse.Namespace, title: str, net, shape: tuple[int, ...]):
    with fastconv.threads(args.threads or fastconv.get_num_threads()):
        return profile(
            net,
            shape,
            batch=args.batch,
            training=args.training,
            prepared=args.prepared,
            seconds=args.seconds,
            title=title,
        )


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse what would fail after everything has been measured."""
    for option, target in (("--json", args.json), ("--png", args.png)):
        check_writable(args, option, target)
    if args.training and args.prepared:
        args.error("--prepared is for inference: leave out --training")
    if args.png is None:
        return
    if Path(args.png).suffix.lower() not in PICTURES:
        args.error(f"argument --png: {args.png!r} does not end in {', '.join(PICTURES)}")
    if importlib.util.find_spec("matplotlib") is None:
        args.error("--png needs matplotlib: pip install 'fastconv[plot]'")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write seconds, such as 2 or 0.5")
    return value
