"""PyTorch, eager, on its default backend (oneDNN)."""

import contextlib

import torch
import torch.nn.functional as T

from benchmarks.peers.adapters.base import Peer
from benchmarks.peers.work import LEARNING_RATE, MOMENTUM, Call


def _numpy(tensor):
    return tensor.detach().numpy()


class PyTorch(Peer):
    name = "torch"
    packages = ("torch",)
    note = (
        "eager, NCHW; 'torch packed' has its filters in oneDNN's layout, as torch.compile's "
        "freezing packs them"
    )
    extra = {"prepared": ("torch packed",)}  # noqa: RUF012

    def __init__(self, threads):
        super().__init__(threads)
        torch.set_num_threads(threads)
        with contextlib.suppress(RuntimeError):  # it may be set once only
            torch.set_num_interop_threads(1)

    def forward(self, work):
        x, w = torch.from_numpy(work.x), torch.from_numpy(work.w)
        S, P, G = (work.options[key] for key in ("stride", "padding", "groups"))

        @torch.inference_mode()
        def run():
            return T.conv2d(x, w, None, S, P, 1, G)

        return {self.name: Call(run, _numpy)}

    def prepared(self, work):
        if not torch.backends.mkldnn.is_available():
            return self.forward(work)
        x, w = torch.from_numpy(work.x), torch.from_numpy(work.w)
        S, P, G = (work.options[key] for key in ("stride", "padding", "groups"))
        where = ([P, P], [S, S], [1, 1], G)
        packed = torch.ops.mkldnn._reorder_convolution_weight(w, *where, list(x.shape))
        convolve = torch.ops.mkldnn._convolution_pointwise

        @torch.inference_mode()
        def run():
            return convolve(x, packed, None, *where, "none", [], "")

        return self.forward(work) | {"torch packed": Call(run, _numpy)}

    def input_grad(self, work):
        return self._gradient(work, 0)

    def weight_grad(self, work):
        return self._gradient(work, 1)

    def _gradient(self, work, which):
        dy, x, w = map(torch.from_numpy, (work.dy, work.x, work.w))
        S, P, G = (work.options[key] for key in ("stride", "padding", "groups"))
        mask = [which == 0, which == 1, False]
        backward = torch.ops.aten.convolution_backward

        @torch.inference_mode()
        def run():
            where = ([S, S], [P, P], [1, 1], False, [0, 0], G)
            return backward(dy, x, w, None, *where, mask)[which]

        return {self.name: Call(run, _numpy)}

    def max_pool(self, work):
        x, kernel = torch.from_numpy(work.x), work.case.kernel

        @torch.inference_mode()
        def run():
            return T.max_pool2d(x, kernel, return_indices=True, **work.options)

        return {self.name: Call(run, lambda result: tuple(map(_numpy, result)))}

    def max_pool_grad(self, work):
        dy, x, indices = map(torch.from_numpy, (work.dy, work.x, work.indices))
        case = work.case
        K, S, P = ([size, size] for size in (case.kernel, case.stride, case.padding))
        backward = torch.ops.aten.max_pool2d_with_indices_backward

        @torch.inference_mode()
        def run():
            return backward(dy, x, K, S, P, [1, 1], False, indices)

        return {self.name: Call(run, _numpy)}

    def step(self, work):
        net = _net(work.case)
        net.load_state_dict({name: torch.from_numpy(value) for name, value in work.start.items()})
        x, labels = torch.from_numpy(work.x), torch.from_numpy(work.labels)
        optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

        def step():
            optimizer.zero_grad()
            loss = T.cross_entropy(net(x), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        def value(loss):
            state = {name: _numpy(tensor).copy() for name, tensor in net.state_dict().items()}
            return {"loss": loss, **state}

        return {self.name: Call(step, value)}


def _net(case):
    """The net of `StepWork.net`."""
    nn, layers, channels = torch.nn, [], 3
    for filters in case.filters:
        layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(filters, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = filters
    flat = channels * (case.size >> len(case.filters)) ** 2
    layers += [nn.Flatten(), nn.Linear(flat, case.hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(case.hidden, case.classes))
