"""Benchmarks and large comparisons; ``python -m benchmarks`` is ``fastconv bench``.

``python -m benchmarks.peers`` measures fastconv against other libraries.
"""
