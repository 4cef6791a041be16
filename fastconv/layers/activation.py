"""Activation layers (CS231n, "Neural Networks", section "Commonly used activation functions")."""

import numpy as np

from fastconv import _checks, _geometry
from fastconv import functional as F
from fastconv.layers.base import Layer, check_dtype


class _SameShape(Layer):
    """What activations share: the output has the input's shape."""

    def output_shape(self, in_shape):
        return tuple(in_shape)


class ReLU(_SameShape):
    """max(0, x), number by number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import ReLU
    >>> ReLU()(np.array([-1, 0, 2], np.float32))
    array([0., 0., 2.], dtype=float32)
    """

    def _forward(self, x):
        # The output is positive where the input is, so the input need not stay alive.
        y = F.relu(x)
        return y, y

    def _backward(self, dy, y, need_dx):
        return F.relu_backward(dy, y) if need_dx else None


class ReLU6(_SameShape):
    """min(max(0, x), 6): a ReLU that saturates, for numbers of few bits (MobileNet).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import ReLU6
    >>> ReLU6()(np.array([-1, 2, 9], np.float32))
    array([0., 2., 6.], dtype=float32)
    """

    def _forward(self, x):
        y = F.relu6(x)
        return y, y

    def _backward(self, dy, y, need_dx):
        return F.relu6_backward(dy, y) if need_dx else None


class LeakyReLU(_SameShape):
    """x where it is positive, a small multiple of it elsewhere, so that no unit dies.

    Parameters
    ----------
    negative_slope : float
        The multiple.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import LeakyReLU
    >>> LeakyReLU(0.25)(np.array([-1, 0, 2], np.float32))
    array([-0.25,  0.  ,  2.  ], dtype=float32)
    """

    def __init__(self, negative_slope=0.01):
        super().__init__()
        self.negative_slope = _checks.check_number("LeakyReLU", "negative_slope", negative_slope)

    def _forward(self, x):
        return F.leaky_relu(x, self.negative_slope), x

    def _backward(self, dy, x, need_dx):
        return F.leaky_relu_backward(dy, x, self.negative_slope) if need_dx else None

    def _repr_arguments(self):
        return f"negative_slope={self.negative_slope}"


class PReLU(_SameShape):
    """Leaky ReLU that learns its slopes.

    Parameters
    ----------
    num_parameters : int
        1, for all channels together, or the number of channels.
    init : float
        The first value of the slopes.
    layout : {"NCHW", "NHWC"}
        Where the channels are: the second axis, or the last one.
    dtype : {numpy.float32, numpy.float64}
        Type of the slopes; inputs must have the same.

    Attributes
    ----------
    params : dict
        "weight", (num_parameters,).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import PReLU
    >>> PReLU()(np.array([[-1, 0, 2]], np.float32))
    array([[-0.25,  0.  ,  2.  ]], dtype=float32)
    """

    def __init__(self, num_parameters=1, init=0.25, *, layout="NCHW", dtype=np.float32):
        n = _geometry._integer("PReLU", "num_parameters", num_parameters, 1)
        init = _checks.check_number("PReLU", "init", init)
        if layout not in ("NCHW", "NHWC"):
            raise ValueError(f"PReLU: layout must be 'NCHW' or 'NHWC', got {layout!r}")
        self.layout = layout
        super().__init__(weight=np.full(n, init, check_dtype(dtype)))

    def _forward(self, x):
        return F.prelu(x, self.params["weight"], layout=self.layout), x

    def _backward(self, dy, x, need_dx):
        needs = ("x",) * need_dx + ("w",)
        w = self.params["weight"]
        dx, self.grads["weight"] = F.prelu_backward(dy, x, w, layout=self.layout, needs=needs)
        return dx

    def output_shape(self, in_shape):
        n, in_shape = self.params["weight"].size, tuple(in_shape)
        if n > 1:
            axis = 1 if self.layout == "NCHW" else -1
            channels = in_shape[axis] if len(in_shape) > 1 else None
            if channels != n:
                raise ValueError(
                    f"PReLU: {n} slopes, one for each channel, but input of shape {in_shape} has "
                    f"{channels or 'no'} channels"
                )
        return in_shape

    def _repr_arguments(self):
        layout = "" if self.layout == "NCHW" else f", layout={self.layout!r}"
        return f"num_parameters={self.params['weight'].size}{layout}"


class Sigmoid(_SameShape):
    """1 / (1 + exp(-x)): squashes numbers to lie between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Sigmoid
    >>> Sigmoid()(np.zeros(2, np.float32))
    array([0.5, 0.5], dtype=float32)
    """

    def _forward(self, x):
        y = F.sigmoid(x)
        return y, y

    def _backward(self, dy, y, need_dx):
        return F.sigmoid_backward(dy, y) if need_dx else None


class Tanh(_SameShape):
    """Hyperbolic tangent: squashes numbers to lie between -1 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Tanh
    >>> Tanh()(np.zeros(2, np.float32))
    array([0., 0.], dtype=float32)
    """

    def _forward(self, x):
        y = F.tanh(x)
        return y, y

    def _backward(self, dy, y, need_dx):
        return F.tanh_backward(dy, y) if need_dx else None


class Softmax(_SameShape):
    """Probabilities from scores; to train a classifier, `softmax_loss` takes the scores instead.

    Parameters
    ----------
    axis : int
        The axis of the classes: 1 for (N, classes) and for dense scores (N, classes, H, W).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Softmax
    >>> Softmax()(np.zeros((1, 4), np.float32))
    array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    def __init__(self, axis=1):
        super().__init__()
        self.axis = _geometry._integer("Softmax", "axis", axis, -32)

    def _forward(self, x):
        y = F.softmax(x, axis=self.axis)
        return y, y

    def _backward(self, dy, y, need_dx):
        return F.softmax_backward(dy, y, axis=self.axis) if need_dx else None

    def _repr_arguments(self):
        return f"axis={self.axis}"
