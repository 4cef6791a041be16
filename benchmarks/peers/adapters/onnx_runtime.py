"""ONNX Runtime: a model of one node, made with the onnx package."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.adapters.base import Peer
from benchmarks.peers.work import Call

OPSET, IR_VERSION = 13, 8  # old enough for any release of the runtime


class OnnxRuntime(Peer):
    name = "onnxruntime"
    packages = ("onnxruntime",)
    note = "CPU provider, session.run; filters are packed when the session is made"

    def __init__(self, threads):
        super().__init__(threads)
        options = self.options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3  # errors

    def prepared(self, work):
        case = work.case
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            kernel_shape=[case.KH, case.KW],
            strides=[case.stride] * 2,
            pads=[case.padding] * 4,
            group=case.groups,
        )
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, case.y_shape)]
        session = self._session(node, work.x, outputs, [numpy_helper.from_array(work.w, "w")])
        feed = {"x": work.x}
        return {self.name: Call(lambda: session.run(None, feed)[0])}

    def max_pool(self, work):
        case = work.case
        node = helper.make_node(
            "MaxPool",
            ["x"],
            ["y", "indices"],
            kernel_shape=[case.kernel] * 2,
            strides=[case.stride] * 2,
            pads=[case.padding] * 4,
        )
        types = {"y": TensorProto.FLOAT, "indices": TensorProto.INT64}
        outputs = [helper.make_tensor_value_info(n, t, case.y_shape) for n, t in types.items()]
        session = self._session(node, work.x, outputs, [])
        feed = {"x": work.x}

        def in_their_planes(result):  # its indices count through the whole tensor
            return result[0], result[1] % (case.H * case.W)

        return {self.name: Call(lambda: session.run(None, feed), in_their_planes)}

    def _session(self, node, x: np.ndarray, outputs, weights):
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
        graph = helper.make_graph([node], "layer", inputs, outputs, weights)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return onnxruntime.InferenceSession(
            model.SerializeToString(), self.options, providers=["CPUExecutionProvider"]
        )
