"""Batch normalization and its gradient, channel by channel."""

import numpy as np

from fastconv import _checks, _norm
from fastconv.reference._activations import ACTIVATIONS


def batch_norm(
    x,
    weight=None,
    bias=None,
    running_mean=None,
    running_var=None,
    *,
    training=False,
    momentum=0.1,
    eps=1e-5,
    layout="NCHW",
    activation=None,
    return_statistics=False,
):
    """Batch normalization: each channel gets mean 0 and variance 1, then a scale and a shift.

    ::

        y[n, c] = (x[n, c] - mean[c]) / sqrt(var[c] + eps) * weight[c] + bias[c]

    In training, mean and variance are those of the channel's N * H * W numbers, and the running
    statistics, if given, are updated in place: ``running = (1 - momentum) * running + momentum *
    batch``, with the unbiased variance. In evaluation mean and variance are the running ones.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015; CS231n, "Neural Networks Part 2",
    section "Batch Normalization".

    Examples
    --------
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]]).reshape(2, 2, 1, 1)
    >>> batch_norm(x, training=True, eps=0)[:, :, 0, 0]
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    op = "batch_norm"
    count = _norm.check_arrays(
        op,
        x,
        layout,
        eps,
        weight=weight,
        bias=bias,
        running_mean=running_mean,
        running_var=running_var,
    )
    _checks.check_activation(op, activation)
    C = x.shape[-1 if layout.endswith("C") else 1]
    if training:
        momentum = _norm.check_training(op, count, x.shape, momentum, running_mean, running_var)
        mean, var = np.zeros(C), np.zeros(C)
    else:
        _norm.check_evaluation(op, running_mean, running_var)
        mean, var = np.array(running_mean, float), np.array(running_var, float)
    x = np.asarray(x)
    y = np.empty(x.shape, x.dtype)
    for c in range(C):
        image, result = _channel(x, c, layout), _channel(y, c, layout)
        if training and count:
            mean[c] = image.mean(dtype=np.float64)
            var[c] = image.var(dtype=np.float64)
            _update(running_mean, c, mean[c], momentum)
            _update(running_var, c, var[c] * count / (count - 1), momentum)
        z = (image.astype(np.float64) - mean[c]) / np.sqrt(var[c] + eps)
        scaled = z * _at(weight, c, 1) + _at(bias, c, 0)
        result[...] = ACTIVATIONS[activation](scaled)
    return (y, mean.astype(x.dtype), var.astype(x.dtype)) if return_statistics else y


def batch_norm_backward(
    dy,
    x,
    weight,
    mean,
    var,
    *,
    training=True,
    eps=1e-5,
    layout="NCHW",
    needs=("x", "w", "b"),
):
    """Gradients of `batch_norm` for its input, scale and shift.

    With z = (x - mean) / sqrt(var + eps) and sums over the numbers of a channel::

        db = sum(dy)
        dw = sum(dy * z)
        dx = weight / sqrt(var + eps) * (dy - db / count - z * dw / count)

    In evaluation mean and variance are constants: the last two terms are not there.

    Examples
    --------
    >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> y, mean, var = batch_norm(x, training=True, return_statistics=True)
    >>> dx, dweight, dbias = batch_norm_backward(np.ones_like(x), x, None, mean, var)
    >>> dweight, dbias
    (array([0.]), array([4.]))
    """
    op = "batch_norm_backward"
    count = _norm.check_arrays(
        op, x, layout, eps, dy=dy, weight=weight, required=("mean", "var"), mean=mean, var=var
    )
    needs = _checks.check_needs(op, needs)
    C = len(mean)
    x, dy = np.asarray(x), np.asarray(dy)
    dx, dweight, dbias = np.empty(x.shape, x.dtype), np.empty(C, x.dtype), np.empty(C, x.dtype)
    for c in range(C):
        image, slope = (_channel(a, c, layout).astype(np.float64) for a in (x, dy))
        deviation = np.sqrt(np.float64(var[c]) + eps)
        z = (image - mean[c]) / deviation
        db, dw = slope.sum(), (slope * z).sum()
        if training and count:
            slope = slope - db / count - z * (dw / count)
        _channel(dx, c, layout)[...] = _at(weight, c, 1) / deviation * slope
        dweight[c], dbias[c] = dw, db
    gradients = zip("xwb", (dx, dweight, dbias), strict=True)
    return tuple(gradient if name in needs else None for name, gradient in gradients)


def fold_batch_norm(w, b, gamma, beta, mean, var, eps=1e-5):
    """Filters and bias of a convolution that does the batch normalization behind it, too.

    ::

        scale[o] = gamma[o] / sqrt(var[o] + eps)
        w'[o] = w[o] * scale[o]
        b'[o] = (b[o] - mean[o]) * scale[o] + beta[o]

    Examples
    --------
    >>> mean, var = np.array([3.0]), np.array([4.0])
    >>> w, b = fold_batch_norm(np.ones((1, 1, 1, 1)), None, None, None, mean, var, eps=0)
    >>> w[0, 0, 0, 0], b[0]  # x - 3, half of it
    (np.float64(0.5), np.float64(-1.5))
    """
    vectors = {"b": b, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    eps = _norm.check_fold("fold_batch_norm", w, eps, **vectors)
    folded, bias = np.empty(w.shape, w.dtype), np.empty(len(w), w.dtype)
    for o in range(len(w)):
        scale = _at(gamma, o, 1) / np.sqrt(np.float64(var[o]) + eps)
        folded[o] = np.asarray(w[o], np.float64) * scale
        bias[o] = (_at(b, o, 0) - np.float64(mean[o])) * scale + _at(beta, o, 0)
    return folded, bias


def _channel(array, c, layout):
    """All numbers of one channel, as a view."""
    return array[..., c] if layout.endswith("C") else array[:, c]


def _at(vector, c, default):
    return default if vector is None else np.float64(vector[c])


def _update(running, c, value, momentum):
    if running is not None:
        running[c] = (1 - momentum) * np.float64(running[c]) + momentum * value
