"""`fastconv.summary` and `receptive_field`: the lecture's figures, and what really happens."""

import io
import json
import sys
import tracemalloc
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import layers, nets
from fastconv.analysis import Facts, ReceptiveField, facts, summary_command
from fastconv.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    Linear,
    LocallyConnected2d,
    LocalResponseNorm,
    LPPool2d,
    MaxPool2d,
    PReLU,
    ReLU,
    ReLU6,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)


def last(net, shape, **options):
    return fastconv.summary(net, shape, **options).rows[-1]


# ---- the lecture --------------------------------------------------------------------------------


def test_alexnets_first_layer():
    """ "Real-world example" and "Parameter Sharing": 96 filters of 11x11x3, stride 4."""
    row = last(Conv2d(3, 96, 11, stride=4), (3, 227, 227))
    assert row.output_shape == (96, 55, 55)
    assert row.activations == 55 * 55 * 96 == 290_400
    assert row.unshared_parameters == 290_400 * 364 == 105_705_600
    assert row.parameters == 96 * 11 * 11 * 3 + 96 == 34_944


def test_im2col_of_alexnets_first_layer():
    """ "Implementation as Matrix Multiplication": 363 x 3025, 96 x 363, and 55x55x96 again."""
    layer = Conv2d(3, 96, 11, stride=4, rng=0)
    x = np.random.default_rng(0).standard_normal((1, 3, 227, 227), np.float32)
    columns = fastconv.im2col(x, 11, stride=4)[0]
    rows = layer.params["weight"].reshape(96, -1)
    assert columns.shape == (363, 3025) and rows.shape == (96, 363)
    row = last(layer, (3, 227, 227))
    assert row.multiply_adds == 96 * 363 * 3025
    y = (rows @ columns).reshape(row.output_shape)
    np.testing.assert_allclose(y, layer(x)[0], rtol=1e-3, atol=1e-3)


def test_three_layers_of_3x3_see_7x7():
    """ "Layer Patterns": 3 x (C x (3x3xC)) = 27C² weights against C x (7x7xC) = 49C²."""
    C = 16
    three = [Conv2d(C, C, 3, padding=1, bias=False) for _ in range(3)]
    found = fastconv.summary(Sequential(*three), (C, 32, 32))
    one = fastconv.summary(Conv2d(C, C, 7, padding=3, bias=False), (C, 32, 32))
    assert [row.receptive_field.size for row in found.rows] == [(1, 1), (3, 3), (5, 5), (7, 7)]
    assert found.rows[-1].receptive_field == one.rows[-1].receptive_field
    assert found.totals.parameters == 27 * C**2
    assert one.totals.parameters == 49 * C**2


def test_pooling_drops_three_quarters():
    """ "Pooling Layer": 224x224x64 becomes 112x112x64, 75 % of the activations are gone."""
    before, after = fastconv.summary(MaxPool2d(2), (64, 224, 224)).rows
    assert after.output_shape == (64, 112, 112)
    assert after.activations == before.activations * 0.25
    assert after.parameters == after.multiply_adds == 0


@pytest.mark.parametrize(
    ("W", "F", "S", "P", "out"), [(7, 3, 1, 0, 5), (7, 3, 2, 0, 3), (5, 3, 1, 1, 5)]
)
def test_spatial_arrangement(W, F, S, P, out):
    row = last(Conv2d(1, 1, F, stride=S, padding=P), (1, W, W))
    assert row.output_shape == (1, out, out)
    assert row.receptive_field.region(out - 1, 0)[0][1] == (out - 1) * S + F - 1 - P


# "VGGNet in detail": numbers in the volume, and weights without biases
VGG16 = """
INPUT     150528            0
CONV3-64  3211264        1728
CONV3-64  3211264       36864
POOL2      802816           0
CONV3-128 1605632       73728
CONV3-128 1605632      147456
POOL2      401408           0
CONV3-256  802816      294912
CONV3-256  802816      589824
CONV3-256  802816      589824
POOL2      200704           0
CONV3-512  401408     1179648
CONV3-512  401408     2359296
CONV3-512  401408     2359296
POOL2      100352           0
CONV3-512  100352     2359296
CONV3-512  100352     2359296
CONV3-512  100352     2359296
POOL2       25088           0
FC           4096   102760448
FC           4096    16777216
FC           1000     4096000
"""


def vgg16():
    layers, C = [], 3
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [Conv2d(C, filters, 3, padding=1), ReLU()]
            C = filters
        layers.append(MaxPool2d(2))
    layers += [Flatten(), Linear(25088, 4096), ReLU(), Linear(4096, 4096), ReLU()]
    return Sequential(*layers, Linear(4096, 1000))


def test_vgg16_in_detail():
    """The lecture's table, line by line.

    Its total of 24M numbers, 93 MB an image, is more than the sum of its lines, which is 15.2M
    numbers or 61 MB. With a volume for each ReLU, too, it would be 28.8M.
    """
    found = fastconv.summary(vgg16(), (3, 224, 224))
    expected = [line.split() for line in VGG16.split("\n") if line]
    rows = [row for row in found.rows if row.kind not in ("ReLU", "Flatten")]
    assert len(rows) == len(expected)
    for row, (_, memory, weights) in zip(rows, expected, strict=True):
        biases = row.output_shape[0] if row.parameters else 0
        assert (prod(row.output_shape), row.parameters - biases) == (int(memory), int(weights))
        assert row.forward_bytes == 4 * int(memory)
    assert sum(int(memory) for _, memory, _ in expected) == 15_237_608
    # the ReLUs behind convolutions are done in place, the two of 4096 behind FC are not
    assert found.totals.activations == 15_237_608 + 2 * 4096
    assert found.totals.parameters == 138_357_544  # "138M"
    assert found.totals.multiply_adds == 15_470_264_320
    # "most memory is in early CONV, most params are in late FC"
    assert sum(row.forward_bytes for row in rows[1:3]) > 0.4 * found.totals.activation_bytes
    assert sum(row.parameters for row in rows[-3:]) > 0.85 * found.totals.parameters
    field = rows[-4].receptive_field
    # Araujo et al., table of networks: 212, 32, 90
    assert (field.size, field.stride, field.padding) == ((212,) * 2, (32,) * 2, (90,) * 2)


# ---- receptive fields ---------------------------------------------------------------------------


def seen(net, shape, position):
    """Box of the pixels of which one output depends, by its gradient: every weight is positive."""
    for value in net.params.values():
        np.abs(value, out=value)
        value += 0.1
    x = np.ones((1, *shape))
    dy = np.zeros_like(net.forward(x))
    dy[0, :, position[0], position[1]] = 1  # of all branches
    dx = np.abs(net.backward(dy)).sum(axis=(0, 1))
    assert np.isfinite(dx).all()
    return tuple(
        (int(line[0]), int(line[-1])) if len(line := np.flatnonzero(dx.any(axis=axis))) else None
        for axis in (1, 0)
    )


def check_field(net, shape, exact=True):
    """The gradient's box is the region where that lies in the image, and never beyond it."""
    y_shape = net.output_shape((1, *shape))
    field = fastconv.receptive_field(net, shape)
    inside = 0
    for i in range(y_shape[2]):
        j = i * y_shape[3] // y_shape[2]
        region, boxes = field.region(i, j), seen(net, shape, (i, j))
        per_axis = zip(region, shape[1:], strict=True)
        if all(low >= 0 and high < size for (low, high), size in per_axis):
            inside += 1
            assert boxes == region or not exact
        for box, (low, high) in zip(boxes, region, strict=True):
            assert box is None or (low <= box[0] and box[1] <= high)
    return inside


def conv(C, OC, *args, **options):
    return Conv2d(C, OC, *args, dtype=np.float64, rng=0, **options)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 4),
            st.integers(1, 3),
            st.integers(0, 2),
            st.integers(1, 2),
            st.booleans(),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_fields_of_stacks_are_what_gradients_reach(windows):
    layers = [
        AvgPool2d(k, s, min(p, k - 1)) if pool else conv(1, 1, k, stride=s, padding=p, dilation=d)
        for k, s, p, d, pool in windows
    ]
    check_field(Sequential(*layers), (1, 100, 93))


BRANCHES = {
    "residual": Sequential(
        Residual(Sequential(conv(2, 2, 3, padding=1), ReLU(), conv(2, 2, 3, padding=1))),
        conv(2, 2, 3),
    ),
    "projection": Residual(
        Sequential(conv(2, 4, 3, 2, 1), ReLU(), conv(4, 4, 3, padding=1)),
        conv(2, 4, 1, 2),
        activation="relu",
    ),
    "inception": Sequential(
        Concat(
            conv(2, 2, 1),
            Sequential(conv(2, 1, 1), conv(1, 2, 5, padding=2)),
            Sequential(LPPool2d(2, 1, 1), conv(2, 1, 3, padding=1)),
        ),
        AvgPool2d(3, 2),
    ),
    "one-sided": Concat(conv(2, 1, 3, padding=((2, 0), (0, 2))), conv(2, 1, 3, padding="same")),
    "same": Sequential(conv(2, 1, 4, 2, "same"), conv(1, 1, 3, 2, "same")),
    "not square": conv(2, 1, (3, 5), (1, 2), (1, 2)),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_fields_of_branches_are_what_gradients_reach(name):
    assert check_field(BRANCHES[name], (2, 24, 24)) > 0


@pytest.mark.parametrize("args", [(2, 2), (3, 2, 1), (4, 2, 1), (3, 3), (3, 1, 1), (5, 2, 0, 1)])
def test_fields_of_transposed_convolutions(args):
    up = ConvTranspose2d(1, 1, *args, dtype=np.float64, rng=0)
    assert check_field(up, (1, 9, 9)) > 0
    check_field(
        Sequential(conv(1, 1, 3, 2, 1), up, conv(1, 1, 3, padding=1)), (1, 20, 20), exact=False
    )


def test_fields_of_layers_that_see_everything():
    net = Sequential(conv(1, 2, 3, 2, 1), ReLU(), Flatten(), ReLU(), Linear(2 * 4 * 4, 3), ReLU())
    fields = [row.receptive_field for row in fastconv.summary(net, (1, 8, 8)).rows]
    assert [field.size[0] for field in fields] == [1, 3, 3, 3, 3, 9, 9]
    assert fields[-1] == ReceptiveField((2, 2), (-1, -1), (8, 8))
    pooled = Sequential(conv(1, 2, 3, 2, 1), GlobalAvgPool2d(), Flatten(), Linear(2, 3))
    assert fastconv.receptive_field(pooled, (1, 8, 8)) == fields[-1]
    # as the convolutions that compute the same
    same = Sequential(conv(1, 2, 3, 2, 1), conv(2, 3, 4))
    assert fastconv.receptive_field(same, (1, 8, 8)) == fields[-1]


def test_branches_of_different_strides_are_bounded():
    """Windows that drift apart: the union is what holds them at every place."""
    net = Concat(conv(1, 1, 3, 2, 1), Sequential(conv(1, 1, 3, 3, 1), AvgPool2d(1, 1, 0)))
    shape = (1, 1, 1)
    field = fastconv.receptive_field(net, shape)
    assert field.size == (3, 3) and field.stride == (3, 3)


def test_channels_last():
    net = Sequential(
        Conv2d(3, 4, (5, 3), (2, 1), (2, 1), layout="NHWC"), ReLU(), MaxPool2d(2, layout="NHWC"),
        Flatten(), Linear(4 * 4 * 8, 2),
    )  # fmt: skip
    rows = fastconv.summary(net, (16, 16, 3)).rows
    assert rows[1].output_shape == (8, 16, 4)
    assert rows[1].unshared_parameters == 8 * 16 * rows[1].parameters
    assert rows[3].receptive_field.size == (7, 4) and rows[3].receptive_field.stride == (4, 2)
    assert rows[-1].receptive_field.size == (7 + 3 * 4, 4 + 7 * 2)


# ---- memory -------------------------------------------------------------------------------------


def small_net(rng=0):
    rng = np.random.default_rng(rng)
    return Sequential(
        Conv2d(2, 8, 3, padding=1, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Residual(
            Sequential({"conv1": Conv2d(8, 8, 3, padding=1, rng=rng), "relu": ReLU()}),
            activation="relu",
        ),
        Residual(Conv2d(8, 4, 1, 2, rng=rng), Conv2d(8, 4, 3, 2, 1, rng=rng)),
        Concat(
            Sequential(Conv2d(4, 4, 1, rng=rng), ReLU()),
            Sequential(MaxPool2d(3, 1, 1), Conv2d(4, 2, 1, rng=rng)),
        ),
        ReLU(),
        AvgPool2d(2),
        LPPool2d(2, 1, 1),
        BatchNorm2d(6),
        LeakyReLU(),
        Conv2d(6, 6, 1, rng=rng),
        BatchNorm2d(6),
        ReLU(),
        PReLU(6),
        ReLU6(),
        LocallyConnected2d(2, 6, 6, 1, rng=rng),
        LocalResponseNorm(3),
        Flatten(),
        Dropout(0.5, rng=rng),
        Linear(6 * 2 * 2, 10, rng=rng),
        ReLU(),
        Dropout(0.5, rng=rng),
        Sigmoid(),
        Tanh(),
        Linear(10, 3, rng=rng),
        Softmax(),
    )


def held(layer):
    """Bytes by address of all arrays that a layer and its parts keep for backward."""
    found, waiting = {}, [layer._kept]
    while waiting:
        item = waiting.pop()
        if isinstance(item, np.ndarray):
            address = item.__array_interface__["data"][0]
            found[address] = max(found.get(address, 0), item.nbytes)
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, (tuple, list)):
            waiting += item
    for child in layer.children().values():
        found |= held(child)
    return found


def held_for_backward(net, shape, batch=1):
    """Bytes of the images and of all that is kept after forward."""
    x = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
    net.forward(x)
    return sum((held(net) | {x.__array_interface__["data"][0]: x.nbytes}).values())


@pytest.mark.parametrize("batch", [1, 3])
def test_training_bytes_are_what_forward_keeps(batch):
    net, shape = small_net(), (2, 16, 16)
    found = fastconv.summary(net, shape, batch=batch)
    assert found.totals.training_bytes == held_for_backward(net, shape, batch)
    assert found.totals.training_bytes == sum(row.training_bytes for row in found.rows)


@pytest.mark.parametrize("name", ["all_cnn_c", "squeezenet1_1", "mobilenet_v2", "resnet18"])
def test_training_bytes_of_well_known_nets(name):
    net, shape = nets.NAMES[name].build(classes=10, rng=0), (3, 64, 64)
    assert fastconv.summary(net, shape).totals.training_bytes == held_for_backward(net, shape)


@pytest.mark.parametrize("aux_heads", [False, True])
def test_googlenet(aux_heads):
    net = nets.googlenet(aux_heads=aux_heads, classes=10, rng=0)
    found = fastconv.summary(net, (3, 224, 224))
    assert found.totals.parameters == sum(value.size for value in net.params.values())
    assert found.totals.training_bytes == held_for_backward(net, (3, 224, 224))
    assert all(row.multiply_adds is not None and row.receptive_field for row in found.rows)
    names = {row.name.partition(".")[0] for row in found.rows}
    assert ("aux1" in names, "aux2" in names) == (aux_heads, aux_heads)


# Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", table of networks,
# for the layers before pooling and classification. Their AlexNet has no padding at first.
@pytest.mark.parametrize(
    ("name", "size", "padding"),
    [("alexnet", 195, 64 + 2), ("vgg16", 212, 90), ("mobilenet_v1", 315, None)],
)
def test_fields_of_well_known_nets(name, size, padding):
    with_zeros = summary_command._Zeros(np.random.PCG64())
    net = nets.NAMES[name].build(classes=10, rng=with_zeros)
    field = fastconv.receptive_field(net["features"], (3, 224, 224))
    assert field.size == (size, size) and field.stride == (32, 32)
    assert padding is None or field.padding == (padding, padding)


def test_peak_of_a_row_of_layers():
    net = Sequential(Conv2d(1, 8, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(8, 2, 3, padding=1))
    totals = fastconv.summary(net, (1, 8, 8)).totals
    assert totals.peak_bytes == 4 * (64 + 8 * 64 + 8 * 16)  # the images, conv, what pooling makes


def test_peak_of_branches():
    net = Concat(Conv2d(1, 4, 1), Sequential(Conv2d(1, 8, 1), Conv2d(8, 2, 1)))
    totals = fastconv.summary(net, (1, 8, 8)).totals
    # images, first branch, and the two volumes of the second one
    assert totals.peak_bytes == 4 * 64 * (1 + 4 + 8 + 2)


def test_peak_is_what_is_alive():
    """Results below 128 KB are NumPy's memory, which tracemalloc sees, unlike scratch memory."""
    rng = np.random.default_rng(0)
    net = Sequential(
        Conv2d(2, 16, 3, padding=1, rng=rng),
        ReLU(),
        Residual(
            Sequential(Conv2d(16, 4, 1, rng=rng), ReLU(), Conv2d(4, 16, 3, padding=1, rng=rng)),
            Conv2d(16, 16, 1, rng=rng),
        ),
        MaxPool2d(2),
        Concat(
            Conv2d(16, 8, 1, rng=rng),
            Sequential(Conv2d(16, 24, 1, rng=rng), ReLU(), Conv2d(24, 8, 3, padding=1, rng=rng)),
        ),
        Flatten(),
    )
    for part, shape in ((net, (2, 40, 40)), (net[3:], (16, 40, 40))):
        x = np.ones((1, *shape), np.float32)
        part(x)
        tracemalloc.start()
        part(x)
        peak = tracemalloc.get_traced_memory()[1] + x.nbytes
        tracemalloc.stop()
        expected = fastconv.summary(part, shape).totals.peak_bytes
        assert expected <= peak < expected + 8192  # and Python's own objects


# ---- rows, totals, forms ------------------------------------------------------------------------


def test_names_are_those_of_the_parameters():
    net = small_net()
    found = fastconv.summary(net, (2, 16, 16)).rows
    with_parameters = [row.name for row in found if row.parameters]
    assert with_parameters == list(dict.fromkeys(key.rpartition(".")[0] for key in net.params))
    rows = {row.name: row for row in found}
    assert rows["3"].kind == "Residual" and rows["3"].detail == "sum, relu"
    assert rows["3.conv1"].kind == "Conv2d" and rows["4.downsample"].detail == "4, 3x3, s2, p1"
    assert rows["5"].detail == "2 branches"


def test_totals_and_batches():
    net = small_net()
    one = fastconv.summary(net, (2, 16, 16))
    assert one.totals.parameters == sum(value.size for value in net.params.values())
    assert one.totals.parameter_bytes == 4 * one.totals.parameters
    four = fastconv.summary(net, (2, 16, 16), batch=4, dtype=np.float64)
    assert four.totals.multiply_adds == 4 * one.totals.multiply_adds
    assert four.totals.activation_bytes == 8 * one.totals.activation_bytes
    assert four.totals.unshared_parameters == one.totals.unshared_parameters
    assert [row.output_shape for row in four.rows] == [row.output_shape for row in one.rows]


def test_multiply_adds():
    assert last(Conv2d(4, 6, (3, 2), 2, groups=2), (4, 9, 9)).multiply_adds == 6 * 4 * 4 * 2 * 6
    assert last(ConvTranspose2d(4, 6, 3, 2), (4, 5, 5)).multiply_adds == 4 * 25 * 6 * 9
    assert last(Linear(7, 5), (7,), batch=3).multiply_adds == 3 * 35


def test_nothing_is_allocated_or_computed(monkeypatch):
    net = Sequential(Conv2d(3, 64, 3), ReLU(), MaxPool2d(2))
    monkeypatch.setattr(Conv2d, "_infer", None)
    found = fastconv.summary(net, (3, 10**6, 10**6))  # 768 TB
    assert found.totals.activation_bytes > 1e12


def test_dict_and_json():
    found = fastconv.summary(small_net(), (2, 16, 16))
    content = json.loads(found.to_json())
    assert content == found.to_dict()
    assert content["totals"]["parameters"] == found.totals.parameters
    row = content["rows"][1]
    assert row["output_shape"] == [8, 16, 16]
    assert row["receptive_field"] == {"size": [3, 3], "stride": [1, 1], "padding": [1, 1]}


def test_text():
    found = fastconv.summary(small_net(), (2, 16, 16))
    lines = str(found).splitlines()
    assert lines[0] == "input 2x16x16, float32"
    assert lines[1].split() == [
        "layer", "kind", "output", "parameters", "unshared", "mult-adds", "forward", "training",
        "sees", "stride", "pad",
    ]  # fmt: skip
    assert f"parameters       {found.totals.parameters:,} " in str(found)
    for width in (60, 80, 100):
        narrow = found.text(width).split("\n\n")[0].splitlines()
        assert max(map(len, narrow)) <= width
        assert narrow[1].startswith("layer") and "parameters" in narrow[1]


def test_rich_table():
    rich = pytest.importorskip("rich.console")
    found = fastconv.summary(small_net(), (2, 16, 16))
    assert found.table().row_count == len(found.rows)
    for width in (60, 80, 200):
        console = rich.Console(width=width, record=True, file=io.StringIO())
        console.print(found)
        text = console.export_text()
        assert "…" not in text and f"{found.totals.parameters:,}" in text


def test_table_without_rich(monkeypatch):
    found = fastconv.summary(small_net(), (2, 16, 16))
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[cli\]'"):
        found.table()


def test_every_layer_is_known():
    from fastconv.analysis import walk

    for name in layers.__all__:
        kind = getattr(layers, name)
        known = (facts.dispatch(kind), walk.visit.dispatch(kind))
        unknown = (facts.dispatch(object), walk.visit.dispatch(object))
        assert known != unknown or kind is Layer, name


def test_locally_connected():
    local = LocallyConnected2d(27, 3, 96, 11, stride=4, dtype=np.float64, rng=0)
    row = last(local, (3, 27, 27))
    shared = last(Conv2d(3, 96, 11, stride=4), (3, 27, 27))
    assert row.parameters == row.unshared_parameters == shared.unshared_parameters == 25 * 34_944
    assert row.multiply_adds == shared.multiply_adds
    assert row.receptive_field == shared.receptive_field
    assert row.detail == shared.detail == "96, 11x11, s4"


class Double(Layer):
    def _forward(self, x):
        return 2 * x, ()

    def output_shape(self, in_shape):
        return tuple(in_shape)


class Scale(Double):
    """One that says what it costs."""


def test_layers_of_ones_own():
    net = Sequential(Conv2d(1, 2, 3), Double(), Conv2d(2, 2, 3))
    found = fastconv.summary(net, (1, 9, 9))
    assert found.rows[2].multiply_adds is None and found.rows[3].receptive_field is None
    assert fastconv.receptive_field(net, (1, 9, 9)) is None
    assert "?" in str(found) and "without the layers marked ?" in str(found)

    @facts.register
    def _(layer: Scale, x_shape, y_shape):
        return Facts(detail="times 2", multiply_adds=prod(y_shape))

    row = last(Sequential(Conv2d(1, 2, 3), Scale()), (1, 9, 9))
    assert (row.detail, row.multiply_adds, row.receptive_field.size) == ("times 2", 98, (3, 3))


def test_containers_of_ones_own():
    class Twice(layers.Concat):
        """Its class says nothing new, so it is opened up as its base."""

    class Both(layers.Residual.__base__):
        """Nobody knows what it does with its parts."""

        def output_shape(self, in_shape):
            return tuple(in_shape)

    parts = {"a": Conv2d(2, 2, 1), "b": Conv2d(2, 2, 1)}
    assert [row.name for row in fastconv.summary(Twice(parts), (2, 4, 4)).rows[1:3]] == ["a", "b"]
    found = fastconv.summary(Both(parts), (2, 4, 4))
    assert len(found.rows) == 2 and found.rows[1].multiply_adds is None
    assert found.totals.parameters == 12


# ---- mistakes -----------------------------------------------------------------------------------


def test_mistakes():
    net = Sequential({"conv1": Conv2d(3, 4, 3), "fc": Linear(7, 2)})
    with pytest.raises(ValueError, match=r"\(1, 4, 6, 6\), expected \(N, 7\)") as error:
        fastconv.summary(net, (3, 8, 8))
    assert "in layer fc" in error.value.__notes__[0]
    with pytest.raises(ValueError, match="x has 1 channels"):
        fastconv.summary(net, (1, 8, 8))
    for function in (fastconv.summary, fastconv.receptive_field):
        with pytest.raises(TypeError, match="without the batch"):
            function(net, 224)
        with pytest.raises(ValueError, match="at least 1, got 0"):
            function(net, (3, 0, 8))
        with pytest.raises(TypeError, match="expected a layer"):
            function("vgg16", (3, 224, 224))
    with pytest.raises(ValueError, match="batch must be at least 1"):
        fastconv.summary(net, (3, 8, 8), batch=0)
    with pytest.raises(TypeError, match="expected float32 or float64"):
        fastconv.summary(net, (3, 8, 8), dtype=np.float16)
