"""Measured choices: what "auto" follows, their file, and that nothing can break it."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from interpreter import output, run_python

import fastconv
from fastconv import _core, _tuned
from fastconv.functional.conv import conv_shape
from fastconv.layers import Conv2d, ReLU, Sequential

SHAPES = ((1, 32, 12, 12), (40, 32, 3, 3))
HOW = {"padding": 1, "op": "forward", "seconds": 0.002}


@pytest.fixture(autouse=True)
def nothing_tuned():
    fastconv.tune_clear(cache=False)
    yield
    fastconv.tune_clear(cache=False)


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "cache" / "tuned.json"
    monkeypatch.setenv("FASTCONV_CACHE", str(path))
    return path


@pytest.fixture
def fresh(monkeypatch):
    """As in a new process: the file was not read yet."""

    def forget():
        _tuned.clear()
        monkeypatch.setattr(_tuned, "_read", False)
        monkeypatch.setattr(_tuned, "_problem", "")
        _tuned._changed()

    return forget


def shape(op="conv2d", x_shape=SHAPES[0], w_shape=SHAPES[1], padding=1, stride=1, layout="NCHW"):
    return conv_shape(op, x_shape, w_shape, stride, padding, 1, 1, layout, "floor")


def force(algo, op="forward", dtype=np.float32, **options):
    """Let "auto" take `algo`, as if it had been the fastest."""
    g, threads = shape(**options), _core.get_num_threads()
    _tuned.add({_tuned.key(op, g, np.dtype(dtype), threads, _core.isa()): {"algo": algo}})


def arrays(dtype=np.float32):
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


# ---- measuring ----------------------------------------------------------------------------------


def test_measures_what_auto_may_take():
    result = fastconv.tune_conv2d(*SHAPES, padding=1, seconds=0.002, cache=False)
    forward, gradient = result.convolutions
    assert (forward.op, gradient.op) == ("forward", "input_grad")
    assert forward.shapes == "1x32x12x12 by 40x32x3x3, padding 1"
    assert result.file is None
    for conv in result.convolutions:
        assert set(conv.seconds) == {"gemm", "winograd"} and min(conv.seconds.values()) > 0
        assert conv.algo in conv.seconds and conv.estimated in conv.seconds
        assert (conv.threads, conv.isa) == (fastconv.get_num_threads(), fastconv.isa())
    lines = str(result).splitlines()
    assert lines == repr(result).splitlines() and len(lines) == 5
    assert lines[0].split()[-2:] == ["auto", "takes"] and lines[-1] == "for this process only"


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((1, 23, 12, 12), (23, 23, 3, 3), {}),  # Winograd's rounding errors would be too large
        ((1, 32, 12, 12), (32, 32, 3, 3), {"stride": 2}),
        ((1, 32, 12, 12), (32, 32, 1, 1), {}),
        ((1, 32, 12, 12), (32, 1, 3, 3), {"groups": 32}),
        ((0, 32, 12, 12), (32, 32, 3, 3), {}),
    ],
)
def test_nothing_to_measure(x_shape, w_shape, options):
    result = fastconv.tune_conv2d(x_shape, w_shape, **options, cache=False)
    assert [conv.seconds for conv in result.convolutions] == [{}, {}]
    assert str(result) == "convolutions with one algorithm to take: 2"
    assert not _tuned.active


def test_precision_of_the_gradient_depends_on_its_own_sums():
    """The forward pass sums over 8 channels, the input gradient over 32."""
    result = fastconv.tune_conv2d((1, 8, 9, 9), (32, 8, 3, 3), seconds=0.002, cache=False)
    assert [bool(conv.seconds) for conv in result.convolutions] == [False, True]


def test_least_channels_are_those_of_the_estimate():
    for C in (_tuned.LEAST_CHANNELS - 1, _tuned.LEAST_CHANNELS):
        plan = fastconv.plan_conv2d((1, C, 56, 56), (64, C, 3, 3), padding=1)
        assert ("4x4 outputs" in plan.reason) == (C == _tuned.LEAST_CHANNELS)


@pytest.mark.parametrize("padding", [0, 1, ((2, 0), (1, 3))])
def test_input_gradient_as_a_forward_convolution(padding):
    g = shape(padding=padding)
    direct = _tuned.as_forward("input_grad", g)
    assert direct.x_shape == g.y_shape and direct.y_shape == g.x_shape
    rng = np.random.default_rng(1)
    dy, w = rng.standard_normal(g.y_shape), rng.standard_normal(g.w_shape)
    dx = _core.conv_forward(direct, dy, w.swapaxes(0, 1)[..., ::-1, ::-1])
    np.testing.assert_allclose(dx, _core.conv_input_grad(g, dy, w), atol=1e-11)
    assert _tuned.as_forward("input_grad", shape(stride=2)) is None


def test_a_net_and_a_training_step():
    net = Sequential(Conv2d(3, 32, 3, rng=0), ReLU(), Conv2d(32, 24, 3, rng=0))
    x = np.ones((1, 3, 14, 14), np.float32)
    result = fastconv.tune(net, x, seconds=0.002, cache=False)
    assert [(conv.op, bool(conv.seconds)) for conv in result.convolutions] == [
        ("forward", False),
        ("forward", True),
    ]

    def step():
        net.backward(net.forward(x), need_dx=False)

    result = fastconv.tune(step, seconds=0.002, cache=False)
    assert [conv.op for conv in result.convolutions] == ["forward", "forward", "input_grad"]


def test_any_function_of_one_to_three_dimensions():
    def function():
        for ndim in (1, 2, 3):
            x, w = np.ones((1, 24, *[6] * ndim)), np.ones((24, 24, *[3] * ndim))
            y = getattr(fastconv, f"conv{ndim}d")(x, w)
            getattr(fastconv, f"conv_transpose{ndim}d")(y, w)
            getattr(fastconv, f"conv{ndim}d")(x, w, algo="gemm")  # nothing to decide

    result = fastconv.tune(function, seconds=0.002, cache=False)
    assert len(result.convolutions) == 6
    assert sum(bool(conv.seconds) for conv in result.convolutions) == 2
    assert fastconv.tune(lambda: None).convolutions == ()


def test_a_function_that_raises_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError):
        fastconv.tune(lambda: 1 / 0)
    assert _tuned._noted is None and not _tuned.active


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fastconv.tune(3), "function must be callable, got 3"),
        (lambda: fastconv.tune(list, seconds=0), "seconds must be positive and finite, got 0"),
        (lambda: fastconv.tune(list, seconds="1"), "seconds must be a number"),
        (lambda: fastconv.tune_conv2d(*SHAPES, op="weight_grad"), "op must be 'forward'"),
        (lambda: fastconv.tune_conv2d(*SHAPES, dtype=np.int8), "dtype must be float32 or float64"),
        (lambda: fastconv.tune_conv2d((1, 2, 3, 3), SHAPES[1]), "tune_conv2d: "),
    ],
)
def test_mistakes(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


# ---- what "auto" does ---------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["gemm", "winograd"])
def test_auto_follows(algo, dtype):
    x, w = arrays(dtype)
    y = fastconv.conv2d(x, w, padding=1, algo=algo)
    dx = fastconv.conv2d_input_grad(y, w, x.shape, padding=1, algo=algo)
    for op in ("forward", "input_grad"):
        force(algo, op, dtype)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, padding=1), y)
    np.testing.assert_array_equal(fastconv.conv2d_input_grad(y, w, x.shape, padding=1), dx)
    np.testing.assert_array_equal(fastconv.conv2d_backward(y, x, w, padding=1)[0], dx)
    np.testing.assert_array_equal(fastconv.conv_transpose2d(y, w, padding=1), dx)
    back = fastconv.conv_transpose2d_backward(x, y, w, padding=1, needs="x")[0]
    np.testing.assert_array_equal(back, y)


def test_the_plan_tells_the_measured_choice():
    shapes = (1, 64, 56, 56), (64, 64, 3, 3)
    plans = [fastconv.plan_conv2d(*shapes, padding=1)]
    for algo in ("gemm", "winograd"):
        force(algo, x_shape=shapes[0], w_shape=shapes[1])
        plans.append(fastconv.plan_conv2d(*shapes, padding=1))
    assert [plan.algorithm for plan in plans] == ["winograd", "gemm", "winograd"]
    assert ["measured" in plan.reason for plan in plans] == [False, True, True]
    assert plans[0].workspace_bytes == plans[2].workspace_bytes != plans[1].workspace_bytes > 0


def test_a_choice_is_for_its_threads_dtype_and_shape(isa):
    g, threads = shape(), fastconv.get_num_threads()
    force("winograd")
    assert _tuned.choose("forward", g, np.dtype(np.float32)) == "winograd"
    assert _tuned.choose("forward", g, np.dtype(np.float64)) == "auto"
    assert _tuned.choose("input_grad", g, np.dtype(np.float32)) == "auto"
    assert _tuned.choose("forward", shape(padding=0), np.dtype(np.float32)) == "auto"
    nhwc = shape(x_shape=(1, 12, 12, 32), layout="NHWC")
    assert _tuned.choose("forward", nhwc, np.dtype(np.float32)) == "auto"
    with fastconv.threads(threads + 1):
        assert _tuned.choose("forward", g, np.dtype(np.float32)) == "auto"
    fastconv.tune_clear(cache=False)
    assert _tuned.choose("forward", g, np.dtype(np.float32)) == "auto" and not _tuned.active


def test_keys_tell_geometries_apart():
    def text(x_shape, w_shape, stride=1, padding=0, dilation=1, groups=1, layout="NCHW"):
        g = conv_shape(
            "conv2d", x_shape, w_shape, stride, padding, dilation, groups, layout, "floor"
        )
        return _tuned.describe(g.geometry)

    x, w = (1, 4, 9, 9), (4, 4, 3, 3)
    texts = [
        text(x, w),
        text(x, w, 2),
        text(x, w, (2, 1)),
        text(x, w, 1, 1),
        text(x, w, 1, (0, 1)),
        text(x, w, 1, ((0, 1), (0, 1))),
        text(x, w, 1, ((0, 0), (1, 1))),
        text(x, w, 1, 0, 2),
        text(x, (4, 2, 3, 3), groups=2),
        text((1, 9, 9, 4), w, layout="NHWC"),
    ]
    assert len(set(texts)) - 1 == len(texts) - 2  # (0, 1) and ((0, 0), (1, 1)) are the same
    assert texts[5] == "1x4x9x9 by 4x4x3x3, padding 0+1x0+1"


def test_many_threads_meet_the_first_call(file, fresh):
    """None of them sees choices half read, or a function that another has just switched off."""
    x, w = arrays()
    right = fastconv.conv2d(x, w, padding=1)
    for _ in range(20):
        fresh()
        start = threading.Barrier(8)

        def convolve(_, start=start):
            start.wait()
            return fastconv.conv2d(x, w, padding=1)

        with ThreadPoolExecutor(8) as callers:
            for result in callers.map(convolve, range(8)):
                np.testing.assert_array_equal(result, right)


# ---- the file -----------------------------------------------------------------------------------

USE = f"""
import numpy as np, fastconv
from fastconv import _tuned
x, w = np.ones({SHAPES[0]}, np.float32), np.ones({SHAPES[1]}, np.float32)
before = _tuned._read
fastconv.conv2d(x, w, padding=1)
print(before, _tuned._read, len(_tuned.choices), _tuned.active)
"""


def test_new_processes_follow(file):
    result = fastconv.tune_conv2d(*SHAPES, **HOW)
    assert result.file == str(file) and str(result).endswith(f"stored in {file}")
    assert output(USE) == "False True 1 True"  # read at the first call, not at import
    fastconv.tune_clear()
    assert output(USE) == "False True 0 False"
    assert output(USE, FASTCONV_CACHE="off") == "False True 0 False"


def test_stored_choices_are_read_back(file, fresh):
    fastconv.tune_conv2d(*SHAPES, **HOW)
    mine = dict(_tuned.choices)
    fresh()
    _tuned.load()
    assert _tuned.choices == mine and len(mine) == 1
    assert _tuned.status() == {"file": str(file), "choices": 1, "problem": ""}


def test_where_the_file_is(monkeypatch):
    monkeypatch.delenv("FASTCONV_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert _tuned.file() == "/x/fastconv/tuned.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the XDG specification
    monkeypatch.setenv("HOME", "/h")
    assert _tuned.file() == "/h/.cache/fastconv/tuned.json"
    for word in ("0", "off", "OFF"):
        monkeypatch.setenv("FASTCONV_CACHE", word)
        assert _tuned.file() is None
    result = fastconv.tune_conv2d(*SHAPES, **HOW)
    assert result.file is None


def test_another_file(file, tmp_path):
    other = tmp_path / "mine.json"
    assert fastconv.tune_conv2d(*SHAPES, **HOW, cache=other).file == str(other)
    assert other.exists() and not file.exists()
    assert fastconv.tune_conv2d(*SHAPES, **HOW, cache=False).file is None
    fastconv.tune_clear(cache=other)
    assert _sections(other) == [{}]


def _sections(path):
    return list(json.loads(path.read_text())[_tuned.TITLE].values())


FOREIGN = {
    "empty": b"",
    "cut off": b'{"fastconv',
    "binary": bytes(range(256)),
    "not UTF-8": b'{"a": "\xff"}',
    "too deep": b"[" * 100_000,
    "a list": b"[1, 2]",
    "other JSON": b'{"tuned": 1}',
    "no sections": json.dumps({_tuned.TITLE: [1]}).encode(),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_of_something_else_is_ignored_and_kept(content, file, fresh):
    file.parent.mkdir()
    file.write_bytes(content)
    fresh()
    x, w = arrays()
    fastconv.conv2d(x, w, padding=1)
    assert _tuned.status()["problem"] and not _tuned.active
    with pytest.warns(RuntimeWarning, match="choices are not stored in"):
        result = fastconv.tune_conv2d(*SHAPES, **HOW)
    assert result.file is None and file.read_bytes() == content
    assert len(_tuned.choices) == 1  # they hold in this process
    with pytest.warns(RuntimeWarning, match="choices stay in"):
        fastconv.tune_clear()


@pytest.mark.parametrize(
    "entry", [None, 3, "gemm", {}, {"algo": "im2col"}, {"algo": ["gemm"]}, {"algo": 1}]
)
def test_odd_entries_are_ignored(entry, file, fresh):
    key = _tuned.key("forward", shape(), "float32", _core.get_num_threads(), _core.isa())
    file.parent.mkdir()
    file.write_text(json.dumps({_tuned.TITLE: {_tuned._section(): {key: entry}}}))
    fresh()
    x, w = arrays()
    fastconv.conv2d(x, w, padding=1)
    assert _tuned.choices == {}
    assert fastconv.tune_conv2d(*SHAPES, **HOW).file  # and replaced
    assert _sections(file)[0][key]["algo"] in ("gemm", "winograd")


def test_a_choice_that_does_not_exist_is_ignored(file):
    """Somebody may have edited the file: a strided convolution has no Winograd form."""
    x, w = arrays()
    right = fastconv.conv2d(x, w, padding=1, stride=2)
    force("winograd", stride=2)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, padding=1, stride=2), right)


def test_odd_places(file, fresh, tmp_path, monkeypatch):
    """A folder, a pipe that nobody writes to, a parent that is a file."""
    pipe, plain = tmp_path / "pipe", tmp_path / "plain"
    os.mkfifo(pipe)
    plain.write_text("")
    for place in (tmp_path, pipe, plain / "tuned.json"):
        monkeypatch.setenv("FASTCONV_CACHE", str(place))
        fresh()
        _tuned.load()
        with pytest.warns(RuntimeWarning, match="not stored"):
            fastconv.tune_conv2d(*SHAPES, **HOW)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write")
def test_a_folder_without_permission(file):
    file.parent.mkdir(mode=0o500)
    with pytest.warns(RuntimeWarning, match="Permission denied"):
        fastconv.tune_conv2d(*SHAPES, **HOW)


def test_other_machines_versions_and_formats_stand_beside(file, fresh):
    file.parent.mkdir()
    file.write_text(json.dumps({_tuned.TITLE: {"format 9, fastconv 3, Z80": [1]}}))
    fastconv.tune_conv2d(*SHAPES, **HOW)
    assert len(_sections(file)) == 2 and [1] in _sections(file)
    fastconv.tune_clear()
    assert sorted(map(len, _sections(file))) == [0, 1]


def test_concurrent_writers_lose_nothing(file):
    code = """
import sys
from fastconv import _tuned
for i in range(20):
    _tuned.store(_tuned.file(), {f"%s-{i}": {"algo": "gemm"}})
"""
    with ThreadPoolExecutor(4) as processes:
        for done in processes.map(lambda name: run_python(code % name), "abcd"):
            assert done.returncode == 0, done.stderr
    assert len(_sections(file)[0]) == 80
    assert sorted(path.name for path in file.parent.iterdir()) == ["tuned.json", "tuned.json.lock"]


def test_a_link_stays_a_link(file, tmp_path):
    target = tmp_path / "real.json"
    file.parent.mkdir()
    file.symlink_to(target)
    fastconv.tune_conv2d(*SHAPES, **HOW)
    assert file.is_symlink() and target.exists()


def test_info_tells_about_the_file(file):
    from fastconv.bench.info import tuned

    assert tuned("f.json", 1, "") == "1 convolution in f.json"
    assert tuned("f.json", 0, "it is no JSON") == "f.json is ignored: it is no JSON"
    assert "off" in tuned(None, 0, "")
