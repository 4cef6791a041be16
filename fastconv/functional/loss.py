"""Loss functions: mean over the batch, and the penalty for weights, with their gradients."""

import numpy as np

from fastconv import _checks

# Scores may be infinite or NaN: no cause to warn.
_ieee = np.errstate(all="ignore")


@_ieee
def softmax_loss(scores, y):
    """Cross-entropy loss of a softmax classifier, mean over the batch, and its gradient.

    ::

        L = mean over i of  -log(exp(s[i, y[i]]) / sum over j of exp(s[i, j]))

    Parameters
    ----------
    scores : ndarray, (N, classes)
        Scores, float32 or float64.
    y : ndarray of integers, (N,)
        The right class of each row.

    Returns
    -------
    loss : float
        0.0 for an empty batch.
    dscores : ndarray, (N, classes)

    References
    ----------
    CS231n, "Linear classification", section "Softmax classifier".

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> loss, dscores = fastconv.softmax_loss(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 4), dscores
    (1.3863, array([[ 0.25,  0.25, -0.75,  0.25]]))
    """
    _checks.check_arrays("softmax_loss", scores=scores)
    _checks.check_labels("softmax_loss", scores, y)
    scores, y = np.asarray(scores), np.asarray(y)
    N = scores.shape[0]
    rows = np.arange(N)
    # Scores are shifted so that the largest is 0: the same result, and exp cannot overflow.
    dscores = scores - scores.max(axis=1, keepdims=True)
    right = dscores[rows, y].astype(np.float64)
    np.exp(dscores, out=dscores)
    sums = dscores.sum(axis=1, keepdims=True)
    losses = np.log(sums[:, 0].astype(np.float64)) - right
    dscores /= sums
    dscores[rows, y] -= 1
    dscores /= max(N, 1)
    return float(losses.sum() / max(N, 1)), dscores


@_ieee
def svm_loss(scores, y, delta=1.0):
    """Multiclass support vector machine (hinge) loss, mean over the batch, and its gradient.

    ::

        L = mean over i of  sum over j != y[i] of max(0, s[i, j] - s[i, y[i]] + delta)

    Parameters
    ----------
    scores : ndarray, (N, classes)
        Scores, float32 or float64.
    y : ndarray of integers, (N,)
        The right class of each row.
    delta : float, optional
        The margin by which the right score should exceed the others.

    Returns
    -------
    loss : float
        0.0 for an empty batch.
    dscores : ndarray, (N, classes)

    References
    ----------
    CS231n, "Linear classification", section "Multiclass Support Vector Machine loss".

    Examples
    --------
    The example of the lecture, with a margin of 10:

    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.svm_loss(np.array([[13.0, -7.0, 11.0]]), np.array([0]), delta=10.0)
    (8.0, array([[-1.,  0.,  1.]]))
    """
    _checks.check_arrays("svm_loss", scores=scores)
    _checks.check_labels("svm_loss", scores, y)
    delta = _checks.check_number("svm_loss", "delta", delta)
    scores, y = np.asarray(scores), np.asarray(y)
    N = scores.shape[0]
    rows = np.arange(N)
    margins = np.maximum(scores - scores[rows, y][:, np.newaxis] + scores.dtype.type(delta), 0)
    margins[rows, y] = 0
    dscores = (margins > 0).astype(scores.dtype)
    dscores[rows, y] = -dscores.sum(axis=1)
    dscores /= max(N, 1)
    return float(margins.sum(dtype=np.float64) / max(N, 1)), dscores


@_ieee
def l2_penalty(w, strength):
    """L2 regularization: the penalty for large weights that is added to a loss, and its gradient.

    ::

        R = strength / 2 * sum of w^2

    (The lecture writes it without the half at first, "Linear classification", and with it where
    gradients matter, "Neural Networks Part 2": then the gradient is just strength * w.) Of two sets
    of weights that classify alike it prefers the smaller, more spread out one. Biases are usually
    left out.

    Parameters
    ----------
    w : ndarray of any shape
        Weights, float32 or float64; they are only read.
    strength : float
        How much the penalty counts beside the loss; at least 0.

    Returns
    -------
    penalty : float
    dw : ndarray of the shape of w

    Raises
    ------
    ValueError
        If `strength` is negative or not finite.

    See Also
    --------
    fastconv.training.add_l2_penalty : The same for all weights of a net.

    References
    ----------
    CS231n, "Linear classification", section "Regularization"; "Neural Networks Part 2", section
    "Regularization", "L2 regularization".

    Examples
    --------
    Two weight vectors of the lecture that give x = (1, 1, 1, 1) the same score:

    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.l2_penalty(np.array([1.0, 0.0, 0.0, 0.0]), strength=2.0)[0]
    1.0
    >>> fastconv.l2_penalty(np.full(4, 0.25), strength=2.0)
    (0.25, array([0.5, 0.5, 0.5, 0.5]))
    """
    _checks.check_arrays("l2_penalty", w=w)
    strength = _checks.check_strength("l2_penalty", strength)
    w = np.asarray(w)
    penalty = strength / 2 * float(np.sum(np.square(w, dtype=np.float64)))
    dw = np.empty(w.shape, w.dtype)
    return penalty, np.multiply(w, w.dtype.type(strength), out=dw)
