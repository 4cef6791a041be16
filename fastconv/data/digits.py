"""The handwritten digits of `digits.npz`; `digits.LICENSE.md` names source and licence."""

from importlib import resources

import numpy as np

# Grey levels run from 0 to 16: each pixel counts the ink in a 4x4 block of the original bitmap.
INK_MAX = 16


def load_digits(split=None, dtype=np.float32):
    """Load 1,797 real handwritten digits, 8x8 pixels each.

    Parameters
    ----------
    split : {None, "train", "test"}
        All images, or one part of a fixed division: every fifth image of each digit is a test
        image. The parts have 1,437 and 360 images, never share one, and never change.
    dtype : {numpy.float32, numpy.float64}
        Type of the images.

    Returns
    -------
    images : ndarray, shape (N, 1, 8, 8)
        Grey values between 0 (paper) and 1 (ink).
    labels : ndarray of int64, shape (N,)
        The digit that each image shows, 0 to 9.

    Raises
    ------
    ValueError
        If `split` is none of the three.
    TypeError
        If `dtype` is neither float32 nor float64.

    Notes
    -----
    The same 13 people wrote the training and the test images, so the test accuracy says how well
    a network reads new digits of known writers.

    References
    ----------
    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0.

    Examples
    --------
    >>> from fastconv.data import load_digits
    >>> images, labels = load_digits("train")
    >>> images.shape, images.dtype
    ((1437, 1, 8, 8), dtype('float32'))
    >>> labels[:5]
    array([1, 3, 5, 6, 7])
    """
    if split not in (None, "train", "test"):
        raise ValueError(f'load_digits: split={split!r}, expected None, "train" or "test"')
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"load_digits: dtype={np.dtype(dtype)}, expected float32 or float64")
    packed = resources.files("fastconv.data").joinpath("digits.npz")
    with packed.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        images, labels = stored["images"], stored["labels"].astype(np.int64)
    if split is not None:
        chosen = _is_test(labels) == (split == "test")
        images, labels = images[chosen], labels[chosen]
    return images[:, np.newaxis].astype(dtype) / INK_MAX, labels


def _is_test(labels):
    """Mark every fifth image, counted digit by digit so that each digit gives its share."""
    by_digit = np.argsort(labels, kind="stable")
    test = np.zeros(len(labels), dtype=bool)
    test[by_digit[::5]] = True
    return test
