/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution by Winograd's minimal filtering, F(4x4, 3x3) and F(2x2, 5x5): stride 1, no dilation.
 *
 * The output is cut into tiles of m x m, each made from 6x6 pixels of the image. In the transformed
 * space a tile's sum over the channels is elementwise, so for each of the 36 positions p
 *
 *   M[p][oc][tile] = sum over c of U[p][oc][c] * V[p][c][tile]
 *
 * is a matrix product: 36 products for m*m outputs of r*r taps, 4 times (m = 4, r = 3) or 2.8 times
 * (2, 5) fewer than the direct sum. Tiles of all images form one axis; V is made so that tiles lie
 * as the GEMM tile wants them, no pass turns it:
 *
 *   1. V, the transformed image, for a band of tile rows; one channel a task
 *   2. products and output transform, a block of tiles by a block of output channels a task: M lives
 *      in half the second-level cache
 *
 * or, where all filters stay near the second-level cache, both for a band of its own in one task; or,
 * where there are few tiles, each thread makes the whole V for itself. What one core writes and another
 * one reads is slow.
 *
 * U, the transformed filters, is made once a call; or, where the band is a single block of tiles and
 * U is therefore used once, by each task just before, some channels at a time. */
#include <string.h>

#include "conv_job.h"

enum { POSITIONS = FC_WINO_POSITIONS, EDGE = FC_WINO_EDGE };

/* Tile rows of all images, and their V. */
typedef struct {
    ptrdiff_t first_row, rows;
    char *v;
} wino_band;

typedef struct {
    fc_conv g;
    fc_array x, y;
    const fc_array *bias;
    int relu;
    const fc_kernels *t;
    fc_conv_job pack; /* what fc_pack_weight_panel needs */
    fc_wino_plan plan;
    char *u, *slots;
    wino_band band; /* at work, where all threads share one */
    ptrdiff_t group, first_oc, ocs;
} wino_job;

static ptrdiff_t itemsize_of(const wino_job *job) {
    return (ptrdiff_t)job->t->itemsize;
}

/* ---- filters ------------------------------------------------------------------------------- */

/* [position][channel][filter] of `ocs` <= oc_panel filters from oc and some channels. `packed` has
 * room for their taps and a vector. */
static void transform_panel(const wino_job *job, ptrdiff_t oc, ptrdiff_t ocs, ptrdiff_t channel,
                            ptrdiff_t channels, char *packed, char *dst) {
    const ptrdiff_t r = job->plan.r;
    const fc_sum_block block = {.channel = channel, .channels = channels, .taps = r * r};
    fc_pack_weight_panel(&job->pack, job->group, &block, oc, ocs, packed);
    const fc_wino_weights weights = {.r = r,
                                     .channels = channels,
                                     .filters = ocs,
                                     .src = packed,
                                     .dst = dst,
                                     .dst_step = fc_wino_panel_step(channels, ocs, job->t)};
    job->t->wino_weights(&weights);
}

static ptrdiff_t panel_of(const wino_job *job, ptrdiff_t oc) {
    return FC_MIN(job->plan.oc_panel, job->g.OC / job->g.G - oc);
}

/* U of the panel that has `filters` before it in u. */
static char *panel_at(const wino_job *job, char *u, ptrdiff_t filters) {
    return u + filters / job->plan.oc_panel * job->plan.u_panel_bytes;
}

typedef struct {
    char *split, *packed, *u, *m, *v, *row;
    ptrdiff_t *stamp; /* the group that v was made for */
} scratch;

static scratch carve_scratch(const wino_job *job, int slot) {
    const fc_wino_plan *plan = &job->plan;
    scratch s;
    char *memory = job->slots + (size_t)slot * plan->slot_bytes;
    s.stamp = (ptrdiff_t *)memory;
    memory += FC_WINO_STAMP_BYTES;
    s.split = s.packed = memory; /* used in different steps */
    s.u = memory + plan->packed_bytes;
    s.m = s.u + plan->u_slot_bytes;
    s.v = s.m + plan->m_bytes;
    s.row = s.v + plan->v_slot_bytes;
    return s;
}

static void weights_task(void *context, ptrdiff_t task, int slot) {
    const wino_job *job = context;
    const ptrdiff_t oc = job->first_oc + task * job->plan.oc_panel;
    const scratch s = carve_scratch(job, slot);
    transform_panel(job, oc, panel_of(job, oc), 0, job->g.C / job->g.G, s.packed,
                    panel_at(job, job->u, oc - job->first_oc));
}

/* ---- image --------------------------------------------------------------------------------- */

/* V: [tile block][position][channel][tile], rows of a block a vector longer than its tiles. */
static char *v_at(const wino_job *job, const wino_band *band, ptrdiff_t tile, ptrdiff_t channel) {
    const ptrdiff_t block = tile / job->plan.tile_block;
    const ptrdiff_t at = block * POSITIONS * job->plan.v_step + channel * job->plan.tile_pitch;
    return band->v + (at + tile % job->plan.tile_block) * itemsize_of(job);
}

/* The rows of the image under `count` tile rows of image n, split by columns modulo m, in zeros. */
static void split_rows(const wino_job *job, ptrdiff_t n, ptrdiff_t tile_row, ptrdiff_t count,
                       ptrdiff_t channel, char *dst) {
    const fc_conv *g = &job->g;
    const ptrdiff_t m = job->plan.m, rows = m * count + EDGE - m;
    const ptrdiff_t row_bytes = m * job->plan.phase_pitch * itemsize_of(job);
    const ptrdiff_t pad = FC_MAX(g->pad[2], 0), crop = FC_MAX(-g->pad[2], 0);
    const ptrdiff_t columns = FC_MIN(g->in[2] - crop, m * job->plan.tile_cols + EDGE - m - pad);
    const char *plane = fc_at(&job->x, job->t->itemsize, n, job->group * (g->C / g->G) + channel) +
                        crop * job->x.stride[4] * itemsize_of(job);
    memset(dst, 0, (size_t)(rows * row_bytes));
    for (ptrdiff_t i = 0; i < rows; i++, dst += row_bytes) {
        const ptrdiff_t ih = tile_row * m + i - g->pad[1];
        if (ih >= 0 && ih < g->in[1] && columns > 0)
            job->t->split_row(columns, m, pad, plane + ih * job->x.stride[3] * itemsize_of(job),
                              job->x.stride[4], dst, job->plan.phase_pitch);
    }
}

/* One tile row of one channel; it may go to several blocks. */
static void transform_row(const wino_job *job, const wino_band *band, ptrdiff_t tile,
                          ptrdiff_t channel, const char *rows) {
    const fc_wino_plan *plan = &job->plan;
    fc_wino_input input = {.m = plan->m,
                           .src_row = plan->m * plan->phase_pitch,
                           .src_phase = plan->phase_pitch,
                           .dst_step = plan->v_step};
    for (ptrdiff_t done = 0; done < plan->tile_cols; done += input.tiles) {
        const ptrdiff_t lane = (tile + done) % plan->tile_block;
        input.tiles = FC_MIN(plan->tile_cols - done, plan->tile_block - lane);
        input.src = rows + done * itemsize_of(job);
        input.dst = v_at(job, band, tile + done, channel);
        job->t->wino_input(&input);
    }
}

static void transform_channel(const wino_job *job, const wino_band *band, ptrdiff_t channel,
                              char *split) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t tile_row_bytes = plan->m * plan->m * plan->phase_pitch * itemsize_of(job);
    for (ptrdiff_t row = 0, count; row < band->rows; row += count) {
        const ptrdiff_t n = (band->first_row + row) / plan->tile_rows;
        const ptrdiff_t tile_row = (band->first_row + row) % plan->tile_rows;
        count = FC_MIN(FC_MIN(band->rows - row, plan->tile_rows - tile_row), plan->split_rows);
        split_rows(job, n, tile_row, count, channel, split);
        for (ptrdiff_t i = 0; i < count; i++)
            transform_row(job, band, (row + i) * plan->tile_cols, channel,
                          split + i * tile_row_bytes);
    }
}

static void image_task(void *context, ptrdiff_t channel, int slot) {
    const wino_job *job = context;
    const scratch s = carve_scratch(job, slot);
    transform_channel(job, &job->band, channel, s.split);
}

/* ---- products ------------------------------------------------------------------------------ */

/* M of a block of tiles and of output channels, whose U it gets, from some channels. */
static void multiply(const wino_job *job, const wino_band *band, ptrdiff_t tile, ptrdiff_t tiles,
                     ptrdiff_t oc_first, ptrdiff_t oc_last, ptrdiff_t channel, ptrdiff_t channels,
                     char *u, char *m) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t itemsize = itemsize_of(job), nr = job->t->nr;
    fc_tile product = {.k_outer = 1,
                       .k_inner = channels,
                       .a_row = 1,
                       .b_step = plan->tile_pitch,
                       .ldc = plan->tile_block,
                       .init = channel ? FC_INIT_LOAD : FC_INIT_ZERO};
    for (ptrdiff_t p = 0; p < POSITIONS; p++) {
        const char *v = v_at(job, band, tile, channel) + p * plan->v_step * itemsize;
        for (ptrdiff_t oc = oc_first; oc < oc_last; oc += plan->oc_panel) {
            const ptrdiff_t ocs = panel_of(job, oc),
                            step = fc_wino_panel_step(channels, ocs, job->t);
            product.m = product.a_step = ocs;
            product.a = panel_at(job, u, oc - oc_first) + p * step * itemsize;
            for (ptrdiff_t t = 0; t < tiles; t += nr) {
                product.vectors = fc_ceil_div(FC_MIN(tiles - t, nr), job->t->lanes);
                product.b = v + t * itemsize;
                product.c =
                    m + (p * plan->m_step + (oc - oc_first) * plan->tile_block + t) * itemsize;
                job->t->gemm_tile(&product);
            }
        }
    }
}

/* The part of a tile row that lies in the block, one output channel. */
static void store_run(const wino_job *job, const wino_band *band, ptrdiff_t tile, ptrdiff_t tiles,
                      ptrdiff_t channel, const char *m, double bias, char *row) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t itemsize = itemsize_of(job), *stride = job->y.stride;
    const ptrdiff_t band_row = band->first_row + tile / plan->tile_cols;
    const ptrdiff_t n = band_row / plan->tile_rows, oh = band_row % plan->tile_rows * plan->m;
    const ptrdiff_t ow = tile % plan->tile_cols * plan->m;
    char *y =
        fc_at(&job->y, job->t->itemsize, n, channel) + (oh * stride[3] + ow * stride[4]) * itemsize;
    const fc_wino_output output = {.m = plan->m,
                                   .width = FC_MIN(tiles * plan->m, job->g.out[2] - ow),
                                   .rows = FC_MIN(plan->m, job->g.out[1] - oh),
                                   .src = m,
                                   .src_step = plan->m_step,
                                   .dst = stride[4] == 1 ? y : row,
                                   .dst_row = stride[4] == 1 ? stride[3] : plan->row_pitch,
                                   .bias = bias,
                                   .relu = job->relu};
    job->t->wino_output(&output);
    if (stride[4] == 1)
        return;
    const fc_copy copy = {.rows = output.rows,
                          .cols = output.width,
                          .src = row,
                          .src_row = plan->row_pitch,
                          .src_col = 1,
                          .dst = y,
                          .dst_row = stride[3],
                          .dst_col = stride[4]};
    job->t->copy_2d(&copy);
}

/* Products of a band: tile blocks x blocks of output channels. */
static ptrdiff_t products_of(const wino_job *job, const wino_band *band) {
    return fc_ceil_div(band->rows * job->plan.tile_cols, job->plan.tile_block) *
           fc_ceil_div(job->ocs, job->plan.oc_block);
}

static void run_product(const wino_job *job, const wino_band *band, ptrdiff_t task,
                        const scratch *s) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t itemsize = itemsize_of(job), channels = job->g.C / job->g.G;
    const ptrdiff_t oc_blocks = fc_ceil_div(job->ocs, plan->oc_block);
    const ptrdiff_t tile = task / oc_blocks * plan->tile_block;
    const ptrdiff_t tiles = FC_MIN(plan->tile_block, band->rows * plan->tile_cols - tile);
    const ptrdiff_t oc_first = job->first_oc + task % oc_blocks * plan->oc_block;
    const ptrdiff_t oc_last = FC_MIN(oc_first + plan->oc_block, job->first_oc + job->ocs);
    char *u = plan->u_in_tasks ? s->u : panel_at(job, job->u, oc_first - job->first_oc);
    for (ptrdiff_t channel = 0; channel < channels; channel += plan->channel_block) {
        const ptrdiff_t count = FC_MIN(plan->channel_block, channels - channel);
        if (plan->u_in_tasks)
            for (ptrdiff_t oc = oc_first; oc < oc_last; oc += plan->oc_panel)
                transform_panel(job, oc, panel_of(job, oc), channel, count, s->packed,
                                panel_at(job, u, oc - oc_first));
        multiply(job, band, tile, tiles, oc_first, oc_last, channel, count, u, s->m);
    }
    for (ptrdiff_t oc = oc_first; oc < oc_last; oc++) {
        const ptrdiff_t all = job->group * (job->g.OC / job->g.G) + oc;
        const double bias = job->bias ? fc_bias_at(job->t, job->bias, all) : 0;
        const char *m = s->m + (oc - oc_first) * plan->tile_block * itemsize;
        for (ptrdiff_t t = 0, run; t < tiles; t += run) {
            run = FC_MIN(tiles - t, plan->tile_cols - (tile + t) % plan->tile_cols);
            store_run(job, band, tile + t, run, all, m + t * itemsize, bias, s->row);
        }
    }
}

static wino_band band_at(const wino_job *job, ptrdiff_t first_row, char *v) {
    const ptrdiff_t rows = job->g.N * job->plan.tile_rows;
    return (wino_band){first_row, FC_MIN(job->plan.band_rows, rows - first_row), v};
}

static void transform_band(const wino_job *job, const wino_band *band, char *split) {
    for (ptrdiff_t channel = 0; channel < job->g.C / job->g.G; channel++)
        transform_channel(job, band, channel, split);
}

static void product_task(void *context, ptrdiff_t task, int slot) {
    const wino_job *job = context;
    const scratch s = carve_scratch(job, slot);
    wino_band band = job->band;
    if (job->plan.own_v) {
        band.v = s.v;
        if (*s.stamp != job->group)
            transform_band(job, &band, s.split);
        *s.stamp = job->group;
    }
    run_product(job, &band, task, &s);
}

static void band_task(void *context, ptrdiff_t task, int slot) {
    const wino_job *job = context;
    const scratch s = carve_scratch(job, slot);
    const wino_band band = band_at(job, task * job->plan.band_rows, s.v);
    transform_band(job, &band, s.split);
    for (ptrdiff_t i = 0; i < products_of(job, &band); i++)
        run_product(job, &band, i, &s);
}

/* ---- the call ------------------------------------------------------------------------------ */

static void transform_weights(wino_job *job) {
    fc_parallel_for(job->plan.threads, fc_ceil_div(job->ocs, job->plan.oc_panel), weights_task,
                    job);
}

static void run_chunk(wino_job *job, char *v) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t rows = job->g.N * plan->tile_rows;
    if (!plan->u_in_tasks && !plan->prepared)
        transform_weights(job);
    if (plan->own_bands) {
        fc_parallel_for(plan->threads, fc_ceil_div(rows, plan->band_rows), band_task, job);
        return;
    }
    for (ptrdiff_t row = 0; row < rows; row += plan->band_rows) {
        job->band = band_at(job, row, v);
        if (!plan->own_v)
            fc_parallel_for(plan->threads, job->g.C / job->g.G, image_task, job);
        fc_parallel_for(plan->threads, products_of(job, &job->band), product_task, job);
    }
}

/* Transformed beforehand: [group][panel][position][channel][filter]. */
static char *prepared_panel(const wino_job *job, const void *packed) {
    const ptrdiff_t group = fc_ceil_div(job->g.OC / job->g.G, job->plan.oc_panel);
    return panel_at(job, (char *)packed + job->group * group * job->plan.u_panel_bytes,
                    job->first_oc);
}

fc_status fc_conv_winograd(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_filters *w,
                           const fc_array *bias, const fc_array *y, int relu) {
    wino_job job = {.g = *g, .x = *x, .y = *y, .bias = bias, .relu = relu};
    job.t = fc_table(dtype);
    fc_tidy_width(&job.x, g->in);
    fc_tidy_width(&job.y, g->out);
    const fc_status status = fc_plan_winograd(g, dtype, w->packed != NULL, &job.plan);
    if (status)
        return status;
    job.pack = (fc_conv_job){.g = *g, .w = w->plain, .w_group = w->group, .t = job.t};
    char *memory = fc_workspace_acquire(job.plan.workspace_bytes);
    if (!memory)
        return FC_NO_MEMORY;
    job.u = memory;
    char *v = memory + job.plan.u_bytes;
    job.slots = v + job.plan.v_bytes;
    for (int slot = 0; slot < job.plan.threads; slot++)
        *carve_scratch(&job, slot).stamp = -1;
    for (job.group = 0; job.group < g->G; job.group++)
        for (job.first_oc = 0; job.first_oc < g->OC / g->G; job.first_oc += job.plan.oc_chunk) {
            job.ocs = FC_MIN(job.plan.oc_chunk, g->OC / g->G - job.first_oc);
            if (w->packed)
                job.u = prepared_panel(&job, w->packed);
            run_chunk(&job, v);
        }
    fc_workspace_release(memory);
    return FC_OK;
}

size_t fc_winograd_packed_bytes(const fc_conv *g, fc_dtype dtype) {
    fc_wino_plan plan;
    if (fc_plan_winograd(g, dtype, 1, &plan) != FC_OK)
        return 0;
    return (size_t)(g->G * fc_ceil_div(g->OC / g->G, plan.oc_panel) * plan.u_panel_bytes);
}

fc_status fc_winograd_pack(const fc_conv *g, fc_dtype dtype, const fc_filters *w, void *dst) {
    wino_job job = {.g = *g, .t = fc_table(dtype), .ocs = g->OC / g->G};
    const fc_status status = fc_plan_winograd(g, dtype, 1, &job.plan);
    if (status)
        return status;
    job.pack = (fc_conv_job){.g = *g, .w = w->plain, .w_group = w->group, .t = job.t};
    job.slots = fc_workspace_acquire((size_t)job.plan.threads * job.plan.slot_bytes);
    if (!job.slots)
        return FC_NO_MEMORY;
    for (job.group = 0; job.group < g->G; job.group++) {
        job.u = prepared_panel(&job, dst);
        transform_weights(&job);
    }
    fc_workspace_release(job.slots);
    return FC_OK;
}
