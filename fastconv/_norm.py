"""Checks of the arguments of batch normalization, for `functional`, `reference` and `layers`."""

from math import prod

from fastconv import _checks, _geometry
from fastconv._geometry import freeze


def check_arrays(op, x, layout, eps, *, required=(), **others):
    """Check what forward and backward share; return how many numbers a channel has.

    `others` are dy and vectors, None where they are left out, unless they are `required`.
    """
    others = {name: a for name, a in others.items() if a is not None or name in required}
    _checks.check_arrays(op, x=x, **others)
    N, C, size = _geometry.image_sizes(x.shape, layout=freeze(layout), op=op)
    for name, array in others.items():
        expected = x.shape if name == "dy" else (C,)
        _checks.check_shape(op, name, array.shape, expected, f"x of shape {x.shape}")
    check_eps(op, eps)
    return N * prod(size)


def check_training(op, count, x_shape, momentum, running_mean, running_var):
    """Check what only training needs; return the momentum."""
    if count == 1:
        raise ValueError(
            f"{op}: x of shape {x_shape} has one number a channel, whose variance means nothing; "
            "training needs a larger batch or larger images"
        )
    for name, array in (("running_mean", running_mean), ("running_var", running_var)):
        if array is not None and not array.flags.writeable:
            raise ValueError(f"{op}: {name} is read-only, but training updates it")
    return check_momentum(op, momentum)


def check_evaluation(op, running_mean, running_var):
    """Check what only evaluation needs."""
    if running_mean is None or running_var is None:
        raise ValueError(f"{op}: evaluation needs running_mean and running_var, or training=True")


def check_fold(op, w, eps, *, mean, var, **others):
    """Check the arguments of `fold_batch_norm`; return eps as a float."""
    vectors = {name: a for name, a in others.items() if a is not None} | {"mean": mean, "var": var}
    _checks.check_arrays(op, w=w, **vectors)
    if not 2 <= w.ndim <= 5:
        raise ValueError(
            f"{op}: w has shape {w.shape}, expected (OC, C/groups, KH, KW), or the filters of "
            "another convolution or of a fully-connected layer"
        )
    for name, vector in vectors.items():
        _checks.check_shape(op, name, vector.shape, w.shape[:1], f"w of shape {w.shape}")
    return check_eps(op, eps)


def check_eps(op, eps):
    """Return eps as a float."""
    number = _checks.check_number(op, "eps", eps)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{op}: eps must be finite and 0 or more, got {eps!r}")
    return number


def check_momentum(op, momentum):
    """Return the share of a batch in the running statistics as a float."""
    number = _checks.check_number(op, "momentum", momentum)
    if not 0 <= number <= 1:
        raise ValueError(f"{op}: momentum must be from 0 to 1, got {momentum!r}")
    return number
