"""Operators and a small net in onnx's `ReferenceEvaluator`, which only goes forward."""

import math

import numpy as np

from fastconv.bench.backends import BackendCase

IMAGE = (1, 16, 32, 32)
LARGER = (1, 32, 64, 64)
OPSET = 21


def cases() -> list[BackendCase]:
    """The operators at the promised size and above it, and the inference of a net."""
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    return [
        _case("Conv", IMAGE, [(16, 16, 3, 3), (16,)], 144, 20, pads=[1] * 4),
        _case("Conv", LARGER, [(32, 32, 3, 3), (32,)], 288, 20, pads=[1] * 4),
        _case("ConvTranspose", IMAGE, [(16, 16, 3, 3), (16,)], 144, 20, strides=[2, 2]),
        _case("MaxPool", IMAGE, [], 1, 20, **pool),
        _case("MaxPool", LARGER, [], 1, 20, **pool),
        _case("AveragePool", IMAGE, [], 4, 20, **pool),
        _case("LpPool", IMAGE, [], 4, 20, **pool),
        # Of N images the evaluator normalizes N channels only.
        _case("LRN", (16, 16, 16, 16), [], 5, size=5),
        _case("GlobalAveragePool", LARGER, [], 4096),
        _case("BatchNormalization", LARGER, [(32,)] * 4, 4),
        _case("Relu", LARGER, [], 1),
        _case("Gemm", (64, 512), [(256, 512), (256,)], 512, transB=1),
        BackendCase("LeNet (8,1,28,28)", "step", _lenet, 800, 20),
    ]


def _case(op_type, x_shape, weights, terms, bar=None, **attributes):
    def build():
        from onnx import helper

        rng = np.random.default_rng(0)
        arrays = [_normal(rng, shape) for shape in (x_shape, *weights)]
        arrays[1:] = [abs(array) / math.sqrt(terms) for array in arrays[1:]]  # variances, too
        names = [f"x{i}" for i in range(len(arrays))]
        node = helper.make_node(op_type, names, ["y"], **attributes)
        constants = dict(zip(names[1:], arrays[1:], strict=True))
        return _call([node], constants, "x0", arrays[0])

    kernel = "x".join(map(str, attributes.get("kernel_shape", weights[0][2:] if weights else ())))
    name = " ".join(filter(None, [op_type, kernel, str(x_shape).replace(" ", "")]))
    return BackendCase(name, "forward", build, terms, bar)


def _lenet():
    from onnx import helper

    rng = np.random.default_rng(0)
    shapes = {"w1": (20, 1, 5, 5), "w2": (50, 20, 5, 5), "w3": (500, 800), "w4": (10, 500)}
    weights = {
        name: _normal(rng, shape) / np.float32(math.sqrt(math.prod(shape[1:])))
        for name, shape in shapes.items()
    }
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"]),
        helper.make_node("MaxPool", ["c1"], ["p1"], **pool),
        helper.make_node("Conv", ["p1", "w2"], ["c2"]),
        helper.make_node("MaxPool", ["c2"], ["p2"], **pool),
        helper.make_node("Flatten", ["p2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w4"], ["y"], transB=1),
    ]
    return _call(nodes, weights, "x", _normal(rng, (8, 1, 28, 28)))


def _call(nodes, constants, name, x):
    """The call that runs a graph with the output "y" in an evaluator made now."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    evaluator = ReferenceEvaluator(model)
    return lambda: evaluator.run(None, {name: x})


def _normal(rng, shape):
    return rng.standard_normal(shape, dtype=np.float32)
