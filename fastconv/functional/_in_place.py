"""One pass over memory, on all threads, that may write where it reads: sums and activations."""

import numpy as np

from fastconv import _checks, _core


def add(a, b, relu=False, out=None):
    """``a + b``, or ``max(a + b, 0)``, of arrays of one shape and dtype; `out` may be a or b."""
    if a.shape != b.shape:
        raise ValueError(f"the terms of a sum have shapes {a.shape} and {b.shape}")
    if not (a.flags.c_contiguous and b.flags.c_contiguous and a.dtype == b.dtype):
        y = np.add(a, b, out=out)
        return np.maximum(y, 0, out=y) if relu else y
    flat = None if out is None else out.reshape(-1)
    return _core.add(a.reshape(-1), b.reshape(-1), relu, flat).reshape(a.shape)


def activate(x, activation):
    """The activation of that name, in place."""
    flat = x.reshape(-1)
    y = _core.relu(flat, _checks.ACTIVATIONS[activation], flat if x.flags.c_contiguous else None)
    return y.reshape(x.shape)
