"""Dropout: units switched off at random while training."""

import numpy as np

from fastconv import _checks


def dropout(x, p=0.5, *, rng=None):
    """Inverted dropout: each number is set to 0 with probability p, the others grow by 1/(1 - p).

    The mean stays what it was, so that nothing has to be done at test time, when dropout is left
    out. ("Inverted" is that the scaling happens while training. The lecture's p is the
    probability of keeping a unit; here it is that of dropping one, as in PyTorch.)

    Parameters
    ----------
    x : ndarray of any shape
        Float32 or float64; it is only read.
    p : float, optional
        Probability of dropping a number, from 0 to 1.
    rng : None, int or numpy.random.Generator, optional
        Source of the choice, the same one for both dtypes.

    Returns
    -------
    y : ndarray of the shape of x
    kept : ndarray of bool
        Which numbers were kept, for `dropout_backward`.

    Raises
    ------
    ValueError
        If p is not between 0 and 1.

    References
    ----------
    CS231n, "Neural Networks Part 2", section "Regularization", "Dropout"; N. Srivastava et al.,
    "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> y, kept = fastconv.dropout(np.ones((2, 5)), 0.5, rng=0)
    >>> y
    array([[2., 2., 2., 0., 0.],
           [0., 0., 0., 0., 2.]])
    >>> kept.dtype
    dtype('bool')
    """
    _checks.check_arrays("dropout", x=x)
    p = _checks.check_probability("dropout", "p", p)
    # random() is below 1, so p = 1 keeps nothing, and at least 0, so p = 0 keeps all
    kept = np.asarray(np.random.default_rng(rng).random(x.shape, np.float32) >= np.float32(p))
    return _scaled(np.asarray(x), kept, p), kept


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
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.dropout_backward(np.array([3.0, 3.0]), np.array([True, False]), 0.5)
    array([6., 0.])
    """
    op = "dropout_backward"
    _checks.check_arrays(op, dy=dy)
    _checks.check_mask(op, "kept", kept, dy)
    p = _checks.check_probability(op, "p", p)
    return _scaled(np.asarray(dy), np.asarray(kept), p)


def _scaled(values, kept, p):
    """values / (1 - p) where kept, 0 elsewhere; a new array in C order."""
    scale = values.dtype.type(1 / (1 - p) if p < 1 else 0)
    y = np.empty(values.shape, values.dtype)
    with np.errstate(all="ignore"):
        np.multiply(values, scale, out=y)
        y *= kept
    return y
