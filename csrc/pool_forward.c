/* SPDX-License-Identifier: BSD-3-Clause
 * Pooling, forward. A row of windows is reduced over its taps: with planes (NCHW) a tap is one
 * kernel cell of all windows of the row, laid out by split_row; with channels last it is the
 * channel vector of one pixel, read where it lies. */
#include "pool.h"

/* Scratch of one thread. */
typedef struct {
    fc_taps t;
    int32_t *ids, *arg;
    char *result;
} scratch;

/* What is stored for a cell: its number, or its plane offset from the window's first cell. */
static int32_t cell_id(const fc_pool_job *job, int32_t cell) {
    const fc_pool *g = &job->g;
    if (job->index_kind != FC_INDEX_PLANE)
        return cell;
    const ptrdiff_t kw = cell % g->kernel[2], kh = cell / g->kernel[2] % g->kernel[1];
    const ptrdiff_t kd = cell / g->kernel[2] / g->kernel[1];
    return (int32_t)((kd * g->dilation[0] * g->in[1] + kh * g->dilation[1]) * g->in[2] +
                     kw * g->dilation[2]);
}

static size_t vector_length(const fc_pool_job *job) {
    return (size_t)(job->channels_last ? job->g.C : job->g.out[2]);
}

static size_t ids_bytes(const fc_pool_job *job) {
    return fc_align((size_t)fc_volume(job->g.kernel) * sizeof(int32_t));
}

static size_t scratch_bytes(const fc_pool_job *job) {
    return fc_align(fc_taps_bytes(&job->w)) + ids_bytes(job) +
           fc_align(vector_length(job) * sizeof(int32_t)) +
           fc_align(vector_length(job) * (size_t)job->itemsize);
}

static scratch carve_scratch(const fc_pool_job *job, int slot) {
    scratch s;
    char *memory = job->scratch + (size_t)slot * job->slot_bytes;
    fc_taps_init(&s.t, &job->w, job->is_max ? -__builtin_inf() : 0, memory);
    s.ids = (int32_t *)(memory + fc_align(fc_taps_bytes(&job->w)));
    s.arg = (int32_t *)((char *)s.ids + ids_bytes(job));
    s.result = (char *)s.arg + fc_align(vector_length(job) * sizeof(int32_t));
    for (int32_t cell = 0; cell < fc_volume(job->g.kernel); cell++)
        s.ids[cell] = cell_id(job, cell);
    return s;
}

/* Plane offset of the first cell of window (od, oh, ow); negative inside the padding. */
static int64_t window_origin(const fc_pool *g, ptrdiff_t od, ptrdiff_t oh, ptrdiff_t ow) {
    return ((int64_t)(od * g->stride[0] - g->pad[0]) * g->in[1] + oh * g->stride[1] - g->pad[1]) *
               g->in[2] +
           ow * g->stride[2] - g->pad[2];
}

static ptrdiff_t y_offset(const fc_array *y, ptrdiff_t od, ptrdiff_t oh, ptrdiff_t ow) {
    return od * y->stride[2] + oh * y->stride[3] + ow * y->stride[4];
}

static int any_negative(ptrdiff_t n, const int32_t *arg) {
    int32_t all = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        all |= arg[i];
    return all < 0;
}

/* ---- planes -------------------------------------------------------------------------------- */

/* The first kernel cell of window `out` along an axis that is inside the image. */
static ptrdiff_t first_inside(const fc_pool *g, int axis, ptrdiff_t out) {
    ptrdiff_t first, last;
    fc_valid_range(out * g->stride[axis] - g->pad[axis], g->dilation[axis], g->kernel[axis],
                   g->in[axis], &first, &last);
    return first;
}

/* Windows that hold -inf alone: their first cell inside the image is the maximum. */
static void settle_infinite_row(const fc_pool_job *job, scratch *s, ptrdiff_t od, ptrdiff_t oh) {
    const fc_pool *g = &job->g;
    const ptrdiff_t kd = first_inside(g, 0, od), kh = first_inside(g, 1, oh);
    for (ptrdiff_t ow = 0; ow < g->out[2]; ow++)
        if (s->arg[ow] < 0)
            s->arg[ow] = s->ids[fc_cell(g, kd, kh, first_inside(g, 2, ow))];
}

static void reduce_plane_row(const fc_pool_job *job, scratch *s, const char *plane, ptrdiff_t n,
                             ptrdiff_t c, ptrdiff_t od, ptrdiff_t oh) {
    const fc_pool *g = &job->g;
    const ptrdiff_t taps = fc_volume(g->kernel), width = g->out[2];
    fc_gather_taps(&job->w, &s->t, plane, od, oh);
    char *y = fc_at(&job->y, job->t->itemsize, n, c) + y_offset(&job->y, od, oh, 0) * job->itemsize;
    char *result = job->y.stride[4] == 1 ? y : s->result;
    if (job->is_max) {
        job->t->max_taps(width, taps, s->t.taps, s->ids, result, s->arg);
        if (job->index_kind != FC_INDEX_NONE) {
            if (any_negative(width, s->arg))
                settle_infinite_row(job, s, od, oh);
            const ptrdiff_t at = n * job->index.stride[0] + c * job->index.stride[1] +
                                 y_offset(&job->index, od, oh, 0);
            job->t->store_index(job->index_kind, width, s->arg, window_origin(g, od, oh, 0),
                                g->stride[2], fc_pool_index_at(job, at), job->index.stride[4]);
        }
    } else {
        job->t->sum_taps(width, taps, s->t.taps, result);
        if (job->sum_kind != FC_POOL_SUM)
            job->t->scale_row(width, result, 1, job->scale[0][od] * job->scale[1][oh],
                              job->scale[2], 1, result);
    }
    if (result != y) {
        const fc_copy copy = {.rows = 1,
                              .cols = width,
                              .src = result,
                              .src_col = 1,
                              .dst = y,
                              .dst_col = job->y.stride[4]};
        job->t->copy_2d(&copy);
    }
}

static void plane_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    scratch s = carve_scratch(job, slot);
    const ptrdiff_t n = task / g->C, c = task % g->C;
    const char *plane = fc_at(&job->x, job->t->itemsize, n, c);
    for (ptrdiff_t od = 0; od < g->out[0]; od++)
        for (ptrdiff_t oh = 0; oh < g->out[1]; oh++)
            reduce_plane_row(job, &s, plane, n, c, od, oh);
}

/* ---- channels last ------------------------------------------------------------------------- */

static ptrdiff_t gather_pixel_taps(const fc_pool_job *job, scratch *s, ptrdiff_t n, ptrdiff_t od,
                                   ptrdiff_t oh, ptrdiff_t ow) {
    const fc_pool *g = &job->g;
    const ptrdiff_t out[FC_SPATIAL] = {od, oh, ow};
    ptrdiff_t start[FC_SPATIAL], first[FC_SPATIAL], last[FC_SPATIAL], taps = 0;
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        start[axis] = out[axis] * g->stride[axis] - g->pad[axis];
        fc_valid_range(start[axis], g->dilation[axis], g->kernel[axis], g->in[axis], &first[axis],
                       &last[axis]);
    }
    for (ptrdiff_t kd = first[0]; kd < last[0]; kd++)
        for (ptrdiff_t kh = first[1]; kh < last[1]; kh++)
            for (ptrdiff_t kw = first[2]; kw < last[2]; kw++) {
                s->t.taps[taps] =
                    fc_at(&job->x, job->t->itemsize, n, 0) +
                    y_offset(&job->x, start[0] + kd * g->dilation[0],
                             start[1] + kh * g->dilation[1], start[2] + kw * g->dilation[2]) *
                        job->itemsize;
                s->ids[taps++] = cell_id(job, fc_cell(g, kd, kh, kw));
            }
    return taps;
}

static void reduce_pixel(const fc_pool_job *job, scratch *s, ptrdiff_t n, ptrdiff_t od,
                         ptrdiff_t oh, ptrdiff_t ow) {
    const fc_pool *g = &job->g;
    const ptrdiff_t taps = gather_pixel_taps(job, s, n, od, oh, ow);
    char *y =
        fc_at(&job->y, job->t->itemsize, n, 0) + y_offset(&job->y, od, oh, ow) * job->itemsize;
    if (!job->is_max) {
        job->t->sum_taps(g->C, taps, s->t.taps, y);
        if (job->sum_kind != FC_POOL_SUM)
            job->t->scale_row(g->C, y, 1, job->scale[0][od] * job->scale[1][oh], job->scale[2] + ow,
                              0, y);
        return;
    }
    job->t->max_taps(g->C, taps, s->t.taps, s->ids, y, s->arg);
    if (job->index_kind == FC_INDEX_NONE)
        return;
    for (ptrdiff_t c = 0; c < g->C; c++)
        if (s->arg[c] < 0) /* -inf alone: the first cell inside the image */
            s->arg[c] = s->ids[0];
    const ptrdiff_t at = n * job->index.stride[0] + y_offset(&job->index, od, oh, ow);
    job->t->store_index(job->index_kind, g->C, s->arg, window_origin(g, od, oh, ow), 0,
                        fc_pool_index_at(job, at), job->index.stride[1]);
}

static void pixel_row_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    scratch s = carve_scratch(job, slot);
    const ptrdiff_t oh = task % g->out[1], od = task / g->out[1] % g->out[0];
    const ptrdiff_t n = task / g->out[1] / g->out[0];
    for (ptrdiff_t ow = 0; ow < g->out[2]; ow++)
        reduce_pixel(job, &s, n, od, oh, ow);
}

/* ---- the calls ----------------------------------------------------------------------------- */

static fc_status run(fc_pool_job *job, fc_dtype dtype) {
    const fc_status status = fc_pool_prepare(job, dtype);
    if (status)
        return status;
    const fc_pool *g = &job->g;
    if (g->N == 0)
        return FC_OK;
    if (fc_pool_suits_pairs(job))
        return fc_pool_forward_pairs(job);
    if (fc_pool_suits_planes(job))
        return fc_pool_forward_planes(job);
    job->slot_bytes = scratch_bytes(job);
    if (job->channels_last)
        return fc_pool_run(job, g->N * g->out[0] * g->out[1], pixel_row_task);
    return fc_pool_run(job, g->N * g->C, plane_task);
}

fc_status fc_max_pool_forward(const fc_pool *g, fc_dtype dtype, const fc_array *x,
                              const fc_array *y, fc_index_kind kind, const fc_array *index) {
    fc_pool_job job = {.g = *g, .x = *x, .y = *y, .is_max = 1, .index_kind = kind};
    if (kind != FC_INDEX_NONE) {
        job.index = *index;
        fc_tidy_width(&job.index, g->out);
    }
    return run(&job, dtype);
}

fc_status fc_sum_pool_forward(const fc_pool *g, fc_dtype dtype, fc_pool_kind kind,
                              const fc_array *x, const fc_array *y) {
    fc_pool_job job = {.g = *g, .x = *x, .y = *y, .sum_kind = kind};
    return run(&job, dtype);
}
