"""ncnn: a net of one layer. It takes one image at a time, so a batch is a loop."""

import tempfile
from pathlib import Path

import ncnn
import numpy as np

from benchmarks.peers.adapters.base import Peer
from benchmarks.peers.work import Call

# Anything but float32 arithmetic is switched off.
OFF = (
    "use_vulkan_compute",
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
    "use_int8_packed",
    "use_int8_storage",
    "use_int8_arithmetic",
    "use_int8_inference",
)
FLOAT32 = b"\0\0\0\0"  # the tag in front of weights
MAGIC = "7767517"  # the first line of a parameter file
# It computes 3x3 filters with few channels by Winograd's F(6x6, 3x3), whose largest error is about
# ten times that of the plain sum (measured: 9.5 to 11 times).
WINOGRAD = {3: 12.0}
# Memory is kept from call to call, as in ncnn's own benchmark. They must outlive every net.
POOLS = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()


class Ncnn(Peer):
    name = "ncnn"
    packages = ("ncnn",)
    note = (
        "float32 throughout, batches image by image; 3x3 filters, where it may take Winograd's, "
        "within 12 tolerances"
    )

    def prepared(self, work):
        for pool in POOLS:
            pool.clear()
        net = self._net(_conv_line(work.case), work.w)
        images = work.x

        def run():
            results = []
            for image in images:
                extractor = net.create_extractor()
                extractor.input("x", ncnn.Mat(image))
                results.append(extractor.extract("y")[1])
            return results

        def stacked(results):
            return np.stack([np.array(y) for y in results])

        return {self.name: Call(run, stacked, slack=work.slack(WINOGRAD))}

    def _net(self, layer: str, weights: np.ndarray):
        net = ncnn.Net()
        net.opt.num_threads = self.threads
        net.opt.blob_allocator, net.opt.workspace_allocator = POOLS
        for option in OFF:
            if hasattr(net.opt, option):  # some are younger than others
                setattr(net.opt, option, False)
        with tempfile.TemporaryDirectory() as folder:
            param, model = Path(folder, "layer.param"), Path(folder, "layer.bin")
            param.write_text(f"{MAGIC}\n2 2\nInput x 0 1 x\n{layer}\n", encoding="ascii")
            model.write_bytes(FLOAT32 + weights.tobytes())
            if net.load_param(str(param)) or net.load_model(str(model)):
                raise RuntimeError("ncnn does not take its own format")
        return net


def _conv_line(case) -> str:
    """The line of the parameter file: numbered options as ncnn's convolution.cpp reads them."""
    options = {
        0: case.OC,
        1: case.KW,
        11: case.KH,
        3: case.stride,
        4: case.padding,
        5: 0,  # no bias
        6: case.OC * case.C // case.groups * case.KH * case.KW,
    }
    if case.groups > 1:
        options[7] = case.groups
    kind = "Convolution" if case.groups == 1 else "ConvolutionDepthWise"
    text = " ".join(f"{key}={value}" for key, value in options.items())
    return f"{kind} conv 1 1 x y {text}"
