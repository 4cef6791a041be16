"""Cases of the backend for CS231n's assignment 2."""

from functools import partial
from importlib import import_module

import numpy as np

from fastconv.bench.backends import BackendCase

NOTEBOOK = (100, 3, 31, 31), 25, 2  # of the assignment: images, filters 3x3, stride
HIDDEN = (50, 32, 32, 32), 32, 1
LOOPS = "original, its Cython part as NumPy slices"


def cases() -> list[BackendCase]:
    loops = {}
    if not hasattr(import_module("cs231n.fast_layers"), "col2im_6d_cython"):
        loops = {"against": LOOPS}  # not compiled here
    found = []
    for shape, filters, stride in (NOTEBOOK, HIDDEN):
        name, places = f"conv 3x3 stride {stride} {shape}", shape[0] * (shape[2] // stride + 1) ** 2
        build = partial(convolution, shape, filters, stride)
        bar = 3 if stride == 1 else None
        found += [
            BackendCase(name, "forward", build, 9 * shape[1], bar),
            backward_case(name, "backward", partial(build, backward=True), places, bar, loops),
        ]
    pool = "max pool 2x2 (50, 32, 32, 32)"
    return [
        *found,
        BackendCase(pool, "forward", pooling, 1),
        BackendCase(pool, "backward", partial(pooling, backward=True), 4),
        BackendCase("im2col_indices 3x3 (50, 32, 32, 32)", "forward", columns, 1),
        backward_case("conv-ReLU-pool twice, batch 50", "step", step, 51200, 3, loops),
    ]


def backward_case(name, kind, build, terms, bar, loops):
    baseline = partial(with_loops, build) if loops else None
    return BackendCase(name, kind, build, terms, bar, baseline=baseline, **loops)


def with_loops(build):
    """`build` for a folder in which nothing was compiled."""
    layers = import_module("cs231n.fast_layers")

    def call():
        layers.col2im_6d_cython = col2im_6d
        try:
            return result()
        finally:
            del layers.col2im_6d_cython

    result = build()
    return call


def col2im_6d(cols, N, C, H, W, HH, WW, pad, stride):
    dx = np.zeros((N, C, H + 2 * pad, W + 2 * pad), cols.dtype)
    rows, columns = stride * (cols.shape[4] - 1) + 1, stride * (cols.shape[5] - 1) + 1
    for i in range(HH):
        for j in range(WW):
            dx[:, :, i : i + rows : stride, j : j + columns : stride] += cols[:, i, j].swapaxes(
                0, 1
            )
    return dx[:, :, pad : H + pad, pad : W + pad]


def convolution(shape, filters, stride, backward=False):
    layers = import_module("cs231n.fast_layers")
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(shape), rng.standard_normal((filters, shape[1], 3, 3))
    b, param = rng.standard_normal(filters), {"stride": stride, "pad": 1}
    y, cache = layers.conv_forward_fast(x, w, b, param)
    if not backward:
        return lambda: layers.conv_forward_fast(x, w, b, param)[0]
    dout = rng.standard_normal(y.shape)
    return lambda: layers.conv_backward_fast(dout, cache)


POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def pooling(backward=False):
    layers = import_module("cs231n.fast_layers")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 32, 32, 32))
    y, cache = layers.max_pool_forward_fast(x, POOL)
    dout = rng.standard_normal(y.shape)
    if backward:
        return lambda: layers.max_pool_backward_fast(dout, cache)
    return lambda: layers.max_pool_forward_fast(x, POOL)[0]


def columns():
    module = import_module("cs231n.im2col")
    x = np.random.default_rng(0).standard_normal((50, 32, 32, 32))
    return lambda: module.im2col_indices(x, 3, 3)


def step():
    """Gradients of two sandwiches and a linear classifier on images of CIFAR-10's size."""
    layers = import_module("cs231n.fast_layers")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3, 32, 32)), rng.integers(0, 10, 50)
    filters = [rng.standard_normal(shape) / 10 for shape in ((32, 3, 3, 3), (32, 32, 3, 3))]
    b, param = np.zeros(32), {"stride": 1, "pad": 1}
    classifier = rng.standard_normal((32 * 8 * 8, 10)) / 40

    def call():
        out, caches = x, []
        for w in filters:
            a, conv_cache = layers.conv_forward_fast(out, w, b, param)
            out, pool_cache = layers.max_pool_forward_fast(np.maximum(a, 0), POOL)
            caches.append((conv_cache, a, pool_cache))
        flat = out.reshape(50, -1)
        scores = np.exp(flat @ classifier)
        scores /= scores.sum(axis=1, keepdims=True)
        scores[np.arange(50), y] -= 1
        gradients = [flat.T @ scores]
        dout = (scores @ classifier.T).reshape(out.shape)
        for conv_cache, a, pool_cache in reversed(caches):
            dout = layers.max_pool_backward_fast(dout, pool_cache) * (a > 0)
            dout, *dw_db = layers.conv_backward_fast(dout, conv_cache)
            gradients += dw_db
        return gradients

    return call
