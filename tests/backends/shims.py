"""What nets of another age need to be imported with today's Python and NumPy.

For tests alone: fastconv never changes NumPy or the standard library behind a user's back.
"""

import collections
import collections.abc
import sys
from unittest.mock import MagicMock


def numpy_ml():
    """numpy-ml 0.1.2 looks for Hashable where it was before Python 3.10."""
    collections.Hashable = collections.abc.Hashable


def numpy_ml_tests():
    """Its tests import TensorFlow for a loss."""
    numpy_ml()
    sys.modules["tensorflow"] = MagicMock(name="tensorflow", __spec__=None)
