"""Convolution with fixed filters."""

from fastconv import _checks, _geometry
from fastconv._geometry import freeze
from fastconv.reference.conv import conv2d


class PreparedConv2d:
    """A convolution with copies of its filters, bias and options; see `prepare_conv2d`.

    Attributes
    ----------
    x_shape : tuple of int or None
        As it was given.
    algorithm : str
        The algo that was asked for.
    weight_bytes, nbytes : int
        Bytes of the filters, and with the bias.
    """

    plan = None

    def __init__(self, w, b, x_shape, options):
        self._w, self._b = w.copy(), None if b is None else b.copy()
        self._options = options
        self.x_shape, self.algorithm = x_shape, options["algo"]
        self.weight_bytes = w.nbytes
        self.nbytes = w.nbytes + (0 if b is None else b.nbytes)

    def __call__(self, x, out=None):
        return conv2d(x, self._w, self._b, **self._options, out=out)

    def __repr__(self):
        return f"PreparedConv2d(w={self._w.shape}, {self._w.dtype}, algorithm={self.algorithm!r})"


def prepare_conv2d(
    w,
    b=None,
    *,
    x_shape=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    activation=None,
    fit="floor",
    algo="auto",
):
    """Fix the filters of a convolution: ``prepare_conv2d(w, b)(x)`` is ``conv2d(x, w, b)``.

    Parameters
    ----------
    w, b, stride, padding, dilation, groups, layout, activation, fit, algo
        As for `conv2d`; w and b are copied.
    x_shape : tuple of int, optional
        Checked, but of no effect here.

    Returns
    -------
    PreparedConv2d
        A callable, ``p(x, out=None)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import reference
    >>> p = reference.prepare_conv2d(np.ones((1, 1, 2, 2)))
    >>> p(np.ones((1, 1, 2, 3)))
    array([[[[4., 4.]]]])
    """
    op = "prepare_conv2d"
    _checks.check_arrays(op, w=w, b=b)
    _checks.check_algo(op, algo)
    _checks.check_activation(op, activation)
    shapes = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "layout": layout,
        "fit": fit,
    }
    shapes = {name: freeze(value) for name, value in shapes.items()}
    x_shape = freeze(x_shape)
    if x_shape is None:
        _geometry.check_filters(w.shape, **shapes, op=op)
    else:
        _geometry.conv_geometry(x_shape, w.shape, **shapes, op=op)
    _checks.check_bias(op, b, w.shape[0], w.shape)
    options = {**shapes, "activation": activation, "algo": algo}
    return PreparedConv2d(w, b, x_shape, options)
