"""The examples of all docstrings give what they say."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import fastconv

MODULES = ["fastconv"] + [
    module.name
    for module in pkgutil.walk_packages(fastconv.__path__, "fastconv.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:  # a backend's module that wants its net
        if error.name not in fastconv.backends.NAMES:
            raise
        pytest.skip(f"{error.name} is not here")
    result = doctest.testmod(module, extraglobs={"np": np}, optionflags=doctest.FAIL_FAST)
    assert result.failed == 0


def test_every_family_of_functions_has_an_example():
    for name in fastconv.functional.__all__:
        text = getattr(fastconv, name).__doc__
        assert ">>> " in text or "; see `" in text or "See `" in text, name


def test_doctest_finds_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = sum(len(t.examples) for t in finder.find(fastconv.functional.conv))
    assert found > 10
