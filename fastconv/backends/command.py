"""``fastconv backends``: which nets are here, and which run on fastconv."""

import argparse
import json
import os
import sys
from dataclasses import asdict

from fastconv import backends
from fastconv.analysis.table import Column, console, plain, rich_table

HOW = """\
in Python:  from fastconv import backends; backends.install(NAME)
a script:   python -m fastconv.backends NAME script.py args..."""


def look_here() -> None:
    """Find nets in the current folder, as ``python -m`` does: some are mere folders."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    look_here()
    found = backends.status()
    if args.json:
        print(json.dumps([asdict(entry) for entry in found], indent=1))
        return 0
    columns = [
        Column("name", [entry.name for entry in found], right=False),
        Column("net", [entry.net for entry in found], right=False, spare=2),
        Column("found", [entry.found or "-" for entry in found], right=False, spare=1),
        Column("active", ["yes" if entry.active else "" for entry in found], right=False),
    ]
    terminal = console()
    if terminal:
        terminal.print(rich_table(columns, "", terminal.width))
    else:
        print(plain(columns))
    print(f"\n{HOW}")
    return 0
