"""OpenVINO: a model of one operation, compiled for the CPU in float32."""

import numpy as np
import openvino
from openvino import opset8 as ops

from benchmarks.peers.adapters.base import Peer
from benchmarks.peers.work import Call


class OpenVino(Peer):
    name = "openvino"
    packages = ("openvino",)
    note = (
        "one stream, float32 inference, NCHW tensors shared, not copied: changing to and from its "
        "blocked layout is part of the time"
    )

    def __init__(self, threads):
        super().__init__(threads)
        self.core = openvino.Core()
        self.config = {
            "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 is the default where the CPU has it
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }

    def prepared(self, work):
        case = work.case
        x = ops.parameter(list(case.x_shape), np.float32)
        where = ([case.stride] * 2, [case.padding] * 2, [case.padding] * 2, [1, 1])
        if case.groups == 1:
            y = ops.convolution(x, ops.constant(work.w), *where)
        else:
            w = work.w.reshape(case.groups, -1, *work.w.shape[1:])
            y = ops.group_convolution(x, ops.constant(w), *where)
        run = self._infer(work.x, x, y)
        return {self.name: Call(run, lambda result: np.array(result[0]))}

    def max_pool(self, work):
        case = work.case
        x = ops.parameter(list(case.x_shape), np.float32)
        P, S, K = ([size] * 2 for size in (case.padding, case.stride, case.kernel))
        # indices within a plane: those of the axes from 2 on
        y = ops.max_pool(x, S, [1, 1], P, P, K, index_element_type="i64", axis=2)
        run = self._infer(work.x, x, y)
        return {self.name: Call(run, lambda result: (np.array(result[0]), np.array(result[1])))}

    def _infer(self, array, x, y):
        compiled = self.core.compile_model(openvino.Model(y.outputs(), [x]), "CPU", self.config)
        request = compiled.create_infer_request()
        return lambda: request.infer(array, share_inputs=True, share_outputs=True)
