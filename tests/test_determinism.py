"""Right results with any number of threads, and the same bits from the same call."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import ConvCase, assert_sums_close, parametrize, uniform

import fastconv
import fastconv.reference as R
from fastconv import functional as F
from fastconv.bench.verify import WINOGRAD_SLACK

CASES = [  # each enough work to wake several threads
    ConvCase("3x3", (2, 32, 29, 31), 40, (3, 3), padding=1),
    ConvCase("many-channels", (1, 300, 7, 7), 64, (3, 3), padding=1),
    ConvCase("stride", (2, 16, 41, 43), 24, (5, 5), stride=2, padding=2),
    ConvCase("1x1", (2, 130, 14, 13), 70, (1, 1)),
    ConvCase("one-pixel-maps", (131, 67, 1, 1), 71, (1, 1)),
    ConvCase("groups", (2, 24, 30, 31), 36, (3, 3), padding=1, groups=4),
    ConvCase("depthwise", (3, 40, 33, 35), 40, (3, 3), padding=1, groups=40),
    ConvCase("long", (2, 24, 1001), 30, (5,), padding=2),
    ConvCase("volume", (1, 9, 14, 15, 16), 11, (3, 3, 3), padding=1),
]


def calls(case, dtype, rng):
    """The calls of a case by name, with the reference, terms of a sum, and its factors."""
    x, w, b, dy = case.arrays(dtype, rng)
    conv, backward = f"conv{case.ndim}d", f"conv{case.ndim}d_backward"
    outputs = dy.size // case.OC
    taps = int(np.prod(case.kernel))
    # auto may take Winograd's algorithm, but not for the gradient of the bias
    slack = WINOGRAD_SLACK if case.suits_winograd else 1

    def forward(M):
        return getattr(M, conv)(x, w, b, **case.parameters)

    def gradient(i):
        return lambda M: getattr(M, backward)(dy, x, w, **case.parameters, needs="xwb"[i])[i]

    return [
        (forward, slack * case.terms, (x, w), b),
        (gradient(0), slack * case.OC // case.groups * taps, (dy, w), None),
        (gradient(1), slack * outputs, (dy, x), None),
        (gradient(2), outputs, (dy,), None),
    ]


@parametrize("case", CASES)
def test_any_number_of_threads_gives_right_results_and_always_the_same(case, threads, dtype, rng):
    for call, terms, factors, bias in calls(case, dtype, rng):
        first = call(F)
        assert_sums_close(first, call(R), terms, *factors, bias=bias)
        for _ in range(5):
            assert call(F).tobytes() == first.tobytes()


@parametrize("case", CASES[:2])
def test_every_isa_repeats_itself(case, isa, dtype, rng):
    with fastconv.threads(2):
        for call, *_ in calls(case, dtype, rng):
            assert call(F).tobytes() == call(F).tobytes()


def test_memory_kept_or_released_makes_no_difference(rng):
    call = calls(CASES[0], np.float32, rng)[0][0]
    first = call(F)
    fastconv.release_memory()
    assert call(F).tobytes() == first.tobytes()


def test_calls_at_the_same_time_give_what_each_gives_alone(threads, dtype, rng):
    """The pool serves one call, the others compute alone, but cut into the same tasks."""
    functions = [call for case in CASES[:4] for call, *_ in calls(case, dtype, rng)]
    alone = [call(F).tobytes() for call in functions]
    with ThreadPoolExecutor(4) as executor:
        for _ in range(3):
            together = executor.map(lambda call: call(F).tobytes(), functions)
            assert list(together) == alone


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pooling_gives_the_same_bits_with_any_number_of_threads(layout, dtype, rng):
    """No sum is split between threads, so here the number makes no difference at all."""
    shape = (3, 31, 57, 55) if layout == "NCHW" else (3, 57, 55, 31)
    x = uniform(shape, dtype, rng)
    results = []
    for n in (1, 2, 4, 2, 1):
        with fastconv.threads(n):
            y, offsets = F.max_pool_window(x, 3, stride=2, padding=1, layout=layout)
            average = F.avg_pool2d(x, 3, stride=2, padding=1, layout=layout)
            how = {"stride": 2, "padding": 1, "layout": layout}
            dx = F.max_pool_window_backward(y, offsets, x.shape, 3, **how)
            dx_average = F.avg_pool2d_backward(average, x.shape, 3, **how)
        results.append([a.tobytes() for a in (y, offsets, average, dx, dx_average)])
    assert all(result == results[0] for result in results)


def test_linear_repeats_itself(threads, dtype, rng):
    x, w, dy = (uniform(s, dtype, rng) for s in ((64, 300), (200, 300), (64, 200)))
    first = [F.linear(x, w), *F.linear_backward(dy, x, w)]
    for _ in range(5):
        again = [F.linear(x, w), *F.linear_backward(dy, x, w)]
        assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))
