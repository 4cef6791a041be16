"""What a reader sees beside the tables: environment, bars, notes; and all of it as Markdown."""

from pathlib import Path

from benchmarks.peers.bars import HEADINGS, Line, cells
from benchmarks.peers.measure import Table, complaints
from fastconv.bench.environment import plural
from fastconv.bench.report import foot, layout, row


def environment_lines(machine: dict) -> list[tuple[str, str]]:
    """What the numbers depend on: a word and what was found."""
    cpu, blas = machine["cpu"], machine["blas"]
    caches = ", ".join(f"{name} {size}" for name, size in cpu["caches"].items())
    peaks = ", ".join(
        f"{rate / 1e9:.1f} GFLOP/s {dtype}" for dtype, rate in machine["peak"].items()
    )
    kernels = f" ({blas['kernels']} kernels)" if blas.get("kernels") else ""
    lines = [
        ("date", machine["time"] + (", quick run" if machine["quick"] else "")),
        ("CPU", f"{cpu['model']}, {plural(cpu['usable_cores'], 'core')}"),
        ("caches", caches or "unknown"),
        ("kernels", f"{machine['isa']}, {plural(machine['threads'], 'thread')} for all candidates"),
        ("FMA peak", f"{peaks}, measured"),
        ("bandwidth", f"{machine['bandwidth'] / 1e9:.1f} GB/s copied beyond the caches, measured"),
        ("Python", f"{machine['python']}, {machine['system']}"),
        ("NumPy's BLAS", f"{blas['name']} {blas['version']}{kernels}, {blas['control']}"),
    ]
    lines += [(peer["version"], peer["note"]) for peer in machine["peers"].values()]
    lines += [(name, f"left out, {why}") for name, why in machine["missing_peers"].items()]
    if (machine["others_share"] or 0) > 0.1:
        lines.append(
            ("warning", f"other programs use {machine['others_share']:.0%} of the processors")
        )
    return lines


def notes(tables: list[Table], missing: dict, interrupted: bool) -> list[str]:
    """What is missing from the tables, and why."""
    found = complaints(tables)
    found += [f"{name}: left out, {reason}" for name, reason in missing.items()]
    if interrupted:
        found.append("interrupted: what follows was not measured")
    return found


def show_summary(report, lines: list[Line]) -> None:
    """The bars, as a table."""
    if not lines:
        return
    rows = [cells(line) for line in lines]
    title = "fastconv against its bars (geometric mean / worst layer)"
    console = getattr(report, "console", None)
    if console is None:
        widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
        report.say(f"\n{title}")
        for cell_texts in (HEADINGS, *rows):
            padded = (f"{text:<{w}}" for text, w in zip(cell_texts, widths, strict=True))
            report.say("  ".join(padded).rstrip())
        report.say("")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    table = RichTable(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.padding, table.pad_edge, table.show_edge = (0, 1, 0, 0), False, False
    for heading in HEADINGS:
        table.add_column(heading)
    for line, texts in zip(lines, rows, strict=True):
        table.add_row(*texts, style={True: "green", False: "red", None: "dim"}[line.met])
    console.print(table, "")


EXPLANATION = """\
Candidates are verified against float64, then take turns in one process. Numbers are medians, in
GFLOP/s of the plain sum (pooling: GB/s); ± is the distance between the quartiles as a share of the
median; ~ was measured on fewer images or filters and scaled up; x is the speed of fastconv over
that of another."""


def write_markdown(
    path: str, machine: dict, lines: list[Line], found: list[str], tables: list[Table]
) -> None:
    """Environment, bars, notes, then every table."""
    text = ["# fastconv and its peers", "", *_table(("", ""), environment_lines(machine))]
    text += ["", EXPLANATION]
    if lines:
        title = "## Summary: geometric mean / worst layer"
        text += ["", title, "", *_table(HEADINGS, map(cells, lines))]
    if found:
        text += ["", *(f"- {note}" for note in found)]
    for table in tables:
        operation = table.results[0].operation
        headings = layout(operation, [result.case for result in table.results]).headings
        rows = [*map(row, table.results), *foot(table.results)]
        text += ["", f"## {operation.title} ({operation.unit})", "", *_table(headings, rows)]
    Path(path).write_text("\n".join(text) + "\n", encoding="utf-8")


def _table(headings, rows) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines]
