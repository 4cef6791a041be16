"""Whole nets: everything fully connected becomes a convolution."""

import copy

from fastconv import _geometry
from fastconv.convert.linear import linear_to_conv
from fastconv.layers import (
    AvgPool2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    Linear,
    LocallyConnected2d,
    LPPool2d,
    MaxPool2d,
    PReLU,
    ReLU,
    ReLU6,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)
from fastconv.layers.base import Layer
from fastconv.layers.container import computes_as

# Layers that treat rows of numbers as they treat images of one pixel.
_NUMBER_BY_NUMBER = (Dropout, LeakyReLU, ReLU, ReLU6, Sigmoid, Tanh)
_POOLINGS = (AvgPool2d, LPPool2d, MaxPool2d)
# Layers that are not the same on larger images.
_OF_ONE_SIZE = (Flatten, GlobalAvgPool2d, Linear, LocallyConnected2d)


def to_fully_convolutional(net, input_shape):
    """Turn a classifier of images of one size into a net for images of any size.

    `Flatten` goes; the first `Linear` behind it becomes a convolution with filters as large as the
    maps there, further ones become 1x1 convolutions: AlexNet's three fully-connected layers become
    6x6, 1x1 and 1x1. A global average pooling, or any pooling with one window over the whole
    map, becomes one of that window with stride 1. All other layers stay. On images of
    `input_shape` the outputs are the same, as (N, classes, 1, 1); larger ones give scores for all
    windows at the net's total stride, which is what `dense_scores` does.

    Parameters
    ----------
    net : Layer
        A `Sequential`, of other ones, too, with residual and inception blocks, dropout and so on.
    input_shape : tuple of int
        Shape of one image, (C, H, W), or (H, W, C) for layers with layout="NHWC".

    Returns
    -------
    Layer
        A new net of the same structure and names, without the `Flatten` layers. It shares the
        parameters with `net`: no memory is taken, and what one learns the other knows. The modes
        are the same, too.

    Raises
    ------
    TypeError
        If `net` is no layer.
    ValueError
        If images do not fit the net, or a layer cannot be converted: one between rows of numbers
        that has no meaning for images, a `LocallyConnected2d`, which is made for images of one
        size, any of those that would change in a branch of a residual or inception block, or one
        whose class has its own way to compute.

    Notes
    -----
    Names of parameters stay, so that ``state_dict`` has the same keys; weights of converted layers
    have the shape of filters.

    References
    ----------
    CS231n, "Convolutional Networks", section "Converting Fully-Connected Layers to Convolutional
    Layers".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.convert import to_fully_convolutional
    >>> from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
    >>> net = Sequential(
    ...     Conv2d(3, 4, 5, rng=0), ReLU(), MaxPool2d(2), Flatten(),
    ...     Linear(4 * 6 * 6, 8, rng=1), ReLU(), Linear(8, 10, rng=2),
    ... )
    >>> wide = to_fully_convolutional(net, (3, 16, 16))
    >>> wide
    Sequential(
      (0): Conv2d(3, 4, kernel_size=(5, 5), stride=(1, 1))
      (1): ReLU()
      (2): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
      (4): Conv2d(4, 8, kernel_size=(6, 6), stride=(1, 1))
      (5): ReLU()
      (6): Conv2d(8, 10, kernel_size=(1, 1), stride=(1, 1))
    )
    >>> wide(np.ones((1, 3, 16, 16), np.float32)).shape
    (1, 10, 1, 1)
    >>> wide(np.ones((1, 3, 24, 32), np.float32)).shape
    (1, 10, 5, 9)
    """
    if not isinstance(net, Layer):
        raise TypeError(f"to_fully_convolutional: net is {net!r}, expected a layer")
    conversion = _Conversion(net, (1, *_geometry.freeze(input_shape)))
    converted = conversion.layer("net", net)
    if converted is None:
        raise ValueError("to_fully_convolutional: the net is nothing but a Flatten layer")
    return converted


def layout_of(net):
    """The order of the axes that the first layer with a say in it has."""
    for layer in _leaves(net):
        layout = getattr(layer, "layout", None) or getattr(layer, "options", {}).get("layout")
        if layout is not None and not isinstance(layer, PReLU):
            return layout
    return "NCHW"


def _leaves(layer):
    children = layer.children().values()
    if not children:
        yield layer
    for child in children:
        yield from _leaves(child)


class _Conversion:
    """Walks through the layers in order.

    `shape` is what the original net has in front of the next layer; `image`, from the first
    `Flatten` on, the shape of the image, of one pixel at last, that the new net has for its row.
    """

    def __init__(self, net, shape):
        self.net, self.shape, self.image = net, shape, None
        self.layout = layout_of(net)

    def layer(self, name, layer):
        """What takes the place of a layer; None for nothing."""
        if computes_as(layer, Sequential):
            children = {
                key: self.layer(f"{name}.{key}", child) for key, child in layer.children().items()
            }
            new = Sequential({key: child for key, child in children.items() if child is not None})
            new.training = layer.training
            return new
        before = self.shape
        try:
            self.shape = layer.output_shape(before)
            self._check(layer)
            return self._leaf(layer, before)
        except (TypeError, ValueError) as error:
            error.add_note(f"in layer {name}: {layer!r}")
            raise

    def _check(self, layer):
        for kind in (*_OF_ONE_SIZE, *_POOLINGS):
            if isinstance(layer, kind) and not computes_as(layer, kind):
                raise ValueError(
                    f"to_fully_convolutional: {type(layer).__name__} computes in its own way, not "
                    f"as {kind.__name__}: its counterpart is not known"
                )
        for part in _leaves(layer) if layer.children() else ():
            if isinstance(part, _OF_ONE_SIZE):
                raise ValueError(
                    f"to_fully_convolutional: {part!r} is inside a {type(layer).__name__}; such "
                    "layers are converted in Sequentials alone: give the part of the net that "
                    "computes the scores as a Sequential"
                )

    def _leaf(self, layer, before):
        if isinstance(layer, Flatten):
            self.image = self.image or before[1:]
            return None
        if isinstance(layer, Linear):
            return self._convolution(layer)
        if self.image is not None:
            return self._for_pixels(layer)
        if isinstance(layer, LocallyConnected2d):
            raise ValueError(
                "to_fully_convolutional: a locally connected layer has filters for the places of "
                "one size of images"
            )
        if isinstance(layer, GlobalAvgPool2d):
            return AvgPool2d(self._map(before), 1, layout=self.layout).train(layer.training)
        if isinstance(layer, _POOLINGS) and self._is_global(layer, before):
            layer = _shared_copy(layer)
            layer.options = layer.options | {"stride": 1}
            return layer
        return _shared_copy(layer)

    def _convolution(self, linear):
        if self.image is None:
            raise ValueError(
                "to_fully_convolutional: there is no Flatten before the first Linear layer"
            )
        conv = linear_to_conv(linear, self.image, layout=self.layout)
        OUT = self.shape[1]
        self.image = (1, 1, OUT) if self.layout == "NHWC" else (OUT, 1, 1)
        return conv.train(linear.training)

    def _for_pixels(self, layer):
        """A layer that had rows of numbers and will have images."""
        new = _shared_copy(layer)
        if isinstance(layer, PReLU) and self._map((1, *self.image)) == (1, 1):
            new.layout = self.layout
        elif isinstance(layer, Softmax) and layer.axis in (1, -1):
            new.axis = 1 if self.layout == "NCHW" else -1
        elif not isinstance(layer, _NUMBER_BY_NUMBER):
            raise ValueError(
                f"to_fully_convolutional: {layer!r} stands between rows of numbers and has no "
                "counterpart for images"
            )
        return new

    def _map(self, shape):
        return shape[1:3] if self.layout == "NHWC" else shape[2:4]

    def _is_global(self, layer, before):
        size = _geometry._per_axis("pooling", "kernel_size", layer.kernel_size, 2)
        padding = layer.options.get("padding", 0)
        return size == self._map(before) and padding in (0, (0, 0), "valid")


def _shared_copy(layer):
    """A copy that keeps nothing for `backward`, with the parameters of the original itself."""
    arrays = {}
    for part in _leaves(layer):
        for kind in (part.params, part.grads, part.buffers):
            arrays |= {id(array): array for array in kind.values()}
    return copy.deepcopy(layer, arrays)
