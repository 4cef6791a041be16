"""The backend of CS231n's assignment 2 against the original, on a stand-in or a checkout."""

import sys
from importlib import import_module

import numpy as np
import pytest
from course import agree, folders, forget
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv import backends
from fastconv.bench.backends.cs231n import col2im_6d

PATHS = ("strides", "im2col")


def col2im(cols, N, C, H, W, HH, WW, padding, stride):
    OH = (H + 2 * padding - HH) // stride + 1
    cols = cols.reshape(C, HH, WW, OH, -1, N).transpose(0, 1, 2, 5, 3, 4)
    return col2im_6d(cols, N, C, H, W, HH, WW, padding, stride)


def im2col(x, HH, WW, padding, stride):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (HH, WW), (2, 3))
    windows = windows[:, :, ::stride, ::stride].transpose(1, 4, 5, 2, 3, 0)
    return windows.reshape(x.shape[1] * HH * WW, -1)


@pytest.fixture(params=folders("cs231n", "assignment2"))
def layers(request, monkeypatch):
    forget("cs231n")
    monkeypatch.syspath_prepend(request.param)
    module = import_module("cs231n.fast_layers")
    compiled = {
        "col2im_6d_cython": col2im_6d,
        "col2im_cython": col2im,
        "im2col_cython": im2col,
        "im2col": module.im2col_indices,  # called by this name, which some editions lack
    }
    for name, function in compiled.items():
        if not hasattr(module, name):
            setattr(module, name, function)
    yield module
    backends.uninstall("cs231n")
    forget("cs231n")


def numbers(shape, dtype="d", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def both(call, **options):
    """What `call` returns with the original and with the backend."""
    expected = call()
    with backends.use("cs231n", **options):
        return call(), expected


def convolution(layers, path, x, w, b, stride, pad, dout_dtype):
    def call():
        forward, backward = (
            getattr(layers, f"conv_{way}_{path}") for way in ("forward", "backward")
        )
        y, cache = forward(x, w, b, {"stride": stride, "pad": pad})
        assert len(cache) == 5
        return y, *backward(numbers(y.shape, dout_dtype, 1), cache)

    return call


@pytest.mark.parametrize("path", [*PATHS, "fast"])
@settings(max_examples=30)
@given(st.data())
def test_convolution(layers, path, data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    N, C, F, HH, WW, stride = (draw(1, 4) for _ in range(6))
    pad = draw(0, min(2, min(HH, WW) - 1))
    WW = HH if path == "im2col" else WW  # its assertions confuse the two
    H, W = HH + stride * draw(0, 3), WW + stride * draw(0, 3)
    if path != "im2col":
        H += draw(0, stride - 1)
    pad = pad if path != "im2col" or 2 * pad % stride == 0 else 0
    kinds = st.sampled_from("df")
    x, w, b, dout = (data.draw(kinds) for _ in range(4))
    rounding = "f" if "f" in (x, w, b, dout) else "d"
    x, w, b = numbers((N, C, H, W), x), numbers((F, C, HH, WW), w, 2), numbers(F, b, 3)
    x = x[:, :, ::-1].copy()[:, :, ::-1] if draw(0, 1) else x
    before = x.copy()
    got, expected = both(convolution(layers, path, x, w, b, stride, pad, dout))
    terms = max(C * HH * WW, F * HH * WW, expected[0][:, 0].size)
    agree(got, expected, terms, rounding)
    assert np.array_equal(x, before)


def test_sizes_with_a_rest(layers):
    x, w, b = numbers((1, 1, 6, 6)), numbers((1, 1, 3, 3)), np.zeros(1)
    with backends.use("cs231n"):
        assert layers.conv_forward_fast(x, w, b, {"stride": 2, "pad": 0})[0].shape == (1, 1, 2, 2)
        with pytest.raises(AssertionError):
            layers.conv_forward_im2col(x, w, b, {"stride": 2, "pad": 0})
        with pytest.raises(AssertionError):
            layers.max_pool_forward_fast(x, {"pool_height": 3, "pool_width": 3, "stride": 2})


def test_other_dtypes_go_to_the_original(layers):
    x, w, b = numbers((2, 2, 6, 6)).astype(int), numbers((3, 2, 3, 3)), numbers(3)
    got, expected = both(convolution(layers, "strides", x, w, b, 1, 1, "d"))
    agree(got, expected, 72)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", ["e", "i", "b"])
def test_other_gradients_go_to_the_original(layers, path, dtype):
    x, w, b = numbers((2, 2, 6, 6)), numbers((3, 2, 3, 3)), numbers(3)
    got, expected = both(convolution(layers, path, x, w, b, 1, 1, dtype))
    agree(got[:3], expected[:3], 72, np.float16 if dtype == "e" else np.float64)
    assert got[3].dtype == expected[3].dtype and np.array_equal(got[3], expected[3])

    def pool():
        y, cache = layers.max_pool_forward_im2col(x, window(3, 2, 1))
        return layers.max_pool_backward_im2col((4 * y).astype(dtype), cache)

    got, expected = both(pool)
    agree(got, expected, 6)


def test_a_pass_by_the_original_goes_with_one_of_the_backend(layers):
    x, w, b = numbers((2, 2, 6, 6)), numbers((3, 2, 3, 3)), numbers(3)
    y, cache = layers.conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    expected = layers.conv_backward_fast(y, cache)
    tiled, tiles = layers.max_pool_forward_fast(x, window(2, 2, 2))
    with backends.use("cs231n"):
        agree(layers.conv_backward_fast(y, cache), expected, 72)
        pooled = layers.max_pool_backward_fast(tiled, tiles)
        _, tiles = layers.max_pool_forward_fast(x, window(2, 2, 2))
    agree(layers.max_pool_backward_fast(tiled, tiles), pooled, 4)


def window(height, width, stride):
    return {"pool_height": height, "pool_width": width, "stride": stride}


def pooling(layers, x, height, width, stride, dout_dtype="d"):
    def call():
        y, cache = layers.max_pool_forward_fast(x, window(height, width, stride))
        dout = numbers(y.shape, dout_dtype, 1)
        return y, layers.max_pool_backward_fast(dout, cache)

    return call


@settings(max_examples=40)
@given(st.data())
def test_pooling_with_ties(layers, data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    size, stride = draw(1, 3), draw(1, 3)
    stride = size if draw(0, 1) else stride
    shape = draw(1, 3), draw(1, 3), size + stride * draw(0, 3), size + stride * draw(0, 3)
    x = np.round(numbers(shape, data.draw(st.sampled_from("df"))))
    got, expected = both(pooling(layers, x, size, size, stride, data.draw(st.sampled_from("df"))))
    agree(got, expected, terms=9, rounding="f")


@pytest.mark.parametrize("order", ["images last", "channels last", "F"])
@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_keeps_the_order_in_memory(layers, stride, order):
    x = numbers((3, 2, 6, 4))
    if order == "F":
        x = np.asfortranarray(x)
    else:
        source, target = (0, -1) if order == "images last" else (1, -1)
        x = np.moveaxis(np.moveaxis(x, source, target).copy(), target, source)
    got, expected = both(pooling(layers, x, 2, 2, stride))
    agree(got, expected, terms=4)
    for one, other in zip(got, expected, strict=True):
        assert one.strides == other.strides


@pytest.mark.parametrize("stride, method", [(2, "reshape"), (1, "im2col")])
def test_the_rule_for_ties(layers, stride, method):
    x = np.ones((1, 1, 4, 4))

    def gradient(**options):
        with backends.use("cs231n", **options):
            y, cache = layers.max_pool_forward_fast(x, window(2, 2, stride))
            assert cache[0] == method
            return layers.max_pool_backward_fast(np.ones(y.shape), cache)[0, 0]

    first, split = gradient(ties="first"), gradient(ties="split")
    if stride == 2:
        assert np.array_equal(first, [[1, 0, 1, 0], [0, 0, 0, 0]] * 2)
        assert np.array_equal(split, np.full((4, 4), 0.25))
        assert np.array_equal(gradient(), split)
    else:
        assert np.array_equal(first, np.pad(np.ones((3, 3)), (0, 1)))
        assert np.array_equal(split, np.outer([1, 2, 2, 1], [1, 2, 2, 1]) / 4)
        assert np.array_equal(gradient(), first)
    with pytest.raises(ValueError, match="'first', 'split'"):
        backends.install("cs231n", ties="last")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_window_with_nan(layers):
    x = numbers((1, 1, 4, 4))
    x[0, 0, 0, 0] = np.nan
    got, expected = both(pooling(layers, x, 2, 2, 2))
    for one, other in zip(got, expected, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize(
    "size, pad, stride", [(3, 1, 1), (3, 1, 2), (2, 0, 2), (3, 2, 3), (5, 0, 1)]
)
def test_the_compiled_module(layers, dtype, size, pad, stride):
    shape = 2, 3, 7, 8
    x = numbers(shape, dtype)
    geometry = size, size, pad, stride
    cols = im2col(x, *geometry)
    OH, OW = ((n + 2 * pad - size) // stride + 1 for n in shape[2:])
    cols_6d = numbers((3, size, size, 2, OH, OW), dtype)
    with backends.use("cs231n"):
        module = import_module("cs231n.im2col_cython")
        assert np.array_equal(module.im2col_cython(x, *geometry), cols)
        got = module.col2im_cython(cols, *shape, *geometry)
        agree(got, col2im(cols, *shape, *geometry), size * size)
        got = module.col2im_6d_cython(cols_6d, *shape, *geometry)
        agree(got, col2im_6d(cols_6d, *shape, *geometry), size * size)


@pytest.mark.parametrize("size", [(3, 3), (3, 2), (7, 7)])
@pytest.mark.parametrize("padding", [0, 1])
def test_columns_by_indices(layers, size, padding):
    x = numbers((2, 3, 7, 7), "f")
    module = import_module("cs231n.im2col")

    def call():
        cols = module.im2col_indices(x, *size, padding=padding)
        assert np.array_equal(cols, layers.im2col_indices(x, *size, padding))
        return cols, module.col2im_indices(cols, x.shape, *size, padding=padding)

    agree(*both(call), terms=9)
    with pytest.raises(AssertionError), backends.use("cs231n"):
        module.im2col_indices(x, 4, 4, padding=0, stride=2)


def test_loaded_by_the_backend_without_a_compiler(layers, recwarn):
    forget("cs231n")
    with backends.use("cs231n"):
        loaded = import_module("cs231n.fast_layers")
        compiled = import_module("cs231n.im2col_cython")
        assert loaded.col2im_6d_cython is compiled.col2im_6d_cython
    if "cs231n.im2col_cython" in sys.modules:  # compiled by the owner of the checkout
        assert sys.modules["cs231n.im2col_cython"] is not compiled


def test_sandwich_layers(layers, monkeypatch):
    utils = import_module("cs231n.layer_utils")
    # the student's own, which the folder does not come with
    monkeypatch.setattr(utils, "relu_forward", lambda x: (x.clip(min=0), x), raising=False)
    monkeypatch.setattr(utils, "relu_backward", lambda dout, x: dout * (x > 0), raising=False)
    x, w, b = numbers((2, 3, 8, 8)), numbers((4, 3, 3, 3)), numbers(4)

    def call():
        y, cache = utils.conv_relu_pool_forward(x, w, b, {"stride": 1, "pad": 1}, window(2, 2, 2))
        return y, *utils.conv_relu_pool_backward(y, cache)

    agree(*both(call), terms=128)


def test_restored_under_all_names(layers, monkeypatch):
    utils = import_module("cs231n.layer_utils")
    notebook = sys.modules["__main__"]
    monkeypatch.setattr(notebook, "conv_forward_fast", layers.conv_forward_fast, raising=False)
    before = [vars(module).copy() for module in (layers, utils)]
    backends.install("cs231n")
    assert layers.conv_forward_fast is layers.conv_forward_strides is utils.conv_forward_fast
    assert layers.conv_forward_fast is notebook.conv_forward_fast
    assert layers.conv_forward_fast is not before[0]["conv_forward_fast"]
    backends.uninstall("cs231n")
    assert [vars(module).copy() for module in (layers, utils)] == before
    assert notebook.conv_forward_fast is layers.conv_forward_fast


def test_another_assignment_is_an_error(monkeypatch, tmp_path):
    forget("cs231n")
    (tmp_path / "cs231n").mkdir()
    (tmp_path / "cs231n" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(backends.BackendError, match="assignment 2"):
        backends.install("cs231n")
    forget("cs231n")
