"""What the backends ask about arrays."""

import numpy as np

from fastconv.functional._product import multiply, use_own

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))  # of this machine's byte order


def fast(*arrays) -> bool:
    """Whether fastconv takes these: NumPy arrays of one dtype, float32 or float64; None is skipped.

    Subclasses (masked arrays, matrices) have rules of their own and do not count.
    """
    given = [a for a in arrays if a is not None]
    return bool(given) and all(
        type(a) is np.ndarray and a.dtype == given[0].dtype and a.dtype in _DTYPES for a in given
    )


def product(a, b):
    """The matrix that ``a.dot(b)`` gives, or None: NumPy is as fast there, or has to see to it.

    What this saves is less the product than what follows it: OpenBLAS's threads spin for some
    10 ms after each, on the processors where fastconv's threads are to compute the next layer,
    which may then take twice as long.
    """
    if not (fast(a) and fast(b) and a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]):
        return None
    if not use_own(*a.shape, b.shape[1]):
        return None
    dtype = np.result_type(a, b)
    return multiply(a.astype(dtype, copy=False), b.T.astype(dtype, copy=False))
