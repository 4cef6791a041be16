"""The type stubs say the same as the functions: names, order, kinds and defaults of parameters."""

import ast
import inspect
from pathlib import Path

import pytest

import fastconv
from fastconv import functional

MODULES = [fastconv, functional, fastconv._core]


def _stub(module):
    path = Path(module.__file__)
    path = path.parent / "_core.pyi" if path.name.startswith("_core") else path.with_suffix(".pyi")
    return ast.parse(path.read_text())


def _definitions(module):
    """Name and definitions of each function; overloads give several."""
    found = {}
    for node in _stub(module).body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


def _names(module):
    return {
        node.name if hasattr(node, "name") else node.target.id
        for node in _stub(module).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AnnAssign))
        and not (hasattr(node, "annotation") and "TypeAlias" in ast.unparse(node.annotation))
    }


@pytest.mark.parametrize("module", MODULES[:2], ids=lambda module: module.__name__)
def test_signatures(module):
    for name, definitions in _definitions(module).items():
        actual = inspect.signature(getattr(module, name))
        for node in definitions:
            # without annotations and with defaults as they are written
            node.returns = None
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
            for parameter, stub in zip(
                actual.parameters.values(), _parameters(node.args), strict=True
            ):
                kind, stub_name, default = stub
                assert (parameter.kind, parameter.name) == (kind, stub_name), name
                if default is not None and default != "...":
                    assert ast.literal_eval(default) == parameter.default, f"{name}: {stub_name}"
                elif default is None and len(definitions) == 1:
                    assert parameter.default is parameter.empty, f"{name}: {stub_name}"


def _parameters(arguments):
    """(kind, name, default as text or None) of each."""
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    pairs = [
        *(
            (inspect.Parameter.POSITIONAL_OR_KEYWORD, a.arg, d)
            for a, d in zip(arguments.args, defaults, strict=True)
        ),
        *((inspect.Parameter.VAR_POSITIONAL, a.arg, None) for a in [arguments.vararg] if a),
        *(
            (inspect.Parameter.KEYWORD_ONLY, a.arg, d)
            for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ),
    ]
    return [(kind, name, None if d is None else ast.unparse(d)) for kind, name, d in pairs]


def test_all_names_have_a_stub():
    assert _names(functional) == set(functional.__all__)
    assert _names(fastconv) == set(fastconv.__all__) - set(functional.__all__)


def test_the_core_has_a_stub():
    public = {
        name
        for name, value in vars(fastconv._core).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "fastconv._core") == "fastconv._core"
    }
    public -= {"np", "os", "View"}
    assert _names(fastconv._core) == public
