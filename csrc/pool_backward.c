/* SPDX-License-Identifier: BSD-3-Clause
 * Max pooling, backward, where pool_scatter.c does not suit: channels last, and strides. Every row of dx
 * is gathered from the rows of windows that cover it and written once. Along the row the
 * gradients collect in a buffer with one phase per stride (see pool.inc), which merge_row then
 * weaves into dx. */
#include <string.h>

#include "pool.h"

typedef struct {
    fc_row_cache rows; /* window rows as [gradient][argument] */
    char *sums;        /* one row of dx as phases */
} scratch;

/* Where the gradient ends and the cell numbers begin in a cached window row. */
static ptrdiff_t gradient_bytes(const fc_pool_job *job) {
    const ptrdiff_t n = job->channels_last ? job->g.C : job->g.out[2];
    return (ptrdiff_t)fc_align((size_t)(n * job->itemsize));
}

static ptrdiff_t window_row_bytes(const fc_pool_job *job) {
    const ptrdiff_t n = job->channels_last ? job->g.C : job->g.out[2];
    return gradient_bytes(job) + (ptrdiff_t)fc_align((size_t)n * sizeof(int32_t));
}

/* Window rows that cover one row of the image. */
static void covering_slots(const fc_pool_job *job, ptrdiff_t slots[2]) {
    const fc_pool *g = &job->g;
    for (int axis = 0; axis < 2; axis++) {
        const ptrdiff_t span = (g->kernel[axis] - 1) * g->dilation[axis] + 1;
        slots[axis] =
            job->channels_last ? 1 : FC_MIN(g->out[axis], fc_ceil_div(span, g->stride[axis]));
    }
}

static size_t sums_bytes(const fc_pool_job *job) {
    return fc_align((size_t)(job->w.phase_stride * job->g.stride[2] * job->itemsize));
}

static size_t scratch_bytes(const fc_pool_job *job) {
    ptrdiff_t slots[2];
    covering_slots(job, slots);
    return sums_bytes(job) + fc_align(fc_row_cache_bytes(slots, window_row_bytes(job)));
}

static scratch carve_scratch(const fc_pool_job *job, int slot) {
    scratch s;
    ptrdiff_t slots[2];
    covering_slots(job, slots);
    s.sums = job->scratch + (size_t)slot * job->slot_bytes;
    fc_row_cache_init(&s.rows, slots, window_row_bytes(job), s.sums + sums_bytes(job));
    return s;
}

/* Gradient and cell numbers of n windows, contiguous and in the kernels' types. */
static void load_windows(const fc_pool_job *job, ptrdiff_t n, ptrdiff_t image, ptrdiff_t channel,
                         const ptrdiff_t out[FC_SPATIAL], int axis, char *dst) {
    ptrdiff_t y = image * job->y.stride[0] + channel * job->y.stride[1];
    ptrdiff_t index = image * job->index.stride[0] + channel * job->index.stride[1];
    for (int i = 0; i < FC_SPATIAL; i++) {
        y += out[i] * job->y.stride[i + 2];
        index += out[i] * job->index.stride[i + 2];
    }
    const char *src = job->y.data + y * job->itemsize;
    const fc_copy copy = {
        .rows = 1, .cols = n, .src = src, .src_col = job->y.stride[axis], .dst = dst, .dst_col = 1};
    job->t->copy_2d(&copy);
    int32_t *arg = (int32_t *)(dst + gradient_bytes(job));
    const ptrdiff_t stride = job->index.stride[axis];
    if (job->index_kind == FC_INDEX_U8) {
        const uint8_t *cells = (const uint8_t *)job->index.data + index;
        if (stride == 1)
            for (ptrdiff_t i = 0; i < n; i++)
                arg[i] = cells[i];
        else
            for (ptrdiff_t i = 0; i < n; i++)
                arg[i] = cells[i * stride];
    } else {
        const int32_t *cells = (const int32_t *)job->index.data + index;
        for (ptrdiff_t i = 0; i < n; i++)
            arg[i] = cells[i * stride];
    }
}

static void add_windows(const fc_pool_job *job, ptrdiff_t n, const char *windows, int32_t cell,
                        char *dx) {
    job->t->route_tap(n, windows, (const int32_t *)(windows + gradient_bytes(job)), cell, dx);
}

/* Which window has kernel cell k at image position `in` along an axis; -1 for none. */
static ptrdiff_t window_at(const fc_pool *g, int axis, ptrdiff_t in, ptrdiff_t k) {
    const ptrdiff_t distance = in + g->pad[axis] - k * g->dilation[axis];
    if (distance < 0 || distance % g->stride[axis] != 0)
        return -1;
    return distance / g->stride[axis] < g->out[axis] ? distance / g->stride[axis] : -1;
}

/* ---- planes -------------------------------------------------------------------------------- */

static void add_window_row(const fc_pool_job *job, scratch *s, ptrdiff_t n, ptrdiff_t c,
                           ptrdiff_t od, ptrdiff_t oh, ptrdiff_t kd, ptrdiff_t kh) {
    const fc_pool *g = &job->g;
    int fresh;
    char *windows = fc_row_cache_slot(&s->rows, od, oh, g->out[1], &fresh);
    if (fresh)
        load_windows(job, g->out[2], n, c, (ptrdiff_t[]){od, oh, 0}, 4, windows);
    for (ptrdiff_t kw = 0; kw < g->kernel[2]; kw++) {
        const ptrdiff_t at = kw * g->dilation[2];
        add_windows(job, g->out[2], windows, fc_cell(g, kd, kh, kw),
                    s->sums + (at % g->stride[2] * job->w.phase_stride + at / g->stride[2]) *
                                  job->itemsize);
    }
}

static void gather_row(const fc_pool_job *job, scratch *s, ptrdiff_t n, ptrdiff_t c, ptrdiff_t id,
                       ptrdiff_t ih) {
    const fc_pool *g = &job->g;
    memset(s->sums, 0, sums_bytes(job));
    for (ptrdiff_t kd = 0; kd < g->kernel[0]; kd++) {
        const ptrdiff_t od = window_at(g, 0, id, kd);
        for (ptrdiff_t kh = 0; od >= 0 && kh < g->kernel[1]; kh++) {
            const ptrdiff_t oh = window_at(g, 1, ih, kh);
            if (oh >= 0)
                add_window_row(job, s, n, c, od, oh, kd, kh);
        }
    }
    char *dx = fc_at(&job->x, job->t->itemsize, n, c) +
               (id * job->x.stride[2] + ih * job->x.stride[3]) * job->itemsize;
    const ptrdiff_t covered = FC_MAX(0, FC_MIN(g->in[2], job->w.extent - g->pad[2]));
    job->t->merge_row(covered, g->stride[2], g->pad[2], s->sums, job->w.phase_stride, dx,
                      job->x.stride[4]);
    job->t->fill(g->in[2] - covered, 0, dx + covered * job->x.stride[4] * job->itemsize,
                 job->x.stride[4]);
}

static void plane_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    scratch s = carve_scratch(job, slot);
    for (ptrdiff_t id = 0; id < g->in[0]; id++)
        for (ptrdiff_t ih = 0; ih < g->in[1]; ih++)
            gather_row(job, &s, task / g->C, task % g->C, id, ih);
}

/* ---- channels last ------------------------------------------------------------------------- */

static void gather_pixel(const fc_pool_job *job, scratch *s, ptrdiff_t n, ptrdiff_t id,
                         ptrdiff_t ih, ptrdiff_t iw) {
    const fc_pool *g = &job->g;
    char *dx =
        fc_at(&job->x, job->t->itemsize, n, 0) +
        (id * job->x.stride[2] + ih * job->x.stride[3] + iw * job->x.stride[4]) * job->itemsize;
    memset(dx, 0, (size_t)(g->C * job->itemsize));
    for (ptrdiff_t kd = 0; kd < g->kernel[0]; kd++) {
        const ptrdiff_t od = window_at(g, 0, id, kd);
        for (ptrdiff_t kh = 0; od >= 0 && kh < g->kernel[1]; kh++) {
            const ptrdiff_t oh = window_at(g, 1, ih, kh);
            for (ptrdiff_t kw = 0; oh >= 0 && kw < g->kernel[2]; kw++) {
                const ptrdiff_t ow = window_at(g, 2, iw, kw);
                if (ow < 0)
                    continue;
                load_windows(job, g->C, n, 0, (ptrdiff_t[]){od, oh, ow}, 1, s->rows.data);
                add_windows(job, g->C, s->rows.data, fc_cell(g, kd, kh, kw), dx);
            }
        }
    }
}

static void pixel_row_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    scratch s = carve_scratch(job, slot);
    const ptrdiff_t ih = task % g->in[1], id = task / g->in[1] % g->in[0];
    for (ptrdiff_t iw = 0; iw < g->in[2]; iw++)
        gather_pixel(job, &s, task / g->in[1] / g->in[0], id, ih, iw);
}

/* ---- the calls ----------------------------------------------------------------------------- */

static fc_status run(fc_pool_job *job, fc_dtype dtype) {
    const fc_status status = fc_pool_prepare(job, dtype);
    if (status)
        return status;
    const fc_pool *g = &job->g;
    if (!job->is_max)
        return fc_pool_spread(job);
    if (fc_pool_suits_scatter(job))
        return fc_pool_scatter(job);
    job->slot_bytes = scratch_bytes(job);
    if (job->channels_last)
        return fc_pool_run(job, g->N * g->in[0] * g->in[1], pixel_row_task);
    return fc_pool_run(job, g->N * g->C, plane_task);
}

fc_status fc_max_pool_backward(const fc_pool *g, fc_dtype dtype, const fc_array *dy,
                               fc_index_kind kind, const fc_array *index, const fc_array *dx) {
    fc_pool_job job = {
        .g = *g, .x = *dx, .y = *dy, .index = *index, .is_max = 1, .index_kind = kind};
    if (kind != FC_INDEX_U8 && kind != FC_INDEX_I32)
        return FC_BAD_GEOMETRY;
    fc_tidy_width(&job.index, g->out);
    return run(&job, dtype);
}

fc_status fc_sum_pool_backward(const fc_pool *g, fc_dtype dtype, fc_pool_kind kind,
                               const fc_array *dy, const fc_array *dx) {
    fc_pool_job job = {.g = *g, .x = *dx, .y = *dy, .sum_kind = kind};
    return run(&job, dtype);
}
