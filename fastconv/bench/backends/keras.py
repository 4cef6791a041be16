"""Cases of the backend `keras`: Keras with KERAS_BACKEND=numpy.

Keras' own functions need JAX. Where it is not installed, the baseline is plain NumPy: windows as a
view and one matrix product, as one would write it without a library.
"""

import functools
import importlib.util
import os

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastconv.bench.backends import BackendCase

JAX = importlib.util.find_spec("jax") is not None
PLAIN = "plain NumPy (sliding_window_view and tensordot, einsum or max), for there is no JAX here"


def cases() -> list[BackendCase]:
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    rng = np.random.default_rng(0)
    x = rng.random((8, 28, 28, 32), np.float32)
    w = rng.random((3, 3, 32, 64), np.float32)
    depthwise = rng.random((3, 3, 32, 1), np.float32)
    transposed = rng.random((2, 2, 16, 32), np.float32)
    return [
        _case("conv 3x3 (8,28,28,32)", "conv", _conv, (x, w), terms=288),
        _case("depthwise_conv 3x3 (8,28,28,32)", "depthwise_conv", _depthwise, (x, depthwise), 9),
        _case("conv_transpose 2x2/2 (8,28,28,32)", "conv_transpose", _up, (x, transposed, 2), 32),
        _case("max_pool 2x2 (8,28,28,32)", "max_pool", _max_pool, (x, 2, 2), 1),
        _case("average_pool 2x2 (8,28,28,32)", "average_pool", _avg_pool, (x, 2, 2), 4),
    ]


def _case(name, function, plain, arguments, terms):
    def build():
        from keras.src.backend.numpy import nn

        return lambda: getattr(nn, function)(*arguments)

    if JAX:
        return BackendCase(name, "forward", build, terms, against="Keras' own, computed by JAX")
    baseline = functools.partial(functools.partial, plain, *arguments)
    return BackendCase(name, "forward", build, terms, baseline=baseline, against=PLAIN)


def _conv(x, w):
    windows = sliding_window_view(x, w.shape[:2], (1, 2))  # (N, OH, OW, C, KH, KW)
    return np.tensordot(windows, w, ((4, 5, 3), (0, 1, 2)))


def _depthwise(x, w):
    return np.einsum("nhwcij,ijc->nhwc", sliding_window_view(x, w.shape[:2], (1, 2)), w[..., 0])


def _up(x, w, step):
    y = np.tensordot(x, w, ((3,), (3,)))  # (N, H, W, KH, KW, OC)
    n, h, width, _, _, channels = y.shape
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(n, h * step, width * step, channels)


def _max_pool(x, size, step):
    return sliding_window_view(x, (size, size), (1, 2))[:, ::step, ::step].max((4, 5))


def _avg_pool(x, size, step):
    return sliding_window_view(x, (size, size), (1, 2))[:, ::step, ::step].mean((4, 5))
