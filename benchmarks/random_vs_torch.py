"""Random convolutions and poolings against PyTorch in float64.

    python benchmarks/random_vs_torch.py --cases 2000 --seed 0

Each case draws a family, the number of dimensions, the dtype, a layout, all parameters and the
memory layout of every array (permuted axes, gaps, negative strides, read-only, guarded outputs),
and compares with PyTorch's result and its automatic gradient, both computed in float64.
The tolerance of a sum of K products is eps * K * max|x| * max|w|, eps that of the dtype, and 10
times that for Winograd's algorithm; maxima, indices and im2col have to be exact. The exit status is
1 if a case differs; ``--only I`` runs case I alone and says what it is.
"""

import argparse
import importlib
import sys
import traceback
from dataclasses import dataclass, field
from math import prod

import numpy as np

try:
    import torch
    import torch.nn.functional as T
except ImportError:
    sys.exit("random_vs_torch.py compares with PyTorch, which is not installed: pip install torch")

from fastconv.bench.verify import WINOGRAD_SLACK

LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
ALGOS = ("auto", "gemm", "im2col", "naive", "winograd")
EXACT = 0.0  # tolerance of what is not rounded


@dataclass
class Case:
    """The draws of a case and what came of its comparisons."""

    number: int
    rng: np.random.Generator
    F: object  # the module under test
    ndim: int = 2
    dtype: type = np.float32
    layout: str = "NCHW"
    large: bool = False
    told: dict = field(default_factory=dict)  # the parameters, for the report
    error: float = 0.0  # worst so far, in units of the tolerance
    problems: list = field(default_factory=list)

    def __post_init__(self):
        self.ndim = self.pick(1, 2, 2, 3)
        self.dtype = self.pick(np.float32, np.float64)
        self.layout = self.pick(*LAYOUTS[self.ndim])
        self.large = self.rng.random() < 0.04  # enough work for several threads

    # ---- draws

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def integers(self, low: int, high: int) -> tuple[int, ...]:
        """One for each spatial dimension."""
        return tuple(self.integer(low, high) for _ in range(self.ndim))

    def random(self, shape) -> np.ndarray:
        """Values in [-1, 1), or small whole numbers, which bring ties."""
        if self.rng.random() < 0.1:
            return self.rng.integers(-2, 3, shape).astype(self.dtype)
        return (self.rng.random(shape) * 2 - 1).astype(self.dtype)

    def scattered(self, array: np.ndarray) -> np.ndarray:
        """The same values somewhere else in memory, NaN or impossible indices in the gaps."""
        kind = self.rng.random()
        if kind < 0.35:
            return array
        steps = self.rng.choice([1, 1, 1, 2, 3], array.ndim) if kind < 0.7 else [1] * array.ndim
        order = self.rng.permutation(array.ndim)
        shape = [array.shape[axis] * steps[axis] for axis in order]
        gap = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).min
        buffer = np.full(shape, gap, array.dtype).transpose(np.argsort(order))
        view = buffer[tuple(slice(None, None, step) for step in steps)]
        flips = self.rng.choice([1, 1, -1], array.ndim)
        view = view[tuple(slice(None, None, flip) for flip in flips)]
        view[...] = array
        view.flags.writeable = bool(self.rng.random() < 0.8)
        return view

    def out(self, shape) -> np.ndarray | None:
        """Sometimes an array to write to, in an odd place."""
        if self.rng.random() < 0.7:
            return None
        out = self.scattered(np.full(shape, np.nan, self.dtype))
        return out if out.flags.writeable else None

    def to_layout(self, array: np.ndarray) -> np.ndarray:
        """From channels first to the layout of the case, scattered."""
        return self.scattered(np.moveaxis(array, 1, -1) if self.layout.endswith("C") else array)

    # ---- calls and comparisons

    def call(self, name: str, *arrays, **options):
        """Call ``name`` with the right number of dimensions; inputs have to stay as they were."""
        self.told["call"] = name.format(self.ndim)
        self.told.update(options)
        before = [a.copy() if isinstance(a, np.ndarray) else a for a in arrays]
        result = getattr(self.F, self.told["call"])(*arrays, **options)
        for array, copy in zip(arrays, before, strict=True):
            if isinstance(array, np.ndarray) and not np.array_equal(array, copy, equal_nan=True):
                self.problems.append("an input was changed")
        out = options.get("out")
        if out is not None:
            self.check_out(result, out)
        return result

    def check_out(self, result, out) -> None:
        if result is not out:
            self.problems.append("the result is not the array given as out=")
        inside = out.copy()
        out[...] = np.nan
        base = out
        while isinstance(base.base, np.ndarray):
            base = base.base
        if not np.isnan(base).all():
            self.problems.append("written outside of out=")
        out[...] = inside

    def compare(self, what: str, got: np.ndarray, want: torch.Tensor, tolerance: float) -> None:
        """Note the largest difference; `want` has its channels first."""
        want = want.detach().numpy()
        if self.layout.endswith("C") and what in ("y", "dx", "indices"):
            want = np.moveaxis(want, 1, -1)
        if got.shape != want.shape:
            self.problems.append(f"{what} has shape {got.shape}, PyTorch's {want.shape}")
            return
        if what != "indices" and got.dtype != self.dtype:
            self.problems.append(f"{what} is {got.dtype}")
        with np.errstate(invalid="ignore"):
            difference = np.abs(got.astype(np.float64) - want)
        difference[got == want] = 0  # infinities
        difference[np.isnan(difference)] = np.inf
        if difference.size:
            worst = np.unravel_index(difference.argmax(), difference.shape)
            error = float(difference[worst])
            error = error / tolerance if tolerance else np.inf if error else 0.0
            self.error = max(self.error, error)
            if error > 1:
                place = tuple(map(int, worst))
                self.problems.append(
                    f"{what}{list(place)} is {got[worst]!r}, PyTorch's {want[worst]!r}: "
                    f"{error:.3g} tolerances"
                )

    def sum_tolerance(self, terms: int, *arrays) -> float:
        maxima = [float(np.abs(array).max(initial=0)) for array in arrays]
        return float(np.finfo(self.dtype).eps) * max(terms, 1) * prod(maxima)


def tensor(array: np.ndarray) -> torch.Tensor:
    """A float64 copy that records gradients."""
    return torch.from_numpy(np.array(array, np.float64, order="C")).requires_grad_()


def torch_pad(x: torch.Tensor, pads, value: float = 0.0) -> torch.Tensor:
    """`pads` has a pair for each spatial dimension; PyTorch wants the last dimension first."""
    return T.pad(x, [p for pair in reversed(pads) for p in pair], value=value)


def spans(kernel, dilation) -> list[int]:
    return [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]


# ---- convolution --------------------------------------------------------------------------------


@dataclass
class Conv:
    """A random convolution with PyTorch's result and gradients."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray | None
    dy: np.ndarray
    options: dict
    y: torch.Tensor
    dx: torch.Tensor
    dw: torch.Tensor
    db: torch.Tensor | None

    @classmethod
    def draw(cls, case: Case, *, transposed: bool) -> "Conv":
        kernel = case.integers(1, 4 if case.ndim < 3 else 3)
        stride, dilation = case.integers(1, 4), case.integers(1, 3)
        if case.rng.random() < 0.4:
            stride = dilation = (1,) * case.ndim
        if case.ndim == 2 and case.rng.random() < 0.2:  # Winograd's algorithm has few shapes
            kernel, stride, dilation = case.pick((3, 3), (5, 5)), (1, 1), (1, 1)
        groups = case.pick(1, 1, 1, 2, 3, 5)
        members = (1, 1) if case.rng.random() < 0.2 else (case.integer(1, 6), case.integer(1, 9))
        C, OC = (groups * count * (6 if case.large else 1) for count in members)
        N = 0 if case.rng.random() < 0.02 else case.integer(1, 3)
        pads = draw_pads(case, spans(kernel, dilation))
        extra = case.integers(0, 30 // case.ndim if case.large else 9)
        draw = cls._draw_transposed if transposed else cls._draw_plain
        shapes, apply, options = draw(case, N, C, OC, groups, kernel, stride, dilation, pads, extra)
        x, w = (case.random(shape) for shape in shapes)
        b = case.random(OC) if case.rng.random() < 0.5 else None
        x64, w64 = tensor(x), tensor(w)
        b64 = None if b is None else tensor(b)
        y64 = apply(x64, w64, b64)
        dy = case.random(tuple(y64.shape))
        y64.backward(torch.from_numpy(dy.astype(np.float64)))
        options |= {"groups": groups, "layout": case.layout}
        case.told.update(x=x.shape, w=w.shape, bias=b is not None)
        db = None if b is None else b64.grad
        return cls(x, w, b, dy, options, y64, x64.grad, w64.grad, db)

    @staticmethod
    def _draw_plain(case, N, C, OC, groups, kernel, stride, dilation, pads, extra):
        size = [
            max(1, span - sum(pair)) + more
            for span, pair, more in zip(spans(kernel, dilation), pads, extra, strict=True)
        ]
        function = getattr(T, f"conv{case.ndim}d")

        def apply(x, w, b):
            return function(torch_pad(x, pads), w, b, stride, 0, dilation, groups)

        options = {"stride": stride, "padding": told_padding(case, pads), "dilation": dilation}
        return ((N, C, *size), (OC, C // groups, *kernel)), apply, options

    @staticmethod
    def _draw_transposed(case, N, C, OC, groups, kernel, stride, dilation, pads, extra):
        size = [1 + more // 2 for more in extra]
        output_padding = tuple(
            case.integer(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)
        )
        reach = [
            (n - 1) * s + span + more
            for n, s, span, more in zip(
                size, stride, spans(kernel, dilation), output_padding, strict=True
            )
        ]
        pads = [
            pair if sum(pair) < full else (0, 0) for pair, full in zip(pads, reach, strict=True)
        ]
        crop = (..., *(slice(b, n - e) for (b, e), n in zip(pads, reach, strict=True)))
        function = getattr(T, f"conv_transpose{case.ndim}d")

        def apply(x, w, b):
            return function(x, w, b, stride, 0, output_padding, groups, dilation)[crop]

        options = {"stride": stride, "padding": told_padding(case, pads), "dilation": dilation}
        options["output_padding"] = output_padding
        return ((N, C, *size), (C, OC // groups, *kernel)), apply, options

    def pick_algo(self, case: Case) -> tuple[str, int]:
        """An algorithm that suits, and the factor of its tolerance."""
        steps = {*self.options["stride"], *self.options["dilation"]}
        suits = self.w.shape[2:] in ((3, 3), (5, 5)) and steps == {1}
        algo = case.pick(*(ALGOS if suits else ALGOS[:-1]))
        return algo, WINOGRAD_SLACK if algo == "winograd" else 1

    # Terms of the longest sum; `w` is (filters, channels of a group, *kernel).
    def terms_of_y(self) -> int:
        return prod(self.w.shape[1:])

    def terms_of_dx(self) -> int:
        return prod(self.w.shape) // self.w.shape[1] // self.options["groups"]

    def terms_of_dw(self) -> int:
        return max(prod(self.dy.shape) // self.dy.shape[1], prod(self.x.shape) // self.x.shape[1])


def draw_pads(case: Case, limits) -> list[tuple[int, int]]:
    """A (begin, end) pair for each dimension, each at most the limit."""
    kind = case.rng.random()
    if kind < 0.25:
        return [(0, 0)] * case.ndim
    if kind < 0.6:
        return [(pad, pad) for pad in (case.integer(0, limit) for limit in limits)]
    return [(case.integer(0, limit), case.integer(0, limit)) for limit in limits]


def told_padding(case: Case, pads):
    """One of the ways to write the padding down."""
    if any(begin != end for begin, end in pads) or case.rng.random() < 0.3:
        return tuple(pads)
    single = {begin for begin, _ in pads}
    return single.pop() if len(single) == 1 else tuple(begin for begin, _ in pads)


def conv_forward(case: Case) -> None:
    conv = Conv.draw(case, transposed=False)
    activation = case.pick(None, None, "relu")
    algo, slack = conv.pick_algo(case)
    x, w, b = case.to_layout(conv.x), case.scattered(conv.w), conv.b
    want = conv.y.relu() if activation else conv.y
    shape = tuple(want.shape)
    out = case.out((shape[0], *shape[2:], shape[1]) if case.layout.endswith("C") else shape)
    options = conv.options | {"activation": activation, "algo": algo, "out": out}
    y = case.call("conv{}d", x, w, b if b is None else case.scattered(b), **options)
    tolerance = slack * case.sum_tolerance(conv.terms_of_y(), conv.x, conv.w)
    case.compare("y", y, want, tolerance + (0 if b is None else case.sum_tolerance(2, b)))


def conv_input_grad(case: Case) -> None:
    conv = Conv.draw(case, transposed=False)
    dy, w = case.to_layout(conv.dy), case.scattered(conv.w)
    x_shape = case.to_layout(conv.x).shape
    algo, slack = conv.pick_algo(case)
    dx = case.call("conv{}d_input_grad", dy, w, x_shape, **conv.options, algo=algo)
    tolerance = slack * case.sum_tolerance(conv.terms_of_dx(), conv.dy, conv.w)
    case.compare("dx", dx, conv.dx, tolerance)


def conv_weight_grad(case: Case) -> None:
    conv = Conv.draw(case, transposed=False)
    dy, x = case.to_layout(conv.dy), case.to_layout(conv.x)
    options = conv.options | {"algo": conv.pick_algo(case)[0]}
    dw = case.call("conv{}d_weight_grad", dy, x, conv.w.shape, **options)
    case.compare("dw", dw, conv.dw, case.sum_tolerance(conv.terms_of_dw(), conv.dy, conv.x))


def conv_backward(case: Case) -> None:
    check_backward(case, Conv.draw(case, transposed=False), "conv{}d_backward")


def conv_transpose(case: Case) -> None:
    conv = Conv.draw(case, transposed=True)
    x, w, b = case.to_layout(conv.x), case.scattered(conv.w), conv.b
    y = case.call("conv_transpose{}d", x, w, b if b is None else case.scattered(b), **conv.options)
    tolerance = case.sum_tolerance(conv.terms_of_dx(), conv.x, conv.w)
    case.compare("y", y, conv.y, tolerance + (0 if b is None else case.sum_tolerance(2, b)))


def conv_transpose_backward(case: Case) -> None:
    check_backward(case, Conv.draw(case, transposed=True), "conv_transpose{}d_backward")


def check_backward(case: Case, conv: Conv, name: str) -> None:
    needs = tuple(key for key in "xwb" if case.rng.random() < 0.8)
    dy, x, w = case.to_layout(conv.dy), case.to_layout(conv.x), case.scattered(conv.w)
    grads = case.call(name, dy, x, w, **conv.options, needs=needs)
    terms = {"x": max(conv.terms_of_dx(), conv.terms_of_y()), "w": conv.terms_of_dw()}
    db = torch.from_numpy(conv.dy.astype(np.float64).sum((0, *range(2, conv.dy.ndim))))
    for key, got, want in zip("xwb", grads, (conv.dx, conv.dw, db), strict=True):
        if key not in needs:
            if got is not None:
                case.problems.append(f"d{key} was not asked for")
            continue
        other = {"x": (conv.w,), "w": (conv.x,), "b": ()}[key]
        tolerance = case.sum_tolerance(terms.get(key, conv.terms_of_dw()), conv.dy, *other)
        case.compare(f"d{key}", got, want, tolerance)


def im2col(case: Case) -> None:
    """Against unfold and fold, which PyTorch has for two dimensions; one dimension as H = 1."""
    case.ndim = case.pick(1, 2)
    case.layout = LAYOUTS[case.ndim][0]
    kernel, stride, dilation = case.integers(1, 4), case.integers(1, 3), case.integers(1, 3)
    pads = draw_pads(case, spans(kernel, dilation))
    size = [
        max(1, span - sum(pair)) + case.integer(0, 9)
        for span, pair in zip(spans(kernel, dilation), pads, strict=True)
    ]
    x = case.random((case.integer(1, 3), case.integer(1, 5), *size))
    options = {"stride": stride, "padding": told_padding(case, pads), "dilation": dilation}
    case.told.update(x=x.shape, kernel=kernel)

    flat = case.ndim == 1
    pads2 = [(0, 0), *pads] if flat else pads
    kernel2, stride2, dilation2 = ((1, *p) if flat else p for p in (kernel, stride, dilation))
    x64 = tensor(x[:, :, None] if flat else x)
    want = T.unfold(torch_pad(x64, pads2), kernel2, dilation2, 0, stride2)
    cols = case.random(tuple(want.shape))
    want.backward(torch.from_numpy(cols.astype(np.float64)))

    got = case.call("im2col", case.scattered(x), kernel, **options)
    case.compare("columns", got, want, EXACT)
    got = case.call("col2im", case.scattered(cols), x.shape, kernel, **options)
    tolerance = case.sum_tolerance(prod(kernel), cols)
    case.compare("image", got, x64.grad.reshape(x.shape), tolerance)


# ---- pooling ------------------------------------------------------------------------------------


@dataclass
class Pool:
    """A random window; `native` paddings are those PyTorch's pooling itself takes."""

    x: np.ndarray
    kernel: tuple[int, ...]
    options: dict
    pads: list[tuple[int, int]]
    native: bool

    @classmethod
    def draw(cls, case: Case, *, dilated: bool = False, padded: bool = True) -> "Pool":
        kernel = case.integers(1, 5 if case.ndim < 3 else 3)
        stride = kernel if case.rng.random() < 0.4 else case.integers(1, 4)
        dilation = case.integers(1, 3) if dilated else (1,) * case.ndim
        span = spans(kernel, dilation)
        native = not padded or case.rng.random() < 0.6
        if native:
            half = [s // 2 if padded else 0 for s in kernel]
            pads = [(pad, pad) for pad in (case.integer(0, limit) for limit in half)]
        else:
            pads = draw_pads(case, [s - 1 for s in span])
        more = 60 // case.ndim if case.large else 9
        # at least a kernel wide, so that no window sees padding alone
        size = [s + case.integer(0, more) for s in span]
        C = case.integer(1, 40 if case.large else 7)
        x = case.random((case.integer(1, 3), C, *size))
        options = {"stride": stride, "ceil_mode": native and bool(case.rng.random() < 0.5)}
        options["layout"] = case.layout
        if padded:
            options["padding"] = told_padding(case, pads)
        if dilated:
            options["dilation"] = dilation
        case.told.update(x=x.shape, kernel=kernel)
        return cls(x, kernel, options, pads, native)

    def backward(self, case: Case, x64: torch.Tensor, y64: torch.Tensor) -> np.ndarray:
        """Draw dy and let PyTorch compute ``x64.grad``."""
        dy = case.random(tuple(y64.shape))
        y64.backward(torch.from_numpy(dy.astype(np.float64)))
        return dy

    def only(self, *names) -> dict:
        return {name: self.options[name] for name in names}


def max_pool(case: Case) -> None:
    pool = Pool.draw(case, dilated=True)
    x64 = tensor(pool.x)
    stride, ceil_mode, dilation = (
        pool.options[name] for name in ("stride", "ceil_mode", "dilation")
    )
    begin = [pair[0] for pair in pool.pads]
    image = x64 if pool.native else torch_pad(x64, pool.pads, -np.inf)
    y64, where = getattr(T, f"max_pool{case.ndim}d")(
        image, pool.kernel, stride, begin if pool.native else 0, dilation, ceil_mode, True
    )
    if not pool.native:  # from places in the padded image to places in the image
        places = np.unravel_index(where.numpy(), image.shape[2:])
        places = [place - pad for place, pad in zip(places, begin, strict=True)]
        where = torch.from_numpy(np.ravel_multi_index(places, pool.x.shape[2:]))
    dy = pool.backward(case, x64, y64)

    x = case.to_layout(pool.x)
    options = pool.options | {"return_indices": bool(case.rng.random() < 0.8)}
    result = case.call("max_pool{}d", x, pool.kernel, **options)
    if not options["return_indices"]:
        case.compare("y", result, y64, EXACT)
        return
    y, indices = result
    case.compare("y", y, y64, EXACT)
    case.compare("indices", indices, where, EXACT)
    back = (case.to_layout(dy), case.scattered(indices), x.shape)
    dx = case.call("max_pool{}d_backward", *back, layout=case.layout)
    case.compare("dx", dx, x64.grad, case.sum_tolerance(prod(pool.kernel), dy))


def avg_pool(case: Case) -> None:
    pool = Pool.draw(case)
    pool.options["count_include_pad"] = include = bool(case.rng.random() < 0.5)
    x64 = tensor(pool.x)
    stride, ceil_mode = pool.options["stride"], pool.options["ceil_mode"]
    function = getattr(T, f"avg_pool{case.ndim}d")
    if pool.native:
        begin = [pair[0] for pair in pool.pads]
        y64 = function(x64, pool.kernel, stride, begin, ceil_mode, include)
    else:
        y64 = function(torch_pad(x64, pool.pads), pool.kernel, stride)
        if not include:
            ones = torch_pad(torch.ones_like(x64), pool.pads)
            y64 = y64 / function(ones, pool.kernel, stride)
    dy = pool.backward(case, x64, y64)

    x = case.to_layout(pool.x)
    y = case.call("avg_pool{}d", x, pool.kernel, **pool.options)
    case.compare("y", y, y64, case.sum_tolerance(prod(pool.kernel), pool.x))
    back = (case.to_layout(dy), x.shape, pool.kernel)
    dx = case.call("avg_pool{}d_backward", *back, **pool.options)
    case.compare("dx", dx, x64.grad, case.sum_tolerance(prod(pool.kernel), dy))


def lp_pool(case: Case) -> None:
    case.ndim, case.layout = 2, case.pick(*LAYOUTS[2])
    pool = Pool.draw(case, padded=False)
    pool.options["ceil_mode"] = False
    norm = case.pick(2, 2.0, 4, 3)
    # PyTorch leaves out the absolute value, and has no gradient where a whole window is zero
    pool.x += np.where(pool.x < 0, -0.125, 0.125).astype(case.dtype)
    pool.x = np.abs(pool.x) if norm == 3 else pool.x
    x64 = tensor(pool.x)
    y64 = T.lp_pool2d(x64, float(norm), pool.kernel, pool.options["stride"])
    dy = pool.backward(case, x64, y64)

    x = case.to_layout(pool.x)
    y = case.call("lp_pool2d", x, norm, pool.kernel, **pool.options)
    terms = prod(pool.kernel) + 8 * int(norm)  # a power and a root besides the sum
    case.compare("y", y, y64, case.sum_tolerance(terms, y64.detach().numpy()))
    arrays = (case.to_layout(dy), x, case.scattered(y), norm, pool.kernel)
    dx = case.call("lp_pool2d_backward", *arrays, **pool.options)
    case.compare("dx", dx, x64.grad, case.sum_tolerance(terms * prod(pool.kernel), dy))


FAMILIES = {
    "convolution": conv_forward,
    "input gradient": conv_input_grad,
    "weight gradient": conv_weight_grad,
    "whole backward": conv_backward,
    "transposed": conv_transpose,
    "transposed backward": conv_transpose_backward,
    "im2col, col2im": im2col,
    "max pooling": max_pool,
    "average pooling": avg_pool,
    "lp pooling": lp_pool,
}


def run_case(F, seed: int, number: int) -> tuple[str, Case]:
    """Case `number` depends on the seed and its number alone."""
    family = list(FAMILIES)[number % len(FAMILIES)]
    case = Case(number, np.random.default_rng([seed, number]), F)
    try:
        FAMILIES[family](case)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        case.problems.append(f"{type(error).__name__} in {place.name}: {error}")
    if case.problems:
        case.error = float("inf") if case.error <= 1 else case.error
    return family, case


def describe(case: Case) -> str:
    told = {"dtype": np.dtype(case.dtype).name} | case.told
    if isinstance(told.get("out"), np.ndarray):
        told["out"] = f"array with strides {told['out'].strides}"
    return ", ".join(f"{key}={value}" for key, value in told.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--only", type=int, metavar="I", help="run one case and describe it")
    parser.add_argument(
        "--module", default="fastconv.functional", help="what to check (or fastconv.reference)"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)  # its idle workers would spin beside ours
    F = importlib.import_module(args.module)
    numbers = range(args.cases) if args.only is None else [args.only]

    cases: dict[str, list[Case]] = {family: [] for family in FAMILIES}
    for number in numbers:
        family, case = run_case(F, args.seed, number)
        cases[family].append(case)
        if case.problems or args.only is not None:
            print(f"case {number}, {family}: {describe(case)}")
            for problem in case.problems:
                print(f"  {problem}")
            if case.problems:
                again = f"--module {args.module} --seed {args.seed} --only {number}"
                print(f"  again: python benchmarks/random_vs_torch.py {again}")

    print(f"{'family':<20}  {'cases':>5}  {'failed':>6}  worst error / tolerance")
    for family, done in cases.items():
        if done:
            failed = sum(bool(case.problems) for case in done)
            worst = max(case.error for case in done)
            print(f"{family:<20}  {len(done):>5}  {failed:>6}  {worst:.3g}")
    failed = sum(bool(case.problems) for done in cases.values() for case in done)
    print(f"{len(numbers)} cases with PyTorch {torch.__version__}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
