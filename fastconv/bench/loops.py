"""The convolution of the lecture as Python loops: one NumPy sum for each output value.

They are measured beside the compiled kernels on small layers. Unlike `fastconv.reference`,
which is written to be right, they are what one writes first: see the NumPy example in the
lecture's section on the convolutional layer.
"""

import numpy as np


def forward(x, w, *, stride, padding, groups):
    """Return y with ``y[n, k, i, j] = sum(window(n, k, i, j) * w[k])``."""
    N, OC, OH, OW = _y_shape(x, w, stride, padding)
    xp = _padded(x, padding)
    y = np.empty((N, OC, OH, OW), x.dtype)
    for n in range(N):
        for k in range(OC):
            for i in range(OH):
                for j in range(OW):
                    y[n, k, i, j] = np.sum(xp[_window(n, k, i, j, w, stride, groups)] * w[k])
    return y


def input_grad(dy, w, x_shape, *, stride, padding, groups):
    """Return dx: every dy value adds its filter, scaled, to the window it came from."""
    N, C, H, W = x_shape
    dxp = np.zeros((N, C, H + 2 * padding, W + 2 * padding), dy.dtype)
    for n, k, i, j in np.ndindex(dy.shape):
        dxp[_window(n, k, i, j, w, stride, groups)] += dy[n, k, i, j] * w[k]
    return dxp[:, :, padding : padding + H, padding : padding + W]


def weight_grad(dy, x, w_shape, *, stride, padding, groups):
    """Return dw: every dy value adds its window, scaled, to its filter's gradient."""
    xp = _padded(x, padding)
    dw = np.zeros(w_shape, dy.dtype)
    for n, k, i, j in np.ndindex(dy.shape):
        dw[k] += dy[n, k, i, j] * xp[_window(n, k, i, j, dw, stride, groups)]
    return dw


def _padded(x, padding):
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _y_shape(x, w, stride, padding):
    OH, OW = (
        (size + 2 * padding - kernel) // stride + 1
        for size, kernel in zip(x.shape[2:], w.shape[2:], strict=True)
    )
    return x.shape[0], w.shape[0], OH, OW


def _window(n, k, i, j, w, stride, groups):
    """Index of the part of the padded image that filter `k` sees for output (i, j)."""
    OC, C, KH, KW = w.shape
    first = k // (OC // groups) * C
    top, left = i * stride, j * stride
    return n, slice(first, first + C), slice(top, top + KH), slice(left, left + KW)


# ---- pooling, vectorised over the windows: the usual way in NumPy -------------------------------


def max_pool(x, case):
    """Return (y, indices), indices flat in the H*W plane."""
    xp = np.pad(x, _pool_padding(case), constant_values=-np.inf)
    windows = _pool_windows(xp, case)
    cell = windows.reshape(*windows.shape[:4], -1).argmax(-1)
    OH, OW = windows.shape[2:4]
    rows = np.arange(OH)[:, None] * case.stride + cell // case.kernel - case.padding
    columns = np.arange(OW) * case.stride + cell % case.kernel - case.padding
    indices = rows * case.W + columns
    y = np.take_along_axis(x.reshape(*x.shape[:2], -1), indices.reshape(*x.shape[:2], -1), -1)
    return y.reshape(cell.shape), indices


def max_pool_grad(dy, indices, case):
    """Return dx: each dy value goes to the place of its window's maximum."""
    planes = case.N * case.C
    dx = np.zeros((planes, case.H * case.W), dy.dtype)
    where = (np.arange(planes)[:, None], indices.reshape(planes, -1))
    np.add.at(dx, where, dy.reshape(planes, -1))
    return dx.reshape(case.x_shape)


def avg_pool(x, case):
    """Return the mean of every window, zeros of the padding counted."""
    return _pool_windows(np.pad(x, _pool_padding(case)), case).mean(axis=(-2, -1))


def avg_pool_grad(dy, case):
    """Return dx: each dy value is shared out equally over its window."""
    P, S = case.padding, case.stride
    dxp = np.zeros((case.N, case.C, case.H + 2 * P, case.W + 2 * P), dy.dtype)
    OH, OW = dy.shape[2:]
    share = dy / case.kernel**2
    for i in range(case.kernel):
        for j in range(case.kernel):
            dxp[:, :, i : i + OH * S : S, j : j + OW * S : S][:, :, :OH, :OW] += share
    return dxp[:, :, P : P + case.H, P : P + case.W]


def _pool_padding(case):
    return (0, 0), (0, 0), (case.padding,) * 2, (case.padding,) * 2


def _pool_windows(xp, case):
    windows = np.lib.stride_tricks.sliding_window_view(xp, (case.kernel,) * 2, axis=(2, 3))
    return windows[:, :, :: case.stride, :: case.stride]
