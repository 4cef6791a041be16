"""Data that comes with the package."""

from fastconv.data.digits import load_digits

__all__ = ["load_digits"]
