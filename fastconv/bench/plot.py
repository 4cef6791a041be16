"""The charts of ``fastconv bench --plot``: a bar for each algorithm on each layer, or growth."""

import math

from fastconv.bench.environment import plural

# The loops in Python are left out: their bars would be invisible.
COLOURS = {
    "naive": "#555555",
    "im2col": "#e39a3b",
    "gemm": "#7fb2e5",
    "winograd": "#6aab7b",
    "auto": "#1f5fa8",
}
BAR = 0.17  # height of a bar, in layers


def draw(path: str, tables: list[list], machine: dict, *, dtype: str, batch: int) -> None:
    """Draw the convolutions of `tables`, one panel an operation, and save them at `path`."""
    # the figure by itself needs no display and no pyplot state
    from matplotlib.figure import Figure

    tables = [table for table in tables if not table[0].operation.pooling]
    layers = max(map(len, tables))
    figure = Figure(
        figsize=(2.2 + 4.4 * len(tables), 1.9 + 0.36 * layers), dpi=130, layout="constrained"
    )
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    peak = machine["peak"] / 1e9
    for panel, table in zip(panels, tables, strict=True):
        _draw_panel(panel, table, peak)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(
        f"fastconv {machine['fastconv']}: {dtype}, batch {batch}, "
        f"{plural(machine['threads'], 'thread')}, "
        f"{machine['isa']}\n{machine['cpu']['model']}",
        fontsize=11,
    )
    figure.savefig(path)


def _draw_panel(panel, table: list, peak: float) -> None:
    names = [name for name in COLOURS if any(name in result.measured for result in table)]
    rates = {name: [_or_zero(result.rate(name)) for result in table] for name in names}
    for position, name in enumerate(names):
        offset = (position - (len(names) - 1) / 2) * BAR
        panel.barh(
            [line + offset for line in range(len(table))],
            rates[name],
            height=BAR,
            color=COLOURS[name],
            label=name,
        )
    panel.axvline(peak, color="#c0392b", linewidth=1.2, label=f"FMA peak ({peak:.0f} GFLOP/s)")
    _shade_nets(panel, [result.case.net for result in table])
    _write_speedups(panel, table)
    panel.set_title(table[0].operation.title, fontsize=10)
    panel.set_xlabel("GFLOP/s", fontsize=9)
    panel.set_yticks(range(len(table)), [result.case.name for result in table], fontsize=8)
    panel.set_ylim(len(table) - 0.5, -0.5)  # the first layer on top
    panel.set_xlim(0, 1.25 * max(peak, *(max(values) for values in rates.values())))
    panel.tick_params(axis="x", labelsize=8)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _shade_nets(panel, nets: list[str]) -> None:
    """A grey band behind every second net."""
    order = list(dict.fromkeys(nets))
    for line, net in enumerate(nets):
        if order.index(net) % 2 == 0:
            panel.axhspan(line - 0.5, line + 0.5, color="#f4f4f4", linewidth=0, zorder=0)


def _write_speedups(panel, table: list) -> None:
    """At the right edge, how much faster `auto` is than the loops in C."""
    style = {"transform": panel.get_yaxis_transform(), "ha": "right", "fontsize": 7.5}
    for line, result in enumerate(table):
        speedup = result.speedup("naive") if "naive" in result.measured else math.nan
        if not math.isnan(speedup):
            text = f"{speedup:.0f}x" if speedup >= 10 else f"{speedup:.1f}x"
            panel.text(0.995, line, text, va="center", color="#333333", **style)
    panel.text(0.995, -0.55, "auto / naive", va="bottom", color="#777777", **style)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def draw_scaling(path: str, points: list, words: dict, title: str) -> None:
    """Time above, memory below, one column an axis; dashed lines show growth at a steady rate.

    `words` names the axes; the order of the columns is that of the points.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes = list(dict.fromkeys(point.axis for point in points))
    figure = Figure(figsize=(1 + 3.1 * len(axes), 6.2), dpi=130, layout="constrained")
    panels = figure.subplots(2, len(axes), squeeze=False, sharey="row")
    for column, axis in enumerate(axes):
        line = [point for point in points if point.axis == axis]
        _draw_growth(panels[0][column], panels[1][column], line)
        for panel in panels[:, column]:
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.xaxis.set_major_locator(FixedLocator([point.value for point in line]))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.tick_params(labelsize=8)
            panel.grid(color="#dddddd", linewidth=0.8)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
        panels[1][column].set_xlabel(words[axis], fontsize=9)
    panels[0][0].set_ylabel("milliseconds", fontsize=9)
    panels[1][0].set_ylabel("MB", fontsize=9)
    for row in panels:
        row[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _draw_growth(time_panel, memory_panel, line: list) -> None:
    values = [point.value for point in line]
    seconds = [point.timing.median for point in line]
    # at the rate of the largest size, or as one thread's rate times the threads
    steady = line[0 if line[0].axis == "threads" else -1]
    rate = steady.rate / steady.threads
    ideal = [point.case.work / point.threads / rate * 1e3 for point in line]
    time_panel.plot(values, ideal, "--", color="#999999", linewidth=1, label="at a steady rate")
    style = {"marker": "o", "markersize": 4}
    time_panel.plot(
        values, [s * 1e3 for s in seconds], color=COLOURS["auto"], label="auto", **style
    )
    columns = [point.columns / 1e6 for point in line]
    scratch = [max(point.scratch, 1) / 1e6 for point in line]
    memory_panel.plot(values, columns, color=COLOURS["im2col"], label="im2col's matrix", **style)
    memory_panel.plot(values, scratch, color=COLOURS["auto"], label="scratch memory", **style)
