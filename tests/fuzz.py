"""Call the public functions with nonsense: each must answer, or raise what the contract allows.

    python tests/fuzz.py 1 5000        seed, number of calls

A third of the calls are valid but for some parameters and strides, a third but for a few arguments,
the others are nonsense throughout. It runs in a process of its own, so that a crash is seen as one,
and with little memory, so that a large array fails at once. Prints the calls that raised something
else and exits with status 1.
"""

import inspect
import os
import sys
import traceback
import warnings

import numpy as np
from calls import FUNCTIONS, valid_call

import fastconv

ALLOWED = (TypeError, ValueError, MemoryError)
MEMORY = 3 << 30


class Sub(np.ndarray):
    """A subclass that computes nothing itself."""

    __array_ufunc__ = None


class Liar(np.ndarray):
    """A subclass that tells a wrong shape."""

    @property
    def shape(self):
        return (2, 4, 7, 6)

    def __repr__(self):
        return "Liar"


def limit_memory():
    """AddressSanitizer reserves terabytes of addresses, so not under it."""
    if sys.platform == "linux" and "asan" not in os.environ.get("LD_PRELOAD", ""):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def odd_integer(rng):
    huge = [2**n + d for n in (31, 32, 40, 59, 60, 61, 62, 63, 64, 100) for d in (-1, 0)]
    small = [-(2**63), -7, -1, 0, 1, 2, 3, 4, 5, 7]
    pool = [*small, *small, *small, *huge, True, np.int8(2), np.uint64(3)]
    return pool[rng.integers(len(pool))]


def odd_scalar(rng):
    pool = [None, "same", "relu", "NCHW", "NHWC", "naive", "im2col", "x", b"x", 1.0, float("nan")]
    pool += [float("inf"), 1j, {}, {1, 2}, object(), Ellipsis, np.float32(2), np.str_("valid"), ()]
    return pool[rng.integers(len(pool))] if rng.integers(2) else odd_integer(rng)


def odd_sequence(rng):
    items = [odd_integer(rng) for _ in range(rng.integers(6))]
    if rng.integers(3) == 0:
        items = [[odd_integer(rng), odd_integer(rng)] for _ in range(rng.integers(4))]
    kind = rng.integers(4)
    return tuple(items) if kind < 2 else items if kind == 2 else np.array(items, object)


def odd_shape(rng):
    return tuple(int(n) for n in rng.integers(0, 9, rng.integers(0, 6)))


def odd_dtype(rng):
    pool = ["f4", "f8", "f4", "f8", "i8", "u1", "i4", "f2", "g", ">f4", ">f8", ">i8", "?", "O"]
    pool += ["U3", "S2", "M8[s]", "c8", "V8", [("a", "f4"), ("b", "f4")]]
    return np.dtype(pool[rng.integers(len(pool))])


def odd_array(rng):
    shape = odd_shape(rng)
    array = np.zeros(shape, odd_dtype(rng))
    if array.dtype.kind in "fiu" and array.size:
        array[...] = rng.integers(-3, 99, shape).astype(array.dtype)
    return bend(array, rng)


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype)[: array.size].reshape(array.shape)
    copy[...] = array
    return copy


def with_strides(array, rng):
    """The same memory seen with a stride of zero or repeated elements, never beyond its end."""
    steps = [step if rng.integers(2) else 0 for step in array.strides]
    return np.lib.stride_tricks.as_strided(array, array.shape, steps)


def bend(array, rng):
    """An array of other strides, another type, another size or other content."""
    array = np.asarray(array)
    ways = [
        lambda: array[::-1] if array.ndim else array,
        lambda: np.asfortranarray(array),
        lambda: unaligned(array) if array.dtype.kind in "fiu" else array,
        lambda: with_strides(array, rng),
        lambda: np.broadcast_to(array, (3, *array.shape)),
        lambda: np.broadcast_to(array.flat[0] if array.size else 0.0, (2**40,) * 3),
        lambda: array.view(Sub),
        lambda: array.view(Liar),
        lambda: np.ma.array(array),
        lambda: array.astype(odd_dtype(rng)),
        lambda: array[..., :0],
        lambda: array[..., None],
        lambda: array.tolist(),
        lambda: array * np.array(np.nan, array.dtype) if array.dtype.kind == "f" else -array,
        lambda: array.T,
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ways[rng.integers(len(ways))]()
    except Exception:  # NumPy refuses many of these in its own ways
        return array


def odd_value(rng):
    makers = (odd_scalar, odd_scalar, odd_sequence, odd_array, odd_shape)
    return makers[rng.integers(len(makers))](rng)


# Parameters that valid calls leave out.
EXTRA = ("stride", "padding", "dilation", "groups", "layout", "fit", "algo", "activation")
EXTRA += ("output_padding", "ceil_mode", "count_include_pad", "needs", "axis", "alpha", "beta", "k")


# Parameters that make sense, in themselves if not for every call.
PARAMETERS = {
    "stride": lambda rng: int(rng.integers(1, 5)) if rng.integers(9) else 2**40,
    "padding": lambda rng: ["same", "valid", 0, 1, 2, 5][rng.integers(6)],
    "dilation": lambda rng: int(rng.integers(1, 4)),
    "output_padding": lambda rng: int(rng.integers(0, 3)),
    "fit": lambda rng: ["floor", "pad", "strict"][rng.integers(3)],
    "algo": lambda rng: ["auto", "gemm", "im2col", "naive", "winograd"][rng.integers(5)],
    "ceil_mode": lambda rng: bool(rng.integers(2)),
    "count_include_pad": lambda rng: bool(rng.integers(2)),
    "axis": lambda rng: int(rng.integers(-4, 4)),
    "alpha": lambda rng: [0, 1e-4, 2.0, -3.0, float("inf")][rng.integers(5)],
    "beta": lambda rng: [0, 0.5, 0.75, -1.0, float("nan")][rng.integers(5)],
    "k": lambda rng: [0, 1, 2.0, -1.0][rng.integers(4)],
    "needs": lambda rng: ["x", "wb", ("x", "w", "b"), ()][rng.integers(4)],
}


def replace(array, rng):
    """The same array, or one of the same shape and dtype elsewhere in memory."""
    ways = [
        lambda: array,
        lambda: array[::-1],
        lambda: unaligned(array),
        lambda: with_strides(array, rng),
        lambda: np.asfortranarray(array),
        lambda: array.view(Sub),
    ]
    return ways[rng.integers(len(ways))]()


def odd_call(rng):
    """A function's name and keyword arguments."""
    name = FUNCTIONS[rng.integers(len(FUNCTIONS))]
    arguments = valid_call(name, (np.float32, np.float64)[rng.integers(2)], rng)
    accepted = inspect.signature(getattr(fastconv, name)).parameters
    extra = [word for word in EXTRA if word in accepted]
    style = rng.integers(3)
    if style == 0:
        return name, {word: odd_value(rng) for word in arguments}
    if style == 1:
        arrays = {word: v for word, v in arguments.items() if isinstance(v, np.ndarray)}
        arguments |= {word: replace(array, rng) for word, array in arrays.items()}
        arguments.pop("out", None)
        words = [word for word in extra if word in PARAMETERS and rng.integers(2)]
        return name, arguments | {word: PARAMETERS[word](rng) for word in words}
    for _ in range(rng.integers(1, 4)):
        word = [*arguments, *extra][rng.integers(len(arguments) + len(extra))]
        value = arguments.get(word)
        bent = isinstance(value, np.ndarray) and rng.integers(2)
        arguments[word] = bend(value, rng) if bent else odd_value(rng)
    return name, arguments


def describe(name, arguments):
    words = []
    for word, value in arguments.items():
        if isinstance(value, np.ndarray):
            kind = f"{type(value).__name__} {value.dtype}"
            value = f"<{kind} {np.ndarray.shape.__get__(value)} {value.strides}>"
        words.append(f"{word}={value}")
    return f"{name}({', '.join(words)})"


def main(seed, calls):
    limit_memory()
    rng = np.random.default_rng(seed)
    wrong, answered = 0, 0
    for number in range(calls):
        name, arguments = odd_call(rng)
        if "-v" in sys.argv:
            print(number, describe(name, arguments), flush=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                getattr(fastconv, name)(**arguments)
            answered += 1
        except ALLOWED:
            pass
        except Exception:
            wrong += 1
            print(number, describe(name, arguments))
            traceback.print_exc(file=sys.stdout)
    print(f"{calls} calls, {answered} answered, {wrong} raised what they must not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
