"""Scores of all windows of a larger image in one pass."""

from functools import cache

import numpy as np

from fastconv import _geometry
from fastconv.convert.fully_convolutional import layout_of, to_fully_convolutional

# Pixels beyond the window that are tried to find the total stride; nets of the lecture have 32.
MOST = 4096


def dense_scores(net, images, window=224, step=None, average=False):
    """Scores for every window of larger images, in one pass of the net made fully convolutional.

    The windows of an image overlap, and a net that is run on each of them computes most of its
    maps again and again. As a convolution of the whole image they are computed once. With a net
    of total stride 32 for windows of 224, an image of 384x384 has 6x6 windows, and the pass over it
    takes the work of three windows in place of 36, but for the fully-connected layers.

    Parameters
    ----------
    net : Layer
        A classifier of images of the window's size; see `to_fully_convolutional`.
    images : ndarray, (N, C, H, W), or (N, H, W, C) for layers with layout="NHWC"
        Images at least as large as the window.
    window : int or (int, int), optional
        The size of images that the net was made for.
    step : int or (int, int), optional
        Distance of the windows; None means the net's total stride, which takes one pass. A smaller
        step takes one pass over the image for each shift, four for half the stride, whose scores
        are interleaved.
    average : bool, optional
        Return the mean over all windows of an image.

    Returns
    -------
    ndarray, (N, classes, rows, columns), or (N, rows, columns, classes); or (N, classes)
        Scores of the windows that begin at the pixels (i * step, j * step), in evaluation mode,
        with ``rows = (H - window) // step + 1`` and so on.

    Raises
    ------
    ValueError
        If images are smaller than the window, or the net gives no single score for a window.

    Notes
    -----
    **Padding inside the net.** A layer that pads sees zeros around a window that was cut out, and
    what is really there in a pass over the whole image. For a net without padding ("valid") the
    scores equal those of the windows to rounding. With padding they differ, as far in from a
    window's border as the padding reaches, and are at least as sensible: nothing in the image ends
    there. The same holds for pooling windows that reach beyond the end (`ceil_mode`).

    References
    ----------
    CS231n, "Convolutional Networks", section "Converting Fully-Connected Layers to Convolutional
    Layers".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.convert import dense_scores
    >>> from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
    >>> net = Sequential(
    ...     Conv2d(3, 8, 5, rng=0), ReLU(), MaxPool2d(4), Flatten(), Linear(8 * 3 * 3, 10, rng=1)
    ... )
    >>> images = np.random.default_rng(2).standard_normal((2, 3, 32, 24), np.float32)
    >>> scores = dense_scores(net, images, window=16)
    >>> scores.shape  # windows begin every 4 pixels
    (2, 10, 5, 3)
    >>> bool(np.allclose(scores[:, :, 1, 2], net(images[:, :, 4:20, 8:24]), atol=1e-4))
    True
    >>> dense_scores(net, images, window=16, step=2).shape
    (2, 10, 9, 5)
    >>> dense_scores(net, images, window=16, average=True).shape
    (2, 10)
    """
    op, layout = "dense_scores", layout_of(net)
    images = np.asarray(images)
    _, C, size = _geometry.image_sizes(images.shape, layout=layout, op=f"{op}: conv2d")
    window = _geometry._per_axis(op, "window", window, 2)
    if size[0] < window[0] or size[1] < window[1]:
        raise ValueError(f"{op}: images of {size[0]} x {size[1]} are smaller than window={window}")
    wide = to_fully_convolutional(net, _image(layout, C, window))
    rows, columns = (1, 2) if layout == "NHWC" else (2, 3)
    stride = _total_stride(wide, layout, C, window, (rows, columns))
    step = stride if step is None else _geometry._per_axis(op, "step", step, 2)
    counts = [(s - w) // d + 1 for s, w, d in zip(size, window, step, strict=True)]
    scores = None
    for top in _passes(counts[0], step[0], stride[0], window[0]):
        for left in _passes(counts[1], step[1], stride[1], window[1]):
            part = wide(_cut(images, layout, top.pixels, left.pixels))
            if scores is None:
                shape = list(part.shape)
                shape[rows], shape[columns] = counts
                scores = np.empty(shape, part.dtype)
            found = part[_cells(layout, top.outputs, left.outputs)]
            scores[_cells(layout, top.windows, left.windows)] = found
    return scores.mean(axis=(rows, columns)) if average else scores


class _Pass:
    """One shift along one axis: the pixels to look at, the windows, and which output is whose."""

    def __init__(self, windows, step, stride, size):
        first, last = windows[0] * step, windows[-1] * step
        self.pixels = slice(first, last + size)
        self.windows = np.array(windows)
        self.outputs = (self.windows * step - first) // stride


def _passes(count, step, stride, size):
    """Windows whose first pixels lie multiples of the stride apart belong to one pass."""
    shifts = {}
    for i in range(count):
        shifts.setdefault(i * step % stride, []).append(i)
    return [_Pass(windows, step, stride, size) for windows in shifts.values()]


def _image(layout, C, size):
    return (*size, C) if layout == "NHWC" else (C, *size)


def _cut(images, layout, rows, columns):
    return images[:, rows, columns] if layout == "NHWC" else images[:, :, rows, columns]


def _cells(layout, rows, columns):
    cells = (..., rows[:, np.newaxis], columns)
    return (*cells, slice(None)) if layout == "NHWC" else cells


def _total_stride(wide, layout, C, window, axes):
    """Pixels from one output to the next along each axis: how much later a third one comes."""

    @cache
    def outputs(more):
        """Rows and columns of scores for an image so much larger than the window."""
        shape = wide.output_shape((1, *_image(layout, C, [size + more for size in window])))
        if len(shape) != 4:
            raise ValueError(f"dense_scores: the net gives {shape}, not scores of classes")
        return [shape[axis] for axis in axes]

    if outputs(0) != [1, 1]:
        raise ValueError(
            f"dense_scores: the net gives {outputs(0)[0]} x {outputs(0)[1]} scores for one window; "
            "it should end with a layer that sees the whole window"
        )
    return tuple([_first(outputs, axis, 3) - _first(outputs, axis, 2) for axis in (0, 1)])


def _first(outputs, axis, count):
    """The least number of pixels more that gives `count` outputs: doubled, then halved."""
    few, enough = 0, 1
    while outputs(enough)[axis] < count:
        few, enough = enough, 2 * enough
        if enough > MOST:
            raise ValueError(f"dense_scores: the net's total stride is more than {MOST // 4}")
    while enough - few > 1:
        middle = (few + enough) // 2
        if outputs(middle)[axis] < count:
            few = middle
        else:
            enough = middle
    return enough
