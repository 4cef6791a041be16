"""Tables of text or of rich, and numbers in few characters."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and a cell for each row.

    A narrow terminal leaves out columns, those with the largest `spare` first; never those with 0.
    """

    heading: str
    cells: Sequence[str]
    right: bool = True
    spare: int = 0
    style: str | None = None

    @property
    def width(self) -> int:
        return max(len(cell) for cell in (self.heading, *self.cells))


def fitting(columns: list[Column], width: int | None) -> list[Column]:
    """Those that fit into `width` characters; all of them where it is None."""
    columns = list(columns)
    while width is not None and sum(c.width + 2 for c in columns) - 2 > width:
        spare = max(columns, key=lambda column: column.spare)
        if spare.spare == 0:
            break
        columns.remove(spare)
    return columns


def plain(columns: list[Column], width: int | None = None) -> str:
    """Lines of text, a rule under the headings."""
    columns = fitting(columns, width)
    widths = [column.width for column in columns]
    rows = [[c.heading for c in columns], ["-" * w for w in widths]]
    rows += zip(*(c.cells for c in columns), strict=True)
    lines = []
    for row in rows:
        cells = zip(columns, row, widths, strict=True)
        line = "  ".join(f"{text:>{w}}" if c.right else f"{text:<{w}}" for c, text, w in cells)
        lines.append(line.rstrip())
    return "\n".join(lines)


def rich_table(columns: list[Column], title: str, width: int | None, styles: Sequence = ()):
    """A `rich.table.Table`; `styles` are those of the rows, None for the usual one."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    columns = fitting(columns, width)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.padding, table.pad_edge, table.show_edge = (0, 1, 0, 0), False, False
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(Text(column.heading), justify=justify, style=column.style, no_wrap=True)
    for i, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        table.add_row(*map(Text, row), style=styles[i] if styles else None)
    return table


def needs_rich(what: str) -> None:
    """Refuse with the command to type where rich is missing."""
    try:
        import rich  # noqa: F401
    except ImportError:
        raise ImportError(f"{what} needs rich: pip install 'fastconv[cli]'") from None


def console():
    """A rich console for a terminal that standard output is; None elsewhere, or without rich."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(highlight=False)


# ---- numbers ------------------------------------------------------------------------------------


def compact(value: float | None) -> str:
    """Three figures and a letter: 999, 1.73 k, 106 M, 15.5 G."""
    if value is None:
        return "?"
    for letter, unit in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * unit:
            return f"{_three(value / unit)} {letter}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """Bytes, as "12.8 MB"."""
    return compact(value) + "B" if value >= 999.5 else f"{value:.0f} B"


def _three(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def shape_text(shape: Sequence[int]) -> str:
    """An array's shape without the batch: "64x224x224"."""
    return "x".join(map(str, shape))


def pair(values: Sequence | None) -> str:
    """A number for each axis, or one for both: "7", "7x5", "1.5"."""
    if values is None:
        return "?"
    texts = [f"{float(value):.4g}" if value != int(value) else str(int(value)) for value in values]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)
