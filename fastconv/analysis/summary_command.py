"""``fastconv summary``: a net in numbers, a row a layer."""

import argparse
import shutil
import sys

import numpy as np

from fastconv.analysis import chosen_net, table
from fastconv.analysis.summarize import summary

DESCRIPTION = (
    "Show a net layer by layer: volumes, parameters, multiply-adds, memory and receptive fields.\n"
    "Nothing is computed; see fastconv.summary for how things are counted."
)
COLUMNS = """
columns  unshared: parameters if every place had its own; mult-adds: products with weights;
         forward: bytes of the volume that the layer makes; training: bytes it keeps for backward;
         sees, stride, pad: size, step and padding of the receptive field of one output, in pixels
"""


class _Zeros(np.random.Generator):
    """Initial weights that are not looked at need not be drawn."""

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return np.zeros(size, dtype)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    chosen_net.add_arguments(parser, "summary")
    parser.description = DESCRIPTION
    parser.epilog += COLUMNS
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    _, net, shape = chosen_net.build(args, rng=_Zeros(np.random.PCG64(0)))
    try:
        found = summary(net, shape, batch=args.batch)
    except (ValueError, TypeError) as error:
        args.error(chosen_net.said(error, shape))
    if args.json:
        print(found.to_json())
    else:
        show(found)
    return 0


def show(result) -> None:
    """Print a result: by rich on a terminal, else as text; a terminal's width is respected."""
    console = table.console()
    if console:
        console.print(result)
    else:
        terminal = sys.stdout.isatty()
        print(result.text(shutil.get_terminal_size().columns if terminal else None))
