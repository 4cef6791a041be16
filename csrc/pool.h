/* SPDX-License-Identifier: BSD-3-Clause
 * What both directions of pooling share. */
#ifndef FASTCONV_POOL_H
#define FASTCONV_POOL_H

#include "window_rows.h"

/* Which windows cover position i of an axis of dx: first[i], first[i] + step, ... below last[i]. */
typedef struct {
    int32_t *first, *last;
    ptrdiff_t step;
} fc_pool_cover;

typedef struct {
    fc_windows w;
    fc_pool g;
    fc_array x, y, index; /* image side, window side (values or gradients, and their indices) */
    const fc_kernels *t;
    fc_index_kind index_kind;
    int is_max;
    fc_pool_kind sum_kind;
    int channels_last; /* taps are the channel vectors of pixels, not runs along rows */
    ptrdiff_t itemsize;
    double *scale[FC_SPATIAL]; /* 1 / cells of window i along the axis */
    int32_t *first;            /* first cell of window i along the width inside the image; then the
                                  last ones plus one */
    fc_pool_cover cover[FC_SPATIAL];
    int spreads;      /* a gradient that needs `cover`, not `first` */
    ptrdiff_t planes; /* planes of a task that scatters or spreads */
    ptrdiff_t band;   /* what a task takes along the first axis: windows, or rows of dx */
    char *scratch;
    size_t slot_bytes;
} fc_pool_job;

/* Fills what follows from geometry and arrays. */
fc_status fc_pool_prepare(fc_pool_job *job, fc_dtype dtype);

/* Element `at` of the index array. */
static inline void *fc_pool_index_at(const fc_pool_job *job, ptrdiff_t at) {
    static const ptrdiff_t bytes[] = {
        [FC_INDEX_U8] = 1, [FC_INDEX_I32] = sizeof(int32_t), [FC_INDEX_PLANE] = sizeof(int64_t)};
    return job->index.data + at * bytes[job->index_kind];
}

static inline int fc_pool_is_plain(const fc_array *a, const ptrdiff_t size[FC_SPATIAL]) {
    return a->stride[4] == 1 && fc_is_dense(a, size);
}

/* Tasks are bands along the first axis that has any length. */
static inline int fc_pool_band_axis(const fc_pool *g) {
    return g->in[0] > 1 || g->out[0] > 1 ? 0 : 1;
}

/* Images of one plane after the other are a single image with all of them. */
void fc_pool_merge_images(fc_pool_job *job);

/* Threads worth waking: an element moved takes as long as some 8 multiply-adds. */
int fc_pool_threads(const fc_pool *g);

/* Takes scratch memory, `slot_bytes` for each thread, and runs the tasks. */
fc_status fc_pool_run(fc_pool_job *job, ptrdiff_t tasks, fc_task task);

/* Maps too narrow for vectors along their rows (pool_planes.c), and whether this is one. */
int fc_pool_suits_planes(const fc_pool_job *job);
fc_status fc_pool_forward_planes(fc_pool_job *job);

/* Max pooling of windows two wide and side by side (pool_pairs.c), and whether these are such. */
int fc_pool_suits_pairs(const fc_pool_job *job);
fc_status fc_pool_forward_pairs(fc_pool_job *job);

/* Max pooling's gradient scattered (pool_scatter.c), and whether that suits. */
int fc_pool_suits_scatter(const fc_pool_job *job);
fc_status fc_pool_scatter(fc_pool_job *job);

/* The gradient of averages and sums (pool_spread.c). */
fc_status fc_pool_spread(fc_pool_job *job);

#endif
