/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of a convolution with respect to its bias: dy summed over pixels and images. */
#include "internal.h"

/* A task takes at most so many channels; of planes no more than make long runs of memory, so that all
 * threads have some of 32 channels. */
enum { BIAS_BLOCK = 64, BIAS_BYTES = 8192 };

typedef struct {
    const fc_conv *g;
    const fc_array *dy, *db;
    const fc_kernels *t;
    ptrdiff_t block;
} bias_job;

static void bias_task(void *context, ptrdiff_t task, int slot) {
    const bias_job *job = context;
    const fc_conv *g = job->g;
    const ptrdiff_t first = task * job->block, channels = FC_MIN(job->block, g->OC - first);
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
    const ptrdiff_t plane = fc_volume(g->out) * (ptrdiff_t)fc_table(dtype)->itemsize;
    const ptrdiff_t block =
        tidy.stride[1] == 1 ? BIAS_BLOCK : FC_MIN(BIAS_BLOCK, fc_ceil_div(BIAS_BYTES, plane));
    bias_job job = {.g = g, .dy = &tidy, .db = db, .t = fc_table(dtype), .block = block};
    fc_parallel_for(fc_threads_for((double)g->N * (double)g->OC * (double)fc_volume(g->out)),
                    fc_ceil_div(g->OC, block), bias_task, &job);
    return FC_OK;
}
