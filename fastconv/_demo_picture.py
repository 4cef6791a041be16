"""The picture of ``fastconv demo --plot``: filters, classified digits and the training curve."""

import importlib.util
import os
from pathlib import Path

import numpy as np

SUFFIXES = (".png", ".svg", ".pdf")
RIGHT, WRONG, FRAME, LINE = "#3d4852", "#d1242f", "#c3cbd3", "#1f5fa8"
DIGIT_ROWS, DIGIT_COLUMNS = 6, 8


def check(path):
    """Refuse a picture that could not be drawn or written, before minutes have passed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("needs matplotlib: python -m pip install 'fastconv[plot]'")
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{str(path)!r} does not end in {', '.join(SUFFIXES)}")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {str(path)!r}")


def draw(path, net, images, labels, predictions, history):
    """Draw one picture of the trained `net` and save it at `path`."""
    # the figure by itself needs no display and no pyplot state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 6.4), dpi=120, layout="constrained", facecolor="white")
    panels = figure.subplot_mosaic(
        [["filters", "digits", "loss"], ["filters", "digits", "accuracy"]],
        width_ratios=(1, 2.3, 1.2),
    )
    _draw_filters(panels["filters"], net[0].params["weight"])
    _draw_digits(panels["digits"], images[:, 0], labels, predictions)
    _draw_curve(panels["loss"], "training loss", history["epoch_loss"])
    panels["loss"].set_yscale("log")
    accuracy = 100 * np.array(history["validation_accuracy"])
    _draw_curve(panels["accuracy"], "test accuracy in %", accuracy)
    panels["accuracy"].set_xlabel("epoch")
    wrong = int(np.sum(predictions != labels))
    figure.suptitle(
        f"fastconv demo: a ConvNet that reads {1 - wrong / len(labels):.1%} of "
        f"{len(labels)} unseen handwritten digits",
        fontsize=15,
        fontweight="bold",
    )
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.12)
    figure.savefig(path)


def _draw_filters(axes, weight):
    """All first-layer filters on one scale, white at zero."""
    from matplotlib import colormaps

    filters = weight[:, 0]
    limit = np.abs(filters).max()
    colours = colormaps["RdBu_r"].with_extremes(bad=FRAME)
    axes.imshow(_mosaic(filters, columns=4), cmap=colours, vmin=-limit, vmax=limit)
    OC, KH, KW = filters.shape
    title = f"{OC} learned filters of {KH}x{KW}\nred: ink excites, blue: inhibits"
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def _draw_digits(axes, images, labels, predictions):
    """Mistakes, as many as fit in the last rows, after a sample of what was read right."""
    wrong = np.flatnonzero(predictions != labels)
    right = np.flatnonzero(predictions == labels)
    places = DIGIT_ROWS * DIGIT_COLUMNS
    mistakes = wrong[: places // 2]
    sample = right[np.linspace(0, len(right) - 1, places - len(mistakes)).astype(int)]
    shown = np.concatenate([sample, mistakes])
    H, W = images.shape[1:]
    gap = 4  # room for a line of text under each digit
    axes.set_xlim(0, DIGIT_COLUMNS * (W + gap) - gap + 1)
    axes.set_ylim(DIGIT_ROWS * (H + gap) - 0.5, -1)
    for place, i in enumerate(shown):
        top, left = (H + gap) * (place // DIGIT_COLUMNS), (W + gap) * (place % DIGIT_COLUMNS)
        extent = (left, left + W, top + H, top)
        axes.imshow(images[i], cmap="gray_r", vmin=0, vmax=1, extent=extent, zorder=1)
        correct = predictions[i] == labels[i]
        colour = RIGHT if correct else WRONG
        text = f"{predictions[i]}" if correct else f"{predictions[i]}, is {labels[i]}"
        weight = "normal" if correct else "bold"
        axes.text(
            left + W / 2, top + H + 1.9, text, color=colour, ha="center", va="center",
            fontsize=10, fontweight=weight,
        )  # fmt: skip
        edges = ([left, left + W, left + W, left, left], [top, top, top + H, top + H, top])
        axes.plot(*edges, color=FRAME if correct else WRONG, lw=0.8 if correct else 2)
    title = "Test digits with what the network reads\n"
    shown_of = "the" if len(mistakes) == len(wrong) else f"{len(mistakes)} of the"
    title += f"red: {shown_of} {len(wrong)} mistakes among {len(labels)} digits"
    axes.set_title(title, fontsize=10)
    axes.set_aspect("equal")
    axes.axis("off")


def _draw_curve(axes, name, values):
    axes.plot(np.arange(1, len(values) + 1), values, color=LINE, lw=2, marker=".")
    axes.set_title(name, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e8ec")
    axes.tick_params(labelsize=9)


def _mosaic(images, columns):
    """Arrange images in rows; the cells between them are NaN."""
    N, H, W = images.shape
    rows = -(-N // columns)
    mosaic = np.full((rows * (H + 1) + 1, columns * (W + 1) + 1), np.nan)
    for i, image in enumerate(images):
        top, left = (H + 1) * (i // columns) + 1, (W + 1) * (i % columns) + 1
        mosaic[top : top + H, left : left + W] = image
    return mosaic
