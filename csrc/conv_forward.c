/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution as an implicit GEMM.
 *
 *   y[oc][pixel] = sum over k = (c, kd, kh, kw) of w[oc][k] * cols[k][pixel]
 *
 * The matrix cols (im2col) never exists as a whole. Output pixels of all images form one axis. A
 * task takes a block of them and, for one block of the summed axis after the other, packs the
 * piece of cols it needs into panels [k][nr], then multiplies every weight panel [k][mr] by them:
 *
 *   pixels ->  | nr | nr | nr |     one task: pixel_block x oc_block
 *   oc panel   |tile|tile|tile|     weights were packed once per call, in panels
 *
 * Packing knows padding, stride, dilation and layout; nothing behind it does. */
#include <string.h>

#include "plan.h"

typedef struct {
    fc_conv g; /* simplified by fc_flatten_pointwise */
    fc_array x, w, y;
    ptrdiff_t w_group; /* elements from one group's weights to the next one's */
    const fc_array *bias;
    int relu;
    fc_conv_plan plan;
    const fc_kernels *t;
    const char *x_end;
    int y_dense; /* pixels of one image and channel are neighbours in y */
    char *weights, *packed_bias, *slots;
    size_t slot_bytes;
    ptrdiff_t first_group, groups, first_oc, ocs; /* the chunk at work; oc inside a group */
} conv_job;

/* ---- packing of weights -------------------------------------------------------------------- */

/* Panel layout: [group][block of the sum][oc panel][k][m], m = mr but for the last panel. */
static char *weight_panel(const conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                          ptrdiff_t oc) {
    const ptrdiff_t taps = fc_volume(job->g.kernel), sum = job->g.C / job->g.G * taps;
    const ptrdiff_t before = b->channel * taps + b->tap * b->channels;
    const ptrdiff_t offset = ((group - job->first_group) * sum + before) * job->ocs +
                             (oc - job->first_oc) * b->channels * b->taps;
    return job->weights + offset * (ptrdiff_t)job->t->itemsize;
}

/* Whether a filter is one run of elements, channels outermost; axes of size 1 do not matter. */
static int weights_are_dense(const conv_job *job) {
    const ptrdiff_t *s = job->w.stride, *k = job->g.kernel;
    return (job->g.C == job->g.G || s[1] == fc_volume(k)) && (k[2] == 1 || s[4] == 1) &&
           (k[1] == 1 || s[3] == k[2]) && (k[0] == 1 || s[2] == k[1] * k[2]);
}

static void pack_weight_panel(const conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                              ptrdiff_t oc, ptrdiff_t m) {
    const ptrdiff_t *s = job->w.stride, *kernel = job->g.kernel;
    const size_t itemsize = job->t->itemsize;
    const char *src =
        fc_at(&job->w, itemsize, oc, b->channel) + group * job->w_group * (ptrdiff_t)itemsize;
    char *dst = weight_panel(job, group, b, oc);
    fc_copy copy = {.rows = m, .src_row = s[0], .dst_row = 1, .dst_col = m, .readable_end = src};
    if (weights_are_dense(job)) {
        copy.cols = b->channels * b->taps;
        copy.src = src + b->tap * (ptrdiff_t)itemsize;
        copy.src_col = 1;
        copy.dst = dst;
        job->t->copy_2d(&copy);
        return;
    }
    for (ptrdiff_t c = 0; c < b->channels; c++) {
        for (ptrdiff_t tap = b->tap; tap < b->tap + b->taps;) {
            const ptrdiff_t kw = tap % kernel[2], kh = tap / kernel[2] % kernel[1];
            const ptrdiff_t kd = tap / kernel[2] / kernel[1];
            copy.cols = FC_MIN(kernel[2] - kw, b->tap + b->taps - tap);
            copy.src =
                src + (c * s[1] + kd * s[2] + kh * s[3] + kw * s[4]) * (ptrdiff_t)itemsize;
            copy.src_col = s[4];
            copy.dst = dst;
            job->t->copy_2d(&copy);
            dst += copy.cols * m * (ptrdiff_t)itemsize;
            tap += copy.cols;
        }
    }
}

static void pack_weights_task(void *context, ptrdiff_t task, int slot) {
    const conv_job *job = context;
    const ptrdiff_t panels = fc_ceil_div(job->ocs, job->plan.mr);
    const ptrdiff_t blocks = fc_sum_blocks(&job->g, &job->plan);
    const ptrdiff_t group = job->first_group + task / panels / blocks;
    const fc_sum_block b = fc_sum_block_at(&job->g, &job->plan, task / panels % blocks);
    const ptrdiff_t start = task % panels * job->plan.mr;
    (void)slot;
    pack_weight_panel(job, group, &b, job->first_oc + start,
                      FC_MIN(job->plan.mr, job->ocs - start));
}

static void pack_bias(const conv_job *job) {
    const fc_copy copy = {.rows = 1,
                          .cols = job->g.OC,
                          .src = job->bias->data,
                          .src_col = job->bias->stride[0],
                          .dst = job->packed_bias,
                          .dst_col = 1,
                          .readable_end = job->bias->data};
    job->t->copy_2d(&copy);
}

/* ---- packing of the image ------------------------------------------------------------------ */

/* Cuts `count` pixels from `pixel` on into runs within a row; returns how many runs. */
static ptrdiff_t find_segments(const fc_conv *g, ptrdiff_t pixel, ptrdiff_t count,
                               fc_segment *segments) {
    ptrdiff_t used = 0;
    for (ptrdiff_t lane = 0; lane < count;) {
        fc_segment *s = &segments[used++];
        const ptrdiff_t p = pixel + lane, row = p / g->out[2];
        s->out[2] = p % g->out[2];
        s->out[1] = row % g->out[1];
        s->out[0] = row / g->out[1] % g->out[0];
        s->n = row / g->out[1] / g->out[0];
        s->lane = lane;
        s->length = FC_MIN(g->out[2] - s->out[2], count - lane);
        lane += s->length;
    }
    return used;
}

static void zero_lanes(char *dst, ptrdiff_t rows, ptrdiff_t row_step, ptrdiff_t lanes,
                       size_t itemsize) {
    for (ptrdiff_t r = 0; r < rows; r++)
        memset(dst + r * row_step * (ptrdiff_t)itemsize, 0, (size_t)lanes * itemsize);
}

/* One filter tap of one segment, for all channels of the block: rows of the panel `taps` apart. */
static void pack_segment(const conv_job *job, const fc_sum_block *b, ptrdiff_t channel,
                         const ptrdiff_t tap[FC_SPATIAL], const fc_segment *s, char *dst) {
    const fc_conv *g = &job->g;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, nr = job->plan.nr;
    ptrdiff_t at[FC_SPATIAL], first = 0, last = 0;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        at[axis] = s->out[axis] * g->stride[axis] - g->pad[axis] + tap[axis] * g->dilation[axis];
    if (at[0] >= 0 && at[0] < g->in[0] && at[1] >= 0 && at[1] < g->in[1])
        fc_valid_range(at[2], g->stride[2], s->length, g->in[2], &first, &last);
    dst += s->lane * itemsize;
    if (first > 0 || last == 0)
        zero_lanes(dst, b->channels, b->taps * nr, last ? first : s->length, job->t->itemsize);
    if (last == 0)
        return;
    if (last < s->length)
        zero_lanes(dst + last * itemsize, b->channels, b->taps * nr, s->length - last,
                   job->t->itemsize);
    const ptrdiff_t *stride = job->x.stride;
    const fc_copy copy = {
        .rows = b->channels,
        .cols = last - first,
        .src = fc_at(&job->x, job->t->itemsize, s->n, channel) +
               (at[0] * stride[2] + at[1] * stride[3] +
                (at[2] + first * g->stride[2]) * stride[4]) * itemsize,
        .src_row = stride[1],
        .src_col = stride[4] * g->stride[2],
        .dst = dst + first * itemsize,
        .dst_row = b->taps * nr,
        .dst_col = 1,
        .readable_end = job->x_end,
    };
    job->t->copy_2d(&copy);
}

/* Fills one panel [k][nr], k = (channel, tap); lanes behind the last pixel become zero. */
static void pack_panel(const conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                       const fc_segment *segments, ptrdiff_t count, char *dst) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, nr = job->plan.nr;
    const ptrdiff_t *kernel = job->g.kernel;
    const ptrdiff_t channel = group * (job->g.C / job->g.G) + b->channel;
    for (ptrdiff_t i = 0; i < b->taps; i++) {
        const ptrdiff_t flat = b->tap + i;
        const ptrdiff_t tap[FC_SPATIAL] = {flat / kernel[2] / kernel[1],
                                           flat / kernel[2] % kernel[1], flat % kernel[2]};
        for (ptrdiff_t s = 0; s < count; s++)
            pack_segment(job, b, channel, tap, &segments[s], dst + i * nr * itemsize);
    }
    const ptrdiff_t used = segments[count - 1].lane + segments[count - 1].length;
    if (used < nr)
        zero_lanes(dst + used * itemsize, b->channels * b->taps, nr, nr - used,
                   job->t->itemsize);
}

/* ---- tiles --------------------------------------------------------------------------------- */

static char *pixel_address(const conv_job *job, ptrdiff_t oc, const fc_segment *s) {
    const ptrdiff_t *stride = job->y.stride;
    return fc_at(&job->y, job->t->itemsize, s->n, oc) +
           (s->out[0] * stride[2] + s->out[1] * stride[3] + s->out[2] * stride[4]) *
               (ptrdiff_t)job->t->itemsize;
}

/* Moves a tile [m][nr] from the stack to y, or back before more is added to it. */
static void move_tile(const conv_job *job, ptrdiff_t oc, ptrdiff_t m, const fc_segment *segments,
                      ptrdiff_t count, char *tile, int to_y) {
    for (ptrdiff_t s = 0; s < count; s++) {
        char *y = pixel_address(job, oc, &segments[s]);
        char *lanes = tile + segments[s].lane * (ptrdiff_t)job->t->itemsize;
        fc_copy copy = {.rows = m, .cols = segments[s].length};
        copy.src = to_y ? lanes : y;
        copy.src_row = to_y ? job->plan.nr : job->y.stride[1];
        copy.src_col = to_y ? 1 : job->y.stride[4];
        copy.dst = to_y ? y : lanes;
        copy.dst_row = to_y ? job->y.stride[1] : job->plan.nr;
        copy.dst_col = to_y ? job->y.stride[4] : 1;
        copy.readable_end = copy.src;
        job->t->copy_2d(&copy);
    }
}

typedef struct {
    const fc_segment *segments;
    ptrdiff_t count, pixels;
    int direct; /* the tile may be written to y as it stands */
} panel_place;

static panel_place place_panel(const conv_job *job, const fc_segment *segments,
                               ptrdiff_t count) {
    const fc_segment *last = &segments[count - 1];
    panel_place place = {.segments = segments, .count = count};
    place.pixels = last->lane + last->length;
    place.direct = job->y_dense && segments[0].n == last->n &&
                   place.pixels % job->t->lanes == 0;
    return place;
}

static void run_tile(const conv_job *job, fc_tile *tile, ptrdiff_t oc, const panel_place *place) {
    if (place->direct) {
        tile->c = pixel_address(job, oc, &place->segments[0]);
        tile->ldc = job->y.stride[1];
        job->t->gemm_tile(tile);
        return;
    }
    _Alignas(64) char stack[FC_MAX_MR * FC_MAX_NR * sizeof(float)];
    tile->c = stack;
    tile->ldc = job->plan.nr;
    if (tile->init == FC_INIT_LOAD)
        move_tile(job, oc, tile->m, place->segments, place->count, stack, 0);
    job->t->gemm_tile(tile);
    move_tile(job, oc, tile->m, place->segments, place->count, stack, 1);
}

/* ---- tasks --------------------------------------------------------------------------------- */

static void multiply_block(const conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                           ptrdiff_t oc_first, ptrdiff_t oc_last, const panel_place *places,
                           ptrdiff_t panels, const char *packed) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, sum = b->channels * b->taps;
    const int first = b->channel == 0 && b->tap == 0;
    const int last = b->channel + b->channels == job->g.C / job->g.G &&
                     b->tap + b->taps == fc_volume(job->g.kernel);
    fc_tile tile = {.k_outer = 1, .k_inner = sum, .b_step = job->plan.nr};
    tile.init = !first ? FC_INIT_LOAD : job->bias ? FC_INIT_BIAS : FC_INIT_ZERO;
    tile.relu = last && job->relu;
    for (ptrdiff_t oc = oc_first; oc < oc_last; oc += job->plan.mr) {
        const ptrdiff_t channel = group * (job->g.OC / job->g.G) + oc;
        tile.m = FC_MIN(job->plan.mr, oc_last - oc);
        tile.a = weight_panel(job, group, b, oc);
        tile.bias = job->packed_bias + channel * itemsize;
        for (ptrdiff_t p = 0; p < panels; p++) {
            tile.b = packed + p * sum * job->plan.nr * itemsize;
            tile.vectors = fc_ceil_div(places[p].pixels, job->t->lanes);
            run_tile(job, &tile, channel, &places[p]);
        }
    }
}

static void compute_task(void *context, ptrdiff_t task, int slot) {
    const conv_job *job = context;
    const fc_conv_plan *plan = &job->plan;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize;
    const ptrdiff_t oc_block = task % plan->oc_blocks;
    const ptrdiff_t pixel_block = task / plan->oc_blocks % plan->pixel_blocks;
    const ptrdiff_t group = job->first_group + task / plan->oc_blocks / plan->pixel_blocks;
    const ptrdiff_t oc_first = job->first_oc + oc_block * plan->oc_block;
    const ptrdiff_t oc_last = FC_MIN(oc_first + plan->oc_block, job->first_oc + job->ocs);
    const ptrdiff_t pixels = job->g.N * fc_volume(job->g.out);
    const ptrdiff_t start = pixel_block * plan->pixel_block;
    const ptrdiff_t end = FC_MIN(start + plan->pixel_block, pixels);

    char *packed = job->slots + (size_t)slot * job->slot_bytes;
    fc_segment *segments = (fc_segment *)(packed + fc_align((size_t)(plan->pixel_block *
                                                                     plan->channel_block *
                                                                     plan->tap_block * itemsize)));
    panel_place places[FC_MAX_PANELS];
    ptrdiff_t panels = 0, used = 0;
    for (ptrdiff_t p = start; p < end; p += plan->nr) {
        const ptrdiff_t count =
            find_segments(&job->g, p, FC_MIN(plan->nr, end - p), segments + used);
        places[panels++] = place_panel(job, segments + used, count);
        used += count;
    }
    for (ptrdiff_t block = 0; block < fc_sum_blocks(&job->g, plan); block++) {
        const fc_sum_block b = fc_sum_block_at(&job->g, plan, block);
        for (ptrdiff_t p = 0; p < panels; p++)
            pack_panel(job, group, &b, places[p].segments, places[p].count,
                       packed + p * b.channels * b.taps * plan->nr * itemsize);
        multiply_block(job, group, &b, oc_first, oc_last, places, panels, packed);
    }
}

/* ---- the call ------------------------------------------------------------------------------ */

static void run_chunk(conv_job *job) {
    const ptrdiff_t blocks = fc_sum_blocks(&job->g, &job->plan);
    fc_parallel_for(job->plan.threads,
                    job->groups * blocks * fc_ceil_div(job->ocs, job->plan.mr), pack_weights_task,
                    job);
    const ptrdiff_t oc_blocks = fc_ceil_div(job->ocs, job->plan.oc_block);
    job->plan.oc_blocks = oc_blocks;
    fc_parallel_for(job->plan.threads, job->groups * job->plan.pixel_blocks * oc_blocks,
                    compute_task, job);
}

static void run_chunks(conv_job *job) {
    const ptrdiff_t ocs = job->g.OC / job->g.G;
    for (ptrdiff_t group = 0; group < job->g.G; group += job->plan.group_chunk) {
        job->first_group = group;
        job->groups = FC_MIN(job->plan.group_chunk, job->g.G - group);
        for (ptrdiff_t oc = 0; oc < ocs; oc += job->plan.oc_chunk) {
            job->first_oc = oc;
            job->ocs = FC_MIN(job->plan.oc_chunk, ocs - oc);
            run_chunk(job);
        }
    }
}

fc_status fc_conv_core(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                       ptrdiff_t w_group, const fc_array *bias, const fc_array *y, int relu) {
    conv_job job = {.g = *g, .x = *x, .w = *w, .w_group = w_group, .y = *y};
    job.bias = bias;
    job.relu = relu;
    if (g->N == 0)
        return fc_conv_check(g);
    if (g->C == g->G && g->G > 1)
        return fc_conv_depthwise(g, dtype, x, w, w_group, bias, y, relu);
    fc_flatten_pointwise(&job.g, &job.x, &job.y);
    const fc_status status = fc_plan_conv(&job.g, dtype, &job.plan);
    if (status)
        return status;
    job.t = fc_table(dtype);
    const ptrdiff_t size[] = {job.g.N, job.g.C, job.g.in[0], job.g.in[1], job.g.in[2]};
    job.x_end = fc_array_end(&job.x, size, job.t->itemsize);
    job.y_dense = job.y.stride[4] == 1 && fc_is_dense(&job.y, job.g.out);
    job.slot_bytes = fc_slot_bytes(&job.plan, job.t->itemsize);
    job.weights = fc_workspace_acquire(job.plan.workspace_bytes);
    if (!job.weights)
        return FC_NO_MEMORY;
    job.slots = job.weights + fc_weights_bytes(&job.g, &job.plan, job.t->itemsize);
    job.packed_bias = job.slots - fc_align((size_t)job.g.OC * job.t->itemsize);
    if (bias)
        pack_bias(&job);
    run_chunks(&job);
    fc_workspace_release(job.weights);
    return FC_OK;
}

fc_status fc_conv_forward(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                          const fc_array *bias, const fc_array *y, int relu) {
    if (g->G < 1)
        return FC_BAD_GEOMETRY;
    return fc_conv_core(g, dtype, x, w, g->OC / g->G * w->stride[0], bias, y, relu);
}
