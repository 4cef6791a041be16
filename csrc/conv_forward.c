/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution as an implicit GEMM.
 *
 *   y[oc][pixel] = sum over k = (c, kd, kh, kw) of w[oc][k] * cols[k][pixel]
 *
 * The matrix cols (im2col) never exists as a whole. Output pixels of all images form one axis. A
 * task takes a block of them and, for one block of the summed axis after the other, packs the
 * piece of cols it needs into panels [k][pixels], then multiplies every weight panel [k][ocs] by
 * them (where fewer channels share a panel, rows of the image take its place: conv_shifted.c):
 *
 *   pixel panels | 1  | 2  | 3  |     one task: pixel_block x oc_block
 *   oc panel     |tile|tile|tile|     weights were packed once per call, in panels */
#include "conv_job.h"

/* ---- tiles --------------------------------------------------------------------------------- */

static char *pixel_address(const fc_conv_job *job, ptrdiff_t oc, const fc_segment *s) {
    const ptrdiff_t *stride = job->y.stride;
    return fc_at(&job->y, job->t->itemsize, s->n, oc) +
           (s->out[0] * stride[2] + s->out[1] * stride[3] + s->out[2] * stride[4]) *
               (ptrdiff_t)job->t->itemsize;
}

/* Strides of a tile on the stack: pixels are its columns, swapped its rows. */
static ptrdiff_t tile_oc_stride(const fc_conv_job *job) {
    return job->plan.swapped ? 1 : job->t->nr;
}

static ptrdiff_t tile_pixel_stride(const fc_conv_job *job) {
    return job->plan.swapped ? job->t->nr : 1;
}

/* Moves a tile from the stack to y, or back before more is added to it. */
static void move_tile(const fc_conv_job *job, ptrdiff_t oc, ptrdiff_t ocs,
                      const fc_segment *segments, ptrdiff_t count, char *tile, int to_y) {
    const ptrdiff_t oc_stride = tile_oc_stride(job), pixel_stride = tile_pixel_stride(job);
    for (ptrdiff_t s = 0; s < count; s++) {
        char *y = pixel_address(job, oc, &segments[s]);
        char *place = tile + segments[s].lane * pixel_stride * (ptrdiff_t)job->t->itemsize;
        fc_copy copy = {.rows = ocs, .cols = segments[s].length};
        copy.src = to_y ? place : y;
        copy.src_row = to_y ? oc_stride : job->y.stride[1];
        copy.src_col = to_y ? pixel_stride : job->y.stride[4];
        copy.dst = to_y ? y : place;
        copy.dst_row = to_y ? job->y.stride[1] : oc_stride;
        copy.dst_col = to_y ? job->y.stride[4] : pixel_stride;
        job->t->copy_2d(&copy);
    }
}

/* Whether the tile may be written to y as it stands: whole vectors of neighbours in y. */
static int writes_directly(const fc_conv_job *job, const fc_panel *place, ptrdiff_t ocs) {
    const ptrdiff_t along = job->plan.swapped ? ocs : place->pixels;
    const ptrdiff_t stride = job->plan.swapped ? job->y.stride[1] : job->y.stride[4];
    return place->one_run && stride == 1 && along % job->t->lanes == 0;
}

/* Scratch memory of a task. */
typedef struct {
    char *image, *weights, *tiles;
    fc_segment *segments;
} scratch;

static scratch carve_scratch(const fc_conv_job *job, int slot) {
    scratch s;
    s.image = job->slots + (size_t)slot * job->slot_bytes;
    s.segments = (fc_segment *)(s.image + fc_image_bytes(&job->plan, job->t->itemsize));
    s.weights = (char *)s.segments + fc_segments_bytes(&job->plan);
    s.tiles = s.weights + fc_panel_bytes(&job->plan, job->t->itemsize);
    return s;
}

/* Runs the tile and brings the result to y: at once where y has the tile's shape, else by way of
 * `stored`, which keeps the tile between the blocks of the sum, or of a tile on the stack. */
static void run_tile(const fc_conv_job *job, fc_tile *tile, ptrdiff_t oc, ptrdiff_t ocs,
                     const fc_panel *place, char *stored, int last) {
    _Alignas(64) char stack[FC_MAX_MR * FC_MAX_NR * sizeof(float)];
    if (writes_directly(job, place, ocs)) {
        tile->c = pixel_address(job, oc, &place->segments[0]);
        tile->ldc = job->plan.swapped ? job->y.stride[4] : job->y.stride[1];
        job->t->gemm_tile(tile);
        return;
    }
    tile->c = stored ? stored : stack;
    tile->ldc = job->t->nr;
    if (tile->init == FC_INIT_LOAD && !stored)
        move_tile(job, oc, ocs, place->segments, place->count, tile->c, 0);
    job->t->gemm_tile(tile);
    if (last || !stored)
        move_tile(job, oc, ocs, place->segments, place->count, tile->c, 1);
}

/* ---- tasks --------------------------------------------------------------------------------- */

/* The filters of channel oc, inside its group, and those behind it, from the block's first k on. */
static const char *weights_at(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                              ptrdiff_t oc) {
    return fc_at(&job->w, job->t->itemsize, oc, b->channel) +
           (group * job->w_group + b->tap) * (ptrdiff_t)job->t->itemsize;
}

/* The filters that the tile will read after those it is reading, to be asked for meanwhile: the panel at
 * `oc` of a block. Filters that it reads as they stand, or that are packed here, are one run of memory if
 * the block holds them whole; else NULL, as for no block. */
static const char *weights_ahead(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                                 ptrdiff_t oc) {
    const fc_weights_use use = job->plan.weights;
    if (!b)
        return NULL;
    if (use != FC_WEIGHTS_DIRECT && use != FC_WEIGHTS_IN_TASKS)
        return fc_weight_panel(job, group, b, oc);
    return job->w.stride[0] == b->channels * b->taps ? weights_at(job, group, b, oc) : NULL;
}

/* Where the tile finds the filters of the panel at `oc`, which are packed now if need be. */
static const char *find_weights(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                                ptrdiff_t oc, ptrdiff_t ocs, const scratch *s, fc_tile *tile) {
    tile->a_row = 1;
    tile->a_step = ocs;
    if (job->plan.weights == FC_WEIGHTS_IN_TASKS) {
        fc_pack_weight_panel(job, group, b, oc, ocs, s->weights);
        return s->weights;
    }
    if (job->plan.weights != FC_WEIGHTS_DIRECT)
        return fc_weight_panel(job, group, b, oc);
    tile->a_row = job->w.stride[0];
    tile->a_step = 1;
    return weights_at(job, group, b, oc);
}

/* `after` is the block that comes next, or NULL. */
static void multiply_block(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                           const fc_sum_block *after, ptrdiff_t oc_first, ptrdiff_t oc_last,
                           const fc_panel *places, ptrdiff_t panels, const scratch *s) {
    const fc_conv_plan *plan = &job->plan;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, sum = b->channels * b->taps;
    const int swapped = plan->swapped, first = b->channel == 0 && b->tap == 0;
    const int last = b->channel + b->channels == job->g.C / job->g.G &&
                     b->tap + b->taps == fc_volume(job->g.kernel);
    const fc_init start = swapped ? FC_INIT_BIAS_COLUMNS : FC_INIT_BIAS;
    fc_tile tile = {.k_outer = 1, .k_inner = sum, .b_step = job->t->nr};
    if (plan->shifted) {
        tile.k_outer = b->channels;
        tile.k_inner = b->taps;
        tile.b_row = plan->channel_step;
        tile.b_at = job->offsets;
    }
    tile.init = !first ? FC_INIT_LOAD : job->bias ? start : FC_INIT_ZERO;
    tile.relu = last ? job->relu : FC_NO_RELU;
    /* each panel of pixels asks for its share, half a cache line at most: the tile asks once in two steps */
    tile.ahead_step = FC_MIN(32, fc_ceil_div(plan->oc_panel * itemsize, panels));
    char *stored = plan->tiles_in_scratch ? s->tiles : NULL;
    const ptrdiff_t first_channel = group * (job->g.C / job->g.G) + b->channel;
    /* panels lie one after the other, or start at pixels of one image */
    const ptrdiff_t k_step = plan->shifted ? 1 : sum;
    for (ptrdiff_t oc = oc_first; oc < oc_last; oc += plan->oc_panel) {
        const ptrdiff_t channel = group * (job->g.OC / job->g.G) + oc;
        const ptrdiff_t ocs = FC_MIN(plan->oc_panel, oc_last - oc);
        const char *weights = find_weights(job, group, b, oc, ocs, s, &tile);
        tile.bias = job->packed_bias + channel * itemsize;
        const ptrdiff_t next = oc + plan->oc_panel;
        tile.ahead = next < oc_last ? weights_ahead(job, group, b, next)
                                    : weights_ahead(job, group, after, oc_first);
        for (ptrdiff_t p = 0; p < panels; p++) {
            const ptrdiff_t pixels = places[p].pixels;
            const char *image = s->image + places[p].start * k_step * itemsize;
            if (places[p].in_x)
                image = places[p].in_x + first_channel * job->x.stride[1] * itemsize;
            if (!plan->shifted)
                tile.b_step = places[p].in_x ? job->x.stride[1] : job->t->nr;
            tile.m = swapped ? pixels : ocs;
            if (swapped)
                tile.a_step = pixels;
            tile.vectors = fc_ceil_div(swapped ? ocs : pixels, job->t->lanes);
            tile.a = swapped ? image : weights;
            tile.b = swapped ? weights : image;
            if (p > 0 && tile.ahead)
                tile.ahead += tile.ahead_step * sum;
            if (job->merge) {
                tile.c = s->tiles + ((oc - oc_first) * plan->out_step + places[p].start) * itemsize;
                tile.ldc = plan->out_step;
                job->t->gemm_tile(&tile);
                continue;
            }
            run_tile(job, &tile, channel, ocs, &places[p], stored, last);
            if (stored)
                stored += plan->pixel_panel * plan->oc_panel * itemsize;
        }
    }
}

static void compute_task(void *context, ptrdiff_t task, int slot) {
    const fc_conv_job *job = context;
    const fc_conv_plan *plan = &job->plan;
    const ptrdiff_t oc_block = task % plan->oc_blocks;
    const ptrdiff_t pixel_block = task / plan->oc_blocks % plan->pixel_blocks;
    const ptrdiff_t group = job->first_group + task / plan->oc_blocks / plan->pixel_blocks;
    const ptrdiff_t oc_first = job->first_oc + oc_block * plan->oc_block;
    const ptrdiff_t oc_last = FC_MIN(oc_first + plan->oc_block, job->first_oc + job->ocs);
    const scratch s = carve_scratch(job, slot);
    fc_panel panels[FC_MAX_PIXELS];
    const ptrdiff_t count = plan->shifted ? fc_shifted_panels(job, pixel_block, panels, s.segments)
                                          : fc_find_panels(job, pixel_block, panels, s.segments);
    const ptrdiff_t blocks = fc_sum_blocks(&job->g, plan);
    for (ptrdiff_t block = 0; block < blocks; block++) {
        const fc_sum_block b = fc_sum_block_at(&job->g, plan, block);
        const fc_sum_block after = fc_sum_block_at(&job->g, plan, block + 1);
        if (plan->shifted)
            fc_store_rows(job, group, &b, pixel_block, s.image);
        else
            fc_pack_panels(job, group, &b, panels, count, s.image);
        multiply_block(job, group, &b, block + 1 < blocks ? &after : NULL, oc_first, oc_last,
                       panels, count, &s);
    }
    if (job->merge)
        fc_merge_rows(job, group, pixel_block, s.tiles);
}

/* ---- the call ------------------------------------------------------------------------------ */

static void pack_weights(fc_conv_job *job) {
    /* a few filters are packed sooner than a second thread wakes */
    const double elements = (double)job->groups * (double)job->ocs *
                            (double)(job->g.C / job->g.G * fc_volume(job->g.kernel));
    fc_parallel_for(elements < 16384 ? 1 : job->plan.threads, fc_pack_weights_tasks(job),
                    fc_pack_weights, job);
}

static void run_chunk(fc_conv_job *job) {
    if (job->plan.weights == FC_WEIGHTS_PACKED)
        pack_weights(job);
    job->plan.oc_blocks = fc_ceil_div(job->ocs, job->plan.oc_block);
    fc_parallel_for(job->plan.threads, job->groups * job->plan.pixel_blocks * job->plan.oc_blocks,
                    compute_task, job);
}

static void run_chunks(fc_conv_job *job) {
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

/* Does what is planned. */
static fc_status run_job(fc_conv_job *job) {
    const fc_conv *g = &job->g;
    const size_t itemsize = job->t->itemsize;
    const ptrdiff_t size[] = {g->N, g->C, g->in[0], g->in[1], g->in[2]};
    fc_array_bounds(&job->x, size, itemsize, &job->x_begin, &job->x_end);
    job->reads_x = fc_reads_x(job);
    job->slot_bytes = fc_slot_bytes(&job->plan, itemsize);
    char *memory = fc_workspace_acquire(job->plan.workspace_bytes);
    if (!memory)
        return FC_NO_MEMORY;
    job->weights = job->prepared ? (char *)job->prepared : memory;
    job->offsets = (ptrdiff_t *)(memory + fc_weights_bytes(g, &job->plan, itemsize));
    job->packed_bias = (char *)job->offsets - fc_bias_bytes(g, itemsize);
    job->slots = (char *)job->offsets + fc_offsets_bytes(g, &job->plan);
    if (job->plan.shifted)
        fc_find_offsets(job);
    if (job->bias)
        fc_pack_bias(job);
    run_chunks(job);
    fc_workspace_release(memory);
    return FC_OK;
}

fc_status fc_conv_gemm(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_filters *w,
                       const fc_array *bias, const fc_array *y, int relu) {
    fc_conv_job job = {.g = *g, .x = *x, .w = w->plain, .w_group = w->group, .y = *y};
    job.t = fc_table(dtype);
    job.prepared = w->packed;
    job.bias = bias;
    job.relu = relu;
    fc_flatten_pointwise(&job.g, &job.x, &job.y);
    job.y_dense = fc_is_dense(&job.y, job.g.out);
    const int channels_last = job.y.stride[1] == 1 && job.g.OC > 1 && job.y.stride[4] != 1;
    const ptrdiff_t weight_row = fc_weights_are_dense(&job.g, &job.w) ? job.w.stride[0] : 0;
    const fc_status status =
        w->packed ? fc_plan_prepared(&job.g, dtype, channels_last, w->form, &job.plan)
                  : fc_plan_conv(&job.g, dtype, channels_last, weight_row, &job.plan);
    return status ? status : run_job(&job);
}

fc_status fc_conv_merged(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                         ptrdiff_t w_group, const fc_array *bias, const fc_merge *merge,
                         int *finite) {
    fc_conv_job job = {.g = *g, .x = *x, .w = *w, .w_group = w_group, .merge = merge};
    atomic_int infinite = 0;
    job.t = fc_table(dtype);
    job.bias = bias;
    job.infinite = &infinite;
    const ptrdiff_t weight_row = fc_weights_are_dense(g, w) ? w->stride[0] : 0;
    fc_status status = fc_plan_merged(g, dtype, weight_row, &job.plan);
    if (!status)
        status = run_job(&job);
    *finite = !atomic_load(&infinite);
    return status;
}

fc_status fc_gemm_pack(const fc_conv *g, fc_dtype dtype, fc_form form, const fc_filters *w,
                       void *dst) {
    fc_conv_job job = {.g = *g, .w = w->plain, .w_group = w->group, .weights = dst};
    const fc_status status = fc_plan_prepared(g, dtype, 0, form, &job.plan);
    if (status)
        return status;
    job.t = fc_table(dtype);
    job.groups = g->G;
    job.ocs = g->OC / g->G;
    pack_weights(&job);
    return FC_OK;
}

fc_status fc_conv_core(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *x,
                       const fc_array *w, ptrdiff_t w_group, const fc_array *bias,
                       const fc_array *y, int relu, const char *gate) {
    fc_status status = fc_conv_check(g);
    const fc_filters filters = {.plain = *w, .group = w_group};
    fc_conv limited = *g;
    if (status || g->N == 0)
        return status;
    fc_limit_strides(g->in, g->out, limited.stride);
    if (algo == FC_AUTO)
        algo = fc_auto_algo(g, dtype);
    if (fc_is_winograd(algo))
        return fc_conv_winograd(&limited, dtype, fc_winograd_edge(algo), x, &filters, bias, y, relu,
                                gate);
    status = fc_is_depthwise(g) ? fc_conv_depthwise(&limited, dtype, x, w, w_group, bias, y, relu)
                                : fc_conv_gemm(&limited, dtype, x, &filters, bias, y, relu);
    if (!status && gate)
        fc_relu_grad(dtype, g->N * g->OC * fc_volume(g->out), y->data, gate, y->data);
    return status;
}

fc_status fc_conv_forward(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *x,
                          const fc_array *w, const fc_array *bias, const fc_array *y, int relu) {
    if (g->G < 1)
        return FC_BAD_GEOMETRY;
    return fc_conv_core(g, dtype, algo, x, w, g->OC / g->G * w->stride[0], bias, y, relu, NULL);
}
