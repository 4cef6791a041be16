"""What a backend is: which functions of a net it replaces, and by what."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import ModuleType


class BackendError(Exception):
    """A net that is missing, too old or not the one that was expected; or one replaced already."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """One function of a net, and what takes its place.

    Parameters
    ----------
    path : str
        Where the function is looked up when the net calls it: module, classes, name, with dots.
    function : callable
        Called in its place with the original function first and then the caller's arguments. Its
        parameters after the first are exactly those of the original (names, kinds and defaults),
        which is checked: a net that has changed is not patched. What it cannot do itself, it
        leaves to the original.
    everywhere : bool
        Also where a module has imported the very object by its name
        (``from common.util import im2col``), now or until the backend is uninstalled.

    Examples
    --------
    >>> def im2col(original, x, kernel_size, stride=1): ...
    >>> Replacement("mynet.layers.im2col", im2col).path
    'mynet.layers.im2col'
    """

    path: str
    function: Callable
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Backend:
    """All that makes one net run on fastconv.

    Parameters
    ----------
    package : str
        The module that must be there; it is imported before anything is replaced.
    needs : str
        The net, the version and where to get it, for people: part of error messages.
    replacements : sequence of Replacement
        All of them are looked up and checked before the first one is put in place.
    modules : mapping of str to module
        Put into `sys.modules` under these names before `package` is imported.
    importing : callable
        Returns a context manager in which `package` is imported, here or by a script that
        ``python -m fastconv.backends`` runs.

    Examples
    --------
    >>> import statistics
    >>> import numpy as np
    >>> from fastconv import backends
    >>> def mean(original, data):
    ...     return float(np.mean(data)) if isinstance(data, np.ndarray) else original(data)
    >>> faster = backends.Backend(
    ...     "statistics", "Python 3.11", [backends.Replacement("statistics.mean", mean)])
    >>> with backends.use(faster):
    ...     statistics.mean(np.arange(4.0))
    1.5
    """

    package: str
    needs: str
    replacements: Sequence[Replacement]
    modules: Mapping[str, ModuleType] = field(default_factory=dict)
    importing: Callable[[], AbstractContextManager] = nullcontext
