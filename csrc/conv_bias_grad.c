/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of a convolution with respect to its bias: dy summed over images and pixels. Tasks take
 * images, as whole as they lie in memory, and blocks of channels only where images are few; what
 * they found is added in the order of the tasks. */
#include "internal.h"

/* For each thread, so that one that is late leaves some to others. */
enum { TASKS = 4 };

typedef struct {
    const fc_conv *g;
    const fc_array *dy;
    const fc_kernels *t;
    ptrdiff_t images, channels; /* of a task */
    ptrdiff_t blocks;           /* tasks that share images */
    double *sums;               /* [part of the images][channel] */
} bias_job;

static void bias_task(void *context, ptrdiff_t task, int slot) {
    const bias_job *job = context;
    const fc_conv *g = job->g;
    const ptrdiff_t part = task / job->blocks, first = task % job->blocks * job->channels;
    const ptrdiff_t channels = FC_MIN(job->channels, g->OC - first);
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *stride = job->dy->stride;
    const int dense = fc_is_dense(job->dy, g->out);
    const ptrdiff_t rows = dense ? 1 : g->out[0] * g->out[1];
    double *sums = job->sums + part * g->OC + first;
    (void)slot;
    for (ptrdiff_t c = 0; c < channels; c++)
        sums[c] = 0;
    for (ptrdiff_t n = part * job->images; n < FC_MIN((part + 1) * job->images, g->N); n++)
        for (ptrdiff_t row = 0; row < rows; row++)
            job->t->sum_rows(channels, dense ? fc_volume(g->out) : g->out[2],
                             fc_at(job->dy, job->t->itemsize, n, first) +
                                 (row / g->out[1] * stride[2] + row % g->out[1] * stride[3]) *
                                     itemsize,
                             stride[1], stride[4], sums);
}

fc_status fc_bias_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy, const fc_array *db) {
    const fc_status status = fc_conv_check(g);
    if (status)
        return status;
    fc_array tidy = *dy;
    fc_tidy_width(&tidy, g->out);
    const int threads = fc_threads_for((double)g->N * (double)g->OC * (double)fc_volume(g->out));
    const ptrdiff_t tasks = threads > 1 ? TASKS * threads : 1;
    bias_job job = {.g = g, .dy = &tidy, .t = fc_table(dtype)};
    job.images = FC_MAX(1, fc_ceil_div(g->N, tasks));
    const ptrdiff_t parts = FC_MAX(1, fc_ceil_div(g->N, job.images));
    job.channels = fc_ceil_div(g->OC, fc_ceil_div(tasks, parts));
    job.blocks = fc_ceil_div(g->OC, job.channels);
    job.sums = fc_workspace_acquire((size_t)(parts * g->OC) * sizeof *job.sums);
    if (!job.sums)
        return FC_NO_MEMORY;
    fc_parallel_for(threads, parts * job.blocks, bias_task, &job);
    for (ptrdiff_t c = 0; c < g->OC; c++) {
        double sum = 0;
        for (ptrdiff_t part = 0; part < parts; part++)
            sum += job.sums[part * g->OC + c];
        job.t->fill(1, sum, db->data + c * db->stride[0] * (ptrdiff_t)job.t->itemsize, 1);
    }
    fc_workspace_release(job.sums);
    return FC_OK;
}
