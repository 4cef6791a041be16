"""Convolution and transposed convolution with their filters (CS231n, "Convolutional Layer")."""

from math import prod

import numpy as np

from fastconv import _geometry
from fastconv import functional as F
from fastconv.functional.conv import conv2d_relu_backward
from fastconv.layers.base import Layer, any_images, he_normal


class Conv2d(Layer):
    """Convolution of a batch of images with learned filters.

    Filter k slides over the padded image; at each place the output is the dot product of the
    filter with the pixels under it, plus the filter's bias: ``y[n, k] = w[k] * x[n] + b[k]``.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the images, and number of filters.
    kernel_size, stride, dilation : int or (int, int)
        Filter size, step of the filter, and spacing of its cells, as (height, width).
    padding : int, (ph, pw), ((top, bottom), (left, right)), "valid", "same" or "same_lower"
        Zeros around the image.
    groups : int
        Splits the channels into groups that do not see each other.
    bias : bool
        Whether each filter adds a bias.
    layout : {"NCHW", "NHWC"}
        Order of the axes of input and output. The weight is always (OC, C/groups, KH, KW).
    dtype : {numpy.float32, numpy.float64}
        Type of the parameters; inputs must have the same.
    rng : None, int or numpy.random.Generator
        Source of the initial weights: He normal, biases zero. Give all layers of a network one
        Generator: layers of one shape that get the same int start out with the same weights.
    algo : str
        How to compute it, as in `fastconv.conv2d`.
    fit : {"floor", "strict", "pad"}
        What to do where (H - F + 2P) / S is not whole: drop the rest, raise a ValueError that names
        the numbers and what would fit, or add zeros at the end.

    Attributes
    ----------
    params : dict
        "weight", (out_channels, in_channels/groups, KH, KW), and "bias", (out_channels,).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Conv2d
    >>> conv = Conv2d(3, 10, 5, padding=2, rng=0)
    >>> conv.forward(np.ones((1, 3, 32, 32), np.float32)).shape
    (1, 10, 32, 32)
    >>> sum(p.size for p in conv.params.values())
    760
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        *,
        layout="NCHW",
        dtype=np.float32,
        rng=None,
        algo="auto",
        fit="floor",
    ):
        C, OC, G = _channels("Conv2d", in_channels, out_channels, groups)
        self.kernel_size = _geometry._per_axis("Conv2d", "kernel_size", kernel_size, 2)
        self.algo = algo
        self.options = {
            "stride": _geometry.freeze(stride),
            "padding": _geometry.freeze(padding),
            "dilation": _geometry.freeze(dilation),
            "groups": G,
            "layout": layout,
            "fit": fit,
        }
        shape = (OC, C // G, *self.kernel_size)
        g = _geometry.check_filters(shape, op="Conv2d", **self.options)
        self.options |= {"stride": g.stride, "dilation": g.dilation}
        super().__init__(
            weight=he_normal(shape, fan_in=prod(shape[1:]), dtype=dtype, rng=rng),
            bias=np.zeros(OC, dtype) if bias else None,
        )

    _applies_relu = _undoes_relu = True

    def _forward(self, x, **relu):
        # A derived class whose _infer(x) knows of no ReLU is never asked for one.
        return self._infer(x, **relu), x

    def _infer(self, x, relu=False):
        w, b = self.params["weight"], self.params.get("bias")
        how = {"activation": "relu" if relu else None, "algo": self.algo, **self.options}
        return F.conv2d(x, w, b, **how)

    def prepare(self, x_shape=None, activation=None):
        """Pack the weights, as they are now, for inference.

        Parameters
        ----------
        x_shape : tuple of int, optional
            Shape of the images to come; others are welcome, too.
        activation : {None, "relu"}, optional
            Applied to the output: takes the place of a ReLU layer behind this one.

        Returns
        -------
        PreparedConv2d
            A callable that gives what ``layer(x)`` gives now; see `fastconv.prepare_conv2d`. Later
            changes of the parameters do not reach it.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.layers import Conv2d
        >>> conv = Conv2d(3, 10, 5, padding=2, rng=0).prepare((1, 3, 32, 32), activation="relu")
        >>> conv(np.ones((1, 3, 32, 32), np.float32)).shape
        (1, 10, 32, 32)
        """
        w, b = self.params["weight"], self.params.get("bias")
        how = {"activation": activation, "algo": self.algo, **self.options}
        return F.prepare_conv2d(w, b, x_shape=x_shape, **how)

    def _backward(self, dy, x, need_dx, relu=False):
        w = self.params["weight"]
        needs = _needs(self, need_dx)
        backward = conv2d_relu_backward if relu else F.conv2d_backward
        dx, *dparams = backward(dy, x, w, needs=needs, algo=self.algo, **self.options)
        self.grads.update(zip(self.params, dparams, strict=False))
        return dx

    def output_shape(self, in_shape):
        in_shape, w_shape = _geometry.freeze(in_shape), self.params["weight"].shape
        return _geometry.conv_geometry(in_shape, w_shape, op="Conv2d", **self.options).y_shape

    def _repr_arguments(self):
        OC, C = self.params["weight"].shape[:2]
        return _conv_arguments(self, C * self.options["groups"], OC)


class ConvTranspose2d(Layer):
    """Transposed convolution: the input gradient of a convolution, used as a layer.

    Each input pixel adds a copy of the filter, scaled by its value, to the output; with stride S
    the copies stand S pixels apart, so that images grow. ``ConvTranspose2d(C, OC, ...)`` gives
    the shapes that ``Conv2d(OC, C, ...)`` takes; `output_padding` picks one where several fit.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, dilation, groups, bias, layout, dtype, rng
        As for `Conv2d`.
    padding : int, (ph, pw) or ((top, bottom), (left, right))
        Rows and columns cut off from the output.
    output_padding : int or (int, int)
        Rows and columns added at the end; smaller than the stride or the dilation.

    Attributes
    ----------
    params : dict
        "weight", (in_channels, out_channels/groups, KH, KW), and "bias", (out_channels,).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import ConvTranspose2d
    >>> up = ConvTranspose2d(8, 4, 2, stride=2, rng=0)
    >>> up(np.ones((1, 8, 16, 16), np.float32)).shape
    (1, 4, 32, 32)
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        *,
        layout="NCHW",
        dtype=np.float32,
        rng=None,
    ):
        C, OC, G = _channels("ConvTranspose2d", in_channels, out_channels, groups)
        self.kernel_size = _geometry._per_axis("ConvTranspose2d", "kernel_size", kernel_size, 2)
        self.options = {
            "stride": _geometry.freeze(stride),
            "padding": _geometry.freeze(padding),
            "dilation": _geometry.freeze(dilation),
            "output_padding": _geometry.freeze(output_padding),
            "groups": G,
            "layout": layout,
        }
        shape = (C, OC // G, *self.kernel_size)
        g = _geometry.conv_transpose_geometry(
            any_images(C, layout), shape, op="ConvTranspose2d", **self.options
        )
        self.options |= {"stride": g.stride, "dilation": g.dilation}
        # An output pixel lies under one in SH * SW of the filter copies.
        fan_in = max(1, C // G * prod(self.kernel_size) / prod(g.stride))
        super().__init__(
            weight=he_normal(shape, fan_in=fan_in, dtype=dtype, rng=rng),
            bias=np.zeros(OC, dtype) if bias else None,
        )

    def _forward(self, x):
        return self._infer(x), x

    def _infer(self, x):
        w, b = self.params["weight"], self.params.get("bias")
        return F.conv_transpose2d(x, w, b, **self.options)

    def _backward(self, dy, x, need_dx):
        w = self.params["weight"]
        needs = _needs(self, need_dx)
        dx, *dparams = F.conv_transpose2d_backward(dy, x, w, needs=needs, **self.options)
        self.grads.update(zip(self.params, dparams, strict=False))
        return dx

    def output_shape(self, in_shape):
        in_shape, w_shape = _geometry.freeze(in_shape), self.params["weight"].shape
        g = _geometry.conv_transpose_geometry(
            in_shape, w_shape, op="ConvTranspose2d", **self.options
        )
        return g.x_shape

    def _repr_arguments(self):
        C, OC = self.params["weight"].shape[:2]
        return _conv_arguments(self, C, OC * self.options["groups"])


def _needs(layer, need_dx):
    return ("x",) * need_dx + ("w",) + ("b",) * ("bias" in layer.params)


def _channels(layer, in_channels, out_channels, groups):
    """Check the three counts of a convolution and return them as ints."""
    C = _geometry._integer(layer, "in_channels", in_channels, 1)
    OC = _geometry._integer(layer, "out_channels", out_channels, 1)
    G = _geometry._integer(layer, "groups", groups, 1)
    if C % G or OC % G:
        raise ValueError(f"{layer}: groups={G} must divide in_channels={C} and out_channels={OC}")
    return C, OC, G


def _conv_arguments(layer, C, OC):
    """Write the arguments of a convolution as PyTorch's repr does: the rest only if unusual."""
    usual = {
        "padding": (0, (0, 0), "valid"),
        "output_padding": (0, (0, 0)),
        "dilation": ((1, 1),),
        "groups": (1,),
        "layout": ("NCHW",),
        "fit": ("floor",),
    }
    parts = [str(C), str(OC), f"kernel_size={layer.kernel_size}"]
    for name, value in layer.options.items():
        if value not in usual.get(name, ()):
            parts.append(f"{name}={value!r}")
    if "bias" not in layer.params:
        parts.append("bias=False")
    return ", ".join(parts)
