"""The whole of convolution: three loops over the cells of the kernel.

In them the channels are split into groups. Arrays have a group axis G, and P stands for all spatial
positions of an output, flattened:

    cells of the image (N, G, C/G, P)    weights of one tap (G, OC/G, C/G)    y (N, G, OC/G, P)
"""

import numpy as np

from fastconv.reference._windows import float64, pad, padded_size, seen_by, taps, unpadded


def _split(array, g):
    """(N, channels, spatial...) to (N, G, channels/G, P)."""
    N, channels, *size = array.shape
    return array.reshape(N, g.groups, channels // g.groups, int(np.prod(size)))


def _split_weights(w, g):
    """(OC, C/G, *kernel) to float64 (G, OC/G, C/G, *kernel)."""
    return float64(w).reshape(g.groups, -1, *w.shape[1:])


def correlate(x, w, g):
    """y[n, o, p] = sum over c and taps of w[o, c, tap] * padded x[n, c, cell of (p, tap)]."""
    padded = pad(x, g)
    w = _split_weights(w, g)
    y = np.zeros((g.N, g.groups, g.OC // g.groups, int(np.prod(g.out_size))))
    for tap in taps(g):
        cells = _split(padded[seen_by(tap, g)], g)
        y += w[(..., *tap)] @ cells
    return y.reshape(g.N, g.OC, *g.out_size)


def correlate_input_grad(dy, w, g):
    """dx of `correlate`: each output hands its gradient back to all the cells it has seen."""
    w = _split_weights(w, g)
    dy = _split(dy, g)
    dpadded = np.zeros((g.N, g.C, *padded_size(g)))
    for tap in taps(g):
        dcells = w[(..., *tap)].swapaxes(1, 2) @ dy
        dpadded[seen_by(tap, g)] += dcells.reshape(g.N, g.C, *g.out_size)
    return dpadded[unpadded(g)]


def correlate_weight_grad(dy, x, g):
    """dw of `correlate`: each weight collects all the cells it has met."""
    padded = pad(x, g)
    dy = _split(dy, g)
    dw = np.zeros((g.groups, g.OC // g.groups, g.C // g.groups, *g.kernel))
    for tap in taps(g):
        cells = _split(padded[seen_by(tap, g)], g)
        dw[(..., *tap)] = (dy @ cells.swapaxes(2, 3)).sum(axis=0)
    return dw.reshape(g.w_shape)


def sum_over_positions(dy):
    """db: the bias of a filter is added to all its outputs."""
    return dy.sum(axis=(0, *range(2, dy.ndim)))


def per_channel(b, g):
    """(OC,) to (OC, 1...), so that it is added to every position."""
    return b.reshape(-1, *[1] * g.ndim)
