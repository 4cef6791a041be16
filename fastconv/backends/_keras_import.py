"""Import Keras with its NumPy backend, and no other, where JAX need not be installed.

`keras.src.backend.numpy.nn` imports jax at its top, and `keras.src.backend.numpy.math` the part of
Keras' JAX backend that computes Fourier transforms. A finder at the front of `sys.meta_path` has
these two executed with stand-ins in `sys.modules`, which are gone right after: no library that is
imported before, meanwhile or later finds a JAX that is none, and a true one is never hidden. The
third module that is watched is the one that settles Keras' backend, from the environment or from
keras.json.
"""

import importlib.abc
import sys
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType

from fastconv.backends._backend import BackendError
from fastconv.backends._found import find

_CONFIG = "keras.src.backend.config"
_MATH = "keras.src.backend.numpy.math"
_NN = "keras.src.backend.numpy.nn"


def _missing(what):
    raise ModuleNotFoundError(
        f"Keras' NumPy backend computes this with JAX ({what}), which is not installed (pip "
        "install jax); fastconv stands in for it in convolution and pooling of 1-D to 3-D images "
        "of real numbers, while its backend 'keras' is active",
        name="jax",
    )


class _StandIn(ModuleType):
    """In the place of a module of JAX: whatever it is asked for, it tells that JAX is missing."""

    def __getattr__(self, name):
        if name.startswith("__"):  # the import system asks
            raise AttributeError(name)
        _missing(f"{self.__name__}.{name}")


def _stand_ins():
    """What stands in for JAX, by the module of Keras that is to see it."""
    jax = _StandIn("jax")
    jax.lax = _StandIn("jax.lax")
    math = ModuleType("keras.src.backend.jax.math")
    math.fft = lambda x: _missing("jax.numpy.fft.fft")
    math.fft2 = lambda x: _missing("jax.numpy.fft.fft2")
    return {_NN: {"jax": jax}, _MATH: {math.__name__: math}}


@contextmanager
def _visible(modules):
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)


def _check_backend(config):
    if config.backend() != "numpy":
        raise BackendError(
            f"Keras has the backend {config.backend()!r} in this process, and fastconv is for its "
            "backend 'numpy': set the environment variable KERAS_BACKEND=numpy before Keras is "
            "imported for the first time"
        )


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of Keras that need something before or after they are executed."""

    def __init__(self):
        self.stand_ins = {} if find("jax") else _stand_ins()

    def find_spec(self, fullname, path, target=None):
        if fullname != _CONFIG and fullname not in self.stand_ins:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None:
            return None
        loader = spec.loader

        def exec_module(module):
            del loader.exec_module  # back to that of its class
            try:
                with _visible(self.stand_ins.get(fullname, {})):
                    loader.exec_module(module)
            finally:  # it may import the library of another backend, which need not be there
                if fullname == _CONFIG and hasattr(module, "backend"):
                    _check_backend(module)

        loader.exec_module = exec_module
        return spec


@contextmanager
def importing():
    if _CONFIG in sys.modules:
        _check_backend(sys.modules[_CONFIG])
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
