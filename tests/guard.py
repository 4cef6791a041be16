"""Arrays in awkward places of memory: between guard bytes, before a wall, misaligned, restrided.

The memory belongs to the user: a kernel must not write a byte outside an array, nor read one.
"""

import ctypes
import mmap
import sys

import numpy as np

import fastconv

GUARD_BYTES = 256  # more than the widest vector and the largest tile row
PATTERN = 0xA5
ALIGNMENT = 64


def _aligned_bytes(size, offset=0):
    """`size` bytes that start `offset` bytes after a multiple of ALIGNMENT, in a larger buffer."""
    buffer = np.full(size + 2 * GUARD_BYTES + ALIGNMENT, PATTERN, np.uint8)
    start = GUARD_BYTES + (-(buffer.ctypes.data + GUARD_BYTES)) % ALIGNMENT + offset
    return buffer, start


def guarded(shape, dtype, fill=np.nan):
    """An array between guard bytes, and a function that fails if one of them has changed.

    Parameters
    ----------
    fill : scalar or ndarray
        The content; NaN by default, so that elements nobody writes show up.

    Returns
    -------
    array, check
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    buffer, start = _aligned_bytes(size)
    array = buffer[start : start + size].view(dtype).reshape(shape)
    array[...] = fill

    def check():
        before, after = buffer[:start], buffer[start + size :]
        for name, guard in (("before", before[::-1]), ("after", after)):
            changed = np.flatnonzero(guard != PATTERN)
            assert not changed.size, f"a byte {changed[0] + 1} {name} the array was overwritten"

    return array, check


def misaligned(array):
    """An equal array that starts one element after a multiple of 64 bytes."""
    return _at_offset(array, array.dtype.itemsize)


def unaligned(array):
    """An equal array that starts at an odd address, where no element is aligned."""
    return _at_offset(array, 1)


def _at_offset(array, offset):
    buffer, start = _aligned_bytes(array.nbytes, offset)
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def read_only(array):
    """An equal array that cannot be written to."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def before_wall(array):
    """An equal array with a page after its last byte where every access is a segmentation fault.

    On Windows there is no such page, the array just ends where its allocation ends.
    """
    pages = _pages_for(array)
    memory = _pages_with_wall(pages + 1, wall=pages)
    return _copy_into(memory, pages * mmap.PAGESIZE - array.nbytes, array)


def after_wall(array):
    """An equal array with such a page before its first byte."""
    memory = _pages_with_wall(_pages_for(array) + 1, wall=0)
    return _copy_into(memory, mmap.PAGESIZE, array)


def _pages_for(array):
    return -(-max(array.nbytes, 1) // mmap.PAGESIZE)


def _pages_with_wall(pages, wall):
    """Pages of memory, of which number `wall` cannot be touched."""
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
    if sys.platform != "win32":
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + wall * mmap.PAGESIZE
        no_access = 0  # PROT_NONE
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), no_access):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    return memory


def _copy_into(memory, start, array):
    copy = np.ndarray(array.shape, array.dtype, memory, start)
    copy[...] = array
    return copy


def poison(dtype):
    """What stands in gaps: NaN, or the largest value of an integer dtype."""
    return np.nan if dtype.kind == "f" else np.iinfo(dtype).max


def restride(array, rng):
    """An equal array with a random memory layout: permuted axes, gaps, negative strides.

    The gaps hold what must not be read.
    """
    order = rng.permutation(array.ndim)
    steps = rng.integers(1, 4, array.ndim)
    sizes = [array.shape[axis] for axis in order]
    starts = rng.integers(0, 3, array.ndim)
    extents = [
        start + max(size, 1) * step for start, size, step in zip(starts, sizes, steps, strict=True)
    ]
    memory = np.full(extents, poison(array.dtype), array.dtype)
    slices = [
        slice(start, start + size * step, step)
        for start, size, step in zip(starts, sizes, steps, strict=True)
    ]
    flips = [slice(None, None, -1) if rng.integers(2) else slice(None) for _ in sizes]
    copy = memory[(..., *slices)][(..., *flips)].transpose(np.argsort(order))
    copy[...] = array
    return copy


def cropped(array):
    """An equal array cut out of the middle of a larger one, with gaps between its rows."""
    memory = np.full([size + 3 for size in array.shape], poison(array.dtype), array.dtype)
    copy = memory[tuple([slice(1, 1 + size) for size in array.shape])]
    copy[...] = array
    return copy


def scattered(shape, dtype, rng):
    """An array of NaN in a random memory layout, and a function that fails if a gap was filled."""
    array = restride(np.full(shape, np.nan, dtype), rng)

    def check():
        content = array.copy()
        array[...] = np.nan
        changed = np.flatnonzero(~np.isnan(array.base))
        array[...] = content
        assert not changed.size, f"element {changed[0]} between those of the array was overwritten"

    return array, check


def spoil_heap(shape, dtype):
    """Free results of NaN, whose memory the next result of this shape is likely to get.

    A result cannot start between guards. Like this, elements that nobody writes show up as NaN and
    not as the right values of the call before.
    """
    nan = np.full(shape, np.nan, dtype)
    results = [fastconv.relu(nan) for _ in range(2)]
    del nan, results
