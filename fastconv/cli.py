"""The ``fastconv`` command: what it runs on, how fast it is, nets in numbers, a demonstration.

Modules of a command are imported when that command is asked for.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

# name -> (module with add_arguments(parser) and run(args) -> exit status, what it does)
COMMANDS = {
    "info": ("fastconv.bench.info", "show the processor, the kernels, the threads and the build"),
    "bench": ("fastconv.bench.command", "verify and time every algorithm, layer by layer"),
    "summary": (
        "fastconv.analysis.summary_command",
        "show what a net is and costs, layer by layer",
    ),
    "profile": ("fastconv.analysis.profile_command", "time every layer of a net while it runs"),
    "backends": (
        "fastconv.backends.command",
        "list the NumPy nets that can run on fastconv, and which are here",
    ),
    "demo": ("fastconv.demo", "train a small ConvNet on real handwritten digits"),
}
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
PIPE_CLOSED = 141  # 128 + SIGPIPE


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}\n")


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser; only the command that `argv` chooses gets its arguments."""
    parser = Parser(prog="fastconv", description="Fast convolutions for NumPy.")
    parser.add_argument("--version", action="store_true", help="show the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, (module_name, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run, error=command.error)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process) and return the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        status = _run(argv)
        sys.stdout.flush()  # here, where a closed pipe is still caught
        return status
    except KeyboardInterrupt:
        # the terminal has echoed ^C: start a new line
        print("\n" * sys.stderr.isatty() + "fastconv: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has stopped, e.g. `| head`; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _run(argv: Sequence[str]) -> int:
    parser = build_parser(argv)
    args = parser.parse_args(argv)
    if args.version:
        from fastconv import __version__

        print(f"fastconv {__version__}")
        return 0
    if args.command is None:
        parser.error(f"say what to do: {', '.join(COMMANDS)} (fastconv --help explains them)")
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
