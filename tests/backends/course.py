"""For the tests of nets that are folders of files: where they are, and whether results agree."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


def folders(name, below=""):
    """Parameters for `loaded`: the stand-in, and a checkout if FASTCONV_NETS names one."""
    checkout = Path(os.environ.get("FASTCONV_NETS", "nowhere"), name, below)
    return [
        pytest.param(HERE / "standins" / name, id="stand-in"),
        pytest.param(
            checkout,
            id="checkout",
            marks=pytest.mark.skipif(not checkout.is_dir(), reason="FASTCONV_NETS is not set"),
        ),
    ]


def forget(package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def agree(got, expected, terms, rounding=np.float64):
    """The same values up to rounding, in the same dtype, with the axes in the same order."""
    if not isinstance(expected, np.ndarray):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            agree(one, other, terms, rounding)
        return
    assert got.shape == expected.shape and got.dtype == expected.dtype
    # steps along axes of one element mean nothing
    long = [i for i in range(got.ndim) if got.shape[i] > 1]
    by_step = [sorted(long, key=lambda i: -array.strides[i]) for array in (got, expected)]
    assert by_step[0] == by_step[1], (got.strides, expected.strides)
    eps = max(np.finfo(a).eps for a in (got.dtype, rounding) if np.dtype(a).kind == "f")
    limit = 4 * terms * eps * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=limit)
