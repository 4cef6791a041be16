"""One valid call of every public function, small, to be bent by the tests of bad and odd input.

All floats are small whole numbers, whose sums are exact in both dtypes: a call with the same
numbers in another place of memory must give the same result, bit for bit.
"""

import numpy as np

import fastconv

CHANNELS_FIRST = {"1d": "NCW", "2d": "NCHW", "3d": "NCDHW"}
SIZES = {"1d": (9,), "2d": (7, 6), "3d": (5, 4, 6)}


class Numbers:
    """Arrays of one dtype with random whole numbers from -3 to 3."""

    def __init__(self, dtype, rng):
        self.dtype, self.rng = np.dtype(dtype), rng

    def floats(self, *shape):
        return self.rng.integers(-3, 4, shape).astype(self.dtype)

    def integers(self, limit, *shape, dtype=np.int64):
        return self.rng.integers(0, limit, shape).astype(dtype)


def _conv(name, n, numbers):
    size, f = SIZES[n], numbers.floats
    out = tuple(s - 2 for s in size)
    x_shape, w_shape = (2, 4, *size), (6, 2, *(3,) * len(size))
    common = {"groups": 2, "layout": CHANNELS_FIRST[n]}
    x, w, dy = f(*x_shape), f(*w_shape), f(2, 6, *out)
    if name.endswith("input_grad"):
        return {"dy": dy, "w": w, "x_shape": x_shape, **common}
    if name.endswith("weight_grad"):
        return {"dy": dy, "x": x, "w_shape": w_shape, **common}
    if name.endswith("backward"):
        return {"dy": dy, "x": x, "w": w, **common}
    return {"x": x, "w": w, "b": f(6), "activation": "relu", "out": f(2, 6, *out), **common}


def _conv_transpose(name, n, numbers):
    size, f = SIZES[n], numbers.floats
    out = tuple(s + 2 for s in size)
    x, w = f(2, 4, *size), f(4, 3, *(3,) * len(size))
    common = {"groups": 2, "layout": CHANNELS_FIRST[n]}
    if name.endswith("backward"):
        return {"dy": f(2, 6, *out), "x": x, "w": w, **common}
    return {"x": x, "w": w, "b": f(6), "out": f(2, 6, *out), **common}


def _pool(name, n, numbers):
    size, f = SIZES[n], numbers.floats
    x_shape, y_shape = (2, 5, *size), (2, 5, *(s // 2 for s in size))
    common = {"layout": CHANNELS_FIRST[n]}
    if name == "lp_pool2d":
        return {"x": f(*x_shape), "norm_type": 2, "kernel_size": 2, **common}
    if name == "lp_pool2d_backward":
        x = f(*x_shape)
        y = fastconv.lp_pool2d(x, 2, 2)
        return {"dy": f(*y_shape), "x": x, "y": y, "norm_type": 2, "kernel_size": 2, **common}
    if name.startswith("max") and name.endswith("backward"):
        indices = numbers.integers(int(np.prod(size)), *y_shape)
        return {"dy": f(*y_shape), "indices": indices, "x_shape": x_shape, **common}
    if name.endswith("backward"):
        return {"dy": f(*y_shape), "x_shape": x_shape, "kernel_size": 2, **common}
    return {"x": f(*x_shape), "kernel_size": 2, **common}


def _others(numbers):
    f = numbers.floats
    offsets = numbers.integers(4, 2, 5, 3, 3, dtype=np.uint8)
    labels = numbers.integers(4, 5)
    return {
        "im2col": {"x": f(2, 3, 5, 6), "kernel_size": 2},
        "col2im": {"cols": f(2, 12, 20), "x_shape": (2, 3, 5, 6), "kernel_size": 2},
        "max_pool_window": {"x": f(2, 5, 7, 6), "kernel_size": 2},
        "max_pool_window_backward": {
            "dy": f(2, 5, 3, 3),
            "offsets": offsets,
            "x_shape": (2, 5, 7, 6),
            "kernel_size": 2,
        },
        "batch_norm": {
            "x": f(2, 3, 4, 5),
            "weight": f(3),
            "bias": f(3),
            "running_mean": f(3),
            "running_var": abs(f(3)) + 1,
        },
        "batch_norm_backward": {
            "dy": f(2, 3, 4, 5),
            "x": f(2, 3, 4, 5),
            "weight": f(3),
            "mean": f(3),
            "var": abs(f(3)) + 1,
        },
        "fold_batch_norm": {
            "w": f(3, 2, 4, 4),
            "b": f(3),
            "gamma": f(3),
            "beta": f(3),
            "mean": f(3),
            "var": abs(f(3)) + 1,
        },
        "global_avg_pool2d": {"x": f(2, 3, 4, 4)},
        "global_avg_pool2d_backward": {"dy": f(2, 3, 1, 1), "x_shape": (2, 3, 4, 4)},
        "global_max_pool2d": {"x": f(2, 3, 4, 4)},
        "global_max_pool2d_backward": {"dy": f(2, 3, 1, 1), "x": f(2, 3, 4, 4)},
        "linear": {"x": f(5, 6), "w": f(3, 6), "b": f(3)},
        "linear_backward": {"dy": f(5, 3), "x": f(5, 6), "w": f(3, 6)},
        "relu": {"x": f(4, 5)},
        "relu_backward": {"dy": f(4, 5), "x_or_y": f(4, 5)},
        "relu6": {"x": f(4, 5)},
        "relu6_backward": {"dy": f(4, 5), "x_or_y": f(4, 5)},
        "leaky_relu": {"x": f(4, 5), "negative_slope": 0.25},
        "leaky_relu_backward": {"dy": f(4, 5), "x": f(4, 5), "negative_slope": 0.25},
        "prelu": {"x": f(4, 5), "w": f(5)},
        "prelu_backward": {"dy": f(4, 5), "x": f(4, 5), "w": f(5)},
        "sigmoid": {"x": f(4, 5)},
        "sigmoid_backward": {"dy": f(4, 5), "y": f(4, 5)},
        "tanh": {"x": f(4, 5)},
        "tanh_backward": {"dy": f(4, 5), "y": f(4, 5)},
        "softmax": {"x": f(4, 5)},
        "softmax_backward": {"dy": f(4, 5), "y": f(4, 5)},
        "dropout": {"x": f(4, 5), "rng": 1},
        "dropout_backward": {"dy": f(4, 5), "kept": numbers.integers(2, 4, 5, dtype=bool)},
        "local_response_norm": {"x": f(2, 5, 3, 4), "size": 3},
        "local_response_norm_backward": {"dy": f(2, 5, 3, 4), "x": f(2, 5, 3, 4), "size": 3},
        "local_conv2d": {"x": f(2, 3, 5, 4), "w": f(3, 3, 4, 3, 3, 2), "b": f(3, 3, 4)},
        "local_conv2d_backward": {
            "dy": f(2, 4, 3, 3),
            "x": f(2, 3, 5, 4),
            "w": f(3, 3, 4, 3, 3, 2),
        },
        "l2_penalty": {"w": f(4, 5), "strength": 0.5},
        "softmax_loss": {"scores": f(5, 4), "y": labels},
        "svm_loss": {"scores": f(5, 4), "y": labels},
    }


def valid_call(name, dtype, rng):
    """Keyword arguments for the function of that name, with arrays of that dtype."""
    numbers = Numbers(dtype, rng)
    others = _others(numbers)
    if name in others:
        return others[name]
    n = next(n for n in SIZES if n in name)
    families = {"conv_transpose": _conv_transpose, "conv": _conv}
    family = next((f for start, f in families.items() if name.startswith(start)), _pool)
    return family(name, n, numbers)


# Functions that take an array of any shape as their first.
OF_ANY_SHAPE = (
    "dropout",
    "l2_penalty",
    "leaky_relu",
    "prelu",
    "relu",
    "relu6",
    "sigmoid",
    "softmax",
    "tanh",
)

# What `prepare_conv2d` returns is no array: test_prepare.py.
FUNCTIONS = tuple(name for name in fastconv.functional.__all__ if name != "prepare_conv2d")


def as_tuple(result):
    """The arrays of a result, whether it is one or several; losses count as arrays."""
    return result if isinstance(result, tuple) else (result,)
