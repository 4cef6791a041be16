"""The locally connected layer (CS231n, "Convolutional Layer", "Parameter Sharing")."""

from math import prod

import numpy as np

from fastconv import _geometry
from fastconv import functional as F
from fastconv.layers.base import Layer, he_normal


class LocallyConnected2d(Layer):
    """Convolution with filters of their own at each place, for images of one size.

    Parameters
    ----------
    in_size : int or (int, int)
        Height and width of the images, which decide how many places there are.
    in_channels, out_channels : int
        Channels of the images, and number of filters at each place.
    kernel_size, stride, padding, dilation, layout, dtype, rng
        As for `Conv2d`.
    bias : bool
        Whether each output has a bias of its own.

    Attributes
    ----------
    params : dict
        "weight", (OH, OW, out_channels, in_channels, KH, KW), and "bias", (OH, OW, out_channels).

    Examples
    --------
    On AlexNet's images of 227x227 its first layer would have 105,705,600 parameters; on 27x27:

    >>> import numpy as np
    >>> from fastconv.layers import LocallyConnected2d
    >>> local = LocallyConnected2d(27, 3, 96, 11, stride=4, rng=0)
    >>> local(np.ones((1, 3, 27, 27), np.float32)).shape
    (1, 96, 5, 5)
    >>> sum(p.size for p in local.params.values())
    873600
    """

    def __init__(
        self,
        in_size,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        bias=True,
        *,
        layout="NCHW",
        dtype=np.float32,
        rng=None,
    ):
        op = "LocallyConnected2d"
        self.in_size = _geometry._per_axis(op, "in_size", in_size, 2)
        C = _geometry._integer(op, "in_channels", in_channels, 1)
        OC = _geometry._integer(op, "out_channels", out_channels, 1)
        self.kernel_size = _geometry._per_axis(op, "kernel_size", kernel_size, 2)
        self.options = {
            "stride": _geometry.freeze(stride),
            "padding": _geometry.freeze(padding),
            "dilation": _geometry.freeze(dilation),
            "layout": layout,
        }
        self._image = (*self.in_size, C) if layout == "NHWC" else (C, *self.in_size)
        filters = (OC, C, *self.kernel_size)
        g = _geometry.conv_geometry((1, *self._image), filters, op=op, **self.options)
        self.options |= {"stride": g.stride, "dilation": g.dilation}
        shape = (*g.out_size, *filters)
        super().__init__(
            weight=he_normal(shape, fan_in=prod(filters[1:]), dtype=dtype, rng=rng),
            bias=np.zeros((*g.out_size, OC), dtype) if bias else None,
        )

    def _forward(self, x):
        w, b = self.params["weight"], self.params.get("bias")
        return F.local_conv2d(x, w, b, **self.options), x

    def _backward(self, dy, x, need_dx):
        w = self.params["weight"]
        needs = ("x",) * need_dx + ("w",) + ("b",) * ("bias" in self.params)
        dx, *dparams = F.local_conv2d_backward(dy, x, w, needs=needs, **self.options)
        self.grads.update(zip(self.params, dparams, strict=False))
        return dx

    def output_shape(self, in_shape):
        in_shape, w_shape = _geometry.freeze(in_shape), self.params["weight"].shape
        if in_shape[1:] != self._image:
            raise ValueError(
                f"LocallyConnected2d: input of shape {in_shape}, expected (N, "
                f"{', '.join(map(str, self._image))})"
            )
        op = "LocallyConnected2d"
        return _geometry.conv_geometry(in_shape, w_shape[2:], op=op, **self.options).y_shape

    def _repr_arguments(self):
        *_, OC, C, _, _ = self.params["weight"].shape
        usual = {"padding": (0, (0, 0), "valid"), "dilation": ((1, 1),), "layout": ("NCHW",)}
        parts = [str(self.in_size), str(C), str(OC), f"kernel_size={self.kernel_size}"]
        for name, value in self.options.items():
            if value not in usual.get(name, ()):
                parts.append(f"{name}={value!r}")
        if "bias" not in self.params:
            parts.append("bias=False")
        return ", ".join(parts)
