"""The choices that `fastconv.tune` measured: what ``algo="auto"`` looks up, and their file.

While nothing is tuned `active` is False, and "auto" costs a comparison more than any other
algorithm. The file is read at the first such call of a process, once. Whatever is wrong with it,
calls go on with the estimates of `fastconv.plan_conv2d`; `status` says what it is.
"""

import os
from contextlib import contextmanager, suppress
from functools import lru_cache

from fastconv import _core
from fastconv._geometry import ConvGeometry
from fastconv._machine import cpu_model

FORMAT = 1
TITLE = "fastconv: algorithms chosen by measurement"
ALGOS = ("gemm", "winograd")
# As in csrc/plan_winograd.c: over fewer the plain sum is much more precise than tiles of 6x6.
LEAST_CHANNELS = 24

choices = {}  # what `key` returns -> {"algo": name, "seconds": {name: median}}
active = True  # whether calls have to ask `choose`: there are choices, or the file was not read yet
_noted = None  # while `noting`: what calls asked for
_read = False  # whether the file was looked at
_problem = ""  # why it was ignored


# ---- what a call asks ---------------------------------------------------------------------------


def choose(op, g, dtype):
    """The algorithm for `g`, a `_core.Conv`; op is "forward" or "input_grad"."""
    load()
    if _noted is not None:
        _noted[op, g, dtype] = None
    return _resolve(op, g, dtype, _core.get_num_threads(), _core.isa())


@lru_cache(maxsize=4096)
def _resolve(op, g, dtype, threads, isa):
    entry = choices.get(key(op, g, dtype, threads, isa))
    return entry["algo"] if entry and entry["algo"] in candidates(op, g) else "auto"


@contextmanager
def noting():
    """Note what `choose` is asked for, by all threads, as keys (op, g, dtype) of a dict."""
    global _noted
    _noted = noted = {}
    _changed()
    try:
        yield noted
    finally:
        _noted = None
        _changed()


def candidates(op, g):
    """The algorithms among which "auto" may choose; none where there is only one."""
    direct = as_forward(op, g)
    if direct is None or not direct.suits_winograd or g.N == 0:
        return ()
    return ALGOS if direct.C // g.geometry.groups >= LEAST_CHANNELS else ()


@lru_cache(maxsize=4096)
def as_forward(op, g):
    """The convolution that is run: g, or for the input gradient one of dy with flipped filters.

    None where that is not a single one, as for a gradient with strides.
    """
    c = g.geometry
    if op == "forward":
        return g
    if set(c.stride) | set(c.dilation) != {1}:
        return None
    pads = [
        [size - 1 - pad for size, pad in zip(c.kernel, pads, strict=True)]
        for pads in (c.pad_begin, c.pad_end)
    ]
    ones = (1,) * c.ndim
    return _core.Conv(
        ConvGeometry(
            ndim=c.ndim,
            layout=c.layout,
            N=c.N,
            C=c.OC,
            OC=c.C,
            groups=c.groups,
            in_size=c.out_size,
            kernel=c.kernel,
            stride=ones,
            dilation=ones,
            pad_begin=tuple(pads[0]),
            pad_end=tuple(pads[1]),
            out_size=c.in_size,
        )
    )


def estimate(op, g, dtype):
    """What "auto" takes where nothing is measured; "auto" where it takes several algorithms."""
    direct = as_forward(op, g)
    if direct is None:
        return "auto"
    winograd = _core.conv_plan(direct, dtype)["algorithm"] == "winograd"
    return "winograd" if winograd else "gemm"


def key(op, g, dtype, threads, isa):
    """Everything that a choice is for, but the machine, as it stands in the file."""
    return f"{op}, {describe(g.geometry)}, {dtype}, {isa}, threads {threads}"


def describe(c):
    """A `ConvGeometry` in words, the usual left out: "1x64x56x56 by 64x64x3x3, padding 1"."""
    words = [f"{_times(c.x_shape)} by {_times(c.w_shape)}"]
    for name in ("stride", "dilation"):
        steps = getattr(c, name)
        if set(steps) != {1}:
            words.append(f"{name} {_times(steps)}")
    if set(c.pad_begin) | set(c.pad_end) != {0}:
        pads = zip(c.pad_begin, c.pad_end, strict=True)
        same = len({*c.pad_begin, *c.pad_end}) == 1
        words.append(f"padding {c.pad_begin[0] if same else _times(f'{a}+{b}' for a, b in pads)}")
    if c.groups > 1:
        words.append(f"groups {c.groups}")
    if c.channels_last:
        words.append(c.layout)
    return ", ".join(words)


def _times(sizes):
    return "x".join(map(str, sizes))


# ---- the choices of this process ----------------------------------------------------------------


def load():
    """Read the file, if that was not done yet; choices that this process made come first."""
    global _read, _problem
    if _read:
        return
    found = {}
    try:
        path = file()
        if path is not None:
            found = _sections(path).get(_section(), {})
    except (OSError, ValueError, RecursionError) as error:
        _problem = _explain(error)
    for name, entry in found.items() if isinstance(found, dict) else ():
        if isinstance(entry, dict) and entry.get("algo") in ALGOS:
            choices.setdefault(name, entry)
    _read = True
    _changed()


def add(new):
    """Let calls of this process follow new choices."""
    load()
    choices.update(new)
    _changed()


def clear():
    """Forget all choices in this process."""
    global _read
    _read = True
    choices.clear()
    _changed()


def _changed():
    global active
    active = bool(choices) or _noted is not None or not _read
    _resolve.cache_clear()


def status():
    """Where choices come from, as plain values: the file, their number, what was wrong."""
    load()
    return {"file": file(), "choices": len(choices), "problem": _problem}


# ---- the file -----------------------------------------------------------------------------------


def file():
    """Path of the file, or None: FASTCONV_CACHE (0 or off: none), else in the user's cache."""
    named = os.environ.get("FASTCONV_CACHE", "")
    if named.lower() in ("0", "off"):
        return None
    if named:
        return named
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # such values are to be ignored
        cache = os.path.expanduser("~/.cache")
    return os.path.join(cache, "fastconv", "tuned.json") if os.path.isabs(cache) else None


def _section():
    """Choices are for a processor and a version of fastconv; those of others stand beside them."""
    return f"format {FORMAT}, fastconv {_core.version}, {cpu_model()}"


def _sections(path):
    """All that is in the file, by `_section`; nothing if there is none.

    Raises
    ------
    OSError, ValueError, RecursionError
        If it cannot be read or is something else.
    """
    if not os.path.exists(path):
        return {}
    if not os.path.isfile(path):  # reading a pipe would wait for ever
        raise ValueError("it is no regular file")
    import json

    with open(path, encoding="utf-8") as stream:
        content = json.load(stream)
    if not isinstance(content, dict) or not isinstance(content.get(TITLE), dict):
        raise ValueError("it holds something else than tuned choices")
    return content[TITLE]


def store(path, new):
    """Add choices to a file, replacing it as a whole, so that readers see the old or the new one.

    Raises
    ------
    OSError
        If it cannot be read or written, or is something else: no foreign file is overwritten.
    """

    def change(section):
        return section | new

    _rewrite(path, change)


def erase(path):
    """Remove the choices for this processor and version from a file."""
    if os.path.exists(path):
        _rewrite(path, lambda section: {})


def _rewrite(path, change):
    import json

    path = os.path.realpath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with _locked(f"{path}.lock"):
        try:
            sections = _sections(path)
        except (ValueError, RecursionError) as error:
            raise OSError(_explain(error)) from error
        section = sections.get(_section())
        sections[_section()] = change(section if isinstance(section, dict) else {})
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                json.dump({TITLE: sections}, stream, indent=1)
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                os.remove(temporary)


@contextmanager
def _locked(path):
    """Writers take turns, so that none loses what another has just added."""
    with open(path, "a") as lock:
        try:
            import fcntl
        except ImportError:  # no POSIX
            yield
            return
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _explain(error):
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error) is ValueError:
        return str(error)
    return "it is no JSON"
