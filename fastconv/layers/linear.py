"""The fully-connected layer and the step before it (CS231n, "Fully-connected layer")."""

from math import prod

import numpy as np

from fastconv import _geometry
from fastconv import functional as F
from fastconv._checks import check_is_array
from fastconv.layers.base import Layer, he_normal


class Linear(Layer):
    """Fully-connected layer, ``y = x w^T + b``: every output sees every input.

    Parameters
    ----------
    in_features, out_features : int
        Numbers that go in and come out, for each image of the batch.
    bias : bool
        Whether to add a bias.
    dtype, rng
        As for `Conv2d`; weights start He normal, biases zero.

    Attributes
    ----------
    params : dict
        "weight", (out_features, in_features), and "bias", (out_features,).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Linear
    >>> Linear(64, 10, rng=0)(np.ones((5, 64), np.float32)).shape
    (5, 10)
    """

    def __init__(self, in_features, out_features, bias=True, *, dtype=np.float32, rng=None):
        IN = _geometry._integer("Linear", "in_features", in_features, 1)
        OUT = _geometry._integer("Linear", "out_features", out_features, 1)
        super().__init__(
            weight=he_normal((OUT, IN), fan_in=IN, dtype=dtype, rng=rng),
            bias=np.zeros(OUT, dtype) if bias else None,
        )

    def _forward(self, x):
        return F.linear(x, self.params["weight"], self.params.get("bias")), x

    def _backward(self, dy, x, need_dx):
        needs = ("x",) * need_dx + ("w",) + ("b",) * ("bias" in self.params)
        dx, *dparams = F.linear_backward(dy, x, self.params["weight"], needs=needs)
        self.grads.update(zip(self.params, dparams, strict=False))
        return dx

    def output_shape(self, in_shape):
        OUT, IN = self.params["weight"].shape
        if len(in_shape) != 2 or in_shape[1] != IN:
            raise ValueError(f"Linear: input of shape {tuple(in_shape)}, expected (N, {IN})")
        return in_shape[0], OUT

    def _repr_arguments(self):
        OUT, IN = self.params["weight"].shape
        return f"in_features={IN}, out_features={OUT}, bias={'bias' in self.params}"


class Flatten(Layer):
    """Make one row of numbers of each image: (N, C, H, W) becomes (N, C*H*W).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Flatten
    >>> Flatten()(np.ones((5, 16, 2, 2), np.float32)).shape
    (5, 64)
    """

    def _forward(self, x):
        check_is_array("Flatten", "x", x, "np.asarray(...)")
        return x.reshape(self.output_shape(x.shape)), x.shape

    def _backward(self, dy, x_shape, need_dx):
        expected = self.output_shape(x_shape)
        if dy.shape != expected:
            raise ValueError(f"Flatten.backward: dy has shape {dy.shape}, expected {expected}")
        return dy.reshape(x_shape) if need_dx else None

    def output_shape(self, in_shape):
        if not in_shape:
            raise ValueError("Flatten: input of shape (), expected a batch of images")
        # Not -1, which NumPy refuses for an empty batch.
        return in_shape[0], prod(in_shape[1:])
