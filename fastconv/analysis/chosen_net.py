"""The net that a command is about: a name of `fastconv.nets`, or a pattern and an input."""

import argparse
import difflib
import shutil
import textwrap

import numpy as np

from fastconv.analysis.table import shape_text
from fastconv.bench.command import positive

EPILOG = """\
NAME is one of
{names}
or a pattern in quotes, with the shape of its images:
  fastconv {command} "INPUT -> [CONV -> RELU -> POOL]*2 -> FC" --input 3x32x32 --classes 10
"""
PATTERN_ONLY = ("filters", "hidden")


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """The arguments that choose a net, its images and their type."""
    from fastconv import nets

    parser.epilog = EPILOG.format(names=_wrapped(nets.NAMES), command=command)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("net", metavar="NAME", help="a well-known net, or a layer pattern")
    parser.add_argument(
        "--input",
        type=shape,
        metavar="CxHxW",
        help="shape of an image, such as 3x32x32 (default: what the net is made for)",
    )
    parser.add_argument(
        "--classes", type=positive, metavar="N", help="scores at the end (default: as in its paper)"
    )
    for name, what in (("filters", "CONV of each stage"), ("hidden", "hidden FC")):
        parser.add_argument(
            f"--{name}",
            type=numbers,
            metavar="N,N",
            help=f"for a pattern: the size of the {what}, one for all or one for each",
        )
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="images in a batch (default: 1)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="(default: float32)"
    )


def shape(text: str) -> tuple[int, ...]:
    """ "3x224x224" as a tuple, as an argument type."""
    try:
        return tuple(positive(part) for part in text.lower().split("x"))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no shape: write channels x height x width, such as 3x224x224"
        ) from None


def numbers(text: str) -> int | tuple[int, ...]:
    """ "32,64" as a tuple, "32" as an int, as an argument type."""
    found = tuple(positive(part) for part in text.split(","))
    return found if len(found) > 1 else found[0]


def build(args: argparse.Namespace, rng=0):
    """(title, net, input shape) of the arguments; `args.error` ends the command."""
    from fastconv import nets

    options = {"dtype": np.dtype(args.dtype).type, "rng": rng}
    if args.classes:
        options["classes"] = args.classes
    if "->" in args.net or "→" in args.net:
        if args.input is None and "INPUT(" not in args.net:
            args.error("a pattern needs the shape of its images: --input 3x32x32")
        options |= {name: getattr(args, name) for name in PATTERN_ONLY if getattr(args, name)}
        net = _built(args, nets.build, args.net, args.input, **options)
        return "pattern", net, net.input_shape
    for name in PATTERN_ONLY:
        if getattr(args, name):
            args.error(f"argument --{name}: only for patterns, {args.net} has its own")
    entry = nets.NAMES.get(args.net)
    if entry is None:
        near = difflib.get_close_matches(args.net, nets.NAMES, 1, 0.5)
        guess = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(nets.NAMES)
        args.error(f"there is no net {args.net!r}; {guess}there are {known}, and patterns with ->")
    return args.net, _built(args, entry.build, **options), args.input or entry.input_shape


def _built(args, make, *arguments, **options):
    try:
        return make(*arguments, **options)
    except (ValueError, TypeError) as error:
        args.error(str(error))
    except MemoryError:
        args.error(f"not enough memory for the parameters of {args.net}")


def said(error: Exception, shape: tuple[int, ...]) -> str:
    """An error in one line, with the images and the first note: the layer that it is about."""
    notes = getattr(error, "__notes__", ())
    return f"images of {shape_text(shape)}: {error}" + (f" ({notes[0]})" if notes else "")


def _wrapped(names):
    """Names in lines as wide as those of the rest of the help."""
    width = shutil.get_terminal_size().columns - 2
    lines = textwrap.wrap(", ".join(names), max(width - 2, 20), break_long_words=False)
    return textwrap.indent("\n".join(lines), "  ")
