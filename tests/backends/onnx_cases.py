"""The conformance tests that come with onnx, for its `ReferenceEvaluator`, on fastconv or not.

scripts/check_backends.py runs them both ways; test_onnx.py runs them with the backend active.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
test = pytest.importorskip("onnx.backend.test")
from onnx import numpy_helper  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from fastconv.backends.onnx import FUNCTIONS  # noqa: E402

KINDS = ("node", "pytorch-converted", "pytorch-operator", "simple")
LIGHT = Path(test.__file__).parent / "data" / "light"


@cache
def cases() -> dict:
    """Name -> model, data sets and tolerances of the cases with an operator of the backend."""
    found = {}
    with np.errstate(all="ignore"):
        for kind in KINDS:
            for case in load_model_tests(kind=kind):
                model = case.model or onnx.load(Path(case.model_dir, "model.onnx"))
                if any(node.op_type in FUNCTIONS for node in model.graph.node):
                    sets = case.data_sets or [*map(_data_set, _folders(case.model_dir))]
                    found[case.name] = model, sets, case.rtol, case.atol
    return found


def _folders(model_dir):
    return sorted(Path(model_dir).glob("test_data_set_*"))


def _data_set(folder):
    def tensors(name):
        files = sorted(folder.glob(f"{name}_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
        return [tensor(file) for file in files]

    return tensors("input"), tensors("output")


def tensor(file) -> np.ndarray:
    """The array in a file of onnx's."""
    return numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes()))


def check(name: str) -> None:
    """Run one case and compare with the outputs that come with it."""
    model, sets, rtol, atol = cases()[name]
    evaluator = ReferenceEvaluator(model)
    for inputs, outputs in sets:
        got = evaluator.run(None, dict(zip(evaluator.input_names, inputs, strict=False)))
        for expected, result in zip(outputs, got, strict=True):
            assert result.dtype == expected.dtype
            np.testing.assert_allclose(result, expected, rtol=rtol, atol=atol, strict=True)


def light(name: str) -> tuple:
    """A model of "light", its input as onnx's own runner makes it, and the expected output."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    constants = {tensor.name for tensor in model.graph.initializer}
    (x,) = [value for value in model.graph.input if value.name not in constants]
    shape = [dim.dim_value for dim in x.type.tensor_type.shape.dim]
    image = np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)
    return model, {x.name: image.astype(np.float32)}, tensor(LIGHT / f"light_{name}_output_0.pb")


@pytest.mark.parametrize("name", sorted(cases()))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the evaluator casts NaN to integers
def test_case(name):
    check(name)
