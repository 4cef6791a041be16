"""Local response normalization against the reference, slopes, PyTorch and AlexNet's formula."""

import numpy as np
import pytest
from cases import uniform
from harness import everywhere
from test_gradients import F64, assert_slopes

import fastconv.reference as R
from fastconv import functional as F

CASES = [  # shape (N, C, H, W), size, alpha, beta, k
    ((2, 7, 3, 5), 5, 1e-4, 0.75, 1.0),
    ((1, 96, 55, 55), 5, 5e-4, 0.75, 2.0),
    ((2, 6, 4, 3), 4, 2.0, 0.75, 0.5),
    ((1, 3, 5, 1), 9, 1.0, 0.5, 1.0),
    ((1, 8, 2, 2), 1, 3.0, 1.25, 1.0),
    ((0, 4, 3, 3), 3, 1.0, 0.75, 1.0),
    ((1, 5, 17, 33), 2, 0.5, -0.75, 1.0),
]


def norms(x, alpha, k):
    """The largest and the smallest norm there can be."""
    s = k + alpha * float(np.max(np.abs(x), initial=0)) ** 2
    return max(k, s), min(k, s)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case, isa, dtype, rng):
    """s adds up to `size` + 1 numbers of one sign: size + 3 roundings; a power multiplies the
    relative error by its exponent and adds a few units, products one each."""
    shape, size, *parameters = case
    alpha, beta, k = parameters
    x, dy = uniform(shape, dtype, rng), uniform(shape, dtype, rng)
    y = R.local_response_norm(x, size, *parameters)
    dx = R.local_response_norm_backward(dy, x, size, *parameters)
    eps = float(np.finfo(dtype).eps)
    relative = ((size + 3) * (abs(beta) + 1) + 8) * eps
    largest, least = norms(x, alpha, k)
    scale = max(least**-beta, largest**-beta)
    # dx is a difference of two terms; each bounded with |x|, |dy| <= 1, |c"| <= size
    slope = scale + 2 * alpha * abs(beta) * scale / least
    for s in everywhere(2, rng):
        with s:
            how = {"layout": s.layout}
            actual = F.local_response_norm(s.image(x), size, *parameters, **how)
            expected = np.moveaxis(y, 1, -1) if s.layout == "NHWC" else y
            assert actual.dtype == dtype
            np.testing.assert_allclose(actual, expected, rtol=relative)
            actual = F.local_response_norm_backward(
                s.image(dy), s.image(x), size, *parameters, **how
            )
            expected = np.moveaxis(dx, 1, -1) if s.layout == "NHWC" else dx
            assert actual.dtype == dtype
            np.testing.assert_allclose(
                actual, expected, rtol=0, atol=slope * (relative + size * eps)
            )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("beta", [0.75, 0.5, 2.0])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_gradient_is_the_slope(size, beta, layout, isa, rng):
    x, dy = uniform((2, 5, 3, 5), F64, rng), uniform((2, 5, 3, 5), F64, rng)
    how = (size, 1.5, beta, 0.75)
    gradient = F.local_response_norm_backward(dy, x, *how, layout=layout)
    assert_slopes(
        lambda: np.vdot(F.local_response_norm(x, *how, layout=layout), dy), x, gradient, rng
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_torch_says_the_same(size, torch, rng):
    x, dy = uniform((2, 6, 4, 3), F64, rng), uniform((2, 6, 4, 3), F64, rng)
    for parameters in ((1e-4, 0.75, 1.0), (2.0, 0.6, 0.5)):
        t = torch.tensor(x, requires_grad=True)
        y = torch.nn.functional.local_response_norm(t, size, *parameters)
        y.backward(torch.tensor(dy))
        for module in (F, R):
            actual = module.local_response_norm(x, size, *parameters)
            np.testing.assert_allclose(actual, y.detach().numpy(), rtol=1e-13)
            actual = module.local_response_norm_backward(dy, x, size, *parameters)
            np.testing.assert_allclose(actual, t.grad.numpy(), rtol=1e-11, atol=1e-13)


def test_alexnet_formula(rng):
    """b[i] = a[i] / (k + alpha * sum of a[j]^2)^beta; j from i - n/2 to i + n/2, cut off."""
    a, n, alpha, beta, k = uniform((9,), F64, rng), 5, 1e-4, 0.75, 2.0
    b = [
        a[i] / (k + alpha * sum(a[j] ** 2 for j in range(max(0, i - 2), min(8, i + 2) + 1))) ** beta
        for i in range(9)
    ]
    actual = F.local_response_norm(a.reshape(1, 9, 1, 1), n, alpha * n, beta, k)
    np.testing.assert_allclose(actual.ravel(), b, rtol=1e-14)


def test_one_infinite_pixel_spoils_its_windows_alone(isa, dtype):
    x = np.ones((1, 9, 3, 4), dtype)
    x[0, 4, 1, 2] = np.inf
    for module in (F, R):
        y = module.local_response_norm(x, 3)
        assert np.isnan(y[0, 4, 1, 2])
        np.testing.assert_array_equal(y[0, [3, 5], 1, 2], 0)
        assert np.isfinite(y).sum() == y.size - 1 and (y != 0).sum() == y.size - 2


@pytest.mark.parametrize("module", [F, R])
def test_bad_arguments(module):
    x = np.ones((2, 4, 3, 3), np.float32)
    for error, arguments, message in [
        (ValueError, {"size": 0}, "size must be at least 1"),
        (TypeError, {"size": 2.0}, "size must be an integer"),
        (TypeError, {"size": 3, "alpha": "x"}, "alpha must be a number"),
        (TypeError, {"size": 3, "k": None}, "k must be a number"),
        (ValueError, {"size": 3, "layout": "NCW"}, "layout must be 'NCHW' or 'NHWC'"),
    ]:
        with pytest.raises(error, match=f"local_response_norm: {message}"):
            module.local_response_norm(x, **arguments)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 4, 3, 3\)"):
        module.local_response_norm_backward(x[:1], x, 3)
