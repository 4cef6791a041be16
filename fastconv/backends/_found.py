"""Whether a net is there, and what to do once it is imported."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import PathFinder


def find(package: str) -> str | None:
    """Version of an installed package, else the folder it lies in; None if there is none.

    Nothing is imported for it.
    """
    top, *rest = package.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # in sys.modules, without a spec
        return None
    if spec is None:
        return None
    locations = spec.submodule_search_locations
    name = top
    for part in rest:
        name += f".{part}"
        below = PathFinder.find_spec(name, locations) if locations else None
        if below is None:
            return None
        locations = below.submodule_search_locations
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        return next(iter(spec.submodule_search_locations or ()), spec.origin or "in memory")


def when_imported(package: str, callback: Callable[[], None]) -> None:
    """Call `callback` as soon as the first import of `package` is through, in that import."""
    if package in sys.modules:
        callback()
    else:
        sys.meta_path.insert(0, _Finder(package, callback))


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find the package, and its loader call back."""

    def __init__(self, package, callback):
        self.package = package
        self.callback = callback

    def find_spec(self, fullname, path, target=None):
        if fullname != self.package or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None:  # perhaps the next time: a script may add to sys.path
            sys.meta_path.insert(0, self)
            return None
        spec.loader = _Loader(spec.loader, self.callback)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader, callback):
        self.loader = loader  # None: a folder without __init__.py
        self.callback = callback

    def create_module(self, spec):
        return self.loader.create_module(spec) if self.loader else None

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        if self.loader:
            self.loader.exec_module(module)
        self.callback()
