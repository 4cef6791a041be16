"""``fastconv info``: what fastconv found on this machine and what it was built with."""

import argparse
import json
import sys

from fastconv import _tuned
from fastconv.bench.environment import environment, plural, thread_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    found = environment()
    found["threads_from"] = thread_source()
    found["tuned"] = _tuned.status()
    if args.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        show(rows(found))
    return 0


def rows(found: dict) -> list[tuple[str, str]]:
    """The table: a word and what was found."""
    cpu, blas, build = found["cpu"], found["blas"], found["build"]
    caches = ", ".join(f"{name} {size}" for name, size in cpu["caches"].items())
    threads = f", {plural(blas['threads'], 'thread')}" if blas.get("threads") else ""
    kernels = f", {blas['kernels']} kernels" if blas.get("kernels") else ""
    return [
        ("fastconv", found["fastconv"]),
        ("CPU", cpu["model"]),
        ("cores", f"{cpu['usable_cores']} usable of {cpu['logical_cores']}"),
        ("caches", caches or "unknown"),
        ("features", " ".join(found["features"]) or "none that fastconv uses"),
        ("kernels", f"{found['isa']} (available: {', '.join(found['available_isas'])})"),
        ("threads", f"{found['threads']}, from {found['threads_from']}"),
        ("tuned", tuned(**found["tuned"])),
        ("NumPy", found["numpy"]),
        ("BLAS", f"{blas['name']} {blas['version']}{kernels}{threads}".strip()),
        ("Python", f"{found['python']}, {found['system']}"),
        (
            "build",
            f"{build['module']}, {build['bytes'] / 1e6:.2f} MB, compiler {build['compiler']}",
        ),
    ]


def tuned(file: str | None, choices: int, problem: str) -> str:
    """What became of the file with the choices of `fastconv.tune`."""
    if file is None:
        return "no choices kept: FASTCONV_CACHE is off, or there is no home folder"
    if problem:
        return f"{file} is ignored: {problem}"
    return f"{plural(choices, 'convolution')} in {file}"


def show(table: list[tuple[str, str]]) -> None:
    """Print with rich on a terminal, plainly elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            shown = Table(show_header=False)
            shown.add_column(style="bold", no_wrap=True)
            shown.add_column(overflow="fold")
            for word, text in table:
                shown.add_row(word, text)
            Console(highlight=False).print(shown, markup=False)
            return
    width = max(len(word) for word, _ in table)
    for word, text in table:
        print(f"{word:<{width}}  {text}")
