"""The chart of ``fastconv bench --plot``: a bar for each algorithm on each layer."""

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
