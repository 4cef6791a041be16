"""What is compared on a layer: the callables, their verification, their cost."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import fastconv.functional as F
from fastconv.bench import loops, verify
from fastconv.bench.cases import ConvCase, Operation, PoolCase


@dataclass(slots=True)
class Candidate:
    """A callable that computes `case`, which may be a shrunk version of the measured one."""

    call: Callable[[], object]
    scale: float = 1.0  # time on the measured layer / time of `call`
    error: float = field(default=float("nan"))  # in units of the tolerance; right up to 1
    failure: str = ""  # why it was not measured


def prepare(operation: Operation, case, dtype, limits) -> dict[str, Candidate]:
    """Build and verify the candidates of an operation on a layer.

    `limits` gives ``python_outputs`` (the loops in Python are left out above) and ``naive_work``
    (the loops in C run on a shrunk layer above).
    """
    make = _pool_candidates if operation.pooling else _conv_candidates
    return make(operation, case, np.dtype(dtype), limits)


def _rng(case) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(case.name.encode()))


def _random(rng, shape, dtype):
    return rng.random(shape, dtype) * 2 - 1


# ---- convolution --------------------------------------------------------------------------------


def _conv_candidates(operation, case, dtype, limits) -> dict[str, Candidate]:
    op = operation.key
    whole = _ConvWork(case, dtype)
    candidates = {}
    for name in operation.candidates:
        work = whole
        if name == "python" and np.prod(case.y_shape) > limits.python_outputs:
            continue
        if name == "winograd" and not case.suits_winograd:
            continue
        if name == "naive":
            small = case.shrunk(limits.naive_work)
            work = whole if small == case else _ConvWork(small, dtype)
        candidates[name] = work.candidate(op, name)
        candidates[name].scale = case.work / work.case.work
    return candidates


class _ConvWork:
    """The arrays of a layer, and the result that its candidates have to agree on."""

    def __init__(self, case: ConvCase, dtype):
        rng = _rng(case)
        self.case = case
        self.x = _random(rng, case.x_shape, dtype)
        self.w = _random(rng, case.w_shape, dtype)
        self.dy = _random(rng, case.y_shape, dtype)
        self.oracle = verify.ConvOracle(case, self.x, self.w, self.dy)
        self.agreed: np.ndarray | None = None

    def candidate(self, op: str, name: str) -> Candidate:
        call = self._call(op, name)
        try:
            result = call()
        except MemoryError:
            return Candidate(call, failure="out of memory")
        tolerance = self.oracle.tolerance(op)
        if name == "winograd":
            tolerance *= verify.WINOGRAD_SLACK
        error = verify.sampled_error(result, getattr(self.oracle, op), _rng(self.case)) / tolerance
        if self.agreed is not None:  # both may be off by a tolerance, in opposite directions
            error = max(error, verify.agreement(result, self.agreed) / (2 * tolerance))
        elif error <= 1:
            self.agreed = result
        return Candidate(call, error=error, failure="" if error <= 1 else "wrong")

    def _call(self, op: str, name: str) -> Callable[[], np.ndarray]:
        case, x, w, dy = self.case, self.x, self.w, self.dy
        options = case.options
        if name == "python":
            return {
                "forward": lambda: loops.forward(x, w, **options),
                "input_grad": lambda: loops.input_grad(dy, w, x.shape, **options),
                "weight_grad": lambda: loops.weight_grad(dy, x, w.shape, **options),
            }[op]
        options["algo"] = name
        return {
            "forward": lambda: F.conv2d(x, w, **options),
            "input_grad": lambda: F.conv2d_input_grad(dy, w, x.shape, **options),
            "weight_grad": lambda: F.conv2d_weight_grad(dy, x, w.shape, **options),
        }[op]


# ---- pooling ------------------------------------------------------------------------------------


def _pool_candidates(operation, case, dtype, limits) -> dict[str, Candidate]:
    rng = _rng(case)
    x = _random(rng, case.x_shape, dtype)
    dy = _random(rng, case.y_shape, dtype)
    calls = _POOL_CALLS[operation.key](case, x, dy)
    expected, tolerance = _pool_expected(operation.key, case, x, dy)
    candidates = {}
    for name, call in calls.items():
        result = call()
        y = result[0] if isinstance(result, tuple) else result
        error = verify.agreement(y.astype(np.float64), expected) / tolerance
        if name == "indices" and operation.key == "max_pool":
            flat = x.reshape(*x.shape[:2], -1)
            places = result[1].reshape(*x.shape[:2], -1)
            if not np.array_equal(np.take_along_axis(flat, places, -1).reshape(y.shape), y):
                error = float("inf")
        candidates[name] = Candidate(call, error=error, failure="" if error <= 1 else "wrong")
    return candidates


def _pool_expected(op, case: PoolCase, x, dy):
    """Result in float64 by NumPy, and the tolerance: maxima have to be exact."""
    exact, cells = np.finfo(np.float64).tiny, case.kernel**2
    x64, dy64 = x.astype(np.float64), dy.astype(np.float64)
    rounding = verify.tolerance(x.dtype, cells, 1.0)
    if op == "max_pool":
        return loops.max_pool(x64, case)[0], exact
    if op == "max_pool_grad":
        return loops.max_pool_grad(dy64, loops.max_pool(x64, case)[1], case), rounding
    if op == "avg_pool":
        return loops.avg_pool(x64, case), rounding
    return loops.avg_pool_grad(dy64, case), rounding


def _max_pool(case, x, dy):
    options = _pool_options(case)
    return {
        "numpy": lambda: loops.max_pool(x, case),
        "indices": lambda: F.max_pool2d(x, case.kernel, return_indices=True, **options),
        "compact": lambda: F.max_pool_window(x, case.kernel, **options),
    }


def _max_pool_grad(case, x, dy):
    options = _pool_options(case)
    indices = F.max_pool2d(x, case.kernel, return_indices=True, **options)[1]
    offsets = F.max_pool_window(x, case.kernel, **options)[1]
    back = F.max_pool_window_backward
    return {
        "numpy": lambda: loops.max_pool_grad(dy, indices, case),
        "indices": lambda: F.max_pool2d_backward(dy, indices, x.shape),
        "compact": lambda: back(dy, offsets, x.shape, case.kernel, **options),
    }


def _avg_pool(case, x, dy):
    options = _pool_options(case)
    return {
        "numpy": lambda: loops.avg_pool(x, case),
        "fastconv": lambda: F.avg_pool2d(x, case.kernel, **options),
    }


def _avg_pool_grad(case, x, dy):
    options = _pool_options(case)
    return {
        "numpy": lambda: loops.avg_pool_grad(dy, case),
        "fastconv": lambda: F.avg_pool2d_backward(dy, x.shape, case.kernel, **options),
    }


def _pool_options(case):
    return {"stride": case.stride, "padding": case.padding}


_POOL_CALLS = {
    "max_pool": _max_pool,
    "max_pool_grad": _max_pool_grad,
    "avg_pool": _avg_pool,
    "avg_pool_grad": _avg_pool_grad,
}
