"""Locally connected and fully connected layers, ReLU, and both normalizations."""

import numpy as np

import fastconv
from fastconv.backends.chainer._windows import (
    FIRST,
    LAST,
    TO_FIRST,
    TO_LAST,
    in_c_order,
    order,
    takes,
)
from fastconv.functional._product import use_own
from fastconv.functional.local_response_norm import _divide, _norms, _sums

# ---- a filter of its own at each place ----------------------------------------------------------

_BY_PLACE = 1, 2, 0, 3, 4, 5  # filters (OC, OH, OW, C, KH, KW) as fastconv has them
_BY_FILTER = 2, 0, 1, 3, 4, 5


def local_forward(original, self, inputs):
    """Locally connected layer; what lies behind the last window is not looked at."""
    x, W = inputs[:2]
    if not takes(*inputs):
        return original(self, inputs)
    b = inputs[2].transpose(1, 2, 0) if len(inputs) == 3 else None
    seen = x[_seen(self, W)]
    y = fastconv.local_conv2d(seen, W.transpose(_BY_PLACE), b, stride=(self.sy, self.sx))
    self.retain_inputs((0, 1))
    return (y,)


def local_backward(original, self, indices, grad_outputs):
    """Its gradients, outside the graph as in the original: there are none of second order."""
    import chainer.functions as F

    x, W = (variable.data for variable in self.get_retained_inputs())
    (gy,) = grad_outputs
    if not takes(x, W, gy.data):
        return original(self, indices, grad_outputs)
    place = _seen(self, W)
    gx, gW, _ = fastconv.local_conv2d_backward(
        gy.data,
        x[place],
        W.transpose(_BY_PLACE),
        stride=(self.sy, self.sx),
        needs=[need for i, need in enumerate("xw") if i in indices],
    )
    results = []
    if 0 in indices:
        whole = np.zeros_like(x)
        whole[place] = gx
        results.append(F.cast(whole, x.dtype))
    if 1 in indices:
        whole = np.empty_like(W)
        whole[...] = gW.transpose(_BY_FILTER)
        results.append(F.cast(whole, W.dtype))
    if 2 in indices:
        results.append(F.sum(gy, axis=0))
    return results


def _seen(node, W):
    rows = (W.shape[1] - 1) * node.sy + W.shape[4]
    columns = (W.shape[2] - 1) * node.sx + W.shape[5]
    return ..., slice(rows), slice(columns)


# ---- fully connected, if it is large enough for more than NumPy's product -----------------------


def linear_forward(original, self, inputs):
    """``x W^T + b``; a graph that is recorded needs the original's steps."""
    from chainer import config

    x, W = inputs[:2]
    own = use_own(*x.shape, W.shape[0])
    if not own or config.schedule_func is not None or not takes(*inputs):
        return original(self, inputs)
    self._config_use_ideep = config.use_ideep
    self.retain_inputs((0, 1))
    return (fastconv.linear(*inputs),)


def linear_input_gradient(original, self, inputs):
    """``gy W``."""
    W, gy = inputs
    return _product(original, self, inputs, gy, W.T)


def linear_weight_gradient(original, self, inputs):
    """``gy^T x``."""
    x, gy = inputs
    if self._w_dtype != gy.dtype:
        return original(self, inputs)
    return _product(original, self, inputs, gy.T, x.T)


def _product(original, self, inputs, a, b):
    from chainer import config

    if not (use_own(*a.shape, b.shape[0]) and takes(a, b)):
        return original(self, inputs)
    self._config_use_ideep = config.use_ideep
    self.retain_inputs((0, 1))
    return (fastconv.linear(a, b),)


# ---- ReLU ---------------------------------------------------------------------------------------


def relu(original, self, inputs):
    """Rectified linear unit, in the order of its input."""
    (x,) = inputs
    lies = order(x) if takes(x) else None
    if lies is None:
        return original(self, inputs)
    self.retain_outputs((0,))
    return (_back(fastconv.relu(_flat(x, lies)), lies),)


def relu_gradient(original, self, inputs):
    """``gy`` where the output was positive."""
    (gy,) = inputs
    lies = order(gy, self.b) if takes(gy, self.b) and gy.shape == self.b.shape else None
    if lies is None:
        return original(self, inputs)
    return (_back(fastconv.relu_backward(_flat(gy, lies), _flat(self.b, lies)), lies),)


def _flat(x, lies):
    return in_c_order(x) if lies == "first" else x.transpose(TO_LAST[x.ndim - 2])


def _back(y, lies):
    return y if lies == "first" else y.transpose(TO_FIRST[y.ndim - 2])


# ---- local response normalization ---------------------------------------------------------------


def response_norm(original, self, inputs):
    """x / (k + alpha * sum of squares)^beta over ``2 * (n // 2) + 1`` channels."""
    (x,) = inputs
    if not takes(x):
        return original(self, inputs)
    self.retain_inputs((0,))
    self.retain_outputs((0,))
    planes, size = _planes(x), _window(self)
    norms = _norms(planes, size, self.alpha * size, self.k, "NCHW")
    scale = np.empty_like(norms)
    _divide(x.dtype.type(1), norms, self.beta, out=scale)
    self.unit_scale, self.scale = norms.reshape(x.shape), scale.reshape(x.shape)
    return ((planes * scale).reshape(x.shape),)


def response_norm_gradient(original, self, inputs):
    """Its gradient, from what the forward pass has left."""
    if self._use_ideep or not takes(*inputs, self.scale, self.unit_scale):
        return original(self, inputs)
    x, y, gy, scale, norms = map(_planes, (*inputs, self.scale, self.unit_scale))
    gx = y * gy
    gx /= norms
    gx = _sums(gx, _window(self), "NCHW")
    gx *= gx.dtype.type(-2 * self.alpha * self.beta)
    gx *= x
    gx += gy * scale
    return (gx.reshape(inputs[0].shape),)


def _window(node):
    return 2 * (node.n // 2) + 1


def _planes(x):
    """All pixels in one axis, in C order like the original's results: (N, 1, C, pixels)."""
    return in_c_order(x).reshape(x.shape[0], 1, x.shape[1], -1)


# ---- batch normalization ------------------------------------------------------------------------


def batch_norm(
    original, self, axis, gamma, x, x_layout, xp, expander, beta, eps, decay, running_mean,
    running_var
):  # fmt: skip
    """Training's forward pass; statistics over images and pixels, for each channel."""
    arguments = (axis, gamma, x, x_layout, xp, expander, beta, eps, decay)
    lies = _lies(self, axis, x_layout, (x,), gamma, beta)
    if lies is None or x.size == gamma.size:
        return original(self, *arguments, running_mean, running_var)
    y, mean, var = fastconv.batch_norm(
        _flat(x, lies), gamma, beta, training=True, eps=eps, layout=_names(lies)[x.ndim - 2],
        return_statistics=True,
    )  # fmt: skip
    inv_std = 1 / np.sqrt(var + x.dtype.type(eps))
    if running_mean is not None:
        count = x.size // gamma.size
        running_mean *= decay
        running_mean += (1 - decay) * mean
        running_var *= decay
        running_var += (1 - decay) * (count / (count - 1)) * var
    return _back(y, lies), x_layout, running_mean, running_var, mean, var, inv_std, None


def batch_norm_gradient(
    original, self, axis, gamma, gy, x, x_layout, xp, expander, mean, inv_std, eps, var,
    forward_data
):  # fmt: skip
    """Training's gradients."""
    lies = _lies(self, axis, x_layout, (x, gy), gamma, mean, inv_std)
    if lies is None:
        return original(
            self, axis, gamma, gy, x, x_layout, xp, expander, mean, inv_std, eps, var, forward_data
        )
    gx, ggamma, gbeta = fastconv.batch_norm_backward(
        _flat(gy, lies), _flat(x, lies), gamma, mean, inv_std**-2, eps=0,
        layout=_names(lies)[x.ndim - 2],
    )  # fmt: skip
    return _back(gx, lies), None, ggamma, gbeta


def _names(lies):
    return FIRST if lies == "first" else LAST


def _lies(implementation, axis, x_layout, images, *vectors):
    """The order of the result; None if this is not the plain thing over the channels of images."""
    ndim = images[0].ndim
    plain = (
        type(implementation).__name__ == "GeneralBatchNormalizationImpl"
        and x_layout is None
        and ndim - 2 in FIRST
        and tuple(axis) == (0, *range(2, ndim))
        and takes(*images, *vectors)
    )
    return order(*images) if plain else None
