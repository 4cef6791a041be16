"""Measuring the algorithms of convolutions, for ``algo="auto"`` to follow from then on."""

import os
import warnings
from dataclasses import dataclass

import numpy as np

from fastconv import _core, _tuned
from fastconv._checks import check_number
from fastconv._geometry import freeze
from fastconv.functional.conv import conv_shape

MARGIN = 0.97  # less than 3 % is no reason to leave the estimate: another run may say the opposite


@dataclass(frozen=True)
class TunedConv:
    """One convolution that `tune` met, and what it measured."""

    op: str  # "forward" or "input_grad"
    shapes: str  # and parameters, in words
    dtype: str
    threads: int
    isa: str
    seconds: dict[str, float]  # median of each algorithm; empty where there is only one
    estimated: str  # what "auto" takes where nothing is measured
    algo: str  # what it takes now


@dataclass(frozen=True, repr=False)
class TuneResult:
    """All convolutions that `tune` met; printed, it is a table."""

    convolutions: tuple[TunedConv, ...]
    file: str | None  # where the choices are stored

    def __repr__(self):
        measured = [conv for conv in self.convolutions if conv.seconds]
        rest = len(self.convolutions) - len(measured)
        lines = []
        if measured:
            rows = [("operation", "convolution", "dtype", *_tuned.ALGOS, "auto takes")]
            rows += map(_row, measured)
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = (
                    f"{cell:>{width}}" if 3 <= i < 3 + len(_tuned.ALGOS) else f"{cell:<{width}}"
                    for i, (cell, width) in enumerate(zip(row, widths, strict=True))
                )
                lines.append("  ".join(cells).rstrip())
            first = measured[0]
            lines.append(f"milliseconds; {first.isa}, threads: {first.threads}")
            lines.append(f"stored in {self.file}" if self.file else "for this process only")
        if rest or not measured:
            lines.append(f"convolutions with one algorithm to take: {rest}")
        return "\n".join(lines)


def _row(conv):
    as_estimated = "as estimated" if conv.algo == conv.estimated else f"not {conv.estimated}"
    times = (f"{conv.seconds[algo] * 1e3:.3f}" for algo in _tuned.ALGOS)
    return conv.op, conv.shapes, conv.dtype, *times, f"{conv.algo}, {as_estimated}"


def tune(function, *args, seconds=0.2, cache=None):
    """Measure the algorithms of every convolution in ``function(*args)``; "auto" then follows.

    The function runs once, to find the convolutions that it leaves to ``algo="auto"``: a net with
    an image, or a training step. Each is then measured with random numbers of the same shapes:
    the implicit GEMM against Winograd's algorithm, where both exist and the latter is precise
    enough for "auto", which is from 24 channels on. All others have one algorithm to take.

    A choice holds for these shapes and parameters, dtype, number of threads, instruction set,
    processor and version of fastconv. It is in force at once and, from the file, in every process
    that starts later. Results are the same bits for the same shapes and threads as long as the
    choices are the same.

    Parameters
    ----------
    function : callable
        Called once with `args`: a layer or a net (``tune(net, x)``), or any function.
    *args
        Its arguments.
    seconds : float, optional
        How long to measure each algorithm of each convolution.
    cache : None, False or path, optional
        Where to store the choices: in the file that new processes read, which FASTCONV_CACHE
        names (0 or off: none), by default ``fastconv/tuned.json`` in XDG_CACHE_HOME or
        ``~/.cache``; nowhere; or in another file, for use as FASTCONV_CACHE.

    Returns
    -------
    TuneResult
        ``convolutions``, each with ``seconds`` for each algorithm, ``estimated`` and ``algo``, and
        the ``file``. Printed, it is a table.

    Warns
    -----
    RuntimeWarning
        If the choices cannot be stored. They hold in this process all the same.

    See Also
    --------
    tune_conv2d : The same for a single convolution, from its shapes.
    tune_clear : Back to estimates.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> from fastconv.layers import Conv2d, ReLU, Sequential
    >>> net = Sequential(Conv2d(3, 32, 3, padding=1), ReLU(), Conv2d(32, 32, 3, padding=1))
    >>> result = fastconv.tune(net, np.ones((1, 3, 32, 32), np.float32), seconds=0.01, cache=False)
    >>> [sorted(conv.seconds) for conv in result.convolutions]
    [[], ['gemm', 'winograd']]
    >>> fastconv.tune_clear(cache=False)
    """
    seconds = _check_seconds("tune", seconds)
    if not callable(function):
        raise TypeError(f"tune: function must be callable, got {function!r}")
    with _tuned.noting() as noted:
        function(*args)
    return _tune(noted, seconds, cache)


def tune_conv2d(
    x_shape,
    w_shape,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    layout="NCHW",
    fit="floor",
    dtype=np.float32,
    op=("forward", "input_grad"),
    seconds=0.2,
    cache=None,
):
    """Measure the algorithms of one convolution, given by its shapes; see `tune`.

    Parameters
    ----------
    x_shape, w_shape : tuple of int
        Shapes of the images, in the order of `layout`, and of the filters.
    stride, padding, dilation, groups, layout, fit
        As in `conv2d`.
    dtype : {numpy.float32, numpy.float64}, optional
        Type of the arrays.
    op : {"forward", "input_grad"} or several of them, optional
        What to measure. (The gradient of the filters has one algorithm.)
    seconds, cache
        As in `tune`.

    Returns
    -------
    TuneResult

    Examples
    --------
    >>> import fastconv
    >>> result = fastconv.tune_conv2d((1, 32, 16, 16), (32, 32, 3, 3), padding=1, op="forward",
    ...                               seconds=0.01, cache=False)
    >>> (conv,) = result.convolutions
    >>> conv.algo in ("gemm", "winograd")
    True
    >>> fastconv.tune_clear(cache=False)
    """
    seconds = _check_seconds("tune_conv2d", seconds)
    ops = (op,) if isinstance(op, str) else tuple(op)
    if not set(ops) <= {"forward", "input_grad"}:
        raise ValueError(f"tune_conv2d: op must be 'forward', 'input_grad' or both, got {op!r}")
    shapes = freeze(x_shape), freeze(w_shape)
    g = conv_shape("tune_conv2d", *shapes, stride, padding, dilation, groups, layout, fit)
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"tune_conv2d: dtype must be float32 or float64, got {dtype}")
    return _tune([(name, g, dtype) for name in ops], seconds, cache)


def tune_clear(*, cache=None):
    """Forget what `tune` chose, here and in the file: "auto" goes by estimates again.

    Parameters
    ----------
    cache : None, False or path, optional
        The file, as in `tune`; with False it stays, and later processes read it.

    Warns
    -----
    RuntimeWarning
        If the file cannot be changed.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.tune_clear(cache=False)
    """
    _tuned.clear()
    path = _path(cache)
    if path is not None:
        try:
            _tuned.erase(path)
        except OSError as error:
            message = f"choices stay in {path}: {error.strerror or error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)


def _check_seconds(op, seconds):
    value = check_number(op, "seconds", seconds)
    if not 0 < value < float("inf"):
        raise ValueError(f"{op}: seconds must be positive and finite, got {seconds!r}")
    return value


def _path(cache):
    if cache is None:
        return _tuned.file()
    return None if cache is False else os.fspath(cache)


def _tune(wanted, seconds, cache):
    path = _path(cache)
    found, new = {}, {}
    for op, g, dtype in wanted:
        threads, isa = _core.get_num_threads(), _core.isa()
        key = _tuned.key(op, g, dtype, threads, isa)
        if key in found:
            continue
        estimated = _tuned.estimate(op, g, dtype)
        times = _measure(op, g, dtype, seconds)
        algo = min(times, key=times.get, default=estimated)
        if times and times[algo] > MARGIN * times[estimated]:
            algo = estimated
        shapes = _tuned.describe(g.geometry)
        found[key] = TunedConv(op, shapes, dtype.name, threads, isa, times, estimated, algo)
        if times:
            new[key] = {"algo": algo, "seconds": times}
    _tuned.add(new)
    if path is not None and new:
        try:
            _tuned.store(path, new)
        except OSError as error:
            message = f"choices are not stored in {path}: {error.strerror or error}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
            path = None
    return TuneResult(tuple(found.values()), path)


def _measure(op, g, dtype, seconds):
    """Median time of each candidate; they take turns."""
    algos = _tuned.candidates(op, g)
    if not algos:
        return {}
    from fastconv.bench.timing import compare

    rng = np.random.default_rng(0)
    if op == "forward":
        function, image, result = _core.conv_forward, g.x_shape, g.y_shape
    else:
        function, image, result = _core.conv_input_grad, g.y_shape, g.x_shape
    x, w = (rng.random(shape, dtype) - 0.5 for shape in (image, g.w_shape))
    out = np.empty(result, dtype)
    timings = compare(
        {algo: lambda algo=algo: function(g, x, w, algo=algo, out=out) for algo in algos},
        min_time=seconds,
        max_time=2 * seconds,
        sample_time=min(0.01, seconds / 8),
        settle=lambda: None,  # no threads but our own, which sleep at once
    )
    return {algo: timing.median for algo, timing in timings.items()}
