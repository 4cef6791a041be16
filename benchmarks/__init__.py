"""Benchmarks and large comparisons; ``python -m benchmarks`` is ``fastconv bench``."""
