"""The checks of ConvolutionalNetworks.ipynb that touch the fast layers, with its sizes and limits.

For scripts/check_backends.py. What the notebook compares with is the student's own, which the
folder comes without; here that is a sum over the cells of the kernel.
"""

import cs231n.layer_utils as utils
import numpy as np
import pytest
from cs231n.fast_layers import (
    conv_backward_fast,
    conv_forward_fast,
    max_pool_backward_fast,
    max_pool_forward_fast,
)


def rel_error(x, y):
    return np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)))


def numerical(call, x, dout, h=1e-5):
    """As `eval_numerical_gradient_array` of the course, whose file needs the package future."""
    gradient = np.empty_like(x)
    for at in np.ndindex(x.shape):
        before = x[at]
        above, below = (call() for x[at] in (before + h, before - h))
        x[at] = before
        gradient[at] = np.sum((above - below) * dout) / (2 * h)
    return gradient


def kernel_cells(x, w, stride, pad):
    H, W = (size + 2 * pad for size in x.shape[2:])
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            rows = slice(i, H - w.shape[2] + i + 1, stride)
            yield i, j, np.s_[:, :, rows, slice(j, W - w.shape[3] + j + 1, stride)]


def random(*shapes):
    np.random.seed(231)
    return [np.random.randn(*shape) for shape in shapes]


def test_conv_fast():
    shapes = (100, 3, 31, 31), (25, 3, 3, 3), (25,), (100, 25, 16, 16)
    x, w, b, dout = random(*shapes)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = b[:, None, None] + sum(
        np.einsum("nchw,fc->nfhw", padded[at], w[:, :, i, j])
        for i, j, at in kernel_cells(x, w, 2, 1)
    )
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i, j, at in kernel_cells(x, w, 2, 1):
        dx[at] += np.einsum("nfhw,fc->nchw", dout, w[:, :, i, j])
        dw[:, :, i, j] = np.einsum("nfhw,nchw->fc", dout, padded[at])
    got, cache = conv_forward_fast(x, w, b, {"stride": 2, "pad": 1})
    assert rel_error(got, out) < 1e-8
    got = conv_backward_fast(dout, cache)
    assert rel_error(got[0], dx[:, :, 1:-1, 1:-1]) < 1e-8
    assert rel_error(got[1], dw) < 1e-8 and rel_error(got[2], dout.sum(axis=(0, 2, 3))) < 1e-8


def test_pool_fast():
    x, dout = random((100, 3, 32, 32), (100, 3, 16, 16))
    windows = x.reshape(100, 3, 16, 2, 16, 2)
    out = windows.max(axis=(3, 5), keepdims=True)
    dx = ((windows == out) * dout[:, :, :, None, :, None]).reshape(x.shape)
    param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    got, cache = max_pool_forward_fast(x, param)
    assert rel_error(got, out[:, :, :, 0, :, 0]) == 0.0
    assert rel_error(max_pool_backward_fast(dout, cache), dx) == 0.0


@pytest.fixture
def students_relu(monkeypatch):
    forward = lambda x: (np.maximum(x, 0), x)  # noqa: E731
    monkeypatch.setattr(utils, "relu_forward", forward, raising=False)
    monkeypatch.setattr(utils, "relu_backward", lambda dout, x: dout * (x > 0), raising=False)


@pytest.mark.parametrize(
    "name, size, more",
    [
        ("conv_relu_pool", 16, ({"pool_height": 2, "pool_width": 2, "stride": 2},)),
        ("conv_relu", 8, ()),
    ],
)
def test_sandwich(students_relu, name, size, more):
    x, w, b, dout = random((2, 3, size, size), (3, 3, 3, 3), (3,), (2, 3, 8, 8))
    forward, backward = (getattr(utils, f"{name}_{way}") for way in ("forward", "backward"))
    call = lambda: forward(x, w, b, {"stride": 1, "pad": 1}, *more)[0]  # noqa: E731
    _, cache = forward(x, w, b, {"stride": 1, "pad": 1}, *more)
    for got, array in zip(backward(dout, cache), (x, w, b), strict=True):
        assert rel_error(got, numerical(call, array, dout)) < 1e-5
