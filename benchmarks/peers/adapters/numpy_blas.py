"""NumPy: im2col and a product by its BLAS; pooling over windows."""

import numpy as np

from benchmarks.peers.adapters.base import Peer
from benchmarks.peers.work import Call
from fastconv.bench import loops


class NumPy(Peer):
    name = "numpy"
    packages = ("numpy",)
    note = "im2col (the columns made by fastconv in C), the product by NumPy's BLAS"
    extra = {"max_pool": ("copyto",)}  # noqa: RUF012

    def forward(self, work):
        return {self.name: Call(work.fastconv_call("im2col"))}

    input_grad = weight_grad = forward

    def max_pool(self, work):
        x, copy = work.x, np.empty_like(work.x)
        return {
            self.name: Call(lambda: loops.max_pool(x, work.case)),
            # no pooling, but the time that nothing can be much faster than: it reads the input once
            "copyto": Call(lambda: np.copyto(copy, x), lambda _: loops.max_pool(copy, work.case)),
        }

    def max_pool_grad(self, work):
        return {self.name: Call(lambda: loops.max_pool_grad(work.dy, work.indices, work.case))}

    def step(self, work):
        net, step = work.fastconv_step("im2col")
        return {self.name: Call(step, lambda loss: {"loss": loss, **net.state_dict()})}
