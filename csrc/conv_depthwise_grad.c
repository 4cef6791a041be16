/* SPDX-License-Identifier: BSD-3-Clause
 * The weight gradient of a depthwise convolution: each weight is the product of dy with the run of
 * the image that its tap slides along. The layout is the forward pass's. */
#include "depthwise.h"

#include <string.h>

typedef struct {
    fc_planes planes;
    fc_conv g;
    fc_array dy, dw;
    const fc_kernels *t;
    const char *dy_end;        /* behind the last element of dy */
    ptrdiff_t dy_pitch, width; /* channels of a task, channels last */
    char *scratch;
    size_t slot_bytes, first_bytes, lanes_bytes, dy_bytes;
} grad_job;

/* Planes: a laid-out block, the sums of every tap lane by lane, a block of dy, whole vectors a row.
 * Channels last: a pixel of padding, the sums of every tap and channel over one row of pixels. */
typedef struct {
    char *block, *lanes, *dy;
    double *sums;
    const void **taps;
} grad_scratch;

static ptrdiff_t taps_of(const grad_job *job) {
    return fc_volume(job->g.kernel);
}

static grad_scratch carve_scratch(const grad_job *job, int slot) {
    const ptrdiff_t taps = taps_of(job);
    grad_scratch s;
    s.block = job->scratch + (size_t)slot * job->slot_bytes;
    s.lanes = s.block + job->first_bytes;
    s.dy = s.lanes + job->lanes_bytes;
    s.sums = (double *)(s.dy + job->dy_bytes);
    s.taps = (const void **)(s.sums + taps * job->width);
    return s;
}

static fc_status run(grad_job *job, ptrdiff_t tasks, fc_task task) {
    const int threads = fc_threads_for(fc_multiply_adds(&job->g));
    job->slot_bytes =
        job->first_bytes + job->lanes_bytes + job->dy_bytes +
        fc_align((size_t)taps_of(job) * ((size_t)job->width * sizeof(double) + sizeof(void *)));
    job->scratch = fc_workspace_acquire((size_t)threads * job->slot_bytes);
    if (!job->scratch)
        return FC_NO_MEMORY;
    fc_parallel_for(threads, tasks, task, job);
    fc_workspace_release(job->scratch);
    return FC_OK;
}

/* sums[(tap * width + c - channel)] of `channels` channels from `channel` on. */
static void store_filters(const grad_job *job, ptrdiff_t channel, ptrdiff_t channels,
                          const double *sums) {
    const ptrdiff_t *kernel = job->g.kernel, *stride = job->dw.stride;
    for (ptrdiff_t kd = 0; kd < kernel[0]; kd++)
        for (ptrdiff_t kh = 0; kh < kernel[1]; kh++)
            for (ptrdiff_t kw = 0; kw < kernel[2]; kw++, sums += job->width)
                for (ptrdiff_t c = 0; c < channels; c++)
                    job->t->fill(1, sums[c],
                                 fc_at(&job->dw, job->t->itemsize, channel + c, 0) +
                                     (kd * stride[2] + kh * stride[3] + kw * stride[4]) *
                                         (ptrdiff_t)job->t->itemsize,
                                 1);
}

/* ---- planes -------------------------------------------------------------------------------- */

/* A block of dy, read where it lies if its rows are runs of elements and whole vectors of them inside dy. */
static void load_dy(const grad_job *job, const fc_plane_block *b, ptrdiff_t n, ptrdiff_t oc,
                    char *dst, fc_dot *dot) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *stride = job->dy.stride;
    const char *src = fc_at(&job->dy, job->t->itemsize, n, oc) +
                      (b->od * stride[2] + b->oh * stride[3] + b->ow * stride[4]) * itemsize;
    const ptrdiff_t last = FC_MAX(0, (b->rows - 1) * stride[3]);
    const ptrdiff_t end = (last + fc_round_up(b->cols, job->t->lanes)) * itemsize;
    if (stride[4] == 1 && end <= job->dy_end - src) {
        dot->dy = src;
        dot->dy_row = stride[3];
        return;
    }
    const fc_copy copy = {.rows = b->rows,
                          .cols = b->cols,
                          .src = src,
                          .src_row = stride[3],
                          .src_col = stride[4],
                          .dst = dst,
                          .dst_row = job->dy_pitch,
                          .dst_col = 1};
    job->t->copy_2d(&copy);
    dot->dy = dst;
    dot->dy_row = job->dy_pitch;
}

static void add_block(const grad_job *job, const grad_scratch *s, const fc_plane_block *b,
                      ptrdiff_t n, ptrdiff_t oc) {
    fc_dot dot = {.rows = b->rows,
                  .cols = b->cols,
                  .taps = taps_of(job),
                  .src = s->taps,
                  .src_row = job->planes.pitch,
                  .lanes = s->lanes};
    fc_lay_out_block(&job->planes, n, oc / (job->g.OC / job->g.G), b, s->block);
    load_dy(job, b, n, oc, s->dy, &dot);
    job->t->dot_taps(&dot);
}

/* One filter over all images: no two tasks add to the same sum. */
static void filter_task(void *context, ptrdiff_t oc, int slot) {
    enum { LONGEST = 256 }; /* additions to a lane, before the lanes are added up in double */
    const grad_job *job = context;
    const fc_planes *p = &job->planes;
    const ptrdiff_t taps = taps_of(job), lanes = job->t->lanes;
    const grad_scratch s = carve_scratch(job, slot);
    ptrdiff_t added = 0;
    fc_planes_clear(p, s.block);
    fc_planes_taps(p, s.block, (const ptrdiff_t[FC_SPATIAL]){0}, job->g.kernel, s.taps);
    memset(s.sums, 0, (size_t)taps * sizeof(double));
    job->t->fill(taps * lanes, 0, s.lanes, 1);
    for (ptrdiff_t i = 0; i < job->g.N * p->blocks; i++) {
        const fc_plane_block b = fc_plane_block_at(p, i % p->blocks);
        const ptrdiff_t vectors = b.rows * fc_ceil_div(b.cols, lanes);
        if (added + vectors > LONGEST) {
            job->t->sum_rows(taps, lanes, s.lanes, lanes, 1, s.sums);
            job->t->fill(taps * lanes, 0, s.lanes, 1);
            added = 0;
        }
        add_block(job, &s, &b, i / p->blocks, oc);
        added += vectors;
    }
    job->t->sum_rows(taps, lanes, s.lanes, lanes, 1, s.sums);
    store_filters(job, oc, 1, s.sums);
}

static fc_status run_planes(grad_job *job) {
    const size_t itemsize = job->t->itemsize;
    job->width = 1;
    job->dy_pitch = fc_round_up(job->planes.cols, job->t->lanes);
    job->first_bytes = fc_planes_bytes(&job->planes);
    job->lanes_bytes = fc_align((size_t)(taps_of(job) * job->t->lanes) * itemsize);
    job->dy_bytes = fc_align((size_t)(job->planes.rows * job->dy_pitch) * itemsize);
    return run(job, job->g.OC, filter_task);
}

/* ---- channels last ------------------------------------------------------------------------- */

/* The products of one row of pixels, added up in lanes. */
static void add_row(const grad_job *job, const grad_scratch *s, ptrdiff_t n, ptrdiff_t channel,
                    ptrdiff_t channels, ptrdiff_t od, ptrdiff_t oh) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *stride = job->dy.stride;
    ptrdiff_t out[] = {od, oh, 0};
    const char *dy = fc_at(&job->dy, job->t->itemsize, n, channel) +
                     (od * stride[2] + oh * stride[3]) * itemsize;
    for (; out[2] < job->g.out[2]; out[2]++, dy += stride[4] * itemsize) {
        fc_pixel_taps(&job->g, &job->planes.x, job->t->itemsize, n, channel, out, s->block,
                      s->taps);
        job->t->dot_channels(channels, taps_of(job), s->taps, dy, s->lanes, job->width);
    }
}

/* Some channels over all images; float sums stay short: one row. */
static void channels_task(void *context, ptrdiff_t task, int slot) {
    const grad_job *job = context;
    const ptrdiff_t channel = task * job->width, sums = taps_of(job) * job->width;
    const ptrdiff_t channels = FC_MIN(job->width, job->g.G - channel);
    const grad_scratch s = carve_scratch(job, slot);
    memset(s.sums, 0, (size_t)sums * sizeof(double));
    job->t->fill(job->width, 0, s.block, 1);
    for (ptrdiff_t n = 0; n < job->g.N; n++)
        for (ptrdiff_t od = 0; od < job->g.out[0]; od++)
            for (ptrdiff_t oh = 0; oh < job->g.out[1]; oh++) {
                job->t->fill(sums, 0, s.lanes, 1);
                add_row(job, &s, n, channel, channels, od, oh);
                job->t->sum_rows(sums, 1, s.lanes, 1, sums, s.sums);
            }
    store_filters(job, channel, channels, s.sums);
}

static fc_status run_channels(grad_job *job) {
    const ptrdiff_t parts = 4 * fc_threads_for(fc_multiply_adds(&job->g));
    job->width = fc_round_up(fc_ceil_div(job->g.G, parts), job->t->lanes);
    job->first_bytes = fc_align((size_t)job->width * job->t->itemsize);
    job->lanes_bytes = fc_align((size_t)(taps_of(job) * job->width) * job->t->itemsize);
    return run(job, fc_ceil_div(job->g.G, job->width), channels_task);
}

fc_status fc_depthwise_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                   const fc_array *x, const fc_array *dw) {
    grad_job job = {.g = *g, .dy = *dy, .dw = *dw, .t = fc_table(dtype)};
    const ptrdiff_t size[] = {g->N, g->OC, g->out[0], g->out[1], g->out[2]};
    const char *begin;
    fc_tidy_width(&job.dy, g->out);
    fc_array_bounds(&job.dy, size, job.t->itemsize, &begin, &job.dy_end);
    fc_planes_init(&job.planes, g, x, job.t);
    return fc_channels_last(g, x, dy) ? run_channels(&job) : run_planes(&job);
}
