"""The picture of a `Profile`: a bar for each layer, coloured by what the layer does."""

from fastconv.analysis.table import shape_text

COLOURS = ("#1f5fa8", "#e39a3b", "#6aab7b", "#b05a8c", "#7fb2e5", "#c9b037", "#8c6bb1", "#d1495b")
REST = "#888888"
ROW = 0.19  # height of a layer, in inches
WIDTH = 11.5


def draw(profile, path):
    """Save the picture at `path`; see `Profile.draw`."""
    try:
        # the figure by itself needs no display and no pyplot state
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("Profile.draw needs matplotlib: pip install 'fastconv[plot]'") from None

    count = len(profile.rows)
    figure = Figure(figsize=(WIDTH, 1.9 + ROW * max(count, 6)), dpi=130, layout="constrained")
    times, peaks = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.3))
    colours = _colours(profile)
    _draw_times(times, profile, colours)
    _draw_peaks(peaks, profile, colours)
    for panel in (times, peaks):
        panel.set_ylim(count - 0.4, -0.6)  # the first layer on top
        panel.tick_params(axis="x", labelsize=8, labeltop=count > 40)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color="#dddddd", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        for line in range(0, count, 2):
            panel.axhspan(line - 0.5, line + 0.5, color="#f6f6f6", linewidth=0, zorder=0)
    _write_heads(figure, profile)
    figure.savefig(path)


def _colours(profile):
    """A colour for each kind of layer, the slowest kinds first; grey for the rest."""
    kinds = list(profile.by_kind())
    return dict(zip(kinds, COLOURS, strict=False)) | dict.fromkeys(kinds[len(COLOURS) :], REST)


def _draw_times(panel, profile, colours):
    rows = profile.rows
    lines = range(len(rows))
    forward = [row.forward_seconds * 1e3 for row in rows]
    longest = max(row.seconds for row in rows) * 1e3
    panel.barh(lines, forward, height=0.72, color=[colours[row.kind] for row in rows])
    if any(row.backward_seconds for row in rows):
        panel.barh(
            lines,
            [row.backward_seconds * 1e3 for row in rows],
            left=forward,
            height=0.72,
            color=[colours[row.kind] for row in rows],
            alpha=0.55,
        )
    for line, row in enumerate(rows):
        text = f" {row.seconds * 1e3:.3g} ms  {row.share:.1%}"
        panel.text(row.seconds * 1e3, line, text, va="center", fontsize=6.5, color="#333333")
    panel.set_yticks(lines, [_label(row) for row in rows], fontsize=7)
    panel.set_xlim(0, 1.18 * longest)
    panel.set_xlabel("milliseconds", fontsize=9)
    _write_legend(panel, profile, colours)


def _write_legend(panel, profile, colours):
    from matplotlib.patches import Patch

    kinds, total = profile.by_kind(), sum(row.seconds for row in profile.rows)
    shown = list(kinds)[: len(COLOURS)]
    handles = [
        Patch(color=colours[kind], label=f"{kind} {kinds[kind] / total:.1%}") for kind in shown
    ]
    rest = sum(kinds[kind] for kind in list(kinds)[len(COLOURS) :])
    if rest:
        handles.append(Patch(color=REST, label=f"others {rest / total:.1%}"))
    if any(row.backward_seconds for row in profile.rows):
        handles.append(Patch(color=REST, alpha=0.55, label="paler: backward"))
    panel.figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 5), fontsize=8,
        frameon=False,
    )  # fmt: skip


def _draw_peaks(panel, profile, colours):
    for line, row in enumerate(profile.rows):
        if row.flops is not None:
            share = row.flops / profile.peak
            panel.barh(line, share, height=0.72, color=colours[row.kind])
            text = f" {row.flops / 1e9:.0f}"
            panel.text(share, line, text, va="center", fontsize=6.5, color="#333333")
    panel.axvline(1, color="#c0392b", linewidth=1.2)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    panel.set_xlim(0, max(1.1, *(1.2 * (row.flops or 0) / profile.peak for row in profile.rows)))
    panel.set_xlabel(
        f"of the FMA peak, {profile.peak / 1e9:.0f} GFLOP/s\n(numbers: GFLOP/s)", fontsize=9
    )


def _label(row):
    kind = row.kind.partition(" + ")[0]
    what = f"{kind}({row.detail})" if row.detail else kind
    return f"{row.name}  {what}  {shape_text(row.output_shape)}"


def _write_heads(figure, profile):
    machine = profile.machine
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    figure.suptitle(
        f"{profile.title}, {profile.mode}: {profile.seconds * 1e3:.4g} ms, "
        f"{profile.flops / 1e9:.0f} GFLOP/s ({profile.flops / profile.peak:.0%} of peak)\n"
        f"{profile.batch} x {shape_text(profile.input_shape)}, {profile.dtype}, {threads}, "
        f"{machine['isa']}, {machine['cpu']}, fastconv {machine['fastconv']}",
        fontsize=10,
    )
