"""``python -m fastconv.backends NAME script.py args...``: run a script as it is, on fastconv."""

import argparse
import ast
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from fastconv import backends
from fastconv.backends._found import when_imported

DESCRIPTION = """\
Run a script, or with -m a module, with its net's convolutions on fastconv. The script stays as it
is; the backend becomes active once the script has imported the net."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastconv.backends",
        usage="%(prog)s [--option KEY=VALUE] NAME (script.py | -m module) [args...]",
        description=DESCRIPTION,
        epilog=f"NAME: {', '.join(backends.NAMES)}. `fastconv backends` tells which are there.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of the backend, such as ties=split",
    )
    parser.add_argument("name", choices=backends.NAMES, metavar="NAME")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str]) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    command = args.command
    module = command[:1] == ["-m"]
    command = command[module:]
    if not command:
        parser.error("say which script to run, or -m and a module")
    if not module and not Path(command[0]).is_file():
        parser.error(f"there is no file {command[0]}")
    try:
        options = dict(map(_option, args.option))
        backend = backends.load(args.name, options)
    except (TypeError, ValueError) as error:
        parser.error(str(error))

    sys.argv = command
    sys.path[0] = os.getcwd() if module else str(Path(command[0]).resolve().parent)
    active = []

    def activate():
        backends.install(args.name, **options)
        active.append(args.name)

    try:
        with backend.importing():
            when_imported(backend.package.partition(".")[0], activate)
            if module:
                runpy.run_module(command[0], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(os.path.abspath(command[0]), run_name="__main__")
    except backends.BackendError as error:
        sys.exit(f"fastconv.backends: {error}")
    finally:
        if not active and _succeeds(sys.exc_info()[1]):
            print(
                f"fastconv.backends: {command[0]} never imported {backend.package}, "
                "so nothing ran on fastconv",
                file=sys.stderr,
            )


def _succeeds(error: BaseException | None) -> bool:
    return error is None or (isinstance(error, SystemExit) and error.code in (None, 0))


def _option(text: str) -> tuple:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--option takes KEY=VALUE, got {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value  # a word: the string that it is


if __name__ == "__main__":
    main(sys.argv[1:])
