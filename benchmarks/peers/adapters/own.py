"""fastconv itself, as a user would call it."""

import fastconv
import fastconv.functional as F
from benchmarks.peers.adapters.base import NotAvailable, Peer
from benchmarks.peers.work import Call

# Winograd's algorithm, F(4x4, 3x3) and F(2x2, 5x5): the error that fastconv allows itself, in units
# of that of the plain sum.
WINOGRAD = {3: 2.5, 5: 2.5}


class Own(Peer):
    name = "fastconv"
    packages = ("fastconv",)
    note = "algo='auto'; 3x3 and 5x5 filters, where it may take Winograd's, within 2.5 tolerances"

    def __init__(self, threads):
        super().__init__(threads)
        fastconv.set_num_threads(threads)

    def forward(self, work):
        return {self.name: Call(work.fastconv_call("auto"), slack=work.slack(WINOGRAD))}

    input_grad = weight_grad = forward

    def prepared(self, work):
        prepare = getattr(F, "prepare_conv2d", None)
        if prepare is None:
            raise NotAvailable("this version of fastconv has no prepare_conv2d")
        prepared, x = prepare(work.w, x_shape=work.x.shape, **work.options), work.x
        return {self.name: Call(lambda: prepared(x), slack=work.slack(WINOGRAD))}

    def max_pool(self, work):
        x, kernel, options = work.x, work.case.kernel, work.options
        return {self.name: Call(lambda: F.max_pool2d(x, kernel, return_indices=True, **options))}

    def max_pool_grad(self, work):
        dy, indices, x_shape = work.dy, work.indices, work.x.shape
        return {self.name: Call(lambda: F.max_pool2d_backward(dy, indices, x_shape))}

    def step(self, work):
        net, step = work.fastconv_step("auto")
        return {self.name: Call(step, lambda loss: {"loss": loss, **net.state_dict()})}
