/* SPDX-License-Identifier: BSD-3-Clause
 * What both directions of pooling share: windows as taps along rows, and a small cache of rows
 * laid out for that, so that overlapping windows do not lay the same row out again. */
#ifndef FASTCONV_POOL_ROWS_H
#define FASTCONV_POOL_ROWS_H

#include "internal.h"

typedef struct {
    fc_pool g;
    fc_array x, y, index; /* image side, window side (values or gradients, and their indices) */
    const fc_kernels *t;
    fc_index_kind index_kind;
    int is_max;
    fc_pool_kind sum_kind;
    int channels_last;     /* taps run over channels, not over the windows of a row */
    ptrdiff_t itemsize, extent, phase_stride;
    double *scale[FC_SPATIAL]; /* 1 / cells of window i along the axis */
    char *scratch;
    size_t slot_bytes;
} pool_job;

/* Rows needed at the same time along one axis: consecutive ones fall into different slots. */
typedef struct {
    ptrdiff_t slots[2]; /* depth, height */
    ptrdiff_t *tags;    /* which row a slot holds, -1 for none */
    char *data;
    ptrdiff_t row_bytes;
} row_cache;

size_t fc_row_cache_bytes(const ptrdiff_t slots[2], ptrdiff_t row_bytes);
/* Carves a cache out of `memory`; returns the memory behind it. */
char *fc_row_cache_init(row_cache *cache, const ptrdiff_t slots[2], ptrdiff_t row_bytes,
                        char *memory);
void fc_row_cache_clear(row_cache *cache);
/* The slot for row (d, h) of an image `height` rows high; *fresh tells that it must be filled. */
char *fc_row_cache_slot(row_cache *cache, ptrdiff_t d, ptrdiff_t h, ptrdiff_t height, int *fresh);

/* Fills what pool_job derives from geometry and arrays. */
fc_status fc_pool_prepare(pool_job *job, fc_dtype dtype);
size_t fc_pool_scale_bytes(const fc_pool *g);
void fc_pool_fill_scale(pool_job *job, char *memory);

/* Number of a kernel cell, counted over the kernel. */
static inline int32_t fc_pool_cell(const fc_pool *g, ptrdiff_t kd, ptrdiff_t kh, ptrdiff_t kw) {
    return (int32_t)((kd * g->kernel[1] + kh) * g->kernel[2] + kw);
}

#endif
