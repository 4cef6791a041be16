"""The peers by name; each has a small file that knows how to ask it for the work."""

from importlib import import_module

from benchmarks.peers.adapters.base import NotAvailable, Peer

__all__ = ["INFERENCE", "PEERS", "NotAvailable", "Peer", "load"]

# name -> (module, class); in the order of the tables
PEERS = {
    "fastconv": ("own", "Own"),
    "torch": ("pytorch", "PyTorch"),
    "onnxruntime": ("onnx_runtime", "OnnxRuntime"),
    "openvino": ("openvino_model", "OpenVino"),
    "ncnn": ("ncnn_net", "Ncnn"),
    "numpy": ("numpy_blas", "NumPy"),
    "scipy": ("scipy_signal", "SciPy"),
}
# those among which the best one is looked for
INFERENCE = ("torch", "torch packed", "onnxruntime", "openvino", "ncnn")


def load(name: str, threads: int) -> Peer:
    """The peer, ready to compute with so many threads; ImportError if it is not installed."""
    module, peer = PEERS[name]
    return getattr(import_module(f"benchmarks.peers.adapters.{module}"), peer)(threads)
