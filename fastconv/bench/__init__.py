"""Benchmarks: verified, alternating measurements of fastconv's convolutions and pooling.

``fastconv bench`` runs them all. For measurements of one's own, `compare` is the timing engine:

>>> from fastconv.bench import compare
>>> timings = compare({"sum": lambda: sum(range(100))}, min_time=0.001, min_rounds=3)
>>> timings["sum"].median > 0
True
"""

from fastconv.bench.timing import Timing, compare

__all__ = ["Timing", "compare"]
