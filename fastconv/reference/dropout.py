"""Dropout: units switched off at random while training."""

import numpy as np

from fastconv import _checks
from fastconv.reference._windows import float64, ieee


@ieee
def dropout(x, p=0.5, *, rng=None):
    """Inverted dropout: each number is set to 0 with probability p, the others grow by 1/(1 - p).

    The mean stays what it was, so that nothing has to be done at test time, when dropout is left
    out. ("Inverted" is that the scaling happens while training. The lecture's p is the
    probability of keeping a unit; here it is that of dropping one, as in PyTorch.)

    References
    ----------
    CS231n, "Neural Networks Part 2", section "Regularization", "Dropout"; N. Srivastava et al.,
    "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.

    Examples
    --------
    >>> y, kept = dropout(np.ones((2, 5)), 0.5, rng=0)
    >>> y
    array([[2., 2., 2., 0., 0.],
           [0., 0., 0., 0., 2.]])
    >>> kept.dtype
    dtype('bool')
    """
    dtype = _checks.check_arrays("dropout", x=x)
    p = _checks.check_probability("dropout", "p", p)
    kept = np.asarray(np.random.default_rng(rng).random(x.shape, np.float32) >= np.float32(p))
    return _scaled(x, kept, p, dtype), kept


@ieee
def dropout_backward(dy, kept, p=0.5):
    """Gradient of `dropout`: dy / (1 - p) where a number was kept, 0 elsewhere.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss for the output.
    kept : ndarray of bool
        What `dropout` kept.
    p : float, optional
        As in `dropout`.

    Examples
    --------
    >>> dropout_backward(np.array([3.0, 3.0]), np.array([True, False]), 0.5)
    array([6., 0.])
    """
    op = "dropout_backward"
    dtype = _checks.check_arrays(op, dy=dy)
    _checks.check_mask(op, "kept", kept, dy)
    p = _checks.check_probability(op, "p", p)
    return _scaled(dy, kept, p, dtype)


def _scaled(values, kept, p, dtype):
    scale = 1 / (1 - p) if p < 1 else 0
    return np.asarray(float64(values) * kept * scale, dtype)
