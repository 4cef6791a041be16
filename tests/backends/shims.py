"""What nets of another age need to be imported with today's Python and NumPy.

For tests alone: fastconv never changes NumPy or the standard library behind a user's back.
"""

import numpy


def dezero():
    """DeZero 0.0.13 has np.int, which NumPy 1.24 dropped, in the default of an argument.

    Its tests compare with Chainer.
    """
    if "int" not in vars(numpy):
        numpy.int = int
    if "chainer" in globals():
        globals()["chainer"]()
