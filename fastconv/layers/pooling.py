"""Pooling layers: downsample each channel on its own (CS231n, "Pooling Layer")."""

from fastconv import _geometry
from fastconv import functional as F
from fastconv.layers.base import Layer, any_images


class _Pool2d(Layer):
    """What the pooling layers with windows share: their arguments, shapes and repr."""

    def __init__(self, kernel_size, stride, **options):
        super().__init__()
        self.kernel_size = _geometry.freeze(kernel_size)
        stride = self.kernel_size if stride is None else _geometry.freeze(stride)
        self.options = {"stride": stride} | options
        fit = options["fit"]  # refused unless it is one; no image is at hand that would have to fit
        self._geometry(any_images(1, options["layout"]), fit="floor" if fit == "strict" else fit)

    def output_shape(self, in_shape):
        return self._geometry(_geometry.freeze(in_shape)).y_shape

    def _geometry(self, in_shape, **changes):
        options = {name: v for name, v in self.options.items() if name != "count_include_pad"}
        options |= changes
        op = type(self).__name__
        return _geometry.pool_geometry(in_shape, self.kernel_size, op=op, **options)

    def _repr_arguments(self):
        shown = {"kernel_size": self.kernel_size} | self.options
        usual = {"layout": "NCHW", "fit": "floor"}
        shown = {name: v for name, v in shown.items() if usual.get(name) != v}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


class MaxPool2d(_Pool2d):
    """The largest value of each window; the gradient goes to where it came from.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Window size. The lecture's common choice is 2, less often 3 with stride 2.
    stride : int, (int, int) or None
        Step of the window; None means `kernel_size`.
    padding : int, (ph, pw) or ((top, bottom), (left, right))
        Cells around the image that never win.
    dilation : int or (int, int)
        Spacing of the window's cells.
    ceil_mode : bool
        Whether a window may reach beyond the end, so that the last pixels count too.
    layout : {"NCHW", "NHWC"}
        Order of the axes.
    fit : {"floor", "strict", "pad"}
        What to do where (H - F + 2P) / S is not whole: drop the rest, raise a ValueError that names
        the numbers and what would fit, or round up as with `ceil_mode`.

    Notes
    -----
    For the backward pass the layer keeps its output and one byte per number in it: the winner's
    place in its window (four bytes where windows have more than 255 cells).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import MaxPool2d
    >>> MaxPool2d(2)(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]], dtype=float32)
    """

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        *,
        layout="NCHW",
        fit="floor",
    ):
        super().__init__(
            kernel_size,
            stride,
            padding=_geometry.freeze(padding),
            dilation=_geometry.freeze(dilation),
            ceil_mode=bool(ceil_mode),
            layout=layout,
            fit=fit,
        )

    _undoes_relu = True

    def _forward(self, x):
        y, offsets = F.max_pool_window(x, self.kernel_size, **self.options)
        return y, (offsets, x.shape, y)

    def _infer(self, x):
        return F.max_pool2d(x, self.kernel_size, **self.options)

    def _backward(self, dy, kept, need_dx, relu=False):
        if not need_dx:
            return None
        offsets, x_shape, y = kept
        if relu:  # a pixel that wins is positive where the maximum is, and there are fewer of those
            dy = F.relu_backward(dy, y)
        return F.max_pool_window_backward(dy, offsets, x_shape, self.kernel_size, **self.options)


class AvgPool2d(_Pool2d):
    """The mean of each window.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode, layout, fit
        As for `MaxPool2d`; padded cells count as zeros.
    count_include_pad : bool
        Whether padded cells count in the divisor.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import AvgPool2d
    >>> AvgPool2d(2)(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]], dtype=float32)
    """

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        *,
        layout="NCHW",
        fit="floor",
    ):
        super().__init__(
            kernel_size,
            stride,
            padding=_geometry.freeze(padding),
            ceil_mode=bool(ceil_mode),
            count_include_pad=bool(count_include_pad),
            layout=layout,
            fit=fit,
        )

    def _forward(self, x):
        return F.avg_pool2d(x, self.kernel_size, **self.options), x.shape

    def _backward(self, dy, x_shape, need_dx):
        if not need_dx:
            return None
        return F.avg_pool2d_backward(dy, x_shape, self.kernel_size, **self.options)


class LPPool2d(_Pool2d):
    """The p-norm of each window, ``(sum |x|^p)^(1/p)``; with p = 2 the lecture's L2 pooling.

    Parameters
    ----------
    norm_type : float
        The power p.
    kernel_size, stride, ceil_mode, layout, fit
        As for `MaxPool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import LPPool2d
    >>> LPPool2d(2, 2)(np.array([[[[3, 0], [0, 4]]]], np.float32))
    array([[[[5.]]]], dtype=float32)
    """

    def __init__(
        self, norm_type, kernel_size, stride=None, ceil_mode=False, *, layout="NCHW", fit="floor"
    ):
        super().__init__(kernel_size, stride, ceil_mode=bool(ceil_mode), layout=layout, fit=fit)
        self.norm_type = norm_type

    def _forward(self, x):
        y = F.lp_pool2d(x, self.norm_type, self.kernel_size, **self.options)
        return y, (x, y)

    def _backward(self, dy, kept, need_dx):
        if not need_dx:
            return None
        return F.lp_pool2d_backward(dy, *kept, self.norm_type, self.kernel_size, **self.options)

    def _repr_arguments(self):
        return f"norm_type={self.norm_type}, {super()._repr_arguments()}"


class GlobalAvgPool2d(Layer):
    """The mean of each channel over the whole image, as (N, C, 1, 1) or (N, 1, 1, C).

    Parameters
    ----------
    layout : {"NCHW", "NHWC"}
        Order of the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import GlobalAvgPool2d
    >>> GlobalAvgPool2d()(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4))
    array([[[[7.5]]]], dtype=float32)
    """

    def __init__(self, *, layout="NCHW"):
        super().__init__()
        self.layout = layout
        self.output_shape(any_images(1, layout))

    def _forward(self, x):
        return F.global_avg_pool2d(x, layout=self.layout), x.shape

    def _backward(self, dy, x_shape, need_dx):
        if not need_dx:
            return None
        return F.global_avg_pool2d_backward(dy, x_shape, layout=self.layout)

    def output_shape(self, in_shape):
        shape, op = _geometry.freeze(in_shape), "GlobalAvgPool2d"
        g = _geometry.pool_geometry(shape, 1, layout=self.layout, op=op)
        return (g.N, 1, 1, g.C) if g.channels_last else (g.N, g.C, 1, 1)

    def _repr_arguments(self):
        return "" if self.layout == "NCHW" else f"layout={self.layout!r}"
