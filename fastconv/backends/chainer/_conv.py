"""Columns, convolution, deconvolution, and the gradient of the filters.

The gradient of a convolution's images is a deconvolution, and the other way round: the graph says
so, and there are no functions for them.
"""

import numpy as np

import fastconv
from fastconv.backends.chainer._windows import FIRST, LAST, TO_FIRST, TO_LAST, Windows, takes

# ---- columns ------------------------------------------------------------------------------------


def im2col_cpu(
    original, img, kh, kw, sy, sx, ph, pw, pval=0, cover_all=False, dy=1, dx=1,
    out_h=None, out_w=None
):  # fmt: skip
    """What every window sees, (N, C, KH, KW, OH, OW)."""
    windows = Windows((kh, kw), (sy, sx), (ph, pw), (dy, dx))
    outs = _counts(img, windows, cover_all)
    outs = tuple(o if o is not None else own for o, own in zip((out_h, out_w), outs, strict=True))
    cols = _im2col(img, windows, outs, pval)
    if cols is None:
        return original(
            img, kh, kw, sy, sx, ph, pw, pval, cover_all, dy, dx, out_h, out_w
        )  # fmt: skip
    return cols


def im2col_nd_cpu(original, img, ksize, stride, pad, pval=0, cover_all=False, dilate=1):
    """What every window sees, (N, C, *kernel, *outs)."""
    windows = Windows(ksize, stride, pad, _tuple(dilate, len(ksize)))
    cols = _im2col(img, windows, _counts(img, windows, cover_all), pval)
    if cols is None:
        return original(img, ksize, stride, pad, pval, cover_all, dilate)
    return cols


def col2im_cpu(original, col, sy, sx, ph, pw, h, w, dy=1, dx=1):
    """Columns summed where they came from, (N, C, h, w)."""
    img = _col2im(col, Windows(col.shape[2:4], (sy, sx), (ph, pw), (dy, dx)), (h, w))
    return original(col, sy, sx, ph, pw, h, w, dy, dx) if img is None else img


def col2im_nd_cpu(original, col, stride, pad, dims, dilate=1):
    """Columns summed where they came from, (N, C, *dims)."""
    ndim = len(dims)
    img = None
    if ndim in FIRST and col.ndim == 2 + 2 * ndim == 2 + len(stride) + len(pad):
        windows = Windows(col.shape[2 : 2 + ndim], stride, pad, _tuple(dilate, ndim))
        img = _col2im(col, windows, dims)
    return original(col, stride, pad, dims, dilate) if img is None else img


def _counts(img, windows, cover_all):
    """Numbers of windows; 0 where the arguments do not fit, about which the original complains."""
    sizes = img.shape[2:]
    if len({len(sizes), *map(len, windows)}) > 1:
        return (0,) * len(windows.kernel)
    return windows.outs(sizes, cover_all)


def _im2col(img, windows, outs, pval):
    if not (pval == 0 and takes(img) and len(outs) in FIRST):
        return None
    padding = windows.padding(img.shape[2:], outs)
    if padding is None:
        return None
    _, stride, _, dilation = windows
    cols = fastconv.im2col(img, windows.kernel, stride=stride, padding=padding, dilation=dilation)
    return cols.reshape(*img.shape[:2], *windows.kernel, *outs)


def _col2im(col, windows, sizes):
    if not takes(col):
        return None
    N, C = col.shape[:2]
    outs = col.shape[2 + len(sizes) :]
    padding = windows.padding(sizes, outs)
    if padding is None:
        return None
    cols = col.reshape(N, C * int(np.prod(windows.kernel)), int(np.prod(outs)))
    _, stride, _, dilation = windows
    return fastconv.col2im(
        cols, (N, C, *sizes), windows.kernel, stride=stride, padding=padding, dilation=dilation
    )


def _tuple(value, ndim):
    return tuple(value) if hasattr(value, "__getitem__") else (value,) * ndim


# ---- two dimensions -----------------------------------------------------------------------------


def convolution_2d(original, self, x, W, b):
    """Convolution, with groups and without."""
    y = None if self._use_ideep else _convolve(x, W, b, _windows_2d(self, W), self)
    return original(self, x, W, b) if y is None else (y,)


def weight_gradient_2d(original, self, x, gy):
    """Gradient of the filters, with groups and without."""
    if self._use_ideep or self.W_dtype != x.dtype:
        return original(self, x, gy)
    windows = Windows(
        (self.kh, self.kw), (self.sy, self.sx), (self.ph, self.pw), (self.dy, self.dx)
    )
    gW = _weight_gradient(x, gy, windows, self)
    return original(self, x, gy) if gW is None else (gW,)


def deconvolution_2d(original, self, x, W, b):
    """Deconvolution, with groups and without."""
    y = None
    if not self._use_ideep:
        y = _deconvolve(x, W, b, (self.outh, self.outw), _windows_2d(self, W), self)
    return original(self, x, W, b) if y is None else (y,)


def _windows_2d(node, W):
    return Windows(W.shape[2:], (node.sy, node.sx), (node.ph, node.pw), (node.dy, node.dx))


# ---- any number of dimensions -------------------------------------------------------------------


def convolution_nd(original, self, x, W, b, xp):
    """Convolution in 1-D to 3-D."""
    y = _convolve(x, W, b, Windows(W.shape[2:], self.stride, self.pad, self.dilate), self)
    return original(self, x, W, b, xp) if y is None else (y,)


def weight_gradient_nd(original, self, x, gy, xp):
    """Gradient of the filters in 1-D to 3-D."""
    gW = None
    if self.W_dtype == x.dtype:
        windows = Windows(self.ksize, self.stride, self.pad, self.dilate)
        gW = _weight_gradient(x, gy, windows, self)
    return original(self, x, gy, xp) if gW is None else (gW,)


def deconvolution_nd(original, self, x, W, b, xp):
    """Deconvolution in 1-D to 3-D."""
    windows = Windows(W.shape[2:], self.stride, self.pad, self.dilate)
    y = _deconvolve(x, W, b, self.outs, windows, self)
    return original(self, x, W, b, xp) if y is None else (y,)


# ---- all of them --------------------------------------------------------------------------------


def _convolve(x, W, b, windows, node):
    """The result in the original's order: channels last, with groups channels before images."""
    ndim, groups = x.ndim - 2, node.groups
    if not (ndim in FIRST and takes(x, W, b) and _divides(groups, x.shape[1], W.shape[0])):
        return None
    outs = windows.outs(x.shape[2:], node.cover_all)
    padding = windows.padding(x.shape[2:], outs)
    if padding is None:
        return None
    conv = getattr(fastconv, f"conv{ndim}d")
    steps = {"stride": windows.stride, "padding": padding, "dilation": windows.dilation}
    if groups > 1:
        y = np.empty((W.shape[0], x.shape[0], *outs), x.dtype).swapaxes(0, 1)
        return conv(x, W, b, groups=groups, out=y, **steps)
    y = conv(x.transpose(TO_LAST[ndim]), W, b, layout=LAST[ndim], **steps)
    return y.transpose(TO_FIRST[ndim])


def _weight_gradient(x, gy, windows, node):
    ndim, groups = x.ndim - 2, node.groups
    if not (ndim in FIRST and takes(x, gy) and _divides(groups, x.shape[1], gy.shape[1])):
        return None
    padding = windows.padding(x.shape[2:], gy.shape[2:])
    if padding is None:
        return None
    return getattr(fastconv, f"conv{ndim}d_weight_grad")(
        gy,
        x,
        (gy.shape[1], x.shape[1] // groups, *windows.kernel),
        stride=windows.stride,
        padding=padding,
        dilation=windows.dilation,
        groups=groups,
    )


def _deconvolve(x, W, b, sizes, windows, node):
    ndim = x.ndim - 2
    if not (ndim in FIRST and takes(x, W, b) and _divides(node.groups, x.shape[1])):
        return None
    if windows.padding(sizes, x.shape[2:]) is None:
        return None
    beyond = windows.reach_beyond(sizes, x.shape[2:])
    return getattr(fastconv, f"conv_transpose{ndim}d")(
        x,
        W,
        b,
        stride=windows.stride,
        padding=tuple((p, max(b, 0)) for p, b in zip(windows.pad, beyond, strict=True)),
        output_padding=tuple(max(-b, 0) for b in beyond),
        dilation=windows.dilation,
        groups=node.groups,
    )


def _divides(groups, *channels):
    return all(c % groups == 0 for c in channels)
