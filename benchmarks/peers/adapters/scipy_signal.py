"""SciPy's n-dimensional correlation and convolution, which know no strides, groups or batches.

Padding, strides and sums over channels or images are put around them: one call for each result
plane. It chooses direct sums or the Fourier transform by itself.
"""

import numpy as np
import scipy.fft
from scipy.signal import convolve, correlate

from benchmarks.peers.adapters.base import Peer
from benchmarks.peers.work import Call

WORK = 5e6  # operations; larger layers run with fewer images and filters


class SciPy(Peer):
    name = "scipy"
    packages = ("scipy",)
    note = (
        "scipy.signal.correlate and convolve, within log2(points of the image) tolerances for the "
        "Fourier transform; large layers on fewer filters, scaled up (~)"
    )

    def forward(self, work):
        return self._call(work, _forward)

    def input_grad(self, work):
        return self._call(work, _input_grad)

    def weight_grad(self, work):
        return self._call(work, _weight_grad)

    def _call(self, work, function):
        small = work.shrunk(WORK)

        def run():
            with scipy.fft.set_workers(self.threads):
                return function(small)

        # Where it takes the Fourier transform, a number is rounded at each of log2(points) stages.
        slack = max(1.0, np.log2(small.x[0].size))
        return {self.name: Call(run, work=small, slack=slack)}


def _forward(work):
    case, xp, S = work.case, _padded(work.x, work.case.padding), work.case.stride
    y = np.empty(case.y_shape, work.x.dtype)
    for n, k in np.ndindex(y.shape[:2]):
        y[n, k] = correlate(xp[n, _channels(case, k)], work.w[k], "valid")[0, ::S, ::S]
    return y


def _input_grad(work):
    """Each plane is a convolution of its group's dy, with S - 1 zeros between pixels."""
    case, dx = work.case, np.empty_like(work.x)
    P, KH, KW = case.padding, case.KH, case.KW
    size = case.H + 2 * P - KH + 1, case.W + 2 * P - KW + 1
    spread = np.pad(_spread(work.dy, case.stride, size), _around(KH - 1, KW - 1))
    filters = case.OC // case.groups
    for n, c in np.ndindex(dx.shape[:2]):
        group, member = divmod(c, case.C // case.groups)
        chosen = slice(group * filters, (group + 1) * filters)
        # convolve turns all axes round: the sum over filters needs that undone
        plane = convolve(spread[n, chosen], work.w[chosen, member][::-1], "valid")[0]
        dx[n, c] = plane[P : P + case.H, P : P + case.W]
    return dx


def _weight_grad(work):
    """Each filter plane is a correlation of x with dy, over the images as well."""
    case, xp, dw = work.case, _padded(work.x, work.case.padding), np.empty_like(work.w)
    size = xp.shape[2] - case.KH + 1, xp.shape[3] - case.KW + 1
    spread = _spread(work.dy, case.stride, size)
    for k, c in np.ndindex(dw.shape[:2]):
        channel = _channels(case, k).start + c
        dw[k, c] = correlate(xp[:, channel], spread[:, k], "valid")[0]
    return dw


def _channels(case, k):
    """Channels that filter `k` sees."""
    members = case.C // case.groups
    first = k // (case.OC // case.groups) * members
    return slice(first, first + members)


def _spread(dy, stride, size):
    """`dy` with zeros between its pixels, and after them up to `size`."""
    spread = np.zeros((*dy.shape[:2], *size), dy.dtype)
    spread[:, :, ::stride, ::stride] = dy
    return spread


def _padded(x, P):
    return np.pad(x, _around(P, P))


def _around(rows, columns):
    return (0, 0), (0, 0), (rows, rows), (columns, columns)
