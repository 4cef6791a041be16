"""What the backends ask about arrays."""

import numpy as np

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))  # of this machine's byte order


def fast(*arrays) -> bool:
    """Whether fastconv takes these: NumPy arrays of one dtype, float32 or float64; None is skipped.

    Subclasses (masked arrays, matrices) have rules of their own and do not count.
    """
    given = [a for a in arrays if a is not None]
    return all(type(a) is np.ndarray and a.dtype == given[0].dtype for a in given) and (
        given[0].dtype in _DTYPES
    )
