/* SPDX-License-Identifier: BSD-3-Clause
 * What both directions of pooling share. */
#ifndef FASTCONV_POOL_H
#define FASTCONV_POOL_H

#include "window_rows.h"

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
    char *scratch;
    size_t slot_bytes;
} fc_pool_job;

/* Fills what follows from geometry and arrays. */
fc_status fc_pool_prepare(fc_pool_job *job, fc_dtype dtype);

/* Takes scratch memory, `slot_bytes` for each thread, and runs the task over planes (n, c), or
 * with channels last over the image rows of one side, `rows` (depth, height, ...). */
fc_status fc_pool_run(fc_pool_job *job, fc_task plane_task, fc_task row_task,
                      const ptrdiff_t rows[FC_SPATIAL]);

#endif
