"""Wrong calls, the exception each must raise and what its message must say.

`BAD_CALLS` holds (name, call, exception, pattern); `call` takes the module to call, the reference
or the fast functions, so that both refuse the same things with the same words.
"""

import numpy as np

X = np.ones((2, 4, 7, 9), np.float32)
W = np.ones((6, 4, 3, 3), np.float32)
B = np.ones(6, np.float32)
Y = np.ones((2, 6, 5, 7), np.float32)
V = np.ones(4, np.float32)
WT = np.ones((4, 6, 3, 3), np.float32)
YT = np.ones((2, 6, 9, 11), np.float32)
POOLED = np.ones((2, 4, 3, 4), np.float32)
INDICES = np.zeros((2, 4, 3, 4), np.int64)
OFFSETS = np.zeros((2, 4, 3, 4), np.uint8)
COLS = np.ones((2, 36, 35), np.float32)
SCORES = np.ones((3, 5), np.float32)
LABELS = np.zeros(3, np.int64)
ROWS = np.ones((3, 5), np.float32)
WEIGHTS = np.ones((2, 5), np.float32)


def _changed(array, value):
    copy = array.copy()
    copy.flat[-1] = value
    return copy


def _read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _repeated(array):
    return np.lib.stride_tricks.as_strided(array.copy(), array.shape, (0, *array.strides[1:]))


def _dtypes():
    """One wrong dtype, or no array at all, in place of each array argument."""
    functions = {
        "conv2d": {"x": X, "w": W, "b": B},
        "conv2d_input_grad": {"dy": Y, "w": W, "x_shape": X.shape},
        "conv2d_weight_grad": {"dy": Y, "x": X, "w_shape": W.shape},
        "conv2d_backward": {"dy": Y, "x": X, "w": W},
        "conv_transpose2d": {"x": X, "w": WT, "b": B},
        "conv_transpose2d_backward": {"dy": YT, "x": X, "w": WT},
        "im2col": {"x": X, "kernel_size": 3},
        "col2im": {"cols": COLS, "x_shape": X.shape, "kernel_size": 3},
        "max_pool2d": {"x": X, "kernel_size": 2},
        "max_pool2d_backward": {"dy": POOLED, "indices": INDICES, "x_shape": X.shape},
        "avg_pool2d": {"x": X, "kernel_size": 2},
        "avg_pool2d_backward": {"dy": POOLED, "x_shape": X.shape, "kernel_size": 2},
        "lp_pool2d": {"x": X, "norm_type": 2, "kernel_size": 2},
        "lp_pool2d_backward": {"dy": POOLED, "x": X, "y": POOLED, "norm_type": 2, "kernel_size": 2},
        "batch_norm": {"x": X, "weight": V, "bias": V, "running_mean": V, "running_var": V},
        "batch_norm_backward": {"dy": X, "x": X, "weight": V, "mean": V, "var": V},
        "fold_batch_norm": {"w": W, "b": B, "gamma": B, "beta": B, "mean": B, "var": B},
        "global_avg_pool2d": {"x": X},
        "global_avg_pool2d_backward": {"dy": X[:, :, :1, :1], "x_shape": X.shape},
        "global_max_pool2d": {"x": X},
        "global_max_pool2d_backward": {"dy": X[:, :, :1, :1], "x": X},
        "linear": {"x": ROWS, "w": WEIGHTS, "b": WEIGHTS[:, 0]},
        "linear_backward": {"dy": ROWS[:, :2], "x": ROWS, "w": WEIGHTS},
        "relu": {"x": X},
        "relu_backward": {"dy": X, "x_or_y": X},
        "softmax_loss": {"scores": SCORES, "y": LABELS},
        "svm_loss": {"scores": SCORES, "y": LABELS},
    }
    convert = r"convert it with \w+\.astype\(np\.float32\) or \w+\.astype\(np\.float64\)"
    for function, arguments in functions.items():
        floats = {
            name: value
            for name, value in arguments.items()
            if isinstance(value, np.ndarray) and value.dtype == np.float32
        }
        wrong = {
            "list": (lambda a: a.tolist(), f"{function}: {{name}} must be a NumPy array, got list"),
            "float16": (lambda a: a.astype(np.float16), f"{{name}} has dtype float16.*{convert}"),
            "int64": (lambda a: a.astype(np.int64), f"{{name}} has dtype int64.*{convert}"),
            "complex": (
                lambda a: a.astype(np.complex64),
                f"{{name}} has dtype complex64.*{convert}",
            ),
            "big-endian": (lambda a: a.astype(">f4"), "{name} is big-endian .*astype"),
            "masked": (np.ma.array, "{name} is a masked array"),
        }
        if len(floats) > 1:
            mixed = f"{function}: arrays must have one dtype.*{{name}} is float64.*convert"
            wrong["mixed"] = (lambda a: a.astype(np.float64), mixed)
        for name in floats:
            for kind, (change, pattern) in wrong.items():
                bad = {**arguments, name: change(arguments[name])}
                yield (
                    f"{function}-{name}-{kind}",
                    lambda F, function=function, bad=bad: getattr(F, function)(**bad),
                    TypeError,
                    pattern.format(name=name),
                )


_SHAPES = [
    (
        "conv2d-channels",
        lambda F: F.conv2d(X[:, :3], W),
        r"conv2d: x has 3 channels in shape \(2, 3, 7, 9\), but w of shape \(6, 4, 3, 3\) with "
        "groups=1 expects 4",
    ),
    ("conv2d-rank-x", lambda F: F.conv2d(X[0], W), r"\(4, 7, 9\) and w of shape \(6, 4, 3, 3\)"),
    ("conv2d-rank-w", lambda F: F.conv2d(X, W[0]), r"\(2, 4, 7, 9\) and w of shape \(4, 3, 3\)"),
    ("conv1d-rank", lambda F: F.conv1d(X, W), "conv1d: with layout NCW arrays have 3 dimensions"),
    ("conv3d-rank", lambda F: F.conv3d(X, W), "conv3d: with layout NCDHW arrays have 5 dimensions"),
    ("conv2d-bias", lambda F: F.conv2d(X, W, B[:5]), r"b has shape \(5,\), but w of .* \(6,\)"),
    ("conv2d-bias-rank", lambda F: F.conv2d(X, W, B[:, None]), r"b has shape \(6, 1\)"),
    ("conv2d-groups", lambda F: F.conv2d(X, W, groups=4), "groups=4 expects 16"),
    ("conv2d-filters", lambda F: F.conv2d(X, W[:5, :2], groups=2), "must divide the 5 filters"),
    ("conv2d-empty", lambda F: F.conv2d(X[:, :, :2], W), "covers 3 cells along H .* has only 2"),
    ("conv2d-no-channels", lambda F: F.conv2d(X[:, :0], W), "number of channels .* at least 1"),
    ("conv2d-no-pixels", lambda F: F.conv2d(X[:, :, :0], W), "spatial size .* at least 1"),
    ("conv2d-stride", lambda F: F.conv2d(X, W, stride=0), "stride must be at least 1"),
    (
        "conv2d-stride-length",
        lambda F: F.conv2d(X, W, stride=[1, 2, 3]),
        "stride must be one integer",
    ),
    ("conv2d-dilation", lambda F: F.conv2d(X, W, dilation=-1), "dilation must be at least 1"),
    ("conv2d-padding", lambda F: F.conv2d(X, W, padding=-1), "padding must be at least 0"),
    (
        "conv2d-padding-word",
        lambda F: F.conv2d(X, W, padding="full"),
        "padding='full' is not allowed",
    ),
    (
        "conv2d-padding-form",
        lambda F: F.conv2d(X, W, padding=[1, 2, 3]),
        "padding must be an integer",
    ),
    ("conv2d-overflow", lambda F: F.conv2d(X, W, padding=2**62), "integer overflow"),
    ("conv2d-layout", lambda F: F.conv2d(X, W, layout="NCW"), "layout must be 'NCHW' or 'NHWC'"),
    ("conv2d-layout-type", lambda F: F.conv2d(X, W, layout=["NCHW"]), "layout must be"),
    ("conv2d-fit", lambda F: F.conv2d(X, W, fit="ceil"), "fit must be one of"),
    ("conv2d-strict", lambda F: F.conv2d(X, W, stride=3, fit="strict"), r"H=7, F=3, P=0, S=3"),
    ("conv2d-algo", lambda F: F.conv2d(X, W, algo="magic"), "algo must be one of .* got 'magic'"),
    (
        "conv2d-activation",
        lambda F: F.conv2d(X, W, activation="gelu"),
        "activation must be None, 'relu' or 'relu6'",
    ),
    (
        "conv2d-out",
        lambda F: F.conv2d(X, W, out=Y[:1].copy()),
        r"out has shape \(1.*\(2, 6, 5, 7\)",
    ),
    ("conv2d-out-read-only", lambda F: F.conv2d(X, W, out=_read_only(Y)), "out is read-only"),
    ("conv2d-out-is-x", lambda F: F.conv2d(X, W[:4], padding=1, out=X), "shares memory with x"),
    (
        "conv2d-out-repeats",
        lambda F: F.conv2d(X, W, out=_repeated(Y)),
        "out repeats elements",
    ),
    (
        "input_grad-dy",
        lambda F: F.conv2d_input_grad(Y, W, (2, 4, 8, 9)),
        r"dy has shape \(2, 6, 5, 7\), but x of shape \(2, 4, 8, 9\) with w of shape "
        r"\(6, 4, 3, 3\) calls for \(2, 6, 6, 7\)",
    ),
    ("input_grad-algo", lambda F: F.conv2d_input_grad(Y, W, X.shape, algo=""), "algo must be"),
    ("weight_grad-dy", lambda F: F.conv2d_weight_grad(Y, X, (6, 4, 2, 3)), "dy has shape"),
    ("weight_grad-w_shape", lambda F: F.conv2d_weight_grad(Y, X, (6, 3, 3, 3)), "expects 3"),
    (
        "weight_grad-rank",
        lambda F: F.conv2d_weight_grad(Y[0], X, W.shape),
        r"dy has shape \(6, 5, 7\)",
    ),
    ("backward-dy", lambda F: F.conv2d_backward(Y[:1], X, W), r"dy has shape \(1, 6, 5, 7\)"),
    ("backward-needs", lambda F: F.conv2d_backward(Y, X, W, needs=("y",)), "needs must be some of"),
    ("transpose-channels", lambda F: F.conv_transpose2d(X, W), r"x has 4 channels.*expects 6"),
    ("transpose-bias", lambda F: F.conv_transpose2d(X, WT, B[:4]), r"b has shape \(4,\)"),
    ("transpose-padding", lambda F: F.conv_transpose2d(X, WT, padding=9), "leaves no output"),
    ("transpose-word", lambda F: F.conv_transpose2d(X, WT, padding="same"), "is not allowed here"),
    (
        "transpose-output_padding",
        lambda F: F.conv_transpose2d(X, WT, stride=2, output_padding=2),
        "output_padding=2 must be smaller than the stride 2",
    ),
    ("transpose-out", lambda F: F.conv_transpose2d(X, WT, out=Y.copy()), r"out has shape"),
    (
        "transpose-dy",
        lambda F: F.conv_transpose2d_backward(Y, X, WT),
        r"dy has shape \(2, 6, 5, 7\), but x of shape .* calls for \(2, 6, 9, 11\)",
    ),
    ("im2col-rank", lambda F: F.im2col(X[0, 0], 3), r"im2col: x must be .* got \(7, 9\)"),
    ("im2col-kernel", lambda F: F.im2col(X, (3, 3, 3)), "kernel_size must be one integer or 2"),
    ("im2col-empty", lambda F: F.im2col(X, 8), "covers 8 cells along H"),
    (
        "col2im-cols",
        lambda F: F.col2im(COLS, X.shape, 2),
        r"cols has shape \(2, 36, 35\), but x_shape \(2, 4, 7, 9\) with kernel \(2, 2\) calls for "
        r"\(2, 16, 48\)",
    ),
    ("max_pool-empty", lambda F: F.max_pool2d(X, 8), "covers 8 cells along H .* has only 7"),
    ("max_pool-padding", lambda F: F.max_pool2d(X, 2, padding=2), "padding 2 \\+ 2 is too large"),
    ("max_pool-kernel", lambda F: F.max_pool2d(X, 0), "kernel_size must be at least 1"),
    ("max_pool-rank", lambda F: F.max_pool3d(X, 2), "5 dimensions, got x of shape"),
    ("max_pool-layout", lambda F: F.max_pool2d(X, 2, layout="NHW"), "layout must be"),
    (
        "max_pool_backward-indices",
        lambda F: F.max_pool2d_backward(POOLED, INDICES[:, :3], X.shape),
        r"indices has shape \(2, 3, 3, 4\), but dy of shape \(2, 4, 3, 4\)",
    ),
    (
        "max_pool_backward-channels",
        lambda F: F.max_pool2d_backward(POOLED, INDICES, (2, 5, 7, 9)),
        r"dy has shape \(2, 4, 3, 4\), but x_shape \(2, 5, 7, 9\)",
    ),
    (
        "max_pool_backward-rank",
        lambda F: F.max_pool2d_backward(POOLED, INDICES, (2, 4, 7)),
        "4 dim",
    ),
    (
        "max_pool_backward-dy",
        lambda F: F.max_pool2d_backward(POOLED[0], INDICES[0], X.shape),
        "dy has",
    ),
    *[
        (
            f"max_pool_backward-index-{index}",
            lambda F, i=index: F.max_pool2d_backward(POOLED, _changed(INDICES, i), X.shape),
            rf"indices holds {index}, but x_shape \(2, 4, 7, 9\) allows only 0 to 62",
        )
        for index in (-1, 63, 2**62)
    ],
    ("avg_pool-padding", lambda F: F.avg_pool2d(X, 2, padding=3), "padding 3 \\+ 3 is too large"),
    (
        "avg_pool_backward-dy",
        lambda F: F.avg_pool2d_backward(POOLED, X.shape, 3),
        r"dy has shape \(2, 4, 3, 4\), but x_shape \(2, 4, 7, 9\) with kernel \(3, 3\) calls for "
        r"\(2, 4, 2, 3\)",
    ),
    *[
        (
            f"lp_pool-p-{p}",
            lambda F, p=p: F.lp_pool2d(X, p, 2),
            "norm_type must be finite and at least 1",
        )
        for p in (0, 0.5, -2, np.inf, np.nan)
    ],
    ("lp_pool_backward-y", lambda F: F.lp_pool2d_backward(POOLED, X, Y, 2, 2), r"y has shape"),
    ("lp_pool_backward-dy", lambda F: F.lp_pool2d_backward(Y, X, POOLED, 2, 2), r"dy has shape"),
    ("batch_norm-rank", lambda F: F.batch_norm(X[0], training=True), "4 dimensions, got x of"),
    (
        "batch_norm-weight",
        lambda F: F.batch_norm(X, B, training=True),
        r"batch_norm: weight has shape \(6,\), but x of shape \(2, 4, 7, 9\) calls for \(4,\)",
    ),
    ("batch_norm-statistics", lambda F: F.batch_norm(X), "evaluation needs running_mean and"),
    (
        "batch_norm-one",
        lambda F: F.batch_norm(X[:1, :, :1, :1], training=True),
        r"\(1, 4, 1, 1\) has one number a channel",
    ),
    (
        "batch_norm-read-only",
        lambda F: F.batch_norm(X, None, None, _read_only(V), training=True),
        "running_mean is read-only",
    ),
    ("batch_norm-eps", lambda F: F.batch_norm(X, training=True, eps=-1), "eps must be finite"),
    (
        "batch_norm-momentum",
        lambda F: F.batch_norm(X, training=True, momentum=1.5),
        "momentum must be from 0 to 1",
    ),
    (
        "batch_norm-activation",
        lambda F: F.batch_norm(X, training=True, activation="tanh"),
        "activation must be None, 'relu' or 'relu6'",
    ),
    (
        "batch_norm_backward-dy",
        lambda F: F.batch_norm_backward(X[:1], X, None, V, V),
        r"dy has shape \(1, 4, 7, 9\)",
    ),
    ("global_avg-rank", lambda F: F.global_avg_pool2d(X[0]), "4 dimensions, got x of shape"),
    ("global_avg-dy", lambda F: F.global_avg_pool2d_backward(POOLED, X.shape), "dy has shape"),
    ("global_max-dy", lambda F: F.global_max_pool2d_backward(POOLED, X), "dy has shape"),
    ("linear-features", lambda F: F.linear(ROWS, ROWS[:, :4]), r"\(3, 5\) and w of shape \(3, 4\)"),
    ("linear-rank", lambda F: F.linear(X, WEIGHTS), r"x must be \(N, IN\)"),
    ("linear-bias", lambda F: F.linear(ROWS, WEIGHTS, ROWS[0]), r"b has shape \(5,\)"),
    ("linear_backward-dy", lambda F: F.linear_backward(ROWS, ROWS, WEIGHTS), r"dy .* \(3, 2\)"),
    (
        "linear_backward-needs",
        lambda F: F.linear_backward(ROWS[:, :2], ROWS, WEIGHTS, needs=("z",)),
        "needs must be some of",
    ),
    ("relu_backward-shape", lambda F: F.relu_backward(X, Y), r"dy has shape \(2, 4, 7, 9\)"),
    *[
        (f"{loss}-{name}", lambda F, f=loss, a=arguments: getattr(F, f)(*a), pattern)
        for loss in ("softmax_loss", "svm_loss")
        for name, arguments, pattern in [
            ("rank", (SCORES[0], LABELS), r"scores must be \(N, classes\), got shape \(5,\)"),
            ("no-classes", (SCORES[:, :0], LABELS), r"scores must be \(N, classes\)"),
            ("labels", (SCORES, LABELS[:2]), r"y has shape \(2,\), but scores of shape \(3, 5\)"),
            ("label-5", (SCORES, _changed(LABELS, 5)), r"y\[2\] = 5 is no class"),
            ("label--1", (SCORES, _changed(LABELS, -1)), r"y\[2\] = -1 is no class"),
        ]
    ],
]

_TYPES = [
    (
        "conv2d-stride-float",
        lambda F: F.conv2d(X, W, stride=1.0),
        "stride must be an integer, got 1.0",
    ),
    ("conv2d-stride-bool", lambda F: F.conv2d(X, W, stride=True), "stride must be an integer"),
    ("conv2d-stride-item", lambda F: F.conv2d(X, W, stride=[1.0, 1]), "stride must be an integer"),
    ("conv2d-padding-float", lambda F: F.conv2d(X, W, padding=0.0), "padding must be an integer"),
    ("conv2d-padding-none", lambda F: F.conv2d(X, W, padding=None), "padding must be an integer"),
    ("conv2d-groups-float", lambda F: F.conv2d(X, W, groups=1.0), "groups must be an integer"),
    (
        "conv2d-out-dtype",
        lambda F: F.conv2d(X, W, out=Y.astype(np.float64)),
        "out has dtype float64",
    ),
    ("conv2d-out-list", lambda F: F.conv2d(X, W, out=Y.tolist()), "out must be a NumPy array"),
    ("input_grad-x_shape", lambda F: F.conv2d_input_grad(Y, W, 7), "shape of x must be a tuple"),
    ("input_grad-x_shape-float", lambda F: F.conv2d_input_grad(Y, W, (2, 4, 7.0, 9)), "an integer"),
    ("max_pool-kernel-float", lambda F: F.max_pool2d(X, 2.0), "kernel_size must be an integer"),
    ("max_pool-kernel-none", lambda F: F.max_pool2d(X, None), "kernel_size must be an integer"),
    (
        "max_pool_backward-int32",
        lambda F: F.max_pool2d_backward(POOLED, INDICES.astype(np.int32), X.shape),
        "indices must have dtype int64, got int32",
    ),
    (
        "max_pool_backward-big-endian",
        lambda F: F.max_pool2d_backward(POOLED, INDICES.astype(">i8"), X.shape),
        "indices is big-endian",
    ),
    (
        "max_pool_backward-list",
        lambda F: F.max_pool2d_backward(POOLED, [0], X.shape),
        "NumPy array",
    ),
    ("lp_pool-p-word", lambda F: F.lp_pool2d(X, "2", 2), "norm_type must be a number"),
    ("lp_pool-p-none", lambda F: F.lp_pool2d(X, None, 2), "norm_type must be a number"),
    ("softmax_loss-labels-float", lambda F: F.softmax_loss(SCORES, SCORES[:, 0]), "integer class"),
    ("svm_loss-labels-bool", lambda F: F.svm_loss(SCORES, LABELS == 0), "integer class numbers"),
    ("svm_loss-labels-list", lambda F: F.svm_loss(SCORES, [0, 1, 2]), "y must be a NumPy array"),
]


def _window_backward(offsets, dy=POOLED, kernel=2, **parameters):
    return lambda F: F.max_pool_window_backward(dy, offsets, X.shape, kernel, **parameters)


_WINDOWS = [
    (
        "dtype",
        _window_backward(OFFSETS.astype(np.int32)),
        TypeError,
        "offsets must have dtype uint8",
    ),
    ("shape", _window_backward(OFFSETS[:1]), ValueError, "offsets has shape"),
    ("dy", _window_backward(OFFSETS, POOLED[:1]), ValueError, r"dy has shape \(1, 4, 3, 4\)"),
]

BAD_CALLS = [
    *_dtypes(),
    *[(name, call, ValueError, pattern) for name, call, pattern in _SHAPES],
    *[(name, call, TypeError, pattern) for name, call, pattern in _TYPES],
    *[(f"max_pool_window-{name}", *rest) for name, *rest in _WINDOWS],
]

# Offsets that name no cell of the image. The reference refuses them; the fast function, which need
# not look, hands their gradient to nobody.
BAD_OFFSETS = [
    (
        "offset-outside-kernel",
        _window_backward(_changed(OFFSETS, 4)),
        ValueError,
        r"offsets holds 4, but kernel",
    ),
    (
        "offset-in-padding",
        _window_backward(
            np.zeros((2, 4, 4, 5), np.uint8), np.ones((2, 4, 4, 5), np.float32), padding=1
        ),
        ValueError,
        "offset names a cell of the padding",
    ),
    (
        "offset-of-large-kernel",
        _window_backward(
            np.full((2, 4, 1, 1), 300, np.int32),
            np.ones((2, 4, 1, 1), np.float32),
            (17, 17),
            padding=((5, 5), (4, 4)),
        ),
        ValueError,
        "offsets holds 300, but kernel",
    ),
]
