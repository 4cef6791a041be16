/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution with one input channel a group: every output plane is a weighted sum of shifted runs
 * of one input plane. A GEMM would use one row of its tile; here a block of a plane is laid out (see
 * depthwise.h) and weighed with a whole filter at a time. Where channels are the last axis of the
 * arrays they are the vectors, and nothing is laid out. */
#include "conv_job.h"
#include "depthwise.h"

typedef struct {
    fc_planes planes;
    fc_conv g;
    fc_array weights, y;
    ptrdiff_t w_group;
    const fc_array *bias;
    int relu, dense;  /* dense: filters are read where they stand */
    ptrdiff_t square; /* what fc_weigh asks for */
    const fc_kernels *t;
    char *packed, *scratch; /* channels last: weights and bias of all channels */
    ptrdiff_t packed_pitch;
    size_t slot_bytes;
} depthwise_job;

static ptrdiff_t taps_of(const depthwise_job *job) {
    return fc_volume(job->g.kernel);
}

static const char *filter_at(const depthwise_job *job, ptrdiff_t oc) {
    const ptrdiff_t ocs = job->g.OC / job->g.G;
    return fc_at(&job->weights, job->t->itemsize, oc % ocs, 0) +
           oc / ocs * job->w_group * (ptrdiff_t)job->t->itemsize;
}

static double bias_of(const depthwise_job *job, ptrdiff_t oc) {
    return job->bias ? fc_bias_at(job->t, job->bias, oc) : 0;
}

/* ---- planes -------------------------------------------------------------------------------- */

/* A laid-out block, its taps, a filter, outputs on their way to a y without rows. */
typedef struct {
    char *block, *weights, *tile;
    const void **taps;
} scratch;

static size_t weights_bytes(const depthwise_job *job) {
    return fc_align((size_t)taps_of(job) * job->t->itemsize);
}

static size_t tile_bytes(const depthwise_job *job) {
    const fc_planes *p = &job->planes;
    return job->y.stride[4] == 1 ? 0 : fc_align((size_t)(p->rows * p->cols) * job->t->itemsize);
}

static scratch carve_scratch(const depthwise_job *job, int slot) {
    scratch s;
    s.block = job->scratch + (size_t)slot * job->slot_bytes;
    s.weights = s.block + fc_planes_bytes(&job->planes);
    s.tile = s.weights + weights_bytes(job);
    s.taps = (const void **)(s.tile + tile_bytes(job));
    return s;
}

/* The filter of one output channel, dense. */
static const char *load_filter(const depthwise_job *job, ptrdiff_t oc, char *memory) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *kernel = job->g.kernel;
    const char *filter = filter_at(job, oc);
    if (job->dense)
        return filter;
    for (ptrdiff_t kd = 0; kd < kernel[0]; kd++) {
        const fc_copy copy = {.rows = kernel[1],
                              .cols = kernel[2],
                              .src = filter + kd * job->weights.stride[2] * itemsize,
                              .src_row = job->weights.stride[3],
                              .src_col = job->weights.stride[4],
                              .dst = memory + kd * kernel[1] * kernel[2] * itemsize,
                              .dst_row = kernel[2],
                              .dst_col = 1};
        job->t->copy_2d(&copy);
    }
    return memory;
}

static void weigh_block(const depthwise_job *job, const scratch *s, const fc_plane_block *b,
                        ptrdiff_t n, ptrdiff_t oc) {
    const ptrdiff_t *stride = job->y.stride;
    char *y =
        fc_at(&job->y, job->t->itemsize, n, oc) +
        (b->od * stride[2] + b->oh * stride[3] + b->ow * stride[4]) * (ptrdiff_t)job->t->itemsize;
    const int direct = stride[4] == 1;
    const fc_weigh weigh = {.rows = b->rows,
                            .cols = b->cols,
                            .taps = taps_of(job),
                            .square = job->square,
                            .src = s->taps,
                            .src_row = job->planes.pitch,
                            .weights = load_filter(job, oc, s->weights),
                            .bias = bias_of(job, oc),
                            .relu = job->relu,
                            .dst = direct ? y : s->tile,
                            .dst_row = direct ? stride[3] : b->cols};
    job->t->weigh_taps(&weigh);
    if (direct)
        return;
    const fc_copy copy = {.rows = b->rows,
                          .cols = b->cols,
                          .src = s->tile,
                          .src_row = b->cols,
                          .src_col = 1,
                          .dst = y,
                          .dst_row = stride[3],
                          .dst_col = stride[4]};
    job->t->copy_2d(&copy);
}

/* One block of an input plane and all the output channels made from it. */
static void block_task(void *context, ptrdiff_t task, int slot) {
    const depthwise_job *job = context;
    const fc_planes *p = &job->planes;
    const ptrdiff_t plane = task / p->blocks, n = plane / job->g.G, group = plane % job->g.G;
    const ptrdiff_t ocs = job->g.OC / job->g.G;
    const fc_plane_block block = fc_plane_block_at(p, task % p->blocks);
    const scratch s = carve_scratch(job, slot);
    fc_lay_out_block(p, n, group, &block, s.block);
    for (ptrdiff_t oc = group * ocs; oc < (group + 1) * ocs; oc++)
        weigh_block(job, &s, &block, n, oc);
}

/* Taps of a dense square filter lie as close as the rows they slide along. */
static ptrdiff_t square_of(const fc_conv *g) {
    const int close = g->stride[1] == 1 && g->dilation[1] == 1 && g->dilation[2] == 1 &&
                      g->stride[2] == 1 && g->kernel[0] == 1;
    return close && g->kernel[1] == g->kernel[2] ? g->kernel[1] : 0;
}

static fc_status run_planes(depthwise_job *job, int threads) {
    job->square = square_of(&job->g);
    job->dense = fc_weights_are_dense(&job->g, &job->weights);
    job->slot_bytes = fc_planes_bytes(&job->planes) + weights_bytes(job) + tile_bytes(job) +
                      fc_align((size_t)taps_of(job) * sizeof(void *));
    job->scratch = fc_workspace_acquire((size_t)threads * job->slot_bytes);
    if (!job->scratch)
        return FC_NO_MEMORY;
    for (int slot = 0; slot < threads; slot++) { /* the same for all blocks */
        const scratch s = carve_scratch(job, slot);
        fc_planes_taps(&job->planes, s.block, s.taps);
    }
    fc_parallel_for(threads, job->g.N * job->g.G * job->planes.blocks, block_task, job);
    fc_workspace_release(job->scratch);
    return FC_OK;
}

/* ---- channels last ------------------------------------------------------------------------- */

/* [tap][channel], then the bias, then a pixel of padding; all in whole vectors. */
static void pack_channels(const depthwise_job *job) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *kernel = job->g.kernel;
    const ptrdiff_t *stride = job->weights.stride, pitch = job->packed_pitch;
    char *dst = job->packed;
    job->t->fill((taps_of(job) + 2) * pitch, 0, dst, 1);
    for (ptrdiff_t kd = 0; kd < kernel[0]; kd++)
        for (ptrdiff_t kh = 0; kh < kernel[1]; kh++) {
            const fc_copy copy = {.rows = kernel[2],
                                  .cols = job->g.G,
                                  .src = job->weights.data +
                                         (kd * stride[2] + kh * stride[3]) * itemsize,
                                  .src_row = stride[4],
                                  .src_col = job->w_group,
                                  .dst = dst,
                                  .dst_row = pitch,
                                  .dst_col = 1};
            job->t->copy_2d(&copy);
            dst += kernel[2] * pitch * itemsize;
        }
    for (ptrdiff_t c = 0; job->bias && c < job->g.G; c++)
        job->t->fill(1, bias_of(job, c), dst + c * itemsize, 1);
}

/* One row of outputs. */
static void row_task(void *context, ptrdiff_t task, int slot) {
    const depthwise_job *job = context;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, taps = taps_of(job);
    const ptrdiff_t *stride = job->y.stride, row_bytes = job->packed_pitch * itemsize;
    const ptrdiff_t n = task / (job->g.out[0] * job->g.out[1]);
    ptrdiff_t out[] = {task / job->g.out[1] % job->g.out[0], task % job->g.out[1], 0};
    char *y = fc_at(&job->y, job->t->itemsize, n, 0) +
              (out[0] * stride[2] + out[1] * stride[3]) * itemsize;
    const char *bias = job->packed + taps * row_bytes, *padding = bias + row_bytes;
    const void **pixels = (const void **)(job->scratch + (size_t)slot * job->slot_bytes);
    for (; out[2] < job->g.out[2]; out[2]++, y += stride[4] * itemsize) {
        fc_pixel_taps(&job->g, &job->planes.x, job->t->itemsize, n, 0, out, padding, pixels);
        job->t->weigh_channels(job->g.G, taps, pixels, job->packed, job->packed_pitch, bias,
                               job->relu, y);
    }
}

static fc_status run_channels(depthwise_job *job, int threads) {
    const ptrdiff_t taps = taps_of(job);
    job->packed_pitch = fc_round_up(job->g.G, job->t->lanes);
    const size_t packed = fc_align((size_t)((taps + 2) * job->packed_pitch) * job->t->itemsize);
    job->slot_bytes = fc_align((size_t)taps * sizeof(const void *));
    job->packed = fc_workspace_acquire(packed + (size_t)threads * job->slot_bytes);
    if (!job->packed)
        return FC_NO_MEMORY;
    job->scratch = job->packed + packed;
    pack_channels(job);
    fc_parallel_for(threads, job->g.N * job->g.out[0] * job->g.out[1], row_task, job);
    fc_workspace_release(job->packed);
    return FC_OK;
}

fc_status fc_conv_depthwise(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                            ptrdiff_t w_group, const fc_array *bias, const fc_array *y, int relu) {
    depthwise_job job = {.g = *g, .weights = *w, .y = *y, .w_group = w_group, .bias = bias};
    job.relu = relu;
    job.t = fc_table(dtype);
    fc_tidy_width(&job.y, g->out);
    fc_planes_init(&job.planes, g, x, job.t);
    const int threads = fc_threads_for(fc_multiply_adds(g));
    return fc_channels_last(g, x, y) ? run_channels(&job, threads) : run_planes(&job, threads);
}
