"""Where the time of a net goes, layer by layer, as it really runs."""

import json
import statistics
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np

from fastconv import _geometry
from fastconv.analysis import table
from fastconv.analysis.summarize import check_input_shape
from fastconv.analysis.table import Column
from fastconv.analysis.walk import walk
from fastconv.layers import ReLU, container

MIN_ROUNDS = 5
MOST_ROUNDS = 1000
WAYS = ("forward", "backward")
BAR = 24  # characters of the longest bar


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One layer of a `Profile`; times are medians, of the whole batch.

    Attributes
    ----------
    name, kind : str
        Where it stands, and its class. "Conv2d + ReLU" did the work of both.
    detail : str
        Its arguments in short.
    output_shape : tuple of int
        Of one image.
    forward_seconds, backward_seconds : float
        The latter is 0 for inference.
    multiply_adds : int or None
        Of what was run: with `backward`, those of the gradients too.
    share : float
        Of the time of all layers.
    """

    name: str
    kind: str
    detail: str
    output_shape: tuple[int, ...]
    forward_seconds: float
    backward_seconds: float
    multiply_adds: int | None
    share: float

    @property
    def seconds(self):
        return self.forward_seconds + self.backward_seconds

    @property
    def flops(self):
        """Operations a second, two for each multiply-add; None where there are none."""
        return 2 * self.multiply_adds / self.seconds if self.multiply_adds else None


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """What `profile` returns: ``print`` it, or take ``rows``, `to_dict`, `table`, `draw`.

    Attributes
    ----------
    rows : tuple of ProfileRow
        In the order of the net.
    seconds : float
        A whole run, watched by nobody: median of runs that took turns with the watched ones.
    other_seconds : float
        Between the layers: what containers do themselves, in Python.
    peak : float
        Operations a second of the machine's FMA units, measured.
    """

    title: str
    input_shape: tuple[int, ...]
    batch: int
    dtype: str
    mode: str
    rows: tuple[ProfileRow, ...]
    seconds: float
    other_seconds: float
    rounds: int
    peak: float
    machine: dict

    def __str__(self):
        return self.text()

    __repr__ = __str__

    def text(self, width=None):
        """Plain text; with `width`, without the columns that do not fit into so many characters."""
        lines = [*self._head(), "", table.plain(self._columns("#"), width), "", *self._foot()]
        return "\n".join(lines)

    def table(self, width=None):
        """A `rich.table.Table` with bars, at most `width` characters wide.

        Raises
        ------
        ImportError
            If rich is not installed; it comes with the extra ``fastconv[cli]``.
        """
        table.needs_rich("Profile.table")
        largest = max(row.share for row in self.rows)
        styles = ["bold" if row.share > largest / 2 else None for row in self.rows]
        return table.rich_table(self._columns("█"), "", width, styles)

    def __rich_console__(self, console, options):
        yield from self._head()
        yield ""
        yield self.table(options.max_width)
        yield ""
        yield from self._foot()

    def slowest_first(self):
        """The same with its rows in order of their times."""
        return replace(self, rows=tuple(sorted(self.rows, key=lambda row: -row.seconds)))

    def draw(self, path):
        """Draw a bar for each layer and save the picture: .png, .svg or .pdf.

        Raises
        ------
        ImportError
            If matplotlib is not installed; it comes with the extra ``fastconv[plot]``.
        """
        from fastconv.analysis.profile_plot import draw

        draw(self, path)

    def to_dict(self):
        """Plain dicts, lists and numbers."""
        rows = []
        for row in self.rows:
            content = asdict(row) | {"output_shape": list(row.output_shape)}
            content |= {"seconds": row.seconds, "flops": row.flops}
            content["share_of_peak"] = None if row.flops is None else row.flops / self.peak
            rows.append(content)
        names = ("title", "batch", "dtype", "mode", "seconds", "other_seconds", "rounds", "peak")
        content = {name: getattr(self, name) for name in names}
        shape = list(self.input_shape)
        return {**content, "input_shape": shape, "machine": self.machine, "rows": rows}

    def to_json(self, indent=1):
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=indent)

    @property
    def flops(self):
        """Operations a second of a whole run."""
        return 2 * sum(row.multiply_adds or 0 for row in self.rows) / self.seconds

    def by_kind(self):
        """Seconds by kind of layer, the longest first."""
        found = {}
        for row in self.rows:
            found[row.kind] = found.get(row.kind, 0.0) + row.seconds
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def _head(self):
        from fastconv.bench.environment import plural

        images = f"{self.batch} x {table.shape_text(self.input_shape)}"
        threads = plural(self.machine["threads"], "thread")
        return [
            f"{self.title}: {self.mode}, {images}, {self.dtype}, {threads}, {self.machine['isa']}",
            f"{self.machine['cpu']}, {self.peak / 1e9:.1f} GFLOP/s FMA peak, measured",
        ]

    def _columns(self, block):
        from fastconv.bench.report import milliseconds, percent, significant

        rows = self.rows
        trained = any(row.backward_seconds for row in rows)
        largest = max(row.seconds for row in rows) or 1.0
        rates = [None if row.flops is None else row.flops / 1e9 for row in rows]
        shares = [None if row.flops is None else row.flops / self.peak for row in rows]
        columns = [
            Column("layer", [row.name for row in rows], right=False),
            Column("kind", [row.kind for row in rows], right=False, spare=1),
            Column("", [row.detail for row in rows], right=False, spare=6),
            Column("output", [table.shape_text(row.output_shape) for row in rows], False, spare=4),
            Column("ms", [milliseconds(row.seconds) for row in rows]),
        ]
        if trained:
            backward = [milliseconds(row.backward_seconds) for row in rows]
            columns.append(Column("backward", backward, spare=5))
        bars = [block * round(BAR * row.seconds / largest) for row in rows]
        return [
            *columns,
            Column("share", [percent(row.share) for row in rows]),
            Column("", bars, right=False, spare=2, style="cyan"),
            Column(
                "mult-adds", [_blank(row.multiply_adds, table.compact) for row in rows], spare=7
            ),
            Column("GFLOP/s", [_blank(rate, significant) for rate in rates], spare=3),
            Column("of peak", [_blank(share, percent) for share in shares], spare=3),
        ]

    def _foot(self):
        from fastconv.bench.report import milliseconds, percent, significant

        layers = sum(row.seconds for row in self.rows)
        kinds = ", ".join(f"{kind} {percent(s / layers)}" for kind, s in self.by_kind().items())
        rate = significant(self.flops / 1e9)
        return [
            f"by kind  {kinds}",
            f"total    {milliseconds(self.seconds)} ms a run ({self.rounds} rounds), "
            f"{rate} GFLOP/s, {self.flops / self.peak:.0%} of peak",
            f"         layers {milliseconds(layers)} ms, between them "
            f"{milliseconds(self.other_seconds)} ms",
        ]


def _blank(value, form):
    return form(value) if value else ""


def profile(net, x, *, batch=1, training=False, prepared=False, seconds=1.0, title=None):
    """Time every layer of a net while the net runs as it always does.

    What is one pass stays one: a ReLU that a convolution applies is in the convolution's row,
    "Conv2d + ReLU". Rows of `Residual` and `Concat` hold what these do beside their branches.

    Parameters
    ----------
    net : Layer
        A layer or a net.
    x : ndarray or tuple of int
        A batch of images; or the shape of one, (C, H, W), for random numbers.
    batch : int, optional
        How many images of that shape.
    training : bool, optional
        Run ``forward`` in training mode and ``backward``, without the gradient of the images,
        instead of inference. Gradients, modes and buffers are put back afterwards.
    prepared : bool, optional
        Run what ``net.prepare()`` makes of the net for inference. Rows are its steps:
        "Conv2d + BatchNorm2d + ReLU" is one.
    seconds : float, optional
        How long to measure: five rounds at least, a thousand at most. In a round the net runs
        twice, once of it watched.
    title : str, optional
        What to call the net; by default its class.

    Returns
    -------
    Profile
        ``rows`` (`ProfileRow`), ``seconds``, ``peak``, ``to_dict()``, ``to_json()``, ``table()``,
        ``draw(path)``; printed, it is a table.

    Raises
    ------
    TypeError, ValueError
        If `net` is no layer, or a layer does not take what the one before gives; if both
        `training` and `prepared` are asked for.

    Notes
    -----
    Rates count the operations of the plain sum, two for each multiply-add. Winograd's algorithm
    does fewer, so it may exceed the peak of the machine.

    References
    ----------
    CS231n, "Convolutional Networks", section "Computational Considerations".

    Examples
    --------
    >>> import fastconv
    >>> from fastconv.layers import Conv2d, Flatten, Linear, ReLU, Sequential
    >>> net = Sequential(Conv2d(3, 8, 3), ReLU(), Flatten(), Linear(8 * 6 * 6, 10))
    >>> found = fastconv.profile(net, (3, 8, 8), seconds=0.01)
    >>> [(row.name, row.kind) for row in found.rows]
    [('0', 'Conv2d + ReLU'), ('2', 'Flatten'), ('3', 'Linear')]
    """
    from fastconv.bench.environment import measured_peak

    x = _images(net, x, batch)
    seconds = float(seconds)
    if not 0 < seconds < 3600:
        raise ValueError(f"profile: seconds must be positive, at most an hour, got {seconds}")
    if training and prepared:
        raise ValueError("profile: a prepared net is for inference: leave out training or prepared")
    journey, _, _ = walk(net, x.shape)
    runs = net.prepare(x.shape) if prepared else net
    with _as_before(net, training):
        run = _training_run(net, x) if training else _inference_run(x)
        plain, watched = _measure(lambda watch: run(runs, watch), seconds)
    machine = _machine()
    times = _medians(watched)
    calls = _prepared_calls(runs, journey.stops) if prepared else _calls(journey.stops, watched[0])
    rows = _rows(calls, times, watched[0])
    return Profile(
        title=title or type(net).__name__,
        input_shape=x.shape[1:],
        batch=x.shape[0],
        dtype=x.dtype.name,
        mode="training" if training else "inference" + ", prepared" * prepared,
        rows=rows,
        seconds=statistics.median(plain),
        other_seconds=max(0.0, sum(times.values()) - sum(row.seconds for row in rows)),
        rounds=len(plain),
        peak=measured_peak(x.dtype.name, machine["threads"], 0.1),
        machine=machine,
    )


# ---- running and watching -----------------------------------------------------------------------


class _Watch:
    """Takes the time of every call from layer to layer, less that of the calls inside it."""

    def __init__(self):
        self.seconds: dict[tuple, float] = {}
        self.with_relu: set[tuple] = set()
        self.no_dx: set[int] = set()
        self.direction = "forward"
        self._inner = [0.0]

    def __call__(self, layer, function, args, kwargs):
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            passed = time.perf_counter() - start
            own = passed - self._inner.pop()
            self._inner[-1] += passed
            key = id(layer), self.direction
            self.seconds[key] = self.seconds.get(key, 0.0) + own
            if any(isinstance(argument, ReLU) for argument in args):
                self.with_relu.add(key)
            if kwargs.get("need_dx") is False:
                self.no_dx.add(id(layer))


def _call(layer, function, args, kwargs):
    return function(*args, **kwargs)


def _inference_run(x):
    def run(net, watch):
        watch(net, net, (x,), {})

    return run


def _training_run(net, x):
    dy = _noise_like(net.forward(x))

    def run(net, watch):
        watch(net, net.forward, (x,), {})
        if isinstance(watch, _Watch):
            watch.direction = "backward"
        watch(net, net.backward, (dy,), {"need_dx": False})

    return run


def _noise_like(y):
    """Random numbers for each output of a net: one, or a tuple of them."""
    if isinstance(y, tuple):
        return tuple(_noise_like(part) for part in y)
    return np.random.default_rng(1).standard_normal(y.shape, y.dtype)


def _measure(run, seconds):
    """Seconds of plain runs, and the watches of as many watched ones in between."""
    from fastconv.bench.timing import settle

    settle()
    for _ in range(2):  # warms caches, threads, and the memory of results
        run(_call)
    plain, watched = [], []
    start = time.perf_counter()
    while len(plain) < MIN_ROUNDS or (
        len(plain) < MOST_ROUNDS and time.perf_counter() - start < seconds
    ):
        before = time.perf_counter()
        run(_call)
        plain.append(time.perf_counter() - before)
        watch = _Watch()
        with container.watched_by(watch):
            run(watch)
        watched.append(watch)
    return plain, watched


@contextmanager
def _as_before(net, training):
    """Whatever a training step changes is put back: modes, gradients, buffers, what is kept."""
    leaves = list(_leaves(net))
    kept = [
        (layer, layer.training, dict(layer.grads), {k: v.copy() for k, v in layer.buffers.items()})
        for layer in leaves
    ]
    net.train(training)
    try:
        yield
    finally:
        for layer, mode, grads, buffers in kept:
            layer._kept = None
            layer.training = mode
            if not layer.children():
                layer.grads.update(grads)
                for name, value in buffers.items():
                    layer.buffers[name][...] = value


def _leaves(layer):
    yield layer
    for child in layer.children().values():
        yield from _leaves(child)


def _images(net, x, batch):
    if isinstance(x, np.ndarray):
        return x
    shape = (_geometry._integer("profile", "batch", batch, 1), *check_input_shape("profile", x))
    dtype = next((value.dtype for value in getattr(net, "params", {}).values()), np.float32)
    return np.random.default_rng(0).standard_normal(shape, dtype)


def _machine():
    import fastconv
    from fastconv._machine import cpu_model

    return {
        "fastconv": fastconv.__version__,
        "cpu": cpu_model(),
        "isa": fastconv.isa(),
        "threads": fastconv.get_num_threads(),
    }


# ---- from times to rows -------------------------------------------------------------------------


def _medians(watched):
    keys = watched[0].seconds
    return {key: statistics.median(watch.seconds[key] for watch in watched) for key in keys}


def _calls(stops, watch):
    """(stop, what to call its kind, key of its times) of each layer."""
    for stop in stops:
        key = id(stop.layer)
        yield stop, stop.kind + " + ReLU" * ((key, "forward") in watch.with_relu), key


def _prepared_calls(prepared, stops):
    """The same of a prepared net.

    Its steps stand in the order of the layers that they began as. Layers in between are done by
    the step before, or need nothing done, as dropout.
    """
    steps = list(_steps(prepared)) if hasattr(prepared, "parts") else [prepared]
    names = [getattr(step, "name", "") for step in steps]
    at = 0
    for i, step in enumerate(steps):
        first = next((j for j in range(at, len(stops)) if stops[j].name == names[i]), None)
        if first is None:  # of a container that keeps its parts to itself
            continue
        at = first + 1
        while at < len(stops) and stops[at].name != (names[i + 1 : i + 2] or [None])[0]:
            at += 1
        done = [stop.kind for stop in stops[first:at] if stop.kind != "Dropout"]
        yield stops[first], " + ".join(done), id(step)


def _steps(prepared):
    """Steps in the order of `walk`: parts before what is made of them."""
    for step in prepared.parts():
        yield from _steps(step)
        yield step


def _rows(calls, times, watch):
    """A row for each layer that was called by itself."""
    calls = [call for call in calls if any((call[2], way) in times for way in WAYS)]
    total = sum(times.get((key, way), 0.0) for _, _, key in calls for way in WAYS)
    rows = []
    for stop, kind, key in calls:
        forward, backward = (times.get((key, way), 0.0) for way in WAYS)
        passes = 1
        if (key, "backward") in times:
            passes = 2 if key in watch.no_dx else 3
        work = stop.facts.multiply_adds
        rows.append(
            ProfileRow(
                name=stop.name or "net",
                kind=kind,
                detail=stop.facts.detail,
                output_shape=stop.y.shape[1:],
                forward_seconds=forward,
                backward_seconds=backward,
                multiply_adds=work and work * passes,
                share=(forward + backward) / total,
            )
        )
    return tuple(rows)
