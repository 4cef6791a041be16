/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution with one input channel a group: every output plane is a weighted sum of shifted runs
 * of one input plane. A GEMM would use one row of its tile; here a block of a plane is laid out (see
 * depthwise.h) and weighed with a whole filter at a time. Where channels are the last axis of the
 * arrays they are the vectors, and nothing is laid out.
 *
 * Outputs may be the phases of larger planes: the input gradient of a strided convolution. A block is
 * then laid out once for all phases, each weighed with taps of its own. */
#include "conv_job.h"
#include "depthwise.h"

typedef struct {
    fc_planes planes;
    fc_conv g;
    const fc_phase *phases;  /* one, of all taps, where outputs are not merged */
    fc_merge to;             /* y and how many phases its rows and columns have */
    ptrdiff_t w_group, taps; /* of all phases */
    const fc_array *bias;
    int relu, dense;  /* dense: filters are read where they stand */
    ptrdiff_t square; /* what fc_weigh asks for */
    const fc_kernels *t;
    char *packed, *scratch; /* channels last: weights and bias of all channels */
    ptrdiff_t packed_pitch;
    size_t slot_bytes;
} depthwise_job;

/* ---- planes -------------------------------------------------------------------------------- */

/* A laid-out block, its taps, a filter, outputs on their way to a y without rows. */
typedef struct {
    char *block, *weights, *tile;
    const void **taps;
} scratch;

static size_t weights_bytes(const depthwise_job *job) {
    return fc_align((size_t)job->taps * job->t->itemsize);
}

/* Kernels write one phase as it stands and interleave two. */
static int writes_directly(const depthwise_job *job) {
    return job->to.y.stride[4] == 1 && job->to.stride[1] <= 2;
}

static size_t tile_bytes(const depthwise_job *job) {
    const fc_planes *p = &job->planes;
    const size_t outputs = (size_t)(job->to.stride[1] * p->rows * p->cols);
    return writes_directly(job) ? 0 : fc_align(outputs * job->t->itemsize);
}

static scratch carve_scratch(const depthwise_job *job, int slot) {
    scratch s;
    s.block = job->scratch + (size_t)slot * job->slot_bytes;
    s.weights = s.block + fc_planes_bytes(&job->planes);
    s.tile = s.weights + weights_bytes(job);
    s.taps = (const void **)(s.tile + tile_bytes(job));
    return s;
}

/* A phase's filter for output channel oc, dense. */
static const char *load_filter(const depthwise_job *job, const fc_phase *phase, ptrdiff_t oc,
                               char *memory) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *taps = phase->taps;
    const ptrdiff_t *stride = phase->w.stride, ocs = job->g.OC / job->g.G;
    const char *filter =
        phase->w.data + (oc % ocs * stride[0] + oc / ocs * job->w_group) * itemsize;
    if (job->dense)
        return filter;
    memory += phase->number * itemsize;
    for (ptrdiff_t kd = 0; kd < taps[0]; kd++) {
        const fc_copy copy = {.rows = taps[1],
                              .cols = taps[2],
                              .src = filter + kd * stride[2] * itemsize,
                              .src_row = stride[3],
                              .src_col = stride[4],
                              .dst = memory + kd * taps[1] * taps[2] * itemsize,
                              .dst_row = taps[2],
                              .dst_col = 1};
        job->t->copy_2d(&copy);
    }
    return memory;
}

/* Of `count` rows or columns from `first` on, those that a phase of `size` elements has. */
static ptrdiff_t phase_count(ptrdiff_t size, ptrdiff_t stride, ptrdiff_t phase, ptrdiff_t first,
                             ptrdiff_t count) {
    return FC_MIN(count, fc_ceil_div(size - phase, stride) - first);
}

/* What the phases of row phase ph ask of the kernel; returns their columns. */
static ptrdiff_t find_weighs(const depthwise_job *job, const scratch *s, const fc_plane_block *b,
                             ptrdiff_t ph, ptrdiff_t oc, fc_weigh *weigh) {
    const ptrdiff_t *stride = job->to.stride, *size = job->to.size;
    ptrdiff_t cols = 0;
    for (ptrdiff_t pw = 0; pw < stride[1]; pw++) {
        const fc_phase *phase = &job->phases[ph * stride[1] + pw];
        weigh[pw] = (fc_weigh){.rows = phase_count(size[0], stride[0], ph, b->oh, b->rows),
                               .cols = phase_count(size[1], stride[1], pw, b->ow, b->cols),
                               .taps = fc_volume(phase->taps),
                               .square = job->square,
                               .src = s->taps + phase->number,
                               .src_row = job->planes.pitch,
                               .weights = load_filter(job, phase, oc, s->weights),
                               .bias = job->bias ? fc_bias_at(job->t, job->bias, oc) : 0,
                               .relu = job->relu};
        cols += weigh[pw].cols;
    }
    return cols;
}

/* The phases by way of a tile, rows of y `row` elements apart. */
static void merge_tile(const depthwise_job *job, fc_weigh *weigh, ptrdiff_t cols, char *tile,
                       char *y, ptrdiff_t row) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, pitch = job->planes.cols;
    const ptrdiff_t phases = job->to.stride[1], plane = job->planes.rows * pitch;
    for (ptrdiff_t pw = 0; pw < phases; pw++) {
        weigh[pw].dst = tile + pw * plane * itemsize;
        weigh[pw].dst_row = pitch;
        job->t->weigh_taps(&weigh[pw]);
    }
    for (ptrdiff_t r = 0; r < weigh->rows; r++)
        job->t->merge_row(cols, phases, 0, tile + r * pitch * itemsize, plane,
                          y + r * row * itemsize, job->to.y.stride[4]);
}

/* All phases of a block in output channel oc. */
static void weigh_block(const depthwise_job *job, const scratch *s, const fc_plane_block *b,
                        ptrdiff_t n, ptrdiff_t oc) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *stride = job->to.y.stride;
    const ptrdiff_t row = job->to.stride[0] * stride[3];
    char *y = fc_at(&job->to.y, job->t->itemsize, n, oc) +
              (b->od * stride[2] + b->oh * row + b->ow * job->to.stride[1] * stride[4]) * itemsize;
    for (ptrdiff_t ph = 0; ph < job->to.stride[0]; ph++, y += stride[3] * itemsize) {
        fc_weigh weigh[FC_MOST_PHASES];
        const ptrdiff_t cols = find_weighs(job, s, b, ph, oc, weigh);
        weigh->dst = y;
        weigh->dst_row = row;
        if (!writes_directly(job))
            merge_tile(job, weigh, cols, s->tile, y, row);
        else if (job->to.stride[1] == 2)
            job->t->weigh_pair(weigh);
        else
            job->t->weigh_taps(weigh);
    }
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
    job->slot_bytes = fc_planes_bytes(&job->planes) + weights_bytes(job) + tile_bytes(job) +
                      fc_align((size_t)job->taps * sizeof(void *));
    job->scratch = fc_workspace_acquire((size_t)threads * job->slot_bytes);
    if (!job->scratch)
        return FC_NO_MEMORY;
    for (int slot = 0; slot < threads; slot++) { /* the same for all blocks */
        const scratch s = carve_scratch(job, slot);
        const ptrdiff_t phases = job->to.stride[0] * job->to.stride[1];
        fc_planes_clear(&job->planes, s.block);
        for (const fc_phase *phase = job->phases; phase < job->phases + phases; phase++)
            fc_planes_taps(&job->planes, s.block, phase->first, phase->taps,
                           s.taps + phase->number);
    }
    fc_parallel_for(threads, job->g.N * job->g.G * job->planes.blocks, block_task, job);
    fc_workspace_release(job->scratch);
    return FC_OK;
}

/* ---- channels last ------------------------------------------------------------------------- */

/* [tap][channel], then the bias, then a pixel of padding; all in whole vectors. */
static void pack_channels(const depthwise_job *job) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *kernel = job->g.kernel;
    const fc_array *w = &job->phases->w;
    const ptrdiff_t *stride = w->stride, pitch = job->packed_pitch;
    char *dst = job->packed;
    job->t->fill((job->taps + 2) * pitch, 0, dst, 1);
    for (ptrdiff_t kd = 0; kd < kernel[0]; kd++)
        for (ptrdiff_t kh = 0; kh < kernel[1]; kh++) {
            const fc_copy copy = {.rows = kernel[2],
                                  .cols = job->g.G,
                                  .src = w->data + (kd * stride[2] + kh * stride[3]) * itemsize,
                                  .src_row = stride[4],
                                  .src_col = job->w_group,
                                  .dst = dst,
                                  .dst_row = pitch,
                                  .dst_col = 1};
            job->t->copy_2d(&copy);
            dst += kernel[2] * pitch * itemsize;
        }
    for (ptrdiff_t c = 0; job->bias && c < job->g.G; c++)
        job->t->fill(1, fc_bias_at(job->t, job->bias, c), dst + c * itemsize, 1);
}

/* One row of outputs. */
static void row_task(void *context, ptrdiff_t task, int slot) {
    const depthwise_job *job = context;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, taps = job->taps;
    const ptrdiff_t *stride = job->to.y.stride, row_bytes = job->packed_pitch * itemsize;
    const ptrdiff_t n = task / (job->g.out[0] * job->g.out[1]);
    ptrdiff_t out[] = {task / job->g.out[1] % job->g.out[0], task % job->g.out[1], 0};
    char *y = fc_at(&job->to.y, job->t->itemsize, n, 0) +
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
    const ptrdiff_t taps = job->taps;
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

/* Everything that does not depend on how outputs are merged. */
static depthwise_job make_job(const fc_conv *g, fc_dtype dtype, const fc_array *x,
                              const fc_phase *phases, ptrdiff_t w_group, const fc_array *bias,
                              const fc_merge *to) {
    depthwise_job job = {.g = *g, .phases = phases, .to = *to, .w_group = w_group, .bias = bias};
    job.t = fc_table(dtype);
    fc_planes_init(&job.planes, g, x, job.t);
    for (ptrdiff_t p = 0; p < to->stride[0] * to->stride[1]; p++)
        job.taps += fc_volume(phases[p].taps);
    return job;
}

fc_status fc_conv_depthwise(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                            ptrdiff_t w_group, const fc_array *bias, const fc_array *y, int relu) {
    const fc_phase all = {.w = *w, .taps = {g->kernel[0], g->kernel[1], g->kernel[2]}};
    fc_merge to = {.y = *y, .stride = {1, 1}, .size = {g->out[1], g->out[2]}};
    fc_tidy_width(&to.y, g->out);
    depthwise_job job = make_job(g, dtype, x, &all, w_group, bias, &to);
    job.relu = relu;
    job.square = square_of(g);
    job.dense = fc_weights_are_dense(g, w);
    const int threads = fc_threads_for(fc_multiply_adds(g));
    return fc_channels_last(g, x, y) ? run_channels(&job, threads) : run_planes(&job, threads);
}

fc_status fc_depthwise_merged(const fc_conv *g, fc_dtype dtype, const fc_array *x,
                              const fc_phase *phases, ptrdiff_t w_group, const fc_array *bias,
                              const fc_merge *merge) {
    depthwise_job job = make_job(g, dtype, x, phases, w_group, bias, merge);
    if (fc_channels_last(g, x, &merge->y))
        return FC_BAD_GEOMETRY;
    return run_planes(&job, fc_threads_for(fc_multiply_adds(g)));
}
