"""Normalization layers (CS231n, "Neural Networks Part 2", section "Batch Normalization")."""

import numpy as np

from fastconv import _geometry, _norm
from fastconv import functional as F
from fastconv.layers.base import Layer, any_images


class BatchNorm2d(Layer):
    """Batch normalization: each channel gets mean 0 and variance 1, then a scale and a shift.

    In training mode the statistics are those of the batch, and the running ones move towards
    them; in evaluation mode, and for ``layer(x)``, they are the running ones. Behind a convolution
    `fold_batch_norm` makes it part of the filters, as ``net.prepare()`` does.

    Parameters
    ----------
    num_features : int
        Channels of the images.
    eps : float
        Keeps the division finite where a channel hardly varies.
    momentum : float or None
        Share of each batch in the new running statistics; None for their plain average.
    affine : bool
        Whether there are a scale, at first 1, and a shift, at first 0, to be learned.
    track_running_stats : bool
        Whether to keep running statistics; if not, evaluation uses those of the batch, too.
    layout : {"NCHW", "NHWC"}
        Order of the axes.
    dtype : {numpy.float32, numpy.float64}
        Type of parameters and statistics; inputs must have the same.

    Attributes
    ----------
    params : dict
        "weight" and "bias", (num_features,).
    buffers : dict
        "running_mean" and "running_var", (num_features,), and "num_batches_tracked", a count.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import BatchNorm2d
    >>> norm = BatchNorm2d(3)
    >>> y = norm.forward(np.random.default_rng(0).normal(5, 2, (8, 3, 6, 6)).astype(np.float32))
    >>> bool(abs(y.mean()) < 1e-6), bool(abs(y.std() - 1) < 1e-4)
    (True, True)
    >>> norm.buffers["running_mean"].round(1)  # a tenth of the way from 0 to 5
    array([0.5, 0.5, 0.5], dtype=float32)
    """

    _applies_relu = True

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        *,
        layout="NCHW",
        dtype=np.float32,
    ):
        C = _geometry._integer("BatchNorm2d", "num_features", num_features, 1)
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"BatchNorm2d: dtype={dtype}, expected float32 or float64")
        _geometry.image_sizes(any_images(C, layout), layout=layout, op="BatchNorm2d")
        super().__init__(
            weight=np.ones(C, dtype) if affine else None,
            bias=np.zeros(C, dtype) if affine else None,
        )
        self.num_features, self.layout, self.dtype = C, layout, dtype
        self.eps = _norm.check_eps("BatchNorm2d", eps)
        self.momentum = None if momentum is None else _norm.check_momentum("BatchNorm2d", momentum)
        if track_running_stats:
            self.buffers = {
                "running_mean": np.zeros(C, dtype),
                "running_var": np.ones(C, dtype),
                "num_batches_tracked": np.zeros((), np.int64),
            }

    def _forward(self, x, relu=False):
        if self._uses_running_statistics() and not self.training:
            mean, var = self.buffers["running_mean"], self.buffers["running_var"]
            # What backward needs are these numbers, not those that a later batch leaves there.
            return self._infer(x, relu), (x, mean.copy(), var.copy(), False)
        y, mean, var = self._from_batch(x, relu)
        return y, (x, mean, var, True)

    def _infer(self, x, relu=False):
        if not self._uses_running_statistics():
            return self._from_batch(x, relu)[0]
        mean, var = self.buffers["running_mean"], self.buffers["running_var"]
        return F.batch_norm(x, *self._affine(), mean, var, **self._options(relu))

    def _from_batch(self, x, relu):
        running, momentum = (None, None), 0.0
        if self._uses_running_statistics():
            running = self.buffers["running_mean"], self.buffers["running_var"]
            momentum = self.momentum
            if momentum is None:  # the average of all batches
                momentum = 1 / (int(self.buffers["num_batches_tracked"]) + 1)
        how = {"training": True, "momentum": momentum, "return_statistics": True}
        result = F.batch_norm(x, *self._affine(), *running, **how, **self._options(relu))
        if self._uses_running_statistics() and x.size:
            self.buffers["num_batches_tracked"] += 1
        return result

    def _uses_running_statistics(self):
        return "running_mean" in self.buffers

    def _affine(self):
        return self.params.get("weight"), self.params.get("bias")

    def _options(self, relu):
        return {"eps": self.eps, "layout": self.layout, "activation": "relu" if relu else None}

    def _backward(self, dy, kept, need_dx):
        x, mean, var, training = kept
        needs = ("x",) * need_dx + ("w", "b") * ("weight" in self.params)
        dx, *dparams = F.batch_norm_backward(
            dy, x, self.params.get("weight"), mean, var,
            training=training, eps=self.eps, layout=self.layout, needs=needs,
        )  # fmt: skip
        self.grads.update(zip(self.params, dparams, strict=False))
        return dx

    def output_shape(self, in_shape):
        in_shape = _geometry.freeze(in_shape)
        _, C, _ = _geometry.image_sizes(in_shape, layout=self.layout, op="BatchNorm2d")
        if self.num_features != C:
            raise ValueError(
                f"BatchNorm2d: input of shape {in_shape} has {C} channels, expected "
                f"{self.num_features}"
            )
        return in_shape

    def _repr_arguments(self):
        parts = [f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"]
        parts.append(f"affine={'weight' in self.params}")
        parts.append(f"track_running_stats={self._uses_running_statistics()}")
        if self.layout != "NCHW":
            parts.append(f"layout={self.layout!r}")
        return ", ".join(parts)
