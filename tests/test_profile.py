"""`fastconv.profile`: rows as the net runs, and nothing left behind. No test asserts a time."""

import io
import json
import sys

import numpy as np
import pytest

import fastconv
from fastconv import nets
from fastconv.layers import (
    BatchNorm2d,
    Concat,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)
from fastconv.layers.container import watched_by

SHAPE = (3, 16, 16)
QUICK = {"seconds": 0.01}


def build(dtype=np.float32):
    given = {"dtype": dtype, "rng": np.random.default_rng(0)}
    return Sequential(
        {
            "conv": Conv2d(3, 8, 3, padding=1, **given),
            "relu": ReLU(),
            "pool": MaxPool2d(2),
            "block": Residual(
                Sequential({"conv1": Conv2d(8, 8, 1, **given), "bn1": BatchNorm2d(8, dtype=dtype)}),
                Conv2d(8, 8, 1, **given),
            ),
            "late": ReLU(),
            "mix": Concat({"a": Conv2d(8, 2, 1, **given), "b": Conv2d(8, 3, 1, **given)}),
            "flat": Flatten(),
            "drop": Dropout(0.5, rng=0),
            "fc": Linear(5 * 8 * 8, 10, **given),
            "last": ReLU(),
        }
    )


@pytest.fixture(params=[False, True], ids=["inference", "training"])
def training(request):
    return request.param


def test_rows_are_what_runs(training):
    found = fastconv.profile(build(), SHAPE, batch=2, training=training, **QUICK)
    kinds = {row.name: row.kind for row in found.rows}
    if training:  # forward is the block's work, backward is its own
        assert kinds.pop("late") == "ReLU"
    assert kinds == {
        "conv": "Conv2d + ReLU",
        "pool": "MaxPool2d",
        "block.conv1": "Conv2d",
        "block.bn1": "BatchNorm2d",
        "block.downsample": "Conv2d",
        "block": "Residual + ReLU",
        "mix.a": "Conv2d",
        "mix.b": "Conv2d",
        "mix": "Concat",
        "flat": "Flatten",
        "drop": "Dropout",
        "fc": "Linear",
        "last": "ReLU",
    }
    assert found.rounds >= 5 and found.batch == 2 and found.seconds > 0 and found.peak > 0
    assert sum(row.share for row in found.rows) == pytest.approx(1)
    assert sum(found.by_kind().values()) == pytest.approx(sum(row.seconds for row in found.rows))
    for row in found.rows:
        assert (row.forward_seconds > 0) == (row.name != "late")
        assert (row.backward_seconds > 0) is training
        assert (row.flops is None) == (row.name.rpartition(".")[2] in EMPTY)


EMPTY = ("pool", "bn1", "block", "late", "mix", "flat", "drop", "last")


def test_work_of_gradients():
    """dx and dw are as much work as the forward pass each; the images' gradient is not computed."""
    forward = {
        row.name: row.multiply_adds for row in fastconv.profile(build(), SHAPE, **QUICK).rows
    }
    found = fastconv.profile(build(), SHAPE, training=True, **QUICK)
    times = {row.name: row.multiply_adds / forward[row.name] for row in found.rows if row.flops}
    assert times.pop("conv") == 2
    assert set(times.values()) == {3}


def test_multiply_adds_are_those_of_the_summary():
    net = build()
    rows = fastconv.profile(net, SHAPE, batch=3, **QUICK).rows
    total = fastconv.summary(net, SHAPE, batch=3).totals.multiply_adds
    assert sum(row.multiply_adds for row in rows) == total


def test_nothing_is_left_behind(training):
    net = build()
    x = np.random.default_rng(1).standard_normal((2, *SHAPE), np.float32)
    net.forward(x)
    net.backward(np.ones((2, 10), np.float32))
    net["block"].eval()
    before = {name: value.copy() for name, value in net.state_dict().items()}
    grads = {name: value.copy() for name, value in net.grads.items()}
    copy = x.copy()
    fastconv.profile(net, x, training=training, **QUICK)
    np.testing.assert_array_equal(x, copy)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    for name, value in net.grads.items():
        np.testing.assert_array_equal(value, grads[name])
    assert net.training and net["fc"].training
    assert not net["block"].training and not net["block"].body["bn1"].training
    assert net["conv"]._kept is None and net["block"]._kept is None


def test_images_or_their_shape():
    x = np.zeros((4, *SHAPE))
    found = fastconv.profile(build(np.float64), x, **QUICK)
    assert (found.batch, found.input_shape, found.dtype) == (4, SHAPE, "float64")
    found = fastconv.profile(build(np.float64), SHAPE, **QUICK)
    assert (found.batch, found.input_shape, found.dtype) == (1, SHAPE, "float64")


def test_one_layer(training):
    (row,) = fastconv.profile(Conv2d(3, 4, 3), SHAPE, training=training, **QUICK).rows
    assert row.name == "net" and row.kind == "Conv2d"
    assert row.multiply_adds == 4 * 14 * 14 * 27 * (2 if training else 1)


def test_net_with_several_outputs(training):
    net = nets.googlenet(aux_heads=True, classes=10, rng=0)
    found = fastconv.profile(net, (3, 224, 224), training=training, **QUICK)
    assert any(row.name.startswith("aux1.") for row in found.rows) == training
    assert {"conv1.conv", "inception4a", "inception4a.branch1.conv", "fc"} <= {
        row.name for row in found.rows
    }


def test_prepared():
    net = build().eval()
    found = fastconv.profile(net, SHAPE, batch=2, prepared=True, **QUICK)
    assert {row.name: row.kind for row in found.rows} == {
        "conv": "Conv2d + ReLU",
        "pool": "MaxPool2d",
        "block.conv1": "Conv2d + BatchNorm2d",
        "block.downsample": "Conv2d",
        "block": "Residual",
        "late": "ReLU",
        "mix.a": "Conv2d",
        "mix.b": "Conv2d",
        "mix": "Concat",
        "flat": "Flatten",
        "fc": "Linear",
        "last": "ReLU",
    }
    assert found.mode == "inference, prepared"
    total = fastconv.summary(net, SHAPE, batch=2).totals.multiply_adds
    assert sum(row.multiply_adds for row in found.rows) == total
    assert sum(row.share for row in found.rows) == pytest.approx(1)


@pytest.mark.parametrize("name", ["googlenet", "resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_prepared_nets_have_a_row_for_each_convolution(name):
    net = nets.NAMES[name].build(classes=10, rng=0)
    found = fastconv.profile(net, (3, 64, 64), prepared=True, **QUICK)
    summary = fastconv.summary(net, (3, 64, 64))
    convolutions = [row.name for row in summary.rows if row.kind in ("Conv2d", "Linear")]
    assert [row.name for row in found.rows if row.flops] == convolutions
    assert all("BatchNorm2d" not in row.kind.split(" + ")[0] for row in found.rows)


def test_prepared_parts():
    (row,) = fastconv.profile(Conv2d(3, 4, 3), SHAPE, prepared=True, **QUICK).rows
    assert (row.name, row.kind) == ("net", "Conv2d")
    net = nets.googlenet(aux_heads=True, classes=10, rng=0)
    names = [row.name for row in fastconv.profile(net, (3, 224, 224), prepared=True, **QUICK).rows]
    assert "conv1.conv" in names and not any("aux" in name for name in names)
    block = Residual(Conv2d(2, 2, 1), activation="relu")  # the body is called as the block
    rows = fastconv.profile(Sequential(block, ReLU()), (2, 4, 4), prepared=True, **QUICK).rows
    assert [row.kind for row in rows] == ["Conv2d", "Residual", "ReLU"]


def test_watching_changes_no_bit():
    net, calls = build(), []
    x = np.random.default_rng(1).standard_normal((2, *SHAPE), np.float32)

    def watch(layer, function, args, kwargs):
        calls.append(type(layer).__name__)
        return function(*args, **kwargs)

    expected = net(x)
    with watched_by(watch):
        y = net(x)
    np.testing.assert_array_equal(y, expected)
    assert len(calls) == 14 and calls.count("ReLU") == 1  # the others are parts of a pass
    net(x)
    assert len(calls) == 14


def test_errors_inside_still_name_the_layer():
    with (
        watched_by(lambda layer, function, args, kwargs: function(*args, **kwargs)),
        pytest.raises(ValueError) as error,
    ):
        build()(np.zeros((1, 3, 14, 14), np.float32))
    assert "in layer fc" in error.value.__notes__[0]


# ---- forms --------------------------------------------------------------------------------------


def test_text_and_order(training):
    found = fastconv.profile(build(), SHAPE, training=training, title="little", **QUICK)
    text = str(found)
    assert text.startswith(f"little: {found.mode}, 1 x 3x16x16, float32, ")
    assert ("backward" in text.splitlines()[3]) is training
    for width in (60, 80, 100):
        lines = found.text(width).split("\n\n")[1].splitlines()
        assert max(map(len, lines)) <= width
        assert lines[0].startswith("layer") and " ms" in lines[0] and "share" in lines[0]
    seconds = [row.seconds for row in found.slowest_first().rows]
    assert seconds == sorted(seconds, reverse=True)
    assert found.slowest_first().text().splitlines()[5].split()[0] != "conv" or seconds[0] > 0


def test_dict_and_json():
    found = fastconv.profile(build(), SHAPE, **QUICK)
    content = json.loads(found.to_json())
    assert content == found.to_dict()
    row = content["rows"][0]
    assert row["kind"] == "Conv2d + ReLU" and row["output_shape"] == [8, 16, 16]
    assert row["share_of_peak"] == pytest.approx(row["flops"] / content["peak"])
    assert content["rows"][1]["flops"] is None


def test_rich_table():
    rich = pytest.importorskip("rich.console")
    found = fastconv.profile(build(), SHAPE, **QUICK)
    assert found.table().row_count == len(found.rows)
    for width in (60, 80, 200):
        console = rich.Console(width=width, record=True, file=io.StringIO())
        console.print(found)
        text = console.export_text()
        assert "…" not in text and "by kind" in text
        assert "█" in text or width == 60


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_picture(tmp_path, training, ending):
    pytest.importorskip("matplotlib")
    target = tmp_path / f"chart.{ending}"
    fastconv.profile(build(), SHAPE, training=training, **QUICK).draw(target)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert target.read_bytes().startswith(start)


def test_without_the_extras(monkeypatch, tmp_path):
    found = fastconv.profile(build(), SHAPE, **QUICK)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[cli\]'"):
        found.table()
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[plot\]'"):
        found.draw(tmp_path / "x.png")


def test_mistakes():
    net = build()
    with pytest.raises(ValueError, match=r"\(N, 320\)"):
        fastconv.profile(net, (3, 14, 14))
    with pytest.raises(TypeError, match="expected a layer"):
        fastconv.profile("vgg16", SHAPE)
    with pytest.raises(TypeError, match="without the batch"):
        fastconv.profile(net, 3)
    for seconds in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="seconds"):
            fastconv.profile(net, SHAPE, seconds=seconds)
    with pytest.raises(ValueError, match="batch must be at least 1"):
        fastconv.profile(net, SHAPE, batch=0)
    with pytest.raises(ValueError, match="leave out training or prepared"):
        fastconv.profile(net, SHAPE, training=True, prepared=True)
