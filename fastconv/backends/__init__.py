"""Run other people's NumPy nets on fastconv, without a change to them.

`install` replaces the convolutions and the pooling of a net by functions that do the same with
fastconv, `uninstall` puts the originals back, `use` does both around a block. Each net has its
module here, with what is replaced and what is left to the original. A backend of one's own is a
`Backend` with some replacements, and is passed instead of a name; docs/backends.md has an example.
"""

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

from fastconv.backends._arrays import fast
from fastconv.backends._backend import Backend, BackendError, Replacement
from fastconv.backends._found import find
from fastconv.backends._replace import Replaced

__all__ = [
    "NAMES",
    "Backend",
    "BackendError",
    "Replacement",
    "Status",
    "available",
    "fast",
    "install",
    "status",
    "uninstall",
    "use",
]

# name -> the net, for people
NAMES = {
    "cs231n": "CS231n, assignment 2",
    "dlfs": "Deep Learning from Scratch",
    "dezero": "DeZero (Deep Learning from Scratch 3)",
    "onnx": "onnx's ReferenceEvaluator",
    "keras": "Keras 3 with its NumPy backend",
    "autograd": "HIPS autograd",
    "numpy_ml": "numpy-ml",
    "chainer": "Chainer",
}

_lock = threading.RLock()
# key -> what `install` was given, the name or Backend and its options, and what that replaced
_installed: dict[str, tuple[tuple[str | Backend, dict], Replaced]] = {}


@dataclass(frozen=True, slots=True)
class Status:
    """What `status` tells about a backend."""

    name: str
    net: str
    found: str | None
    """Version or folder of the net; None if it is not there."""
    active: bool
    options: dict


def install(name: str | Backend, **options) -> None:
    """Make a net run on fastconv.

    Installing a backend again does nothing; other options, or another `Backend` of the same
    package, take the place of the earlier ones.

    Parameters
    ----------
    name : str or Backend
        One of `NAMES`, or a backend of your own, which goes by the name of its package.
    **options
        Those of the backend: see the module ``fastconv.backends.<name>``.

    Raises
    ------
    BackendError
        If the net is missing, too old or has changed; nothing is replaced then.
    ValueError, TypeError
        If there is no such backend, or it has no such option.

    Examples
    --------
    >>> from fastconv import backends
    >>> backends.install("dezero")  # doctest: +SKIP
    >>> backends.install("resnet")
    Traceback (most recent call last):
    ValueError: there is no backend 'resnet'; there are cs231n, dlfs, dezero, onnx, keras, \
autograd, numpy_ml, chainer
    """
    backend = load(name, options)
    key, given = _key(name), (name, options)
    with _lock:
        if key in _installed:
            if _installed[key][0] == given:
                return
            uninstall(key)
        if find(backend.package) is None:
            raise BackendError(
                f"there is no module {backend.package} here; this backend needs {backend.needs}"
            )
        _installed[key] = given, Replaced(backend)


def uninstall(name: str | Backend) -> None:
    """Put back what `install` replaced, the very same objects; nothing happens if it is not active.

    What somebody else has put in their place since then is lost.

    Parameters
    ----------
    name : str or Backend
        As for `install`.

    Examples
    --------
    >>> from fastconv import backends
    >>> backends.uninstall("dezero")
    """
    key = _key(name)
    with _lock:
        if key not in _installed:
            if isinstance(name, str):
                _check_name(name)
            return
        _, replaced = _installed.pop(key)
        replaced.undo()


@contextmanager
def use(name: str | Backend, **options) -> Iterator[None]:
    """Make a net run on fastconv within a ``with`` block; afterwards all is as it was before.

    Parameters
    ----------
    name : str or Backend
        As for `install`.
    **options
        As for `install`.

    Raises
    ------
    BackendError, ValueError, TypeError
        As `install`.

    Examples
    --------
    >>> from fastconv import backends
    >>> with backends.use("dezero"):  # doctest: +SKIP
    ...     loss = model(x)
    """
    key = _key(name)
    before = _installed.get(key)
    install(name, **options)
    try:
        yield
    finally:
        if before is None:
            uninstall(key)
        else:
            given, options = before[0]
            install(given, **options)


def available() -> list[str]:
    """Names of the backends whose nets are there; nothing is imported for it.

    Examples
    --------
    >>> from fastconv import backends
    >>> set(backends.available()) <= set(backends.NAMES)
    True
    """
    return [name for name in NAMES if find(load(name, {}).package) is not None]


def status() -> list[Status]:
    """What is there and what is active, one entry for each of `NAMES` and each active backend.

    Examples
    --------
    >>> from fastconv import backends
    >>> [entry.name for entry in backends.status() if entry.active]
    []
    """
    entries = []
    with _lock:
        for name in [*NAMES, *(name for name in _installed if name not in NAMES)]:
            found = find(load(name, {}).package if name in NAMES else name)
            options = _installed[name][0][1] if name in _installed else {}
            entries.append(Status(name, NAMES.get(name, name), found, name in _installed, options))
    return entries


def load(name: str | Backend, options: dict) -> Backend:
    """Return the backend of that name with those options; it is not installed by this."""
    if isinstance(name, Backend):
        if options:
            raise TypeError(f"a Backend takes no options here, got {', '.join(options)}")
        return name
    _check_name(name)
    make = import_module(f"fastconv.backends.{name}").backend
    try:
        inspect.signature(make).bind(**options)
    except TypeError:
        known = inspect.signature(make)
        raise TypeError(
            f"the options of backend {name!r} are {', '.join(known.parameters)}, "
            f"got {', '.join(options)}"
            if known.parameters
            else f"backend {name!r} has no options, got {', '.join(options)}"
        ) from None
    return make(**options)


def _key(name: str | Backend) -> str:
    if isinstance(name, Backend):
        return name.package
    if not isinstance(name, str):
        _check_name(name)
    return name


def _check_name(name: str) -> None:
    if name not in list(NAMES):  # also what cannot be hashed
        raise ValueError(f"there is no backend {name!r}; there are {', '.join(NAMES)}")
