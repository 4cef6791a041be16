"""The chart of ``--plot``: every convolution under the roofline of the machine.

Each layer has its place on the horizontal axis by its operations for each byte that has to be moved
at least once: image, filters and result. A line joins fastconv and the best peer.
"""

import math
from dataclasses import dataclass

from fastconv.bench.environment import plural
from fastconv.bench.report import geometric_mean

MAIN, MAIN_COLOUR = "fastconv", "#1f5fa8"
# candidate -> (name in the legend, colour, marker)
PEERS = {
    "torch": ("PyTorch", "#e4572e", "o"),
    "torch packed": ("PyTorch, packed", "#e4572e", "s"),
    "onnxruntime": ("ONNX Runtime", "#8e6bbf", "^"),
    "openvino": ("OpenVINO", "#c99700", "D"),
    "ncnn": ("ncnn", "#2a9d8f", "v"),
    "numpy": ("im2col + NumPy's BLAS", "#999999", "x"),
}
FASTER, SLOWER, ROOF = "#1f5fa8", "#d1495b", "#333333"
PANEL_WIDTH, PANEL_HEIGHT = 5.6, 5.0  # inches
LINE = 9.0  # height of a layer's name in points
LETTER = 3.7  # and the width of a letter


@dataclass(frozen=True, slots=True)
class Point:
    """A layer: operations for a byte, GFLOP/s of each candidate, and who is the best peer."""

    name: str
    x: float
    rates: dict[str, float]
    best: str | None

    @property
    def ratio(self) -> float:
        """Speed of fastconv over that of the best peer; nan if either is missing."""
        if MAIN not in self.rates or self.best not in self.rates:
            return math.nan
        return self.rates[MAIN] / self.rates[self.best]


@dataclass(frozen=True, slots=True)
class Frame:
    """What all panels share: the ends of the axes."""

    left: float
    right: float
    low: float
    high: float

    def points(self, x: float, y: float) -> tuple[float, float]:
        """About where in a panel that is, in points."""
        u = math.log(x / self.left) / math.log(self.right / self.left)
        v = math.log(y / self.low) / math.log(self.high / self.low)
        return u * 64 * PANEL_WIDTH, v * 56 * PANEL_HEIGHT


def draw(path: str, content: dict) -> None:
    """Draw the convolutions among the tables of a run, one panel each, and save them at `path`."""
    # the figure by itself needs no display and no pyplot state
    from matplotlib.figure import Figure

    machine = content["environment"]
    tables = [table for table in content["tables"] if table["kind"] == "conv"]
    tables.sort(key=lambda table: table["N"])  # stable: a row of panels for each batch size
    rows = len({table["N"] for table in tables})
    per_row = -(-len(tables) // rows)
    if per_row == 1:
        rows, per_row = 1, len(tables)
    size = PANEL_WIDTH * per_row + 0.4, PANEL_HEIGHT * rows + 1.4
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(rows, per_row, sharex=True, sharey=True, squeeze=False).ravel()
    points = [[_point(result) for result in table["results"]] for table in tables]
    frame = _frame(points, max(machine["peak"].values()) / 1e9)
    for panel, table, layers in zip(panels, tables, points, strict=False):
        peak = machine["peak"][table["dtype"]] / 1e9
        ridge = _draw_roof(panel, frame, peak, machine["bandwidth"] / 1e9), peak
        _draw_layers(panel, layers)
        _name_layers(panel, frame, layers, ridge)
        _head(panel, table["title"], layers)
    for panel in panels[len(tables) :]:
        panel.set_visible(False)
    for panel in panels[max(0, len(tables) - per_row) : len(tables)]:
        panel.set_xlabel(
            "operations of the plain sum for each byte that has to be moved", fontsize=9
        )
        panel.tick_params(labelbottom=True)
    for panel in panels[::per_row]:
        panel.set_ylabel("GFLOP/s of the plain sum", fontsize=9)
    names = {name for layers in points for point in layers for name in point.rates}
    _explain(figure, names, machine)
    figure.savefig(path)


def _point(result: dict) -> Point:
    rates = {name: found["rate"] for name, found in result["candidates"].items() if "rate" in found}
    return Point(result["name"], result["work"] / result["least_bytes"], rates, result["best_peer"])


def _frame(points: list[list[Point]], peak: float) -> Frame:
    shown = (MAIN, *PEERS)
    xs = [point.x for layers in points for point in layers]
    ys = [
        rate
        for layers in points
        for point in layers
        for name, rate in point.rates.items()
        if name in shown
    ]
    return Frame(min(xs) / 1.7, max(xs) * 2.2, 0.6 * min([*ys, peak]), 1.7 * max([*ys, peak]))


def _draw_roof(panel, frame: Frame, peak: float, bandwidth: float) -> float:
    """Draw the two limits, and return where they meet."""
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(frame.left, frame.right)
    panel.set_ylim(frame.low, frame.high)
    ridge = min(max(peak / bandwidth, frame.left), frame.right)
    xs = [frame.left, ridge, frame.right]
    ys = [min(peak, bandwidth * x) for x in xs]
    panel.fill_between(xs, ys, frame.high, color="#f3f3f3", linewidth=0, zorder=0)
    panel.plot(xs, ys, color=ROOF, linewidth=1.5, zorder=1)
    style = {"fontsize": 8, "color": ROOF, "va": "bottom", "rotation_mode": "anchor"}
    offset = {"textcoords": "offset points", "xytext": (2, 4)}
    panel.annotate(f"FMA peak, {peak:.0f} GFLOP/s", (ridge, peak), **offset, **style)
    start = max(frame.left, frame.low / bandwidth) * 1.15
    if start < ridge:
        panel.text(
            start,
            1.12 * bandwidth * start,
            f"memory, {bandwidth:.0f} GB/s",
            rotation=math.degrees(math.atan(1.12 * bandwidth)),
            transform_rotates_text=True,
            **style,
        )
    style = {"fontsize": 8, "color": "#888888", "style": "italic", "va": "top"}
    text = "above the roof: fewer operations by Winograd's algorithm"
    panel.text(0.015, 0.985, text, transform=panel.transAxes, **style)
    return ridge


def _draw_layers(panel, layers: list[Point]) -> None:
    for point in layers:
        if not math.isnan(point.ratio):
            colour = FASTER if point.ratio >= 1 else SLOWER
            ends = point.rates[point.best], point.rates[MAIN]
            panel.plot([point.x] * 2, ends, color=colour, linewidth=2, alpha=0.5, zorder=2)
    for name, (_, colour, marker) in PEERS.items():
        for best in (False, True):  # the others are faint
            found = [p for p in layers if name in p.rates and (p.best == name) is best]
            panel.scatter(
                [point.x for point in found],
                [point.rates[name] for point in found],
                s=20 if best else 13,
                marker=marker,
                linewidths=1.1 if best else 0.8,
                alpha=1.0 if best else 0.4,
                zorder=3 if best else 1.5,
                # crosses have no face
                **({"color": colour} if marker == "x" else {"fc": "white", "ec": colour}),
            )
    own = [(point.x, point.rates[MAIN]) for point in layers if MAIN in point.rates]
    if own:
        style = {"s": 34, "color": MAIN_COLOUR, "edgecolors": "white", "linewidths": 0.6}
        panel.scatter(*zip(*own, strict=True), zorder=4, **style)


def _name_layers(panel, frame: Frame, layers: list[Point], ridge: tuple[float, float]) -> None:
    """The layers where fastconv is furthest behind and ahead, as far as there is room."""
    from matplotlib.patheffects import withStroke

    compared = sorted((p for p in layers if not math.isnan(p.ratio)), key=lambda p: p.ratio)
    behind, ahead = compared[:3], compared[3:][-2:]
    u, v = frame.points(*ridge)
    taken = [(u, u + 32 * LETTER, v + 7)]  # left, right, height: the name of the peak
    for point in (*behind, *reversed(ahead)):
        text = f"{point.name}  {point.ratio:.2f}x"
        u, v = frame.points(point.x, point.rates[MAIN])
        width = LETTER * len(text)
        side = 1 if u + width < frame.points(frame.right, frame.high)[0] else -1
        left = u + 6 if side > 0 else u - 6 - width
        shift = next(
            (
                shift
                for shift in (0, -LINE, LINE, -2 * LINE, 2 * LINE, -3 * LINE)
                if all(
                    abs(v + shift - height) >= LINE or left > end or left + width < start
                    for start, end, height in taken
                )
            ),
            None,
        )
        if shift is None:
            continue
        taken.append((left, left + width, v + shift))
        panel.annotate(
            text,
            (point.x, point.rates[MAIN]),
            xytext=(6 * side, shift - 2.5),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            fontsize=7,
            color=FASTER if point.ratio >= 1 else SLOWER,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
            zorder=5,
        )


def _head(panel, title: str, layers: list[Point]) -> None:
    ratios = [point.ratio for point in layers if not math.isnan(point.ratio)]
    text = "fastconv: not available"
    if ratios:
        faster = sum(ratio >= 1 for ratio in ratios)
        whom = {point.best for point in layers} - {None}
        name = PEERS[whom.pop()][0] if len(whom) == 1 else "the best peer"
        text = f"{geometric_mean(ratios):.2f} times the speed of {name}; "
        text += f"faster on {faster} of {plural(len(ratios), 'layer')}"
    panel.set_title(title, fontsize=11, loc="left", fontweight="bold", pad=19)
    panel.text(0, 1.02, text, transform=panel.transAxes, fontsize=8.5, color="#555555")
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(which="both", labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _explain(figure, names: set[str], machine: dict) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], marker="o", linestyle="", color=MAIN_COLOUR, label=MAIN)]
    for name, (label, colour, marker) in PEERS.items():
        if name in names:
            style = {"marker": marker, "color": colour, "markerfacecolor": "white", "markersize": 5}
            handles.append(Line2D([], [], linestyle="", label=label, **style))
    for label, colour in (("fastconv ahead of the best peer", FASTER), ("behind", SLOWER)):
        handles.append(Line2D([], [], color=colour, linewidth=2, alpha=0.5, label=label))
    width = figure.get_size_inches()[0]
    columns = min(len(handles), max(2, int(width / 1.75)))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
    figure.suptitle(
        f"fastconv {machine['fastconv']} and its peers, layer by layer: {machine['cpu']['model']}, "
        f"{machine['isa']}, {plural(machine['threads'], 'thread')}",
        fontsize=13,
        fontweight="bold",
        ha="left",
        x=0.012,
        wrap=True,
    )
