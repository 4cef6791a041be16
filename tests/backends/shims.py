"""What nets of another age need to be imported with today's Python and NumPy.

For tests alone: fastconv never changes NumPy or the standard library behind a user's back.
"""

import sys
import types

import numpy as np


def chainer():
    """Chainer 7.8.1 from a checkout: names that NumPy has dropped, setuptools' pkg_resources."""
    sizes = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64)}
    sctypes = {kind: [np.dtype(f"{kind}{n}").type for n in sizes[kind]] for kind in sizes}
    sctypes |= {"complex": [np.complex64, np.complex128], "others": [bool, object, str, np.void]}
    old = {"bool": bool, "int": int, "float": float, "object": object}
    for name, value in {**old, "product": np.prod, "sctypes": sctypes}.items():
        if name not in vars(np):
            setattr(np, name, value)
    sys.modules.setdefault("pkg_resources", _no_packages())
    for name in ("numpy.distutils", "numpy.distutils.system_info"):  # imported and not used
        sys.modules.setdefault(name, types.ModuleType(name))
    # written by its setup.py, which a checkout has not seen: there is no ChainerX, the part in C++
    built = types.ModuleType("chainerx._build_info")
    built.build_chainerx = False
    sys.modules.setdefault("chainerx._build_info", built)


def _no_packages():
    """A pkg_resources that finds none of the optional packages it is asked for."""

    def require(*requirements):
        raise LookupError(requirements)

    stub = types.ModuleType("pkg_resources")
    stub.require = require
    stub.WorkingSet = lambda: types.SimpleNamespace(require=require)
    stub.DistributionNotFound = stub.VersionConflict = stub.ResolutionError = LookupError
    stub.fixup_namespace_packages = lambda path: None  # which pytest calls if it finds the module
    return stub
