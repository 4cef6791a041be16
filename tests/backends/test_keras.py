"""The backend `keras`: Keras' NumPy backend without JAX, against plain loops."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import backends, reference
from fastconv.backends import _keras_import

if importlib.util.find_spec("keras") is None:
    pytest.skip("no keras here", allow_module_level=True)

FORMATS = ("channels_last", "channels_first")
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def nn():
    """Keras' NumPy functions with the backend active."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "numpy")  # Keras reads it once, when it is imported
        with backends.use("keras"):
            from keras.src.backend.numpy import nn

            yield nn


def first(x, data_format):
    """An array with its channels first."""
    return np.moveaxis(x, -1, 1) if data_format == "channels_last" else x


def close(got, expected, terms, data_format, dtype):
    got = first(got, data_format)
    assert got.shape == expected.shape and got.dtype == dtype
    scale = np.abs(expected).max(initial=1)
    assert np.abs(got - expected).max(initial=0) <= 8 * np.finfo(dtype).eps * terms * scale


@st.composite
def images(draw):
    """ndim, data format, dtype, sizes, kernel, strides and padding of a convolution or pooling."""
    ndim = draw(st.integers(1, 3))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * ndim))
    sizes = tuple(k + draw(st.integers(0, 4)) for k in kernel)
    strides = draw(st.integers(1, 3) | st.tuples(*[st.integers(1, 3)] * ndim))
    return (
        draw(st.sampled_from(FORMATS)),
        np.dtype(draw(st.sampled_from(["float32", "float64"]))),
        sizes,
        kernel,
        strides,
        draw(st.sampled_from(["valid", "same"])),
    )


def random_images(data_format, sizes, channels, dtype):
    """Images that are not contiguous."""
    shape = (2, *sizes, channels) if data_format == "channels_last" else (2, channels, *sizes)
    return np.repeat(RNG.standard_normal(shape), 2, axis=-1).astype(dtype)[..., ::2]


def filters_first(w):
    return np.moveaxis(w, (-1, -2), (0, 1))


@given(case=images(), groups=st.integers(1, 3), channels=st.integers(1, 3))
def test_conv(nn, case, groups, channels):
    data_format, dtype, sizes, kernel, strides, padding = case
    x = random_images(data_format, sizes, groups * channels, dtype)
    w = RNG.standard_normal((*kernel, channels, 2 * groups)).astype(dtype)
    before = x.copy()
    y = nn.conv(x, w, strides, padding, data_format)
    loops = getattr(reference, f"conv{len(sizes)}d")
    expected = loops(
        first(x, data_format), filters_first(w), stride=strides, padding=padding, groups=groups
    )
    close(y, expected, w[..., 0].size, data_format, dtype)
    assert y.flags.c_contiguous and np.array_equal(x, before)


@given(case=images(), channels=st.integers(1, 3), multiplier=st.integers(1, 2))
def test_depthwise_and_separable_conv(nn, case, channels, multiplier):
    data_format, dtype, sizes, kernel, strides, padding = case
    x = random_images(data_format, sizes, channels, dtype)
    w = RNG.standard_normal((*kernel, channels, multiplier)).astype(dtype)
    plain = filters_first(w.reshape(*kernel, 1, channels * multiplier))
    loops = getattr(reference, f"conv{len(sizes)}d")
    expected = loops(first(x, data_format), plain, stride=strides, padding=padding, groups=channels)
    y = nn.depthwise_conv(x, w, strides, padding, data_format)
    close(y, expected, w[..., 0, 0].size, data_format, dtype)
    points = RNG.standard_normal((*[1] * len(sizes), channels * multiplier, 2)).astype(dtype)
    y = nn.separable_conv(x, w, points, strides, padding, data_format)
    # Keras itself turns float64 into float32 here
    close(y, loops(expected, filters_first(points)), 20 * w.size, data_format, np.float32)


@given(case=images(), dilation=st.integers(1, 2), more=st.none() | st.integers(0, 3))
def test_conv_transpose(nn, case, dilation, more):
    """The definition: zeros between and around the inputs, then flipped filters."""
    from keras.src.backend.common import backend_utils

    data_format, dtype, sizes, kernel, strides, padding = case
    x = random_images(data_format, sizes, 2, dtype)
    w = RNG.standard_normal((*kernel, 3, 2)).astype(dtype)
    around = backend_utils.compute_conv_transpose_padding_args_for_jax(
        x.shape, w.shape, strides, padding, more, dilation
    )
    steps = (strides,) * len(sizes) if isinstance(strides, int) else strides
    spread = np.zeros((2, 2, *[(n - 1) * s + 1 for n, s in zip(sizes, steps, strict=True)]))
    spread[(..., *[slice(None, None, s) for s in steps])] = first(x, data_format)
    spread = np.pad(spread, [(0, 0), (0, 0), *around])
    if any(n < dilation * (k - 1) + 1 for n, k in zip(spread.shape[2:], kernel, strict=True)):
        return  # no output
    flipped = np.flip(np.moveaxis(w, (-2, -1), (0, 1)), tuple(range(2, w.ndim))).astype(float)
    expected = getattr(reference, f"conv{len(sizes)}d")(spread, flipped, dilation=dilation)
    y = nn.conv_transpose(x, w, strides, padding, more, data_format, dilation)
    close(y, expected, w[..., 0, :].size, data_format, dtype)


@given(case=images())
def test_pools(nn, case):
    data_format, dtype, sizes, window, strides, padding = case
    x = random_images(data_format, sizes, 3, dtype)
    options = dict(stride=strides, padding=padding)
    plain = first(x, data_format)
    y = nn.max_pool(x, window, strides, padding, data_format)
    loops = getattr(reference, f"max_pool{len(sizes)}d")
    assert np.array_equal(first(y, data_format), loops(plain, window, **options))
    y = nn.average_pool(x, window, strides, padding, data_format)
    loops = getattr(reference, f"avg_pool{len(sizes)}d")
    expected = loops(plain, window, count_include_pad=False, **options)
    close(y, expected, int(np.prod(window)), data_format, dtype)


@given(case=images(), data=st.data())
def test_adaptive_pools_batch_norm_and_relu_as_the_originals(nn, case, data):
    """Keras computes these with NumPy alone, so the originals are there."""
    data_format, dtype, sizes, _, _, _ = case
    x = random_images(data_format, sizes, 3, dtype)
    out = data.draw(st.tuples(*[st.integers(1, 6)] * len(sizes)))
    a, b, c, d = RNG.random((4, 3)).astype(dtype) + 1
    calls = [
        (nn.adaptive_max_pool, x, out, data_format),
        (nn.adaptive_average_pool, x, out, data_format),
        (nn.batch_normalization, x.copy(), a, b, -1 if data_format == FORMATS[0] else 1, c, d),
        (nn.relu, x.copy()),
        (nn.relu6, 5 * x),
    ]
    for function, *arguments in calls:
        y, expected = function(*arguments), function.__wrapped__(*arguments)
        close(first(y, data_format), first(expected, data_format), 100, None, expected.dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
def test_other_dtypes(nn, dtype):
    pytest.importorskip("ml_dtypes")
    x = (4 * RNG.standard_normal((1, 5, 5, 2))).astype(dtype)
    w = (4 * RNG.standard_normal((3, 3, 2, 2))).astype(dtype)
    y = nn.conv(x, w)
    expected = reference.conv2d(first(x.astype(float), FORMATS[0]), filters_first(w.astype(float)))
    assert y.dtype == x.dtype
    assert np.array_equal(first(y, FORMATS[0]), expected.astype("float32").astype(dtype))


def test_mistakes_are_named(nn):
    x = np.ones((1, 5, 5, 3), np.float32)
    with pytest.raises(ValueError, match=r"conv: .* 3 channels .* multiple of the 2"):
        nn.conv(x, np.ones((3, 3, 2, 4), np.float32))
    with pytest.raises(ValueError, match=r"depthwise_conv: .* 3 channels .* is for 2"):
        nn.depthwise_conv(x, np.ones((3, 3, 2, 4), np.float32))


def run(code, **environment):
    """What a script prints in a process of its own."""
    paths = os.pathsep.join(sys.path)
    environment = os.environ | {"PYTHONPATH": paths} | environment
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


START = "import sys\nfrom fastconv import backends\n"


@pytest.mark.skipif(importlib.util.find_spec("jax") is not None, reason="JAX is here")
def test_no_stand_in_is_left():
    code = "\nbackends.install('keras')\nimport keras, numpy as np\nassert 'jax' not in sys.modules"
    code += "\nassert 'keras.src.backend.jax.math' not in sys.modules"
    code += "\ntry: keras.ops.fft((np.ones((2, 2)),) * 2)"
    code += "\nexcept ModuleNotFoundError as error: print(error)"
    code += "\nbackends.uninstall('keras')"
    code += "\ntry: keras.ops.conv(np.ones((1, 5, 5, 1)), np.ones((3, 3, 1, 1)))"
    code += "\nexcept ModuleNotFoundError as error: print(error)"
    fft, conv = run(START + code, KERAS_BACKEND="numpy").splitlines()
    assert "JAX (jax.numpy.fft.fft), which is not installed" in fft
    assert "JAX (jax.lax." in conv and "while its backend 'keras' is active" in conv


def test_another_backend_of_keras_is_refused_and_can_be_set_right():
    code = "\nimport os"
    code += "\ntry: backends.install('keras')\nexcept backends.BackendError as error: print(error)"
    code += "\nos.environ['KERAS_BACKEND'] = 'numpy'\nbackends.install('keras')"
    code += "\nimport keras\nprint(keras.backend.backend())"
    refused, chosen = run(START + code, KERAS_BACKEND="torch").splitlines()
    assert "'torch'" in refused and "KERAS_BACKEND=numpy" in refused and chosen == "numpy"


def test_a_true_jax_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert _keras_import._Finder().stand_ins == {}


def test_a_script_may_choose_the_backend_of_keras(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nos.environ['KERAS_BACKEND'] = 'numpy'\nimport keras, numpy as np\n"
        "print(keras.layers.SeparableConv2D(2, 3)(np.ones((1, 5, 5, 1), 'float32')).shape)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("KERAS_BACKEND", None)
    command = [sys.executable, "-P", "-m", "fastconv.backends", "keras", str(script)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.stdout.strip() == "(1, 3, 3, 2)" and not done.returncode, done.stderr
