"""Convolution with filters that are packed once for many calls: inference."""

from threading import Lock

import numpy as np

from fastconv import _checks, _core, _geometry
from fastconv._geometry import freeze
from fastconv._plan import describe, tile_in_words
from fastconv.functional import _im2col
from fastconv.functional.conv import conv_shape

# Shapes whose plans are kept; more start afresh. Filters are packed anew for none of them.
MOST_SHAPES = 256

_ndarray = np.ndarray


class _Unprepared:
    """One shape of algo="naive" or "im2col", which take filters as they are."""

    stale = False

    def __init__(self, g, w, b, relu, algo):
        self.g, self._arguments, self._algo = g, (w, b, relu), algo

    def __call__(self, x, out=None):
        if self._algo == "im2col":
            return _im2col.forward(self.g, x, *self._arguments, out)
        return _core.conv_forward(self.g, x, *self._arguments, self._algo, out)

    def plan(self):
        return _core.conv_plan(self.g, self._arguments[0].dtype) | {"algorithm": self._algo}


class PreparedConv2d:
    """A convolution with fixed filters, ready for images: what `prepare_conv2d` returns.

    ``p(x)`` equals ``conv2d(x, w, b, ...)``: bit for bit where both take the same algorithm and
    the same tile of it (`plan.reason` names Winograd's), and within rounding where they do not, for
    packed filters make Winograd's algorithm cheaper.

    Filters and bias are copies: later changes of the arrays do not matter. Several threads may
    call one object at the same time. It can be pickled and copied; a pickle holds the plain filters
    and is packed again where it is loaded, for that machine's instruction set.

    What is kept: the plain filters, and one packed copy for each of the four forms that a shape
    has asked for (panels for either side of the GEMM's tile, either of Winograd's tiles). A form
    does not depend on the size of the images or on the number of threads, so images of other shapes
    find their filters packed, or have one more form made at the first call. Winograd's forms take 4
    and 1.8 times the memory of 3x3 filters.

    Parameters
    ----------
    w, b, x_shape, stride, padding, dilation, groups, layout, activation, fit, algo
        As for `prepare_conv2d`.

    Attributes
    ----------
    x_shape : tuple of int or None
        The shape that was planned beforehand.
    """

    def __init__(
        self,
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
        op = "prepare_conv2d"
        self._dtype = _checks.check_arrays(op, w=w, b=b)
        self.x_shape = freeze(x_shape)
        options = zip(_DEFAULTS, (stride, padding, dilation, groups, layout, fit), strict=True)
        self._options = {name: freeze(value) for name, value in options}
        _checks.check_algo(op, algo)
        _checks.check_activation(op, activation)
        self._algo, self._activation = algo, activation
        self._w_shape = w.shape
        if x_shape is None:
            self._check_without_images(op)
        else:
            _checks.check_suits(op, algo, self._shape(op, self.x_shape))
        _checks.check_bias(op, b, w.shape[0], w.shape)
        self._w, self._b = _kept(w), None if b is None else _kept(b)
        self._lock = Lock()
        self._forms, self._shapes = {}, {}
        if x_shape is not None:
            self._prepare(self._shape(op, self.x_shape))

    def _shape(self, op, x_shape):
        return conv_shape(op, x_shape, self._w_shape, **self._options)

    def _check_without_images(self, op):
        """Refuse what no images would suit."""
        g = _geometry.check_filters(self._w_shape, **self._options, op=op)
        if self._algo == "winograd" and not (
            g.kernel in ((3, 3), (5, 5)) and g.stride == g.dilation == (1, 1)
        ):
            _checks.check_suits(op, self._algo, _core.Conv(g))

    def _prepare(self, g):
        """The convolution of one shape, its filters packed; made once."""
        with self._lock:
            call = self._shapes.get(g.x_shape)
            if call is None or call.stale:
                if call is not None:  # packed for other kernels, as everything is
                    self._forms = {}
                if call is not None or len(self._shapes) >= MOST_SHAPES:
                    self._shapes = {}
                call = self._make(g)
                self._shapes[g.x_shape] = call
        return call

    def _make(self, g):
        relu = _checks.ACTIVATIONS[self._activation]
        if self._algo in ("naive", "im2col"):
            return _Unprepared(g, self._w, self._b, relu, self._algo)
        return _core.PreparedConv(g, self._w, self._b, relu, self._algo, self._forms)

    def __call__(self, x, out=None):
        """Convolve images.

        Parameters
        ----------
        x : ndarray, (N, C, H, W), or (N, H, W, C) with layout="NHWC"
            Images of any size, of the filters' dtype.
        out : ndarray, optional
            Where to write the result; it may not share memory with x.

        Returns
        -------
        ndarray, (N, OC, OH, OW) or (N, OH, OW, OC)

        Raises
        ------
        TypeError, ValueError
            As `conv2d`.
        """
        call = None
        if type(x) is _ndarray and x.dtype is self._dtype:
            call = self._shapes.get(x.shape)
        if call is None or call.stale:
            _checks.check_arrays("conv2d", x=x, w=self._w)
            g = self._shape("conv2d", x.shape)
            _checks.check_suits("conv2d", self._algo, g)
            call = self._prepare(g)
        if out is not None:
            _checks.check_out("conv2d", out, call.g.y_shape, self._dtype, x=x)
        return call(x, out)

    @property
    def plan(self):
        """What a call with images of `x_shape` does, a `ConvPlan`; None if there is no x_shape."""
        if self.x_shape is None:
            return None
        call = self._prepare(self._shape("conv2d", self.x_shape))
        plan = call.plan()
        reason = None if self._algo == "auto" else f"algo={self._algo!r} was asked for"
        if self._algo == "winograd":
            reason += ", in " + tile_in_words(plan)
        return describe(plan, call.g, self._dtype, reason)

    @property
    def algorithm(self):
        """Name of the algorithm for `x_shape`; the `algo` that was asked for if there is none."""
        return self._algo if self.x_shape is None else self.plan.algorithm

    @property
    def weight_bytes(self):
        """Bytes that the filters take, plain and packed."""
        with self._lock:
            return self._w.nbytes + sum(memory.nbytes for memory in self._forms.values())

    @property
    def nbytes(self):
        """Bytes of all arrays that are kept: filters, packed filters and bias."""
        return self.weight_bytes + (0 if self._b is None else self._b.nbytes)

    def __repr__(self):
        about = [f"w={self._w_shape}", str(self._dtype)]
        if self.x_shape is not None:
            about.append(f"x_shape={self.x_shape}")
        values = self._options.items()
        about += [f"{name}={value!r}" for name, value in values if value != _DEFAULTS[name]]
        if self._activation is not None:
            about.append(f"activation={self._activation!r}")
        about += [f"algorithm={self.algorithm!r}", f"nbytes={self.nbytes}"]
        return f"PreparedConv2d({', '.join(about)})"

    def __getstate__(self):
        state = {"w": self._w, "b": self._b, "x_shape": self.x_shape, "algo": self._algo}
        return state | self._options | {"activation": self._activation}

    def __setstate__(self, state):
        self.__init__(**state)


_DEFAULTS = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "layout": "NCHW",
    "fit": "floor",
}


def _kept(array):
    """A contiguous copy that nobody can change."""
    copy = np.array(array, order="C", copy=True, subok=False)
    copy.flags.writeable = False
    return copy


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
    """Pack filters once for many convolutions: `conv2d` for inference.

    `conv2d` packs its filters, or transforms them for Winograd's algorithm, at every call, for
    arrays are mutable. Where filters are large and images small or few, that is much of its time.

    Parameters
    ----------
    w : ndarray, (OC, C // groups, KH, KW)
        Filters; they are copied.
    b : ndarray, (OC,), optional
        Biases; they are copied.
    x_shape : tuple of int, optional
        Shape of the images to come, in the order of `layout`: algorithm and packing are then chosen
        at once. Images of other shapes are welcome, too; each shape is planned at its first call.
    stride, padding, dilation, groups, layout, activation, fit, algo
        As for `conv2d`.

    Returns
    -------
    PreparedConv2d
        A callable: ``p(x, out=None)`` gives what ``conv2d(x, w, b, ..., out=out)`` gives, within
        rounding, and from several threads at a time. It pickles, and has the attributes `x_shape`,
        `algorithm`, `plan`, `weight_bytes` and `nbytes`.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`, here for what is wrong with the filters and options, and in the call for what
        is wrong with the images.

    See Also
    --------
    fastconv.layers.Conv2d.prepare : The same from a layer's parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> w, b = np.ones((8, 4, 3, 3), np.float32), np.zeros(8, np.float32)
    >>> p = fastconv.prepare_conv2d(w, b, x_shape=(1, 4, 16, 16), padding=1, activation="relu")
    >>> p(np.ones((1, 4, 16, 16), np.float32)).shape
    (1, 8, 16, 16)
    >>> p(np.ones((2, 4, 9, 7), np.float32)).shape
    (2, 8, 9, 7)
    >>> p.algorithm
    'gemm'
    """
    return PreparedConv2d(
        w,
        b,
        x_shape=x_shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        layout=layout,
        activation=activation,
        fit=fit,
        algo=algo,
    )
