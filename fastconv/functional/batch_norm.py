"""Batch normalization and its gradient."""

import numpy as np

from fastconv import _checks, _core, _norm


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

    In training, mean and variance are those of the channel's N * H * W numbers (divided by their
    count), and the running statistics move towards them: ``running = (1 - momentum) * running +
    momentum * batch``, with the unbiased variance (divided by the count less one). In evaluation
    mean and variance are the running ones.

    Parameters
    ----------
    x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
        Images, float32 or float64, of any strides; it is only read.
    weight, bias : ndarray, (C,), optional
        Scale and shift, gamma and beta of the paper; 1 and 0 if left out.
    running_mean, running_var : ndarray, (C,), optional
        The statistics for evaluation, which needs both. In training they are updated in place,
        after everything has been checked; an empty batch leaves them as they are.
    training : bool, optional
        Whether to take the statistics from the batch.
    momentum : float, optional
        Share of the batch in the new running statistics, from 0 to 1.
    eps : float, optional
        Keeps the division finite where a channel hardly varies.
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes of x and y; those of 1-D and 3-D images work, too.
    activation : {None, "relu", "relu6"}, optional
        Applied to the result in the same pass over memory.
    return_statistics : bool, optional
        Whether to return mean and variance as well; `batch_norm_backward` needs them.

    Returns
    -------
    y : ndarray of x's shape
    mean, var : ndarray, (C,)
        Only with `return_statistics`: what was subtracted, and the variance it was divided by.

    Raises
    ------
    TypeError
        If dtypes differ or are not float32 or float64.
    ValueError
        If shapes do not suit each other, if evaluation lacks running statistics, or if training
        has a single number a channel, whose variance means nothing.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015; CS231n, "Neural Networks Part 2",
    section "Batch Normalization".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]]).reshape(2, 2, 1, 1)
    >>> fastconv.batch_norm(x, training=True, eps=0)[:, :, 0, 0]
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
    relu = _checks.check_activation(op, activation)
    x, weight, bias = _dense(x), _dense(weight), _dense(bias)
    channels_last = layout.endswith("C")
    if training:
        momentum = _norm.check_training(op, count, x.shape, momentum, running_mean, running_var)
        mean, var = np.empty((2, x.shape[-1 if channels_last else 1]), x.dtype)
    else:
        _norm.check_evaluation(op, running_mean, running_var)
        mean, var = _dense(running_mean), _dense(running_var)
    y = _core.batch_norm(x, weight, bias, mean, var, bool(training), eps, channels_last, relu)
    if training and count:
        _update(running_mean, mean, momentum)
        _update(running_var, var * (count / (count - 1)), momentum)
    return (y, mean, var) if return_statistics else y


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
    """Gradients of `batch_norm`.

    With z = (x - mean) / sqrt(var + eps) and sums over the numbers of a channel::

        db = sum(dy)
        dw = sum(dy * z)
        dx = weight / sqrt(var + eps) * (dy - db / count - z * dw / count)

    The last two terms are the paths through mean and variance; in evaluation those are constants,
    and the terms are not there.

    Parameters
    ----------
    dy : ndarray of x's shape
        Gradient of the loss for the output (in front of an activation).
    x : ndarray
        Input of `batch_norm`.
    weight : ndarray, (C,), or None
        The scale; None means 1.
    mean, var : ndarray, (C,)
        As `batch_norm` returned them.
    training : bool, optional
        Whether mean and var were those of x.
    eps, layout
        As in `batch_norm`.
    needs : iterable of {"x", "w", "b"}, optional
        The gradients to compute.

    Returns
    -------
    (dx, dweight, dbias)
        None for what is not in `needs`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> y, mean, var = fastconv.batch_norm(x, training=True, return_statistics=True)
    >>> dx, dweight, dbias = fastconv.batch_norm_backward(np.ones_like(x), x, None, mean, var)
    >>> dx[0, 0], dweight, dbias  # a number added to all of x changes nothing
    (array([[0., 0.],
           [0., 0.]]), array([0.]), array([4.]))
    """
    op = "batch_norm_backward"
    _norm.check_arrays(
        op, x, layout, eps, dy=dy, weight=weight, required=("mean", "var"), mean=mean, var=var
    )
    needs = _checks.check_needs(op, needs)
    arrays = map(_dense, (dy, x, weight, mean, var))
    channels_last, need_dx = layout.endswith("C"), "x" in needs
    if not needs:
        return None, None, None
    dx, dweight, dbias = _core.batch_norm_grad(*arrays, bool(training), eps, channels_last, need_dx)
    return dx, dweight if "w" in needs else None, dbias if "b" in needs else None


def fold_batch_norm(w, b, gamma, beta, mean, var, eps=1e-5):
    """Filters and bias of a convolution that does the batch normalization behind it, too.

    In evaluation mode a normalization only scales and shifts each channel, and so the convolution
    in front of it can do it::

        scale[o] = gamma[o] / sqrt(var[o] + eps)
        w'[o] = w[o] * scale[o]
        b'[o] = (b[o] - mean[o]) * scale[o] + beta[o]

    Then ``conv2d(x, w', b')`` is ``batch_norm(conv2d(x, w, b), gamma, beta, mean, var)``, within
    rounding. ``net.prepare()`` does this to whole nets.

    Parameters
    ----------
    w : ndarray, (OC, ...)
        Filters of a convolution, or weights of a fully connected layer.
    b : ndarray, (OC,), or None
        Bias; None means 0.
    gamma, beta : ndarray, (OC,), or None
        Scale and shift of the normalization; None means 1 and 0.
    mean, var : ndarray, (OC,)
        Its running statistics.
    eps : float, optional
        As in `batch_norm`.

    Returns
    -------
    w, b : ndarray
        New arrays of the shape of w, and (OC,). They are computed in float64 and rounded once.

    Raises
    ------
    TypeError
        If dtypes differ or are not float32 or float64.
    ValueError
        If a vector is not (OC,).

    References
    ----------
    B. Jacob et al., "Quantization and Training of Neural Networks", CVPR 2018, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> w = np.ones((1, 1, 1, 1))
    >>> mean, var = np.array([3.0]), np.array([4.0])
    >>> w, b = fastconv.fold_batch_norm(w, None, None, None, mean, var, eps=0)
    >>> w[0, 0, 0, 0], b[0]  # x - 3, half of it
    (np.float64(0.5), np.float64(-1.5))
    """
    vectors = {"b": b, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    eps = _norm.check_fold("fold_batch_norm", w, eps, **vectors)
    b, gamma, beta, mean, var = (
        default if array is None else np.asarray(array, np.float64)
        for array, default in ((b, 0), (gamma, 1), (beta, 0), (mean, None), (var, None))
    )
    scale = gamma / np.sqrt(var + eps)
    folded = np.asarray(w) * scale.reshape(-1, *(1,) * (w.ndim - 1))
    return folded.astype(w.dtype), ((b - mean) * scale + beta).astype(w.dtype)


def _update(running, batch, momentum):
    if running is not None:
        running += momentum * (batch - running)


def _dense(array):
    """The array itself, or a copy in C order that C may read; None stays None."""
    return None if array is None else np.require(array, requirements=("C", "A"))
