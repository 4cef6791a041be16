/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of a convolution with respect to its bias: dy summed over pixels and images. */
#include "internal.h"

enum { BIAS_BLOCK = 64 };

typedef struct {
    const fc_conv *g;
    const fc_array *dy, *db;
    const fc_kernels *t;
} bias_job;

static void bias_task(void *context, ptrdiff_t task, int slot) {
    const bias_job *job = context;
    const fc_conv *g = job->g;
    const ptrdiff_t first = task * BIAS_BLOCK, channels = FC_MIN(BIAS_BLOCK, g->OC - first);
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *stride = job->dy->stride;
    const int dense = fc_is_dense(job->dy, g->out);
    const ptrdiff_t rows = dense ? 1 : g->out[0] * g->out[1];
    double sums[BIAS_BLOCK] = {0};
    (void)slot;
    for (ptrdiff_t n = 0; n < g->N; n++)
        for (ptrdiff_t row = 0; row < rows; row++)
            job->t->sum_rows(channels, dense ? fc_volume(g->out) : g->out[2],
                             fc_at(job->dy, job->t->itemsize, n, first) +
                                 (row / g->out[1] * stride[2] + row % g->out[1] * stride[3]) *
                                     itemsize,
                             stride[1], stride[4], sums);
    for (ptrdiff_t c = 0; c < channels; c++)
        job->t->fill(1, sums[c], job->db->data + (first + c) * job->db->stride[0] * itemsize, 1);
}

fc_status fc_bias_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy, const fc_array *db) {
    const fc_status status = fc_conv_check(g);
    if (status)
        return status;
    fc_array tidy = *dy;
    fc_tidy_width(&tidy, g->out);
    bias_job job = {.g = g, .dy = &tidy, .db = db, .t = fc_table(dtype)};
    fc_parallel_for(fc_threads_for((double)g->N * (double)g->OC * (double)fc_volume(g->out)),
                    fc_ceil_div(g->OC, BIAS_BLOCK), bias_task, &job);
    return FC_OK;
}
