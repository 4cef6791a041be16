"""One layer: fully connected to convolution and back."""

from math import prod

import numpy as np

from fastconv import _geometry
from fastconv.layers import Conv2d, Linear


def linear_to_conv(linear, input_shape, *, layout="NCHW"):
    """The convolution that computes what a fully-connected layer does behind a `Flatten`.

    Its filters are as large as the image: AlexNet's first fully-connected layer, on 256 maps of
    6x6, becomes 4096 filters of 6x6x256; behind it images are 1x1, and filters, too. Parameters are
    not copied: the filters are a view of the weights, so what one layer learns the other knows.

    Parameters
    ----------
    linear : Linear
        The fully-connected layer.
    input_shape : tuple of int
        Shape of one image that `Flatten` makes a row of, (C, H, W), or (H, W, C) for
        layout="NHWC".
    layout : {"NCHW", "NHWC"}, optional
        Order of the axes of the images.

    Returns
    -------
    Conv2d
        For images of that size (N, out_features, 1, 1) comes out; larger ones give a score for
        every place.

    Raises
    ------
    TypeError
        If `linear` is no `Linear` layer.
    ValueError
        If the layer takes another number of features than the image has; both are named.

    References
    ----------
    CS231n, "Convolutional Networks", section "Converting Fully-Connected Layers to Convolutional
    Layers".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.convert import linear_to_conv
    >>> from fastconv.layers import Linear
    >>> linear = Linear(5 * 2 * 2, 3, rng=0)
    >>> conv = linear_to_conv(linear, (5, 2, 2))
    >>> conv
    Conv2d(5, 3, kernel_size=(2, 2), stride=(1, 1))
    >>> x = np.random.default_rng(1).standard_normal((4, 5, 2, 2), np.float32)
    >>> bool(np.allclose(conv(x)[:, :, 0, 0], linear(x.reshape(4, -1)), atol=1e-6))
    True
    """
    if not isinstance(linear, Linear):
        raise TypeError(f"linear_to_conv: expected a Linear layer, got {linear!r}")
    image = _geometry.freeze(input_shape)
    *_, size = _geometry.image_sizes((1, *image), layout=layout, op="linear_to_conv: conv2d")
    OUT, IN = linear.params["weight"].shape
    if prod(image) != IN:
        raise ValueError(
            f"linear_to_conv: {linear!r} takes {IN} features, but an image of shape {image} has "
            f"{prod(image)}"
        )
    weight = linear.params["weight"].reshape(OUT, *image)
    if layout == "NHWC":
        weight = np.moveaxis(weight, -1, 1)
    conv = Conv2d(1, 1, size, layout=layout, dtype=weight.dtype)
    return _with_params(conv, weight, linear.params.get("bias"))


def conv_to_linear(conv, input_shape, *, sparse=False):
    """The fully-connected layer, or its matrix, that computes what a convolution does.

    Row (o, oh, ow) of the matrix holds filter o at the columns (c, h, w) that it sees from place
    (oh, ow), and zeros elsewhere; rows of one filter repeat the same numbers. (Rows and columns
    are in the order in which `Flatten` writes images of the convolution's layout.)

    Parameters
    ----------
    conv : Conv2d
        The convolution, of any stride, padding, dilation and groups.
    input_shape : tuple of int
        Shape of one image, (C, H, W), or (H, W, C) for a convolution with layout="NHWC".
    sparse : bool, optional
        Return the matrix alone, as a SciPy array in CSR form, without the zeros. Needs SciPy:
        ``pip install 'fastconv[sparse]'``.

    Returns
    -------
    Linear or scipy.sparse.csr_array
        A layer with the bias of each filter at all of its places; or the matrix, of shape
        (OC * OH * OW, C * H * W).

    Raises
    ------
    TypeError
        If `conv` is no `Conv2d` layer.
    ValueError
        If the images do not suit the convolution.
    ImportError
        If `sparse` is true and SciPy is not installed.

    Notes
    -----
    The dense matrix has OC * OH * OW * C * H * W numbers: the first layer of AlexNet would have 45
    thousand million, 180 GB, of which the sparse one holds 105 million.

    References
    ----------
    CS231n, "Convolutional Networks", section "Converting Fully-Connected Layers to Convolutional
    Layers".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.convert import conv_to_linear
    >>> from fastconv.layers import Conv2d
    >>> conv = Conv2d(1, 1, (1, 2), bias=False)
    >>> conv.load_state_dict({"weight": [[[[3.0, 5.0]]]]})
    >>> conv_to_linear(conv, (1, 1, 4)).params["weight"]
    array([[3., 5., 0., 0.],
           [0., 3., 5., 0.],
           [0., 0., 3., 5.]], dtype=float32)
    """
    if not isinstance(conv, Conv2d):
        raise TypeError(f"conv_to_linear: expected a Conv2d layer, got {conv!r}")
    w = conv.params["weight"]
    image = (1, *_geometry.freeze(input_shape))
    g = _geometry.conv_geometry(image, w.shape, op="conv_to_linear: conv2d", **conv.options)
    if sparse:
        return _sparse_matrix(w, g)
    linear = Linear(1, 1, dtype=w.dtype)
    b = conv.params.get("bias")
    return _with_params(linear, _dense_matrix(w, g), None if b is None else _at_all_places(b, g))


def _with_params(layer, weight, bias):
    """A small layer with these arrays in place of its own, which are never larger than needed."""
    layer.params = {"weight": weight} | ({} if bias is None else {"bias": bias})
    layer.grads = {name: np.zeros(p.shape, p.dtype) for name, p in layer.params.items()}
    return layer


def _at_all_places(b, g):
    places = prod(g.out_size)
    return np.tile(b, places) if g.channels_last else np.repeat(b, places)


def _pairs(g):
    """For each tap of the filters the places that meet the image with it, and the pixels there."""
    for tap in np.ndindex(*g.kernel):
        inside, pixels = [], []
        sizes = zip(tap, g.dilation, g.stride, g.pad_begin, g.in_size, g.out_size, strict=True)
        for t, dilation, stride, begin, size, out in sizes:
            at = np.arange(out) * stride + t * dilation - begin
            inside.append(np.flatnonzero((at >= 0) & (at < size)))
            pixels.append(at[inside[-1]])
        yield tap, _flat(inside, g.out_size), _flat(pixels, g.in_size)


def _flat(indices, sizes):
    """Numbers of the cells at all combinations of rows and columns."""
    return np.ravel_multi_index(np.meshgrid(*indices, indexing="ij"), sizes).ravel()


def _groups(g):
    """For each group its filters and its channels."""
    OC, C = g.OC // g.groups, g.C // g.groups
    for i in range(g.groups):
        yield slice(i * OC, (i + 1) * OC), slice(i * C, (i + 1) * C)


def _dense_matrix(w, g):
    P, Q = prod(g.out_size), prod(g.in_size)
    if g.channels_last:
        matrix = np.zeros((P, g.OC, Q, g.C), w.dtype)
        blocks = matrix.transpose(1, 0, 3, 2)
    else:
        matrix = blocks = np.zeros((g.OC, P, g.C, Q), w.dtype)
    for tap, places, pixels in _pairs(g):
        for filters, channels in _groups(g):
            # Two index arrays with a slice between: their common axis comes first.
            blocks[filters, :, channels][:, places, :, pixels] = w[(filters, slice(None), *tap)]
    return matrix.reshape(g.OC * P, g.C * Q)


def _sparse_matrix(w, g):
    try:
        from scipy.sparse import csr_array
    except ImportError:
        raise ImportError(
            "conv_to_linear: sparse=True needs SciPy: pip install 'fastconv[sparse]'"
        ) from None
    P, Q = prod(g.out_size), prod(g.in_size)
    # Steps from filter to filter and place to place in rows, channel to channel ... in columns.
    by_filter, by_place = (1, g.OC) if g.channels_last else (P, 1)
    by_channel, by_pixel = (1, g.C) if g.channels_last else (Q, 1)
    rows, columns, values = [], [], []
    for tap, places, pixels in _pairs(g):
        for filters, channels in _groups(g):
            o, c = np.arange(g.OC)[filters, None, None], np.arange(g.C)[None, channels, None]
            block = w[(filters, slice(None), *tap)][:, :, None]
            shape = np.broadcast_shapes(block.shape, places.shape)
            rows.append(np.broadcast_to(o * by_filter + places * by_place, shape).ravel())
            columns.append(np.broadcast_to(c * by_channel + pixels * by_pixel, shape).ravel())
            values.append(np.broadcast_to(block, shape).ravel())
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return csr_array(entries, shape=(g.OC * P, g.C * Q))
