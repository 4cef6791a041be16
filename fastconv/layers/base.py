"""What all layers share: parameters, modes, and what is kept between forward and backward."""

import numpy as np


class Layer:
    """Base class of all layers.

    A layer is a pair of functions of `fastconv.functional` with the memory that the pair needs.
    A subclass gives three methods and never sees the bookkeeping:

    - ``_forward(x)`` returns the output and what the backward pass needs (anything but None);
    - ``_backward(dy, kept, need_dx)`` stores the parameter gradients in ``grads`` and returns the
      input gradient, or None if `need_dx` is false;
    - ``output_shape(in_shape)``;

    and ``_infer(x)``, the output alone in evaluation mode, where that differs from ``_forward``.

    A layer that can do the work of a ReLU next to it, so that no pass over memory is spent on it,
    says so; `Sequential` then asks for it (see there):

    - ``_applies_relu``: ``_forward`` and ``_infer`` take ``relu=True``, and rectify the output;
    - ``_undoes_relu``: ``_backward`` takes ``relu=True``, and returns the gradient for the input
      of the ReLU whose output this layer got.

    Parameters
    ----------
    **params : ndarray
        The trainable arrays by name. None means that the layer has no such parameter.

    Attributes
    ----------
    params : dict of str to ndarray
        Trainable arrays. Optimizers update them in place.
    grads : dict of str to ndarray
        Gradients of the last `backward`, with the keys and shapes of `params`; zero before.
    buffers : dict of str to ndarray
        State that no optimizer trains, such as the running mean of `BatchNorm2d`.
    training : bool
        True in training mode. Matters to layers that act differently there, such as dropout.
    """

    _kept = None
    _applies_relu = False
    _undoes_relu = False

    def __init__(self, **params):
        self.params = {name: value for name, value in params.items() if value is not None}
        self.grads = {name: np.zeros_like(value) for name, value in self.params.items()}
        self.buffers = {}
        self.training = True

    def children(self):
        """The layers that this one is made of, by name: none, but for containers."""
        return {}

    def forward(self, x):
        """Compute the output and keep what `backward` needs: references, not copies."""
        y, self._kept = self._forward(x)
        return y

    def __call__(self, x):
        """Compute the output in evaluation mode and keep nothing for `backward`."""
        self._kept = None
        return self._infer(x)

    def backward(self, dy, *, need_dx=True):
        """Turn the loss gradient of the output into that of the input; fill `grads`.

        Parameters
        ----------
        dy : ndarray
            Gradient of the loss with respect to the output of the last `forward`.
        need_dx : bool
            False where nobody reads the input gradient, as for the image that enters the first
            layer: it is not computed then.

        Returns
        -------
        ndarray or None
            Gradient with respect to the input; None if `need_dx` is false.

        Raises
        ------
        RuntimeError
            If `forward` was not called before, or `layer(x)` was called since.
        """
        return self._backward(dy, self._kept_by_forward(), need_dx)

    def _forward_with_relu(self, x, relu):
        """`forward` of this layer and of the ReLU behind it, which this one applies."""
        y, self._kept = self._forward(x, relu=True)
        relu._kept = y
        return y

    def _infer_with_relu(self, x, relu):
        self._kept = relu._kept = None
        return self._infer(x, relu=True)

    def _backward_with_relu(self, dy, relu):
        """`backward` of this layer and of the ReLU before it, whose work this one does."""
        relu._kept_by_forward()
        return self._backward(dy, self._kept_by_forward(), need_dx=True, relu=True)

    def _kept_by_forward(self):
        if self._kept is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward needs what forward keeps: call y = "
                "layer.forward(x) before layer.backward(dy). layer(x) only evaluates: it keeps "
                "nothing and drops what an earlier forward kept"
            )
        return self._kept

    def output_shape(self, in_shape):
        """Shape of the output for an input of shape `in_shape`, both with the batch size."""
        raise NotImplementedError

    def train(self, mode=True):
        """Switch to training mode (or, with False, to evaluation mode); returns the layer."""
        self.training = bool(mode)
        for child in self.children().values():
            child.train(mode)
        return self

    def eval(self):
        """Switch to evaluation mode; returns the layer."""
        return self.train(False)

    def prepare(self, x_shape=None):
        """Make the layer or net, as it is now, ready for inference.

        Batch normalizations become part of the convolutions before them, filters are packed, and
        ReLUs and the sums of residual blocks cost no passes of their own where that can be.

        Parameters
        ----------
        x_shape : tuple of int, optional
            Shape of the images to come, for which filters are packed now and not in the first
            call; others are welcome, too.

        Returns
        -------
        PreparedNet
            A callable that gives what ``net(x)`` gives now, within rounding. Later changes of the
            net do not reach it. Several threads may call it, and it pickles.

        Raises
        ------
        ValueError
            If `x_shape` does not suit the net.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.layers import BatchNorm2d, Conv2d, ReLU, Sequential
        >>> net = Sequential(Conv2d(3, 4, 3, padding=1), BatchNorm2d(4), ReLU())
        >>> ready = net.prepare((1, 3, 8, 8))
        >>> ready(np.ones((1, 3, 8, 8), np.float32)).shape
        (1, 4, 8, 8)
        """
        from fastconv.layers.inference import prepare  # which imports all layers

        return prepare(self, x_shape)

    def state_dict(self):
        """Copies of all parameters and buffers by name, with PyTorch's names and shapes."""
        return {name: value.copy() for name, value in self._state().items()}

    def _state(self):
        return {**self.params, **self.buffers}

    def load_state_dict(self, state):
        """Set all parameters and buffers from a dict of arrays, or, if any does not fit, none.

        Parameters
        ----------
        state : mapping of str to array_like
            As `state_dict` returns it: from this library, from ``numpy.load`` of an .npz file, or
            from a PyTorch module of the same structure. Values are copied, and converted to the
            layer's dtype. A count "num_batches_tracked" may be missing, as it is from old files.

        Raises
        ------
        ValueError
            Lists every missing key, unexpected key and wrong shape.
        """
        own = self._state()
        arrays = {name: np.asarray(state[name]) for name in own if name in state}
        problems = [
            f'missing key "{name}"'
            for name in own
            if name not in state and name.rpartition(".")[2] != "num_batches_tracked"
        ]
        problems += [f'unexpected key "{name}"' for name in state if name not in own]
        problems += [
            f'"{name}" has shape {value.shape}, expected {own[name].shape}'
            for name, value in arrays.items()
            if value.shape != own[name].shape
        ]
        problems += [
            f'"{name}" has dtype {value.dtype}, expected {own[name].dtype}'
            for name, value in arrays.items()
            if not np.can_cast(value.dtype, own[name].dtype, "same_kind")
        ]
        if problems:
            raise ValueError(f"{type(self).__name__}.load_state_dict: " + "; ".join(problems))
        for name, value in arrays.items():
            np.copyto(own[name], value, casting="same_kind")

    def __repr__(self):
        return f"{type(self).__name__}({self._repr_arguments()})"

    def _repr_arguments(self):
        return ""

    def __getstate__(self):
        # Copies and pickles hold the layer, not the images that happened to pass last.
        return {name: v for name, v in self.__dict__.items() if name != "_kept"}

    def _infer(self, x):
        return self._forward(x)[0]

    def _forward(self, x):
        raise NotImplementedError

    def _backward(self, dy, kept, need_dx):
        raise NotImplementedError


def he_normal(shape, fan_in, dtype, rng):
    """Draw initial weights from a normal distribution with variance 2 / fan_in.

    The factor 2 makes up for the half that a ReLU sets to zero, so that values neither fade nor
    grow with depth. This is what the lecture recommends (CS231n, "Neural Networks Part 2", weight
    initialization, with biases of zero); PyTorch's default has a sixth of this variance.

    References
    ----------
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 10.
    """
    dtype = check_dtype(dtype)
    weight = np.random.default_rng(rng).standard_normal(shape, dtype)
    weight *= np.sqrt(2 / fan_in, dtype=dtype)
    return weight


def check_dtype(dtype):
    """Return the dtype of parameters, float32 or float64; refuse any other."""
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype={dtype}, expected float32 or float64")
    return dtype


def any_images(C, layout):
    """Shape of images on which every sensible window fits: to check arguments without data."""
    side = 2**20
    return (0, side, side, C) if layout == "NHWC" else (0, C, side, side)
