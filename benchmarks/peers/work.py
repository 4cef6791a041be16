"""The arrays of a layer, and whether a result computed from them is right."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

import fastconv.functional as F
from benchmarks.peers.tasks import StepCase, Task
from fastconv.bench import loops, verify
from fastconv.bench.cases import ConvCase, PoolCase
from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastconv.training import SGD

LEARNING_RATE, MOMENTUM = 0.001, 0.9


def _as_it_is(result):
    return result


@dataclass(frozen=True, slots=True)
class Call:
    """How a peer does the work.

    Attributes
    ----------
    run : callable
        What is timed.
    value : callable
        Turns the result of `run` into what ``work.error`` takes; not timed.
    work : object, optional
        The smaller work that `run` does, for candidates that would take all day.
    slack : float
        Factor on the tolerance, for an algorithm whose error bound is so much larger.
    """

    run: Callable[[], object]
    value: Callable[[object], object] = _as_it_is
    work: object = None
    slack: float = 1.0


def make_work(task: Task, case):
    return {"conv": ConvWork, "pool": PoolWork, "step": StepWork}[task.kind](
        case, task.method, np.dtype(task.dtype)
    )


def _random(rng, shape, dtype) -> np.ndarray:
    return rng.random(shape, dtype) * 2 - 1


def _rng(case) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(case.name.encode()))


class ConvWork:
    """A convolution or one of its gradients: `x`, `w` and `dy` are uniform in [-1, 1)."""

    def __init__(self, case: ConvCase, method: str, dtype: np.dtype):
        rng = _rng(case)
        self.case, self.method, self.dtype = case, method, dtype
        self.op = "forward" if method == "prepared" else method
        self.x = _random(rng, case.x_shape, dtype)
        self.w = _random(rng, case.w_shape, dtype)
        self.dy = _random(rng, case.y_shape, dtype)
        self.options = {"stride": case.stride, "padding": case.padding, "groups": case.groups}

    def shrunk(self, limit: float) -> "ConvWork":
        """The same with fewer images, groups or filters."""
        return ConvWork(self.case.shrunk(limit), self.method, self.dtype)

    def fastconv_call(self, algo: str) -> Callable[[], np.ndarray]:
        return _fastconv_call(self.op, self.x, self.w, self.dy, algo=algo, **self.options)

    def slack(self, winograd: dict[int, float]) -> float:
        """Factor on the tolerance for a peer that may take Winograd's algorithm here.

        `winograd` gives the factor for each size of filter that the peer has it for.
        """
        case = self.case
        fits = case.KH == case.KW and case.stride == 1 and case.groups < case.C
        return winograd.get(case.KH, 1.0) if fits else 1.0

    def error(self, value: np.ndarray) -> float:
        """Largest error of a result, in tolerances: right up to 1."""
        expected, tolerance = self._expected
        if value.shape != expected.shape or not np.isfinite(value).all():
            return float("inf")
        return verify.agreement(value, expected) / tolerance

    def rms_error(self, algo: str) -> float:
        """Root of the mean square error of one of fastconv's algorithms."""
        difference = self.fastconv_call(algo)() - self._expected[0]
        return float(np.sqrt(np.mean(np.square(difference))))

    @cached_property
    def _expected(self) -> tuple[np.ndarray, float]:
        """The result in float64, and how far another one may be from it.

        It comes from the plain sum of fastconv's float64 kernels, and is itself compared with
        sums made from the definition, at places picked at random.
        """
        arrays = (array.astype(np.float64) for array in (self.x, self.w, self.dy))
        expected = _fastconv_call(self.op, *arrays, algo="gemm", **self.options)()
        oracle = verify.ConvOracle(self.case, self.x, self.w, self.dy)
        tolerance = oracle.tolerance(self.op)
        own = tolerance * np.finfo(np.float64).eps / np.finfo(self.dtype).eps
        error = verify.sampled_error(expected, getattr(oracle, self.op), _rng(self.case))
        if error > own:
            raise ArithmeticError(f"the float64 reference of {self.case.name} is wrong by {error}")
        return expected, tolerance + own


def _fastconv_call(op, x, w, dy, **options):
    return {
        "forward": lambda: F.conv2d(x, w, **options),
        "input_grad": lambda: F.conv2d_input_grad(dy, w, x.shape, **options),
        "weight_grad": lambda: F.conv2d_weight_grad(dy, x, w.shape, **options),
    }[op]


class PoolWork:
    """Max pooling, or its gradient; `indices` are those that PyTorch and fastconv return."""

    def __init__(self, case: PoolCase, method: str, dtype: np.dtype):
        rng = _rng(case)
        self.case, self.method = case, method
        self.x = _random(rng, case.x_shape, dtype)
        self.dy = _random(rng, case.y_shape, dtype)
        self.options = {"stride": case.stride, "padding": case.padding}

    @cached_property
    def _expected(self) -> tuple[np.ndarray, np.ndarray]:
        return loops.max_pool(self.x, self.case)

    @property
    def indices(self) -> np.ndarray:
        return self._expected[1]

    def error(self, value) -> float:
        """Maxima have to be exact and each index has to lead to one; a gradient is a sum."""
        if self.method == "max_pool":
            y, indices = value
            flat = self.x.reshape(*self.x.shape[:2], -1)
            found = np.take_along_axis(flat, indices.reshape(*flat.shape[:2], -1), -1)
            exact = np.array_equal(y, self._expected[0]) and np.array_equal(
                found.ravel(), y.ravel()
            )
            return 0.0 if exact else float("inf")
        expected = loops.max_pool_grad(self.dy.astype(np.float64), self.indices, self.case)
        windows = self.case.kernel**2  # at most so many share a pixel
        tolerance = verify.tolerance(self.dy.dtype, windows, np.abs(self.dy).max())
        return verify.agreement(value, expected) / tolerance


class StepWork:
    """Images, labels and initial parameters of a training step.

    A value to be verified is a dict: "loss" of the first step, and each parameter after it.
    """

    def __init__(self, case: StepCase, method: str, dtype: np.dtype):
        rng = _rng(case)
        self.case = case
        self.x = _random(rng, case.x_shape, dtype)
        self.labels = rng.integers(0, case.classes, case.N)
        self.start = self.net().state_dict()

    def net(self, dtype=np.float32, algo: str = "auto") -> Sequential:
        """The net in fastconv, the same numbers each time."""
        case, rng, layers, channels = self.case, np.random.default_rng(0), [], 3
        options = {"padding": 1, "algo": algo, "dtype": dtype, "rng": rng}
        for filters in case.filters:
            layers += [Conv2d(channels, filters, 3, **options), ReLU()]
            layers += [Conv2d(filters, filters, 3, **options), ReLU(), MaxPool2d(2)]
            channels = filters
        flat = channels * (case.size >> len(case.filters)) ** 2
        layers += [Flatten(), Linear(flat, case.hidden, dtype=dtype, rng=rng), ReLU()]
        return Sequential(*layers, Linear(case.hidden, case.classes, dtype=dtype, rng=rng))

    def fastconv_step(self, algo: str, dtype=np.float32):
        """The net, and a function that trains it by a step and returns the loss."""
        net, x = self.net(dtype, algo), self.x.astype(dtype)
        net.load_state_dict(self.start)
        optimizer = SGD(net, LEARNING_RATE, momentum=MOMENTUM)

        def step():
            loss, dscores = F.softmax_loss(net.forward(x), self.labels)
            net.backward(dscores, need_dx=False)
            optimizer.step()
            return loss

        return net, step

    @cached_property
    def _expected(self) -> dict[str, np.ndarray]:
        net, step = self.fastconv_step("gemm", np.float64)
        return {"loss": step(), **net.state_dict()}

    def error(self, value: dict[str, np.ndarray]) -> float:
        """Rounding errors are at most eps for each term of all sums that a number went through.

        They are relative to the largest change of the same parameter.
        """
        expected, case = self._expected, self.case
        terms = sum(terms + 9 * filters + case.N * pixels for filters, pixels, terms in case.sums())
        tolerance = float(np.finfo(np.float32).eps) * terms
        worst = abs(value["loss"] - expected["loss"]) / (tolerance * abs(expected["loss"]))
        for name, start in self.start.items():
            change = np.abs(expected[name] - start).max()
            rounded = float(np.spacing(np.abs(start).max()))  # of the parameter itself
            error = verify.agreement(value[name], expected[name])
            worst = max(worst, error / (tolerance * change + rounded))
        return float(worst)
