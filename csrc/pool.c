/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool.h"

fc_status fc_pool_prepare(fc_pool_job *job, fc_dtype dtype) {
    const fc_pool *g = &job->g;
    const fc_status status = fc_pool_check(g);
    if (status)
        return status;
    fc_limit_strides(g->in, g->out, job->g.stride);
    job->t = fc_table(dtype);
    job->itemsize = (ptrdiff_t)job->t->itemsize;
    fc_tidy_width(&job->x, g->in);
    fc_tidy_width(&job->y, g->out);
    job->channels_last = job->x.stride[1] == 1 && job->y.stride[1] == 1 && g->C > 1 &&
                         !(job->x.stride[4] == 1 && g->in[2] > 1);
    fc_windows_init(&job->w, g, &job->x, job->t);
    /* cells are 32-bit numbers inside the kernels, plane offsets within a window likewise */
    ptrdiff_t reach = 0;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        if (!fc_multiply(&reach, g->in[axis]) ||
            __builtin_add_overflow(reach, (g->kernel[axis] - 1) * g->dilation[axis], &reach))
            return FC_OVERFLOW;
    if (fc_volume(g->kernel) > INT32_MAX || reach > INT32_MAX)
        return FC_OVERFLOW;
    if (job->index_kind == FC_INDEX_U8 && fc_volume(g->kernel) > 255)
        return FC_BAD_GEOMETRY;
    return FC_OK;
}

static int is_mergeable(const fc_array *a, ptrdiff_t C) {
    return a->stride[0] == C * a->stride[1];
}

void fc_pool_merge_images(fc_pool_job *job) {
    fc_pool *g = &job->g;
    const int has_index = job->is_max && job->index_kind != FC_INDEX_NONE;
    if (g->N == 1 || !is_mergeable(&job->x, g->C) || !is_mergeable(&job->y, g->C) ||
        (has_index && !is_mergeable(&job->index, g->C)))
        return;
    g->C *= g->N;
    g->N = 1;
}

static size_t scale_bytes(const fc_pool *g) {
    return fc_align((size_t)(g->out[0] + g->out[1] + g->out[2]) * sizeof(double));
}

static size_t range_bytes(const fc_pool *g) {
    return fc_align((size_t)g->out[2] * 2 * sizeof(int32_t));
}

static size_t cover_bytes(const fc_pool *g) {
    return fc_align((size_t)(g->in[0] + g->in[1] + g->in[2]) * 2 * sizeof(int32_t));
}

/* Cells of window `out` along an axis that count in an average. */
static ptrdiff_t counted_cells(const fc_pool *g, int axis, ptrdiff_t out, fc_pool_kind kind) {
    const ptrdiff_t start = out * g->stride[axis] - g->pad[axis];
    ptrdiff_t first, last;
    if (kind == FC_POOL_AVERAGE_VALID)
        fc_valid_range(start, g->dilation[axis], g->kernel[axis], g->in[axis], &first, &last);
    else
        fc_valid_range(start + g->pad[axis], g->dilation[axis], g->kernel[axis],
                       g->in[axis] + g->pad[axis] + g->pad_end[axis], &first, &last);
    return FC_MAX(1, last - first);
}

static void fill_scale(fc_pool_job *job, char *memory) {
    double *next = (double *)memory;
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        job->scale[axis] = next;
        next += job->g.out[axis];
        for (ptrdiff_t i = 0; i < job->g.out[axis]; i++)
            job->scale[axis][i] =
                job->sum_kind == FC_POOL_SUM
                    ? 1.0
                    : 1.0 / (double)counted_cells(&job->g, axis, i, job->sum_kind);
    }
}

static void fill_range(fc_pool_job *job, char *memory) {
    const fc_pool *g = &job->g;
    job->first = (int32_t *)memory;
    for (ptrdiff_t i = 0; i < g->out[2]; i++) {
        ptrdiff_t first, last;
        fc_valid_range(i * g->stride[2] - g->pad[2], g->dilation[2], g->kernel[2], g->in[2], &first,
                       &last);
        job->first[i] = (int32_t)first;
        job->first[g->out[2] + i] = (int32_t)last;
    }
}

/* Windows `o` with i + pad = o*stride + k*dilation for some cell k; those of one i are all `step`
 * apart, for so many strides are a multiple of the dilation. */
static void fill_cover(fc_pool_job *job, char *memory) {
    const fc_pool *g = &job->g;
    int32_t *next = (int32_t *)memory;
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        const ptrdiff_t S = g->stride[axis], D = g->dilation[axis];
        const ptrdiff_t reach = (g->kernel[axis] - 1) * D, in = g->in[axis];
        const ptrdiff_t step = D / fc_gcd(S, D);
        job->cover[axis] = (fc_pool_cover){.first = next, .last = next + in, .step = step};
        next += 2 * in;
        for (ptrdiff_t i = 0; i < in; i++) {
            const ptrdiff_t at = i + g->pad[axis], last = FC_MIN(at / S + 1, g->out[axis]);
            ptrdiff_t first = at > reach ? fc_ceil_div(at - reach, S) : 0;
            while (first < last && (at - first * S) % D != 0)
                first++;
            job->cover[axis].first[i] = (int32_t)FC_MIN(first, last);
            job->cover[axis].last[i] = (int32_t)last;
        }
    }
}

int fc_pool_threads(const fc_pool *g) {
    const double moved = (double)fc_volume(g->in) + (double)fc_volume(g->out);
    return fc_threads_for(8 * (double)g->N * (double)g->C * moved);
}

fc_status fc_pool_run(fc_pool_job *job, ptrdiff_t tasks, fc_task task) {
    const fc_pool *g = &job->g;
    if (tasks == 0)
        return FC_OK;
    const int threads = fc_pool_threads(g);
    const size_t shared = scale_bytes(g) + (job->spreads ? cover_bytes(g) : range_bytes(g));
    char *memory = fc_workspace_acquire(shared + (size_t)threads * job->slot_bytes);
    if (!memory)
        return FC_NO_MEMORY;
    fill_scale(job, memory);
    if (job->spreads)
        fill_cover(job, memory + scale_bytes(g));
    else
        fill_range(job, memory + scale_bytes(g));
    job->scratch = memory + shared;
    fc_parallel_for(threads, tasks, task, job);
    fc_workspace_release(memory);
    return FC_OK;
}
