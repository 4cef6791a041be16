"""Put replacements in place, and the originals back."""

import functools
import importlib
import inspect
import pkgutil
import sys
from dataclasses import dataclass

from fastconv.backends._backend import Backend, BackendError, Replacement

_MISSING = object()


@dataclass(slots=True)
class _Site:
    """An attribute, what it was, and what it is while the backend is active."""

    owner: object
    name: str
    before: object  # _MISSING: inherited, there was none of its own
    after: object
    everywhere: bool


class Replaced:
    """The sites of an installed backend."""

    def __init__(self, backend: Backend):
        self._modules = {}
        self._sites = []
        try:
            self._enter(backend)
        except BaseException:
            self.undo()
            raise

    def _enter(self, backend: Backend) -> None:
        for name, module in backend.modules.items():
            self._modules[name] = (sys.modules.get(name, _MISSING), module)
            sys.modules[name] = module
        _import(backend)
        for name, module in backend.modules.items():  # now that their packages are there
            _set_on_parent(name, module)
        for site in [_site(replacement, backend) for replacement in backend.replacements]:
            setattr(site.owner, site.name, site.after)
            self._sites.append(site)
            if site.everywhere:
                _rebind(site.before, site.after)

    def undo(self) -> None:
        """Put back the very objects that were there."""
        while self._sites:
            site = self._sites.pop()
            if site.before is _MISSING:
                delattr(site.owner, site.name)
            else:
                setattr(site.owner, site.name, site.before)
            if site.everywhere:
                _rebind(site.after, site.before)
        self._leave_modules()

    def _leave_modules(self) -> None:
        for name, (before, module) in self._modules.items():
            if sys.modules.get(name) is module:
                sys.modules.pop(name)
                if before is not _MISSING:
                    sys.modules[name] = before
            _set_on_parent(name, before, instead_of=module)
            _rebind_functions(module, name)


def _import(backend: Backend) -> None:
    try:
        with backend.importing():
            __import__(backend.package)
    except BackendError:
        raise
    except Exception as error:  # whatever a net of another age does on today's Python and NumPy
        raise BackendError(
            f"cannot import {backend.package}: {type(error).__name__}: {error}; "
            f"this backend needs {backend.needs}"
        ) from error


def _site(replacement: Replacement, backend: Backend) -> _Site:
    path, name = replacement.path.rpartition(".")[::2]
    if not path:
        raise ValueError(
            f"a replacement's path is module.name or module.Class.name, got {replacement.path!r}"
        )
    try:
        owner = pkgutil.resolve_name(path)
        value = getattr(owner, name)
    except (ImportError, AttributeError) as error:
        raise BackendError(
            f"there is no {replacement.path} ({error}); this backend needs {backend.needs}"
        ) from error
    if hasattr(value, "__fastconv__"):
        raise BackendError(f"{replacement.path} is replaced already, by another backend")
    before = vars(owner).get(name, _MISSING)
    if before is _MISSING and inspect.ismodule(owner):  # from a module's __getattr__
        before = value
    kind = type(before) if isinstance(before, staticmethod | classmethod) else None
    original = before.__func__ if kind else value
    _check_signature(replacement, original, backend)
    after = _bound(replacement.function, original)
    return _Site(owner, name, before, kind(after) if kind else after, replacement.everywhere)


def _bound(function, original):
    @functools.wraps(original)
    def replacement(*args, **kwargs):
        return function(original, *args, **kwargs)

    replacement.__fastconv__ = function
    return replacement


def _check_signature(replacement: Replacement, original, backend: Backend) -> None:
    expected = list(inspect.signature(replacement.function).parameters.values())[1:]
    try:
        found = list(inspect.signature(original).parameters.values())
    except ValueError:  # some functions written in C tell nothing
        return
    if list(map(_facts, found)) != list(map(_facts, expected)):
        raise BackendError(
            f"{replacement.path} takes {_shown(found)}, and this backend was made for "
            f"{_shown(expected)}; it needs {backend.needs}"
        )


def _facts(parameter: inspect.Parameter) -> tuple:
    return parameter.name, parameter.kind, repr(parameter.default)


def _shown(parameters: list) -> str:
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return str(inspect.Signature(bare))


def _rebind(old, new) -> None:
    """Where a loaded module has `old` under some name, put `new`."""
    for names, name in _holders(old):
        names[name] = new


def _holders(value) -> list:
    """The names of loaded modules, but for our own, that stand for this very object."""
    return [
        (vars(module), name)
        for module_name, module in list(sys.modules.items())
        if not module_name.startswith("fastconv.") and inspect.ismodule(module)
        for name, held in list(vars(module).items())
        if held is value
    ]


def _rebind_functions(module, name: str) -> None:
    """Where a loaded module has a function of the stand-in for module `name`, put the true one.

    Where there is no true module, what was imported from the other one stays.
    """
    ours = {key: f for key, f in vars(module).items() if inspect.isfunction(f)}
    if not any(_holders(f) for f in ours.values()):
        return
    try:
        original = importlib.import_module(name)
    except ImportError:
        return
    for key, f in ours.items():
        if hasattr(original, key):
            _rebind(f, getattr(original, key))


def _set_on_parent(name: str, module, instead_of=None) -> None:
    """``import a.b`` makes b an attribute of a; `_MISSING` takes it away."""
    parent, _, child = name.rpartition(".")
    parent = sys.modules.get(parent)
    if parent is None or (instead_of and getattr(parent, child, None) is not instead_of):
        return
    if module is not _MISSING:
        setattr(parent, child, module)
    elif hasattr(parent, child):
        delattr(parent, child)
