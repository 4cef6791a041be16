# SPDX-License-Identifier: BSD-3-Clause
# cython: language_level=3, freethreading_compatible=True
"""The single crossing into C: arrays come in through the buffer protocol, NumPy makes the results.

Shapes have been checked in Python (`fastconv._geometry`); this module checks once more what C must
be able to rely on, dtype, shape and writability, and releases the GIL while C computes.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport uintptr_t

import os
from math import prod

import numpy as np

cdef extern from *:
    Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "fastconv.h" nogil:
    const char *FC_VERSION
    ctypedef enum fc_status:
        FC_OK, FC_NO_MEMORY
    const char *fc_status_message(fc_status status)
    ctypedef enum fc_dtype:
        FC_F32, FC_F64
    ctypedef struct fc_conv:
        ptrdiff_t N, C, OC, G
        ptrdiff_t *kernel
        ptrdiff_t *out
        ptrdiff_t *stride
        ptrdiff_t *dilation
        ptrdiff_t *pad
        # `in` is a Python keyword: the C name stands in quotes
        ptrdiff_t *size "in"
    ctypedef struct fc_pool:
        ptrdiff_t N, C
        ptrdiff_t *kernel
        ptrdiff_t *out
        ptrdiff_t *stride
        ptrdiff_t *dilation
        ptrdiff_t *pad
        ptrdiff_t *pad_end
        ptrdiff_t *size "in"
    ctypedef struct fc_array:
        char *data
        ptrdiff_t *stride
    ctypedef struct fc_conv_plan:
        ptrdiff_t oc_panel, pixel_panel, channel_block, tap_block, pixel_block
        ptrdiff_t oc_block
        int threads
        size_t workspace_bytes
        double multiply_adds, cost
    fc_status fc_conv_check(const fc_conv *g)
    fc_status fc_pool_check(const fc_pool *g)
    fc_status fc_plan_conv(const fc_conv *g, fc_dtype dtype, int channels_last,
                           ptrdiff_t weight_row, fc_conv_plan *plan)
    ctypedef enum fc_algo:
        FC_AUTO, FC_GEMM, FC_WINOGRAD, FC_WINOGRAD_4, FC_WINOGRAD_6
    int fc_winograd_suits(const fc_conv *g)
    ctypedef struct fc_choice:
        fc_algo algo
        int depthwise
        double gemm_cost, winograd_cost
        ptrdiff_t tile_outputs, winograd_channels
        ptrdiff_t *winograd_tile
        size_t winograd_bytes
    fc_choice fc_choose_algo(const fc_conv *g, fc_dtype dtype, fc_algo algo, int prepared)
    ptrdiff_t fc_lanes(fc_dtype dtype)
    ctypedef enum fc_form:
        FC_FORM_PLAIN
    ctypedef struct fc_preparation:
        fc_form form
        fc_choice choice
        size_t packed_bytes
        fc_conv_plan plan
    fc_status fc_prepare(const fc_conv *g, fc_dtype dtype, fc_algo algo, int channels_last,
                         fc_preparation *preparation)
    fc_status fc_pack_filters(const fc_conv *g, fc_dtype dtype, fc_form form, const fc_array *w,
                              void *packed)
    fc_status fc_conv_prepared(const fc_conv *g, fc_dtype dtype, fc_form form, const void *packed,
                               const fc_array *x, const fc_array *bias, const fc_array *y, int relu)
    fc_status fc_conv_forward(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *x,
                              const fc_array *w, const fc_array *bias, const fc_array *y, int relu)
    fc_status fc_conv_forward_naive(const fc_conv *g, fc_dtype dtype, const fc_array *x,
                                    const fc_array *w, const fc_array *bias, const fc_array *y,
                                    int relu)
    fc_status fc_conv_input_grad(const fc_conv *g, fc_dtype dtype, fc_algo algo,
                                 const fc_array *dy, const fc_array *w, const fc_array *bias,
                                 const fc_array *dx)
    fc_status fc_conv_input_grad_relu(const fc_conv *g, fc_dtype dtype, fc_algo algo,
                                      const fc_array *dy, const fc_array *w, const void *x,
                                      const fc_array *dx)
    fc_status fc_conv_input_grad_naive(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                       const fc_array *w, const fc_array *bias, const fc_array *dx)
    fc_status fc_conv_weight_grad(const fc_conv *g, fc_dtype dtype, fc_algo algo,
                                  const fc_array *dy, const fc_array *x, const fc_array *dw)
    fc_status fc_conv_weight_grad_naive(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                        const fc_array *x, const fc_array *dw)
    fc_status fc_bias_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                           const fc_array *db)
    fc_status fc_im2col(const fc_conv *g, fc_dtype dtype, const fc_array *x, void *cols)
    fc_status fc_col2im(const fc_conv *g, fc_dtype dtype, const void *cols, const fc_array *x)
    ctypedef enum fc_index_kind:
        FC_INDEX_NONE, FC_INDEX_U8, FC_INDEX_I32, FC_INDEX_PLANE
    ctypedef enum fc_pool_kind:
        FC_POOL_SUM, FC_POOL_AVERAGE, FC_POOL_AVERAGE_VALID
    fc_status fc_max_pool_forward(const fc_pool *g, fc_dtype dtype, const fc_array *x,
                                  const fc_array *y, fc_index_kind kind, const fc_array *index)
    fc_status fc_max_pool_backward(const fc_pool *g, fc_dtype dtype, const fc_array *dy,
                                   fc_index_kind kind, const fc_array *index, const fc_array *dx)
    fc_status fc_sum_pool_forward(const fc_pool *g, fc_dtype dtype, fc_pool_kind kind,
                                  const fc_array *x, const fc_array *y)
    fc_status fc_sum_pool_backward(const fc_pool *g, fc_dtype dtype, fc_pool_kind kind,
                                   const fc_array *dy, const fc_array *dx)
    fc_status fc_unpool(const fc_pool *g, fc_dtype dtype, const fc_array *dy,
                        const fc_array *index, const fc_array *dx, int zeroed)
    void fc_relu(fc_dtype dtype, ptrdiff_t n, const void *x, int relu, void *y)
    void fc_relu_grad(fc_dtype dtype, ptrdiff_t n, const void *dy, const void *x, void *dx)
    void fc_add(fc_dtype dtype, ptrdiff_t n, const void *a, const void *b, int relu, void *y)
    ctypedef struct fc_norm:
        ptrdiff_t N, C, pixels
        int channels_last
        double eps
    fc_status fc_batch_norm(const fc_norm *g, fc_dtype dtype, const void *x, const void *weight,
                            const void *bias, void *mean, void *var, int training, int relu,
                            void *y)
    fc_status fc_batch_norm_grad(const fc_norm *g, fc_dtype dtype, const void *dy, const void *x,
                                 const void *weight, const void *mean, const void *var,
                                 int training, void *dx, void *dweight, void *dbias)
    ctypedef struct fc_sgd:
        double lr, momentum, weight_decay
        int nesterov
    void fc_sgd_step(fc_dtype dtype, const fc_sgd *rule, ptrdiff_t n, const void *g, void *v,
                     void *p)
    ctypedef struct fc_feature:
        const char *name
        int available
    ctypedef struct fc_caches:
        size_t l1d, l2, l3
    const char *fc_compiler()
    ptrdiff_t fc_isa_count()
    const char *fc_isa_name(ptrdiff_t i)
    int fc_isa_available(ptrdiff_t i)
    const char *fc_isa()
    fc_status fc_set_isa(const char *name)
    const fc_feature *fc_cpu_features(ptrdiff_t *count)
    const fc_caches *fc_cpu_caches()
    void fc_set_cpu_caches(const fc_caches *sizes)
    int fc_default_threads()
    int fc_get_num_threads()
    void fc_set_num_threads(int threads)
    void *fc_result_acquire(size_t bytes)
    void fc_result_release(void *memory)
    void fc_release_memory()
    size_t fc_cached_memory()
    double fc_measure_peak(fc_dtype dtype, int threads, double seconds)
    double fc_measure_bandwidth(int threads, size_t bytes, double seconds)
    double fc_measure_tile(fc_dtype dtype, double seconds)


cdef object _empty = np.empty
cdef object _zeros = np.zeros
cdef object _ndarray = np.ndarray
# malloc maps fresh pages for each array of at least so many bytes (glibc: until it has seen larger
# ones), and every page costs a fault.
cdef Py_ssize_t _large = 128 << 10
# Allocators hand out arrays of at least so many bytes as fresh pages (glibc: at the latest), which
# the system zeroes: np.zeros costs nothing over np.empty.
cdef Py_ssize_t _zero_page_bytes = 32 << 20
cdef object _float32 = np.dtype(np.float32)
cdef object _float64 = np.dtype(np.float64)
# the last two ask for one of the tiles of Winograd's algorithm, for tests
cdef dict _algos = {"auto": FC_AUTO, "gemm": FC_GEMM, "winograd": FC_WINOGRAD,
                    "winograd 4x4": FC_WINOGRAD_4, "winograd 6x6": FC_WINOGRAD_6}
cdef object _index_dtypes = (None, np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64))


# ---- arrays -------------------------------------------------------------------------------------

cdef class View:
    """An array as C sees it: address and element strides, axes in the order of the C interface."""

    cdef Py_buffer buffer
    cdef bint held
    cdef fc_array array
    cdef fc_dtype dtype

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    cdef int take(self, object array, tuple shape, bint writable) except -1:
        PyObject_GetBuffer(
            array, &self.buffer, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
        self.held = True
        if self.buffer.ndim != len(shape):
            raise ValueError(f"an array of shape {shape} was expected, got {array.shape}")
        cdef int i
        for i in range(self.buffer.ndim):
            if self.buffer.shape[i] != <Py_ssize_t>shape[i]:
                raise ValueError(f"an array of shape {shape} was expected, got {array.shape}")
        self.array.data = <char *>self.buffer.buf
        return 0

    cdef bint aligned(self) noexcept:
        cdef Py_ssize_t size = self.buffer.itemsize
        cdef int i
        if <uintptr_t>self.buffer.buf % size:
            return False
        for i in range(self.buffer.ndim):
            if self.buffer.strides[i] % size:
                return False
        return True

    cdef ptrdiff_t stride(self, int axis) noexcept:
        return self.buffer.strides[axis] // self.buffer.itemsize


cdef fc_dtype _dtype_of(View view) except *:
    cdef char kind = view.buffer.format[0]
    if view.buffer.format[1] == 0:
        if kind == c"f":
            return FC_F32
        if kind == c"d":
            return FC_F64
    raise TypeError(f"float32 or float64 was expected, got buffer format {view.buffer.format}")


cdef View _open(object array, tuple shape, bint writable):
    """A view of `array`; C wants elements at their natural alignment, so odd inputs are copied."""
    cdef View view = View()
    view.take(array, shape, writable)
    if not view.aligned():
        if writable:
            raise ValueError("out must be aligned: data and strides in multiples of an element")
        view = View()
        view.take(np.array(array, copy=True, order="C"), shape, False)
    return view


cdef View _image(object array, tuple shape, bint channels_last, bint writable=False):
    """(N, C, D, H, W) strides of an array (N, C, ...) or (N, ..., C) with 1 to 3 spatial axes."""
    cdef View view = _open(array, shape, writable)
    cdef int spatial = view.buffer.ndim - 2, first = 1 if channels_last else 2, i
    view.array.stride[0] = view.stride(0)
    view.array.stride[1] = view.stride(spatial + 1 if channels_last else 1)
    for i in range(3):
        view.array.stride[2 + i] = 0
    for i in range(spatial):
        view.array.stride[5 - spatial + i] = view.stride(first + i)
    return view


cdef View _floats(object array, tuple shape, bint channels_last, bint writable=False):
    cdef View view = _image(array, shape, channels_last, writable)
    view.dtype = _dtype_of(view)
    return view


cdef View _vector(object array, tuple shape, bint writable=False):
    cdef View view = _open(array, shape, writable)
    view.array.stride[0] = view.stride(0)
    view.dtype = _dtype_of(view)
    return view


cdef View _output(object out, tuple shape, bint channels_last):
    return _floats(out, shape, channels_last, True)


cdef class _ResultMemory:
    """What a large array lies in; once the array is gone, a new one finds warm pages here."""

    cdef void *data
    cdef Py_ssize_t bytes

    def __cinit__(self, Py_ssize_t bytes):
        self.bytes = bytes
        self.data = fc_result_acquire(bytes)
        if self.data == NULL:
            raise MemoryError(f"no memory for an array of {bytes} bytes")

    def __dealloc__(self):
        fc_result_release(self.data)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.bytes, False, flags)


cdef object _new(tuple shape, object dtype):
    """An array for a result, like numpy.empty's."""
    cdef Py_ssize_t bytes = dtype.itemsize, size
    for size in shape:
        if size > 0 and bytes > PY_SSIZE_T_MAX // size:
            return _empty(shape, dtype)  # NumPy has words for it
        bytes *= size
    if bytes < _large:
        return _empty(shape, dtype)
    return _ndarray(shape, dtype, _ResultMemory(bytes))


def empty(shape, dtype):
    """An array for a result, in memory that is used again once it is gone."""
    return _new(tuple(shape), np.dtype(dtype))


cdef object _dtype_object(View view):
    return _float32 if view.dtype == FC_F32 else _float64


cdef int _same_dtype(View a, View b) except -1:
    if b is not None and a.dtype != b.dtype:
        raise TypeError("all arrays must have the same dtype, float32 or float64")
    return 0


cdef int _raise_status(fc_status status, object geometry) except -1:
    if status == FC_OK:
        return 0
    message = f"{fc_status_message(status).decode()}: {geometry}"
    if status == FC_NO_MEMORY:
        raise MemoryError(message)
    raise ValueError(message)


# ---- geometry -----------------------------------------------------------------------------------

cdef int _fill_axes(ptrdiff_t *target, tuple values, ptrdiff_t missing) except -1:
    """Right-aligned: a 2-D convolution is a 3-D one of depth 1."""
    cdef int lead = 3 - len(values), i
    for i in range(lead):
        target[i] = missing
    for i in range(lead, 3):
        target[i] = values[i - lead]
    return 0


cdef class Conv:
    """A `_geometry.ConvGeometry` in C's form, made once per shape and kept by its callers."""

    cdef fc_conv c
    cdef readonly object geometry
    cdef readonly tuple x_shape, w_shape, y_shape, cols_shape
    cdef readonly Py_ssize_t N, C, OC
    cdef readonly bint channels_last, suits_winograd

    def __init__(self, geometry):
        self.geometry = geometry
        self.N, self.C, self.OC = geometry.N, geometry.C, geometry.OC
        self.x_shape, self.y_shape = geometry.x_shape, geometry.y_shape
        self.w_shape = geometry.w_shape
        self.channels_last = geometry.channels_last
        self.c.N, self.c.C, self.c.OC = geometry.N, geometry.C, geometry.OC
        self.c.G = geometry.groups
        _fill_axes(self.c.size, geometry.in_size, 1)
        _fill_axes(self.c.kernel, geometry.kernel, 1)
        _fill_axes(self.c.out, geometry.out_size, 1)
        _fill_axes(self.c.stride, geometry.stride, 1)
        _fill_axes(self.c.dilation, geometry.dilation, 1)
        _fill_axes(self.c.pad, geometry.pad_begin, 0)
        _raise_status(fc_conv_check(&self.c), geometry)
        self.suits_winograd = fc_winograd_suits(&self.c)
        taps = self.c.kernel[0] * self.c.kernel[1] * self.c.kernel[2]
        pixels = self.c.out[0] * self.c.out[1] * self.c.out[2]
        self.cols_shape = (self.N, self.C * <object>taps, pixels)


cdef class Pool:
    """A `_geometry.PoolGeometry` in C's form."""

    cdef fc_pool c
    cdef readonly object geometry
    cdef readonly tuple x_shape, y_shape
    cdef readonly bint channels_last
    cdef readonly object offset_dtype
    cdef fc_index_kind offset_kind

    def __init__(self, geometry):
        self.geometry = geometry
        self.x_shape, self.y_shape = geometry.x_shape, geometry.y_shape
        self.channels_last = geometry.channels_last
        self.c.N, self.c.C = geometry.N, geometry.C
        _fill_axes(self.c.size, geometry.in_size, 1)
        _fill_axes(self.c.kernel, geometry.kernel, 1)
        _fill_axes(self.c.out, geometry.out_size, 1)
        _fill_axes(self.c.stride, geometry.stride, 1)
        _fill_axes(self.c.dilation, geometry.dilation, 1)
        _fill_axes(self.c.pad, geometry.pad_begin, 0)
        _fill_axes(self.c.pad_end, geometry.pad_end, 0)
        _raise_status(fc_pool_check(&self.c), geometry)
        cells = self.c.kernel[0] * self.c.kernel[1] * self.c.kernel[2]
        self.offset_kind = FC_INDEX_U8 if cells <= 255 else FC_INDEX_I32
        self.offset_dtype = _index_dtypes[<int>self.offset_kind]


# ---- convolution --------------------------------------------------------------------------------

def conv_forward(Conv g, x, w, b=None, int relu=0, str algo="auto", out=None):
    """y of the convolution; algo is "auto", "gemm", "winograd" or "naive".

    relu is 0, 1 for max(y, 0) or 2 for min(max(y, 0), 6), as in all functions here.
    """
    cdef bint naive = algo == "naive"
    cdef fc_algo code = FC_AUTO if naive else _algos[algo]
    cdef View xv = _floats(x, g.x_shape, g.channels_last)
    cdef View wv = _floats(w, g.w_shape, False)
    cdef View bv = None if b is None else _vector(b, (g.OC,))
    _same_dtype(xv, wv)
    _same_dtype(xv, bv)
    if out is None:
        out = _new(g.y_shape, _dtype_object(xv))
    cdef View yv = _output(out, g.y_shape, g.channels_last)
    _same_dtype(xv, yv)
    cdef fc_array *bias = NULL if bv is None else &bv.array
    cdef fc_status status
    with nogil:
        if naive:
            status = fc_conv_forward_naive(
                &g.c, xv.dtype, &xv.array, &wv.array, bias, &yv.array, relu)
        else:
            status = fc_conv_forward(
                &g.c, xv.dtype, code, &xv.array, &wv.array, bias, &yv.array, relu)
    _raise_status(status, g.geometry)
    return out


def conv_input_grad(Conv g, dy, w, b=None, str algo="auto", out=None):
    """dx of the convolution; with b, the forward pass of the transposed convolution."""
    cdef bint naive = algo == "naive"
    cdef fc_algo code = FC_AUTO if naive else _algos[algo]
    cdef View dyv = _floats(dy, g.y_shape, g.channels_last)
    cdef View wv = _floats(w, g.w_shape, False)
    cdef View bv = None if b is None else _vector(b, (g.C,))
    _same_dtype(dyv, wv)
    _same_dtype(dyv, bv)
    if out is None:
        out = _new(g.x_shape, _dtype_object(dyv))
    cdef View dxv = _output(out, g.x_shape, g.channels_last)
    _same_dtype(dyv, dxv)
    cdef fc_array *bias = NULL if bv is None else &bv.array
    cdef fc_status status
    with nogil:
        if naive:
            status = fc_conv_input_grad_naive(
                &g.c, dyv.dtype, &dyv.array, &wv.array, bias, &dxv.array)
        else:
            status = fc_conv_input_grad(
                &g.c, dyv.dtype, code, &dyv.array, &wv.array, bias, &dxv.array)
    _raise_status(status, g.geometry)
    return out


def conv_input_grad_relu(Conv g, dy, w, x, str algo="auto"):
    """dx for the input of a ReLU that gave x, the convolution's input: a contiguous array."""
    cdef View dyv = _floats(dy, g.y_shape, g.channels_last)
    cdef View wv = _floats(w, g.w_shape, False)
    cdef View xv = _flat(x.reshape(-1), (prod(g.x_shape),))
    _same_dtype(dyv, wv)
    _same_dtype(dyv, xv)
    out = _new(g.x_shape, _dtype_object(dyv))
    cdef View dxv = _output(out, g.x_shape, g.channels_last)
    cdef fc_algo code = _algos[algo]
    cdef fc_status status
    with nogil:
        status = fc_conv_input_grad_relu(
            &g.c, dyv.dtype, code, &dyv.array, &wv.array, xv.array.data, &dxv.array)
    _raise_status(status, g.geometry)
    return out


def conv_weight_grad(Conv g, dy, x, str algo="auto"):
    """dw of the convolution; algo is "auto", "gemm", "winograd" or "naive"."""
    cdef bint naive = algo == "naive"
    cdef fc_algo code = FC_AUTO if naive else _algos[algo]
    cdef View dyv = _floats(dy, g.y_shape, g.channels_last)
    cdef View xv = _floats(x, g.x_shape, g.channels_last)
    _same_dtype(dyv, xv)
    out = _new(g.w_shape, _dtype_object(dyv))
    cdef View dwv = _output(out, g.w_shape, False)
    cdef fc_status status
    with nogil:
        if naive:
            status = fc_conv_weight_grad_naive(
                &g.c, dyv.dtype, &dyv.array, &xv.array, &dwv.array)
        else:
            status = fc_conv_weight_grad(
                &g.c, dyv.dtype, code, &dyv.array, &xv.array, &dwv.array)
    _raise_status(status, g.geometry)
    return out


def bias_grad(Conv g, dy):
    """db: dy summed over images and pixels."""
    cdef View dyv = _floats(dy, g.y_shape, g.channels_last)
    out = _new((g.OC,), _dtype_object(dyv))
    cdef View dbv = _vector(out, (g.OC,), True)
    cdef fc_status status
    with nogil:
        status = fc_bias_grad(&g.c, dyv.dtype, &dyv.array, &dbv.array)
    _raise_status(status, g.geometry)
    return out


def input_bias_grad(Conv g, dx):
    """The transposed convolution's db: the gradient of its output, our x, summed over pixels."""
    cdef View dxv = _floats(dx, g.x_shape, g.channels_last)
    out = _new((g.C,), _dtype_object(dxv))
    cdef View dbv = _vector(out, (g.C,), True)
    cdef fc_conv swapped = g.c
    cdef int i
    swapped.OC, swapped.C = g.c.C, g.c.OC
    for i in range(3):
        swapped.out[i], swapped.size[i] = g.c.size[i], g.c.out[i]
    cdef fc_status status
    with nogil:
        status = fc_bias_grad(&swapped, dxv.dtype, &dxv.array, &dbv.array)
    _raise_status(status, g.geometry)
    return out


def im2col(Conv g, x):
    """The columns (N, C * taps, pixels)."""
    cdef View xv = _floats(x, g.x_shape, g.channels_last)
    cols = _new(g.cols_shape, _dtype_object(xv))
    cdef View cv = _open(cols, g.cols_shape, True)
    cdef fc_status status
    with nogil:
        status = fc_im2col(&g.c, xv.dtype, &xv.array, cv.array.data)
    _raise_status(status, g.geometry)
    return cols


def col2im(Conv g, cols):
    """The image whose pixels are the sums of the columns' cells; cols is made contiguous."""
    cdef View cv = _open(np.ascontiguousarray(cols), g.cols_shape, False)
    cv.dtype = _dtype_of(cv)
    x = _new(g.x_shape, _dtype_object(cv))
    cdef View xv = _output(x, g.x_shape, g.channels_last)
    cdef fc_status status
    with nogil:
        status = fc_col2im(&g.c, cv.dtype, cv.array.data, &xv.array)
    _raise_status(status, g.geometry)
    return x


cdef View _flat(object array, tuple shape, bint writable=False):
    cdef View view = _open(array, shape, writable)
    view.dtype = _dtype_of(view)
    return view


def relu(x, int relu=1, out=None):
    """max(x, 0), or min(max(x, 0), 6), of a contiguous array of one axis. `out` may be x."""
    cdef View xv = _flat(x, x.shape)
    y = _new(x.shape, _dtype_object(xv)) if out is None else out
    cdef View yv = _flat(y, x.shape, True)
    _same_dtype(xv, yv)
    with nogil:
        fc_relu(xv.dtype, xv.buffer.shape[0], xv.array.data, relu, yv.array.data)
    return y


def relu_grad(dy, x, out=None):
    """dy where x is not 0 or less, else 0; contiguous arrays of one axis. `out` may be dy."""
    cdef View dyv = _flat(dy, x.shape), xv = _flat(x, x.shape)
    _same_dtype(dyv, xv)
    dx = _new(x.shape, _dtype_object(dyv)) if out is None else out
    cdef View dxv = _flat(dx, x.shape, True)
    _same_dtype(dyv, dxv)
    with nogil:
        fc_relu_grad(
            dyv.dtype, dyv.buffer.shape[0], dyv.array.data, xv.array.data, dxv.array.data)
    return dx


def add(a, b, int relu=0, out=None):
    """a + b, rectified if so asked, of contiguous arrays of one axis. `out` may be a or b."""
    cdef View av = _flat(a, a.shape), bv = _flat(b, a.shape)
    _same_dtype(av, bv)
    y = _new(a.shape, _dtype_object(av)) if out is None else out
    cdef View yv = _flat(y, a.shape, True)
    _same_dtype(av, yv)
    with nogil:
        fc_add(
            av.dtype, av.buffer.shape[0], av.array.data, bv.array.data, relu, yv.array.data)
    return y


# ---- batch normalization ------------------------------------------------------------------------

cdef fc_norm _norm(View x, bint channels_last, double eps) noexcept:
    cdef fc_norm g
    cdef int i, first = 1 if channels_last else 2, channel
    channel = x.buffer.ndim - 1 if channels_last else 1
    g.N, g.C, g.pixels = x.buffer.shape[0], x.buffer.shape[channel], 1
    for i in range(first, first + x.buffer.ndim - 2):
        g.pixels *= x.buffer.shape[i]
    g.channels_last, g.eps = channels_last, eps
    return g


cdef View _dense(object array, tuple shape, View like, bint writable=False):
    """A contiguous array of the shape and of the other one's dtype; None where there is none."""
    if array is None:
        return None
    if not array.flags.c_contiguous:
        raise ValueError("a contiguous array was expected")
    cdef View view = _flat(array, shape, writable)
    if like is not None:
        _same_dtype(like, view)
    return view


cdef void *_address(View view) noexcept nogil:
    return NULL if view is None else view.array.data


def batch_norm(x, weight, bias, mean, var, bint training, double eps, bint channels_last,
               int relu):
    """y of contiguous arrays; mean and var are set if training. weight and bias may be None."""
    cdef View xv = _dense(x, x.shape, None)
    cdef fc_norm g = _norm(xv, channels_last, eps)
    cdef tuple vector = (g.C,)
    cdef View wv = _dense(weight, vector, xv), bv = _dense(bias, vector, xv)
    cdef View mv = _dense(mean, vector, xv, training), vv = _dense(var, vector, xv, training)
    y = _new(x.shape, _dtype_object(xv))
    cdef View yv = _dense(y, x.shape, xv, True)
    cdef fc_status status
    with nogil:
        status = fc_batch_norm(
            &g, xv.dtype, xv.array.data, _address(wv), _address(bv), _address(mv), _address(vv),
            training, relu, yv.array.data)
    _raise_status(status, f"batch_norm of {x.shape}")
    return y


def batch_norm_grad(dy, x, weight, mean, var, bint training, double eps, bint channels_last,
                    bint need_dx):
    """(dx or None, dweight, dbias) of contiguous arrays; weight may be None."""
    cdef View xv = _dense(x, x.shape, None)
    cdef View dyv = _dense(dy, x.shape, xv)
    cdef fc_norm g = _norm(xv, channels_last, eps)
    cdef tuple vector = (g.C,)
    cdef View wv = _dense(weight, vector, xv)
    cdef View mv = _dense(mean, vector, xv), vv = _dense(var, vector, xv)
    dtype = _dtype_object(xv)
    dx = _new(x.shape, dtype) if need_dx else None
    dweight, dbias = _empty(vector, dtype), _empty(vector, dtype)
    cdef View dxv = _dense(dx, x.shape, xv, True)
    cdef View dwv = _dense(dweight, vector, xv, True), dbv = _dense(dbias, vector, xv, True)
    cdef fc_status status
    with nogil:
        status = fc_batch_norm_grad(
            &g, xv.dtype, dyv.array.data, xv.array.data, _address(wv), _address(mv), _address(vv),
            training, _address(dxv), dwv.array.data, dbv.array.data)
    _raise_status(status, f"batch_norm_backward of {x.shape}")
    return dx, dweight, dbias


def sgd_step(p, g, v, double lr, double momentum, double weight_decay, bint nesterov):
    """A step of stochastic gradient descent: p, and v unless it is None, change in place.

    Contiguous arrays of one axis.
    """
    cdef View pv = _flat(p, p.shape, True), gv = _flat(g, p.shape)
    cdef View vv = None if v is None else _flat(v, p.shape, True)
    _same_dtype(pv, gv)
    _same_dtype(pv, vv)
    cdef void *direction = NULL if vv is None else vv.array.data
    cdef fc_sgd rule
    rule.lr, rule.momentum, rule.weight_decay = lr, momentum, weight_decay
    rule.nesterov = nesterov
    with nogil:
        fc_sgd_step(
            pv.dtype, &rule, pv.buffer.shape[0], gv.array.data, direction, pv.array.data)


def conv_plan(Conv g, dtype):
    """What "auto" takes and what it costs; the blocking of the GEMM with contiguous weights."""
    cdef fc_conv_plan plan
    cdef fc_dtype code = FC_F32 if dtype == np.float32 else FC_F64
    cdef ptrdiff_t row = g.c.C // g.c.G * g.c.kernel[0] * g.c.kernel[1] * g.c.kernel[2]
    cdef fc_choice choice = fc_choose_algo(&g.c, code, FC_AUTO, False)
    _raise_status(fc_plan_conv(&g.c, code, g.channels_last, row, &plan), g.geometry)
    return _describe(choice, plan, fc_lanes(code))


cdef dict _describe(fc_choice choice, fc_conv_plan plan, ptrdiff_t lanes):
    """Costs are in multiply-adds at the peak rate; below 0 where an algorithm does not suit."""
    return {
        "algorithm": "winograd" if choice.algo in (FC_WINOGRAD_4, FC_WINOGRAD_6)
                     else "depthwise" if choice.depthwise else "gemm",
        "multiply_adds": plan.multiply_adds,
        "threads": plan.threads,
        "gemm": {
            "cost": plan.cost * lanes,
            "workspace_bytes": plan.workspace_bytes,
            "tile": (plan.oc_panel, plan.pixel_panel),
            "sum_block": (plan.channel_block, plan.tap_block),
            "pixel_block": plan.pixel_block,
            "oc_block": plan.oc_block,
        },
        "winograd": {
            "cost": choice.winograd_cost * lanes,
            "workspace_bytes": choice.winograd_bytes,
            "tile": (choice.winograd_tile[0], choice.winograd_tile[1]),
            "tile_outputs": choice.tile_outputs,
            # the taps of filters this small are one block in the GEMM, too
            "sum_block": (choice.winograd_channels, plan.tap_block),
        },
    }


# ---- prepared convolution -----------------------------------------------------------------------

cdef class PreparedConv:
    """A convolution of one shape with packed filters; a call takes x, which must suit g, and out.

    `forms` holds the filters in the forms made so far, by number. All shapes share it; what this
    shape needs is added to it. Forms are made for one instruction set: once another is in use, the
    object is `stale`, and so is `forms`.
    """

    cdef readonly Conv g
    cdef fc_preparation how
    cdef fc_dtype dtype
    cdef const char *isa
    cdef View w, b, packed
    cdef char *filters
    cdef int relu

    def __init__(self, Conv g, w, b, int relu, str algo, dict forms):
        self.g, self.relu, self.isa = g, relu, fc_isa()
        self.w = _floats(w, g.w_shape, False)
        self.b = None if b is None else _vector(b, (g.OC,))
        _same_dtype(self.w, self.b)
        self.dtype = self.w.dtype
        cdef fc_status status = fc_prepare(
            &g.c, self.dtype, _algos[algo], g.channels_last, &self.how)
        _raise_status(status, g.geometry)
        if self.how.form != FC_FORM_PLAIN:
            self._pack(forms)

    cdef int _pack(self, dict forms) except -1:
        cdef int form = self.how.form
        cdef bint known = form in forms
        cdef fc_status status
        # room to start at a cache line
        memory = forms[form] if known else _empty((self.how.packed_bytes + 63,), _index_dtypes[1])
        self.packed = _open(memory, memory.shape, True)
        self.filters = <char *>((<uintptr_t>self.packed.array.data + 63) & ~<uintptr_t>63)
        if known:
            return 0
        with nogil:
            status = fc_pack_filters(
                &self.g.c, self.dtype, self.how.form, &self.w.array, self.filters)
        _raise_status(status, self.g.geometry)
        forms[form] = memory
        return 0

    def __call__(self, x, out=None):
        cdef Conv g = self.g
        cdef View xv = _floats(x, g.x_shape, g.channels_last)
        _same_dtype(self.w, xv)
        if out is None:
            out = _new(g.y_shape, _dtype_object(xv))
        cdef View yv = _output(out, g.y_shape, g.channels_last)
        _same_dtype(self.w, yv)
        cdef fc_array *bias = NULL if self.b is None else &self.b.array
        cdef fc_status status
        with nogil:
            if self.how.form == FC_FORM_PLAIN:
                status = fc_conv_forward(
                    &g.c, self.dtype, FC_GEMM, &xv.array, &self.w.array, bias, &yv.array,
                    self.relu)
            else:
                status = fc_conv_prepared(
                    &g.c, self.dtype, self.how.form, self.filters, &xv.array, bias, &yv.array,
                    self.relu)
        _raise_status(status, g.geometry)
        return out

    @property
    def stale(self):
        return self.isa != fc_isa()

    def plan(self):
        """What a call does, as `conv_plan` tells it."""
        return _describe(self.how.choice, self.how.plan, fc_lanes(self.dtype))


# ---- pooling ------------------------------------------------------------------------------------

def max_pool(Pool g, x, bint offsets=False, bint indices=False):
    """(y, None), (y, window offsets) or (y, int64 plane indices)."""
    cdef View xv = _floats(x, g.x_shape, g.channels_last)
    y = _new(g.y_shape, _dtype_object(xv))
    cdef View yv = _output(y, g.y_shape, g.channels_last)
    cdef fc_index_kind kind = FC_INDEX_NONE
    if offsets:
        kind = g.offset_kind
    elif indices:
        kind = FC_INDEX_PLANE
    index = None
    cdef View iv = yv
    if kind != FC_INDEX_NONE:
        index = _new(g.y_shape, _index_dtypes[<int>kind])
        iv = _image(index, g.y_shape, g.channels_last, True)
    cdef fc_status status
    with nogil:
        status = fc_max_pool_forward(&g.c, xv.dtype, &xv.array, &yv.array, kind, &iv.array)
    _raise_status(status, g.geometry)
    return y, index


def max_pool_backward(Pool g, dy, offsets):
    """dx from window offsets of g.offset_dtype."""
    cdef View dyv = _floats(dy, g.y_shape, g.channels_last)
    cdef View iv = _image(_index_array(offsets, g.offset_dtype), g.y_shape, g.channels_last)
    dx = _new(g.x_shape, _dtype_object(dyv))
    cdef View dxv = _output(dx, g.x_shape, g.channels_last)
    cdef fc_status status
    with nogil:
        status = fc_max_pool_backward(
            &g.c, dyv.dtype, &dyv.array, g.offset_kind, &iv.array, &dxv.array)
    _raise_status(status, g.geometry)
    return dx


def unpool(Pool g, dy, indices):
    """dx from int64 plane indices; an index outside its plane is a ValueError."""
    cdef View dyv = _floats(dy, g.y_shape, g.channels_last)
    cdef View iv = _image(_index_array(indices, _index_dtypes[3]), g.y_shape, g.channels_last)
    cdef bint zeroed = prod(g.x_shape) * dyv.buffer.itemsize >= _zero_page_bytes
    dx = (_zeros if zeroed else _new)(g.x_shape, _dtype_object(dyv))
    cdef View dxv = _output(dx, g.x_shape, g.channels_last)
    cdef fc_status status
    with nogil:
        status = fc_unpool(&g.c, dyv.dtype, &dyv.array, &iv.array, &dxv.array, zeroed)
    _raise_status(status, g.geometry)
    return dx


cdef object _index_array(object array, object dtype):
    if array.dtype != dtype or not array.dtype.isnative:
        raise TypeError(f"indices of dtype {dtype} were expected, got {array.dtype}")
    return array


cdef fc_pool_kind _sum_kind(object kind) except *:
    if kind == "sum":
        return FC_POOL_SUM
    return FC_POOL_AVERAGE if kind == "average" else FC_POOL_AVERAGE_VALID


def sum_pool(Pool g, x, kind):
    """Windows summed ("sum"), or averaged over all ("average") or image cells ("average_valid")."""
    cdef View xv = _floats(x, g.x_shape, g.channels_last)
    y = _new(g.y_shape, _dtype_object(xv))
    cdef View yv = _output(y, g.y_shape, g.channels_last)
    cdef fc_pool_kind sum_kind = _sum_kind(kind)
    cdef fc_status status
    with nogil:
        status = fc_sum_pool_forward(&g.c, xv.dtype, sum_kind, &xv.array, &yv.array)
    _raise_status(status, g.geometry)
    return y


def sum_pool_backward(Pool g, dy, kind):
    """dx of `sum_pool`."""
    cdef View dyv = _floats(dy, g.y_shape, g.channels_last)
    dx = _new(g.x_shape, _dtype_object(dyv))
    cdef View dxv = _output(dx, g.x_shape, g.channels_last)
    cdef fc_pool_kind sum_kind = _sum_kind(kind)
    cdef fc_status status
    with nogil:
        status = fc_sum_pool_backward(&g.c, dyv.dtype, sum_kind, &dyv.array, &dxv.array)
    _raise_status(status, g.geometry)
    return dx


# ---- machine ------------------------------------------------------------------------------------

def available_isas():
    """Instruction sets that are compiled in and that this processor has, narrowest first."""
    return tuple(
        fc_isa_name(i).decode() for i in range(fc_isa_count()) if fc_isa_available(i))


def isa():
    """The instruction set in use."""
    return fc_isa().decode()


def set_isa(name):
    """Switch the instruction set; for tests, not while another thread computes."""
    cdef bytes encoded = name.encode()
    if fc_set_isa(encoded) != FC_OK:
        raise ValueError(f"the instruction set {name!r} is not one of {available_isas()}")


def cpu_features():
    cdef ptrdiff_t count, i
    cdef const fc_feature *features = fc_cpu_features(&count)
    return {features[i].name.decode(): bool(features[i].available) for i in range(count)}


def cpu_caches():
    cdef const fc_caches *caches = fc_cpu_caches()
    return {"l1d": caches.l1d, "l2": caches.l2, "l3": caches.l3}


def set_cpu_caches(size_t l1d, size_t l2, size_t l3):
    """For tests: plan as on a processor with these caches, bytes; not while others compute."""
    cdef fc_caches sizes
    sizes.l1d, sizes.l2, sizes.l3 = l1d, l2, l3
    fc_set_cpu_caches(&sizes)


def get_num_threads():
    return fc_get_num_threads()


def set_num_threads(int threads):
    fc_set_num_threads(threads)


def default_threads():
    return fc_default_threads()


def release_memory():
    with nogil:
        fc_release_memory()


def cached_memory():
    return fc_cached_memory()


def measure_peak(dtype, int threads, double seconds):
    """Floating-point operations per second of FMAs in registers, all threads together."""
    cdef fc_dtype code = FC_F32 if np.dtype(dtype) == _float32 else FC_F64
    cdef double result
    with nogil:
        result = fc_measure_peak(code, threads, seconds)
    return result


def measure_bandwidth(int threads, size_t bytes, double seconds):
    """Bytes per second of a copy, read and written bytes both counted."""
    cdef double result
    with nogil:
        result = fc_measure_bandwidth(threads, bytes, seconds)
    return result


def measure_tile(dtype, double seconds):
    """Floating-point operations per second of the GEMM tile, one thread, operands in L2."""
    cdef fc_dtype code = FC_F32 if np.dtype(dtype) == _float32 else FC_F64
    cdef double result
    with nogil:
        result = fc_measure_tile(code, seconds)
    return result


version = FC_VERSION.decode()
compiler = fc_compiler().decode()


def _choose_isa():
    name = os.environ.get("FASTCONV_ISA")
    if name and name not in available_isas():
        raise ImportError(
            f"FASTCONV_ISA={name!r} is not available here; valid values: "
            + ", ".join(available_isas()))
    if name:
        set_isa(name)


_choose_isa()
