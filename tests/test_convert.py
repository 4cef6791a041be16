"""Fully-connected layers as convolutions and back; scores of all windows in one pass."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import whole_numbers

from fastconv import nets
from fastconv.convert import (
    conv_to_linear,
    dense_scores,
    linear_to_conv,
    to_fully_convolutional,
)
from fastconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    LocallyConnected2d,
    MaxPool2d,
    PReLU,
    ReLU,
    Residual,
    Sequential,
    Softmax,
)


def shape_of(layout, N, C, H, W):
    return (N, H, W, C) if layout == "NHWC" else (N, C, H, W)


# ---- one layer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("image", [(5, 2, 3), (1, 1, 1), (4, 6, 6)])
def test_a_linear_layer_is_a_convolution(image, bias, layout, dtype, rng):
    shape = shape_of(layout, 3, *image)
    linear = Linear(np.prod(image), 7, bias, dtype=dtype)
    linear.load_state_dict(
        {k: whole_numbers(p.shape, dtype, rng) for k, p in linear.params.items()}
    )
    conv = linear_to_conv(linear, shape[1:], layout=layout)
    assert conv.params["weight"].shape == (7, *image)
    x = whole_numbers(shape, dtype, rng)
    y = conv(x)
    assert y.shape == shape_of(layout, 3, 7, 1, 1)
    np.testing.assert_array_equal(y.reshape(3, 7), linear(Flatten()(x)))
    assert np.shares_memory(conv.params["weight"], linear.params["weight"])


def test_conv_and_linear_are_inverses(rng):
    linear = Linear(5 * 2 * 3, 4, dtype=np.float64, rng=0)
    back = conv_to_linear(linear_to_conv(linear, (5, 2, 3)), (5, 2, 3))
    for name, value in linear.params.items():
        np.testing.assert_array_equal(back.params[name], value, strict=True)


CONVOLUTIONS = [  # image (C, H, W), OC, kernel, options
    ((2, 5, 6), 3, 3, {}),
    ((1, 1, 1), 1, 1, {}),
    ((4, 7, 5), 6, (3, 2), {"stride": (2, 1), "padding": (1, 2), "groups": 2}),
    ((3, 8, 6), 3, 2, {"dilation": (3, 2), "padding": ((0, 1), (2, 0)), "groups": 3}),
    ((2, 6, 7), 2, 3, {"stride": 2, "padding": "same", "bias": False}),
    ((2, 6, 7), 2, 3, {"stride": 3, "fit": "pad"}),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("image", "OC", "kernel", "options"), CONVOLUTIONS, ids=str)
def test_a_convolution_is_a_linear_layer(image, OC, kernel, options, layout, dtype, rng):
    conv = Conv2d(image[0], OC, kernel, layout=layout, dtype=dtype, **options)
    # no weight is 0, so that those of the matrix are the ones nobody wrote
    conv.load_state_dict(
        {k: rng.integers(1, 5, p.shape).astype(dtype) for k, p in conv.params.items()}
    )
    shape = shape_of(layout, 3, *image)
    x = whole_numbers(shape, dtype, rng)
    y = conv(x)
    linear = conv_to_linear(conv, shape[1:])
    np.testing.assert_array_equal(linear(Flatten()(x)).reshape(y.shape), y)
    seen = conv_seen(conv, shape)
    assert np.count_nonzero(linear.params["weight"]) == seen


def conv_seen(conv, shape):
    """How often a filter's weight meets a pixel: what ones, convolved with ones, add up to."""
    ones = copy.deepcopy(conv)
    for name, p in ones.params.items():
        p[...] = name == "weight"
    return int(ones(np.ones((1, *shape[1:]), ones.params["weight"].dtype)).sum())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("image", "OC", "kernel", "options"), CONVOLUTIONS, ids=str)
def test_the_sparse_matrix_is_the_dense_one(image, OC, kernel, options, layout, dtype, rng):
    sparse = pytest.importorskip("scipy.sparse")
    conv = Conv2d(image[0], OC, kernel, layout=layout, dtype=dtype, rng=0, **options)
    shape = shape_of(layout, 1, *image)[1:]
    matrix = conv_to_linear(conv, shape, sparse=True)
    assert isinstance(matrix, sparse.csr_array) and matrix.dtype == dtype
    np.testing.assert_array_equal(matrix.toarray(), conv_to_linear(conv, shape).params["weight"])
    assert matrix.nnz == conv_seen(conv, (1, *shape))


def test_the_matrix_repeats_the_filters_and_is_mostly_zero():
    """CS231n: "a large matrix that is mostly zero except for at certain blocks (due to local
    connectivity) where the weights in many of the blocks are equal (due to parameter sharing)"."""
    conv = Conv2d(1, 1, 3, bias=False, rng=0)
    matrix = conv_to_linear(conv, (1, 8, 8)).params["weight"]
    assert matrix.shape == (36, 64) and np.count_nonzero(matrix) == 36 * 9
    for row in matrix:
        np.testing.assert_array_equal(row[row != 0], conv.params["weight"].ravel())


def test_sparse_without_scipy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[sparse\]'"):
        conv_to_linear(Conv2d(1, 1, 1), (1, 2, 2), sparse=True)


def test_wrong_layers_and_shapes_are_refused():
    with pytest.raises(TypeError, match="linear_to_conv: expected a Linear layer, got ReLU"):
        linear_to_conv(ReLU(), (1, 2, 2))
    with pytest.raises(TypeError, match="conv_to_linear: expected a Conv2d layer, got Linear"):
        conv_to_linear(Linear(2, 2), (1, 2, 2))
    with pytest.raises(ValueError, match=r"takes 12 features, but .* \(3, 2, 3\) has 18"):
        linear_to_conv(Linear(12, 2), (3, 2, 3))
    with pytest.raises(ValueError, match="conv_to_linear: conv2d: x has 2 channels"):
        conv_to_linear(Conv2d(3, 2, 1), (2, 4, 4))


# ---- whole nets ---------------------------------------------------------------------------------


def classifier(layout="NCHW", dtype=np.float64):
    """A net of stride 8 for images of 30x30, without padding, with nested Sequentials."""
    given = {"dtype": dtype, "rng": np.random.default_rng(0)}
    conv = {**given, "layout": layout}
    return Sequential(
        {
            "features": Sequential(
                Conv2d(3, 6, 5, **conv),
                ReLU(),
                MaxPool2d(2, layout=layout),
                Conv2d(6, 8, 4, 2, **conv),
                PReLU(8, layout=layout, dtype=dtype),
                AvgPool2d(2, layout=layout, fit="floor"),
            ),
            "flatten": Flatten(),
            "classifier": Sequential(
                Dropout(),
                Linear(8 * 2 * 2, 9, **given),
                PReLU(9, dtype=dtype),
                Dropout(),
                Linear(9, 7, **given),
                Softmax(),
            ),
        }
    )


def pooled(layout="NCHW", dtype=np.float64):
    """Residual and inception blocks, and a global average pooling behind; stride 4, for 21x21."""
    conv = {"dtype": dtype, "rng": np.random.default_rng(0), "layout": layout}
    branches = {
        "wide": Conv2d(8, 4, 3, **conv),
        "narrow": Sequential(Conv2d(8, 2, 3, **conv), ReLU()),
    }
    return Sequential(
        {
            "conv1": Conv2d(3, 8, 5, 2, bias=False, **conv),
            "bn1": BatchNorm2d(8, layout=layout, dtype=dtype),
            "block": Residual(Conv2d(8, 8, 1, **conv), activation="relu"),
            "inception": Concat(branches, layout=layout),
            "pool": MaxPool2d(2, layout=layout),
            "gap": GlobalAvgPool2d(layout=layout),
            "flatten": Flatten(),
            "fc": Linear(6, 5, dtype=dtype, rng=3),
        }
    )


NETS = {"classifier": (classifier, 30, 8), "pooled": (pooled, 21, 4)}
EVERY_NET = pytest.mark.parametrize("name", NETS)


@EVERY_NET
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_fully_convolutional_net_gives_the_same_scores(name, layout, rng):
    make, size, stride = NETS[name]
    net = make(layout)
    image = shape_of(layout, 1, 3, size, size)[1:]
    wide = to_fully_convolutional(net, image)
    x = rng.standard_normal((2, *image))
    y = wide(x)
    expected = net(x)
    assert y.shape == shape_of(layout, 2, expected.shape[1], 1, 1)
    np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-11, atol=1e-12)
    larger = shape_of(layout, 1, 3, size + 2 * stride, size + 3 * stride)
    assert wide.output_shape(larger) == shape_of(layout, 1, expected.shape[1], 3, 4)
    assert wide(np.zeros(larger)).shape == wide.output_shape(larger)


@EVERY_NET
def test_it_has_the_same_names_and_shares_the_parameters(name, rng):
    make, size, _ = NETS[name]
    net = make()
    wide = to_fully_convolutional(net, (3, size, size))
    assert list(wide.params) == list(net.params) and list(wide.buffers) == list(net.buffers)
    for key, p in net.params.items():
        assert np.shares_memory(wide.params[key], p) and wide.params[key].size == p.size
    x = rng.standard_normal((1, 3, size, size))
    before = wide(x)
    for p in net.params.values():
        p *= 1.5
    assert (wide(x) != before).any()
    np.testing.assert_allclose(wide(x).ravel(), net(x).ravel(), rtol=1e-11, atol=1e-12)
    # a forward pass of one does not disturb the backward pass of the other
    dy = net.forward(x)
    wide.forward(x)
    assert net.backward(dy).shape == x.shape


def test_modes_are_kept():
    net = classifier().eval()
    assert not any(layer.training for layer in to_fully_convolutional(net, (3, 30, 30)))
    assert all(layer.training for layer in to_fully_convolutional(net.train(), (3, 30, 30)))


def test_gradients_pass_through_the_converted_net(rng):
    """At the window's size they are those of the original."""
    net = pooled()
    wide = to_fully_convolutional(net, (3, 21, 21))
    x, dy = rng.standard_normal((2, 3, 21, 21)), rng.standard_normal((2, 5))
    net.eval().forward(x)
    wide.eval().forward(x)
    expected = net.backward(dy)
    np.testing.assert_allclose(
        wide.backward(dy.reshape(2, 5, 1, 1)), expected, rtol=1e-9, atol=1e-12
    )
    for name, gradient in net.grads.items():
        actual = wide.grads[name].reshape(gradient.shape)
        np.testing.assert_allclose(actual, gradient, rtol=1e-9, atol=1e-12)


def test_alexnet_has_a_6x6_and_two_1x1_convolutions(rng):
    net = nets.alexnet(rng=0)
    wide = to_fully_convolutional(net, (3, 224, 224))
    kernels = [layer.params["weight"].shape for layer in wide["classifier"] if layer.params]
    assert kernels == [(4096, 256, 6, 6), (4096, 4096, 1, 1), (1000, 4096, 1, 1)]
    x = rng.standard_normal((1, 3, 224, 224), np.float32)
    scores = net(x)
    atol = 1e-4 * np.abs(scores).max()
    np.testing.assert_allclose(wide(x)[:, :, 0, 0], scores, rtol=0, atol=atol)
    assert wide.output_shape((1, 3, 384, 384)) == (1, 1000, 6, 6)


@pytest.mark.parametrize(
    "name", ["lenet5", "all_cnn_c", "squeezenet1_1", "resnet18", "mobilenet_v2", "googlenet"]
)
def test_nets_of_the_lecture_give_the_same_scores(name, rng):
    """To rounding, of which the largest score is the measure; there may be more than a hundred
    layers, each with sums of some hundreds of terms."""
    entry = nets.NAMES[name]
    net = entry.build(rng=0)
    wide = to_fully_convolutional(net, entry.input_shape)
    assert list(wide.params) == list(net.params)
    x = rng.standard_normal((1, *entry.input_shape), np.float32)
    scores = net(x)
    atol = 1e-4 * np.abs(scores).max()
    np.testing.assert_allclose(wide(x)[:, :, 0, 0], scores, rtol=0, atol=atol)
    C, H, W = entry.input_shape
    assert len(wide.output_shape((2, C, 2 * H, 2 * W))) == 4


def test_vgg_has_a_7x7_convolution():
    """Its features give 7x7 maps; a small fully-connected layer stands for the 102 million."""
    linear = Linear(512 * 7 * 7, 2)
    assert linear_to_conv(linear, (512, 7, 7)).params["weight"].shape == (2, 512, 7, 7)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([Linear(3, 2)], ValueError, "Linear: input of shape"),
        ([Flatten()], ValueError, "nothing but a Flatten"),
        ([Flatten(), Linear(5, 2)], ValueError, r"expected \(N, 5\)"),
        (
            [Flatten(), Linear(48, 2), Flatten(), Softmax(0)],
            ValueError,
            "no counterpart for images",
        ),
        ([Flatten(), PReLU(48), Linear(48, 2)], ValueError, "no counterpart for images"),
        ([LocallyConnected2d(4, 3, 2, 3)], ValueError, "filters for the places of one size"),
    ],
)
def test_what_cannot_be_converted_is_refused(layers, error, message):
    net = layers[0] if len(layers) == 1 else Sequential(*layers)
    with pytest.raises(error, match=message) as caught:
        to_fully_convolutional(net, (3, 4, 4))
    assert len(layers) == 1 or "in layer net" in caught.value.__notes__[0]


# ---- all windows --------------------------------------------------------------------------------


def crops(net, images, window, step, layout="NCHW"):
    """What the net says to each window, (N, classes, rows, columns)."""
    rows, columns = (1, 2) if layout == "NHWC" else (2, 3)
    starts = [range(0, images.shape[axis] - window + 1, step) for axis in (rows, columns)]
    scores = []
    for top in starts[0]:
        for left in starts[1]:
            place = slice(top, top + window), slice(left, left + window)
            cut = images[:, place[0], place[1]] if layout == "NHWC" else images[:, :, *place]
            scores.append(net(cut))
    by_place = np.stack(scores, axis=-1)
    return by_place.reshape(*by_place.shape[:2], len(starts[0]), len(starts[1]))


@EVERY_NET
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("part", [None, 1, 2, 1 / 2, 1 / 4, 3 / 2, 3 / 4])
def test_one_pass_equals_the_crops(name, layout, part, rng):
    """Steps that are the stride, a part of it, a multiple, and one that is neither."""
    make, size, stride = NETS[name]
    net = make(layout)
    images = rng.standard_normal(shape_of(layout, 2, 3, size + 3 * stride + 1, size + 2 * stride))
    step = stride if part is None else int(stride * part)
    expected = crops(net, images, size, step, layout)
    actual = dense_scores(net, images, size, None if part is None else step)
    actual = np.moveaxis(actual, -1, 1) if layout == "NHWC" else actual
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)
    mean = dense_scores(net, images, size, step, average=True)
    np.testing.assert_allclose(mean, expected.mean(axis=(2, 3)), rtol=1e-10, atol=1e-12)


def test_windows_and_steps_may_differ_in_height_and_width(rng):
    net = Sequential(Conv2d(1, 2, 3, (2, 1), rng=0, dtype=np.float64), Flatten(),
                     Linear(2 * 4 * 8, 3, rng=0, dtype=np.float64))  # fmt: skip
    images = rng.standard_normal((1, 1, 15, 13))
    scores = dense_scores(net, images, (9, 10), (1, 2))
    assert scores.shape == (1, 3, 7, 2)
    np.testing.assert_allclose(scores[0, :, 5, 1], net(images[:, :, 5:14, 2:12])[0], rtol=1e-12)


def photos():
    """Two parts of 384x384 of a photograph that comes with matplotlib, as numbers around 0."""
    matplotlib = pytest.importorskip("matplotlib")
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    photo = pytest.importorskip("matplotlib.image").imread(path).astype(np.float32)
    parts = photo[20:404, 60:444], photo[-384:, :384]
    return np.stack([part.transpose(2, 0, 1) for part in parts]) / 127.5 - 1


def valid_net(rng):
    """A net in the manner of AlexNet without padding: total stride 32, windows of 224."""
    rng = np.random.default_rng(rng)
    both = {"rng": rng}
    return Sequential(
        {
            "features": Sequential(
                Conv2d(3, 16, 8, 4, **both), ReLU(), MaxPool2d(2),
                Conv2d(16, 24, 4, **both), ReLU(), MaxPool2d(2),
                Conv2d(24, 32, 3, **both), ReLU(), MaxPool2d(2),
            ),
            "flatten": Flatten(),
            "classifier": Sequential(
                Linear(32 * 5 * 5, 64, **both), ReLU(), Dropout(),
                Linear(64, 64, **both), ReLU(), Linear(64, 1000, **both),
            ),
        }
    )  # fmt: skip


def test_36_windows_of_a_photo_at_once():
    """CS231n: a net of stride 32 gives 6x6 scores for 384x384 pixels, those of 36 crops of 224."""
    net, images = valid_net(0), photos()
    scores = dense_scores(net, images)
    assert scores.shape == (2, 1000, 6, 6)
    expected = crops(net, images, 224, 32)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
    assert np.abs(expected).max() > 0.1 and expected.std(axis=(2, 3)).min() > 1e-4  # and differ
    mean = dense_scores(net, images, average=True)
    np.testing.assert_allclose(mean, expected.mean(axis=(2, 3)), rtol=0, atol=1e-4)


def test_a_step_of_16_interleaves_shifted_passes():
    """CS231n: a stride of 16 takes the image and the image shifted by 16, along each axis."""
    net, images = valid_net(0), photos()[:1]
    scores = dense_scores(net, images, step=16)
    assert scores.shape == (1, 1000, 11, 11)
    np.testing.assert_allclose(scores, crops(net, images, 224, 16), rtol=0, atol=1e-4)
    # every other window is of the pass without a shift
    np.testing.assert_allclose(scores[:, :, ::2, ::2], dense_scores(net, images), rtol=0, atol=1e-4)


def test_padding_makes_crops_differ_at_their_borders_only(rng):
    """The documented caveat: what a window sees as zeros, one pass sees as it is."""
    net = Sequential(
        Conv2d(1, 2, 3, padding=1, rng=0, dtype=np.float64), MaxPool2d(2), Flatten(),
        Linear(2 * 4 * 4, 3, rng=0, dtype=np.float64),
    )  # fmt: skip
    images = rng.standard_normal((1, 1, 12, 12))
    assert np.abs(dense_scores(net, images, 8) - crops(net, images, 8, 2)).max() > 1e-3
    images[:, :, :2] = images[:, :, 10:] = images[:, :, :, :2] = images[:, :, :, 10:] = 0
    middle = dense_scores(net, images, 8)[:, :, 1, 1]  # here the photo has the zeros itself
    np.testing.assert_allclose(middle, net(images[:, :, 2:10, 2:10]), rtol=1e-12)


def test_images_that_are_too_small_or_nets_without_one_score_are_refused(rng):
    net, images = classifier(), rng.standard_normal((1, 3, 29, 40))
    with pytest.raises(ValueError, match=r"images of 29 x 40 are smaller than window=\(30, 30\)"):
        dense_scores(net, images, 30)
    with pytest.raises(ValueError, match="28 x 28 scores for one window"):
        dense_scores(Conv2d(3, 2, 3, dtype=np.float64), rng.standard_normal((1, 3, 40, 40)), 30)
    with pytest.raises(ValueError, match="step must be at least 1"):
        dense_scores(net, rng.standard_normal((1, 3, 40, 40)), 30, 0)


def test_an_empty_batch_has_no_scores():
    assert dense_scores(classifier(), np.zeros((0, 3, 38, 46)), 30).shape == (0, 7, 2, 3)


class Twice(Sequential):
    def __call__(self, x):
        return 2 * super().__call__(x)


class OwnLinear(Linear):
    def _forward(self, x):
        y, kept = super()._forward(x)
        return y + 1, kept


def test_layers_with_a_way_of_their_own_are_refused():
    for net in (Twice(Flatten(), Linear(48, 2)), Sequential(Flatten(), OwnLinear(48, 2))):
        with pytest.raises(ValueError, match=r"own way|Sequentials alone"):
            to_fully_convolutional(net, (3, 4, 4))
    with pytest.raises(TypeError, match="expected a layer"):
        to_fully_convolutional(3, (3, 4, 4))


def test_what_would_change_inside_branches_is_refused():
    pooled = Concat(GlobalAvgPool2d(), GlobalAvgPool2d())
    net = Sequential(Conv2d(3, 4, 3, rng=0), pooled, Flatten(), Linear(8, 3, rng=1))
    with pytest.raises(ValueError, match="inside a Concat"):
        to_fully_convolutional(net, (3, 16, 16))
