"""Nets: the layer patterns of the lecture, and its case studies (CS231n, "ConvNet Architectures").

`build` makes a net of a pattern such as ``INPUT -> [CONV -> RELU -> POOL]*2 -> FC``.
"""

from fastconv.nets._build import Net, build
from fastconv.nets._language import PatternError

__all__ = ["Net", "PatternError", "build"]
