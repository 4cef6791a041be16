/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution by Winograd's minimal filtering, F(4x4, 3x3) and F(2x2, 5x5): stride 1, no dilation.
 *
 * The output is cut into tiles of m x m, each made from 6x6 pixels of the image. In the transformed
 * space a tile's sum over the channels is elementwise, so for each of the 36 positions p
 *
 *   M[p][tile][oc] = sum over c of V[p][tile][c] * U[p][c][oc]
 *
 * is a matrix product: 36 products for m*m outputs of r*r taps, 4 times (m = 4, r = 3) or 2.8 times
 * (2, 5) fewer than the direct sum. Channels lie along the vectors in all steps, so that no lane is
 * wasted however small the map: the image is turned to channels last, some channels at a time, and
 * transformed to V, the broadcast side of the GEMM's tile; filters are transformed to U, its vectors;
 * M is transformed to outputs with channels last, which are turned back.
 *
 * A strip is a row of an image's tiles, or a part of one; strips of all images form one axis. What one
 * core writes and another one reads is slow, so:
 *
 *   few tiles beside the filters, V near the second-level cache: a task takes all tiles and a block of
 *      output channels. It transforms its filters, some channels at a time, just before their only
 *      use: U never leaves its core. Each thread makes V for itself, or, where that is too much memory,
 *      all threads make one.
 *   filters near the second-level cache: a task takes a band of strips through all steps, and V never
 *      leaves its core. Each thread makes U for itself, or, where that is too much memory, all make one.
 *   else: U is made first, in chunks; then for one band after the other all threads make V and share
 *      out its products, a block of strips by a block of output channels a task. */
#include <string.h>

#include "winograd.h"

/* A thread's part of the scratch memory. */
typedef struct {
    char *patch, *packed, *u, *m, *v, *row;
    ptrdiff_t *stamp; /* the group that v or u was made for */
} scratch;

static scratch carve_scratch(const fc_wino_job *job, int slot) {
    const fc_wino_plan *plan = &job->plan;
    scratch s;
    char *memory = job->slots + (size_t)slot * fc_slot_step(plan->slot_bytes);
    s.stamp = (ptrdiff_t *)memory;
    memory += FC_WINO_STAMP_BYTES;
    s.patch = s.packed = memory; /* used in different steps */
    s.u = memory + plan->packed_bytes;
    s.m = s.u + plan->u_slot_bytes;
    s.v = s.m + plan->m_bytes;
    s.row = s.v + plan->v_slot_bytes;
    return s;
}

/* The tiles of a strip; row, col: the first one's place in its image. */
typedef struct {
    ptrdiff_t n, row, col, cols;
} wino_strip;

static wino_strip strip_at(const fc_wino_job *job, ptrdiff_t index) {
    const fc_wino_plan *plan = &job->plan;
    wino_strip s;
    s.col = index % plan->col_strips * plan->strip_cols;
    s.cols = FC_MIN(plan->strip_cols, plan->tile_cols - s.col);
    s.row = index / plan->col_strips % plan->tile_rows;
    s.n = index / plan->col_strips / plan->tile_rows;
    return s;
}

/* ---- filters ------------------------------------------------------------------------------- */

/* U of the panel that has `filters` before it in u. */
static char *panel_at(const fc_wino_job *job, char *u, ptrdiff_t filters) {
    return u + filters / job->plan.oc_panel * job->plan.u_panel_bytes;
}

static void weights_task(void *context, ptrdiff_t task, int slot) {
    const fc_wino_job *job = context;
    const ptrdiff_t before = task * job->plan.oc_panel;
    fc_wino_transform_filters(job, job->first_oc + before, carve_scratch(job, slot).packed,
                              panel_at(job, job->u, before));
}

static void transform_weights(fc_wino_job *job) {
    fc_parallel_for(job->plan.threads, fc_ceil_div(job->ocs, job->plan.oc_panel), weights_task,
                    job);
}

/* ---- image --------------------------------------------------------------------------------- */

/* Elements from one strip's first pixel to that of strip `next` of the band in an array; 0 where there is
 * none, or nothing to ask for. */
static ptrdiff_t distance(const fc_wino_job *job, const fc_array *a, const fc_wino_band *band,
                          const wino_strip *from, ptrdiff_t next) {
    if (!job->asks_ahead || next >= band->strips)
        return 0;
    const wino_strip to = strip_at(job, band->first + next);
    return (to.n - from->n) * a->stride[0] + (to.row - from->row) * job->plan.m * a->stride[3] +
           (to.col - from->col) * job->plan.m * a->stride[4];
}

/* The image under `count` strips, one below the other, padding included: dst[row][column][channel], up
 * to nr channels from `channel` on, zeros behind them. The next patch is `ahead` elements on. */
static void turn_patch(const fc_wino_job *job, const wino_strip *s, ptrdiff_t count,
                       ptrdiff_t channel, ptrdiff_t ahead, char *dst) {
    const fc_conv *g = &job->g;
    const ptrdiff_t m = job->plan.m, width = job->t->nr, channels = g->C / g->G;
    const ptrdiff_t more = job->plan.r - 1, cols = m * s->cols + more, rows = m * count + more;
    const ptrdiff_t iw = s->col * m - g->pad[2], *stride = job->x.stride;
    const size_t col_bytes = (size_t)(width * fc_wino_itemsize(job)),
                 row_bytes = (size_t)cols * col_bytes;
    ptrdiff_t first, last;
    fc_valid_range(iw, 1, cols, g->in[2], &first, &last);
    if (channels - channel < width)
        memset(dst, 0, (size_t)rows * row_bytes);
    for (ptrdiff_t row = 0; row < rows; row++, dst += row_bytes) {
        const ptrdiff_t ih = s->row * m - g->pad[1] + row;
        if (ih < 0 || ih >= g->in[1] || first >= last) {
            memset(dst, 0, row_bytes);
            continue;
        }
        memset(dst, 0, (size_t)first * col_bytes);
        memset(dst + (size_t)last * col_bytes, 0, (size_t)(cols - last) * col_bytes);
        const fc_copy copy = {
            .rows = FC_MIN(width, channels - channel),
            .cols = last - first,
            .src = fc_at(&job->x, job->t->itemsize, s->n, job->group * channels + channel) +
                   (ih * stride[3] + (iw + first) * stride[4]) * fc_wino_itemsize(job),
            .src_row = stride[1],
            .src_col = stride[4],
            .dst = dst + (size_t)first * col_bytes,
            .dst_row = 1,
            .dst_col = width,
            .src_ahead = ahead};
        job->t->copy_2d(&copy);
    }
}

/* V of a band, nr channels. */
static void transform_channels(const fc_wino_job *job, const fc_wino_band *band, ptrdiff_t channel,
                               char *patch) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t width = job->t->nr, left = job->g.C / job->g.G - channel;
    fc_wino_input input = {.edge = plan->edge,
                           .m = plan->m,
                           .vectors = fc_ceil_div(FC_MIN(width, left), job->t->lanes),
                           .src = patch,
                           .src_col = width,
                           .dst_tile = plan->v_pitch,
                           .dst_step = plan->v_step};
    for (ptrdiff_t i = 0; i < band->strips; i += input.rows) {
        const wino_strip s = strip_at(job, band->first + i);
        input.cols = s.cols;
        input.src_row = (plan->m * s.cols + plan->r - 1) * width;
        input.rows = FC_MIN(FC_MIN(band->strips - i, plan->tile_rows - s.row), plan->patch_strips);
        turn_patch(job, &s, input.rows, channel, distance(job, &job->x, band, &s, i + input.rows),
                   patch);
        input.dst =
            band->v + (i * plan->strip_cols * plan->v_pitch + channel) * fc_wino_itemsize(job);
        job->t->wino_input(&input);
    }
}

static void transform_band(const fc_wino_job *job, const fc_wino_band *band, char *patch) {
    for (ptrdiff_t channel = 0; channel < job->g.C / job->g.G; channel += job->t->nr)
        transform_channels(job, band, channel, patch);
}

static void image_task(void *context, ptrdiff_t task, int slot) {
    const fc_wino_job *job = context;
    transform_channels(job, &job->band, task * job->t->nr, carve_scratch(job, slot).patch);
}

/* ---- output -------------------------------------------------------------------------------- */

/* Outputs just stored, and so in the first caches, become gradients of a ReLU's input. */
static void pass_gate(const fc_wino_job *job, const fc_copy *stored) {
    const int along_rows = stored->dst_row == 1; /* channels last */
    const ptrdiff_t n = along_rows ? stored->rows : stored->cols;
    const ptrdiff_t runs = along_rows ? stored->cols : stored->rows;
    const ptrdiff_t step =
        (along_rows ? stored->dst_col : stored->dst_row) * (ptrdiff_t)job->t->itemsize;
    char *y = stored->dst;
    const char *x = job->gate + (y - job->y.data);
    for (ptrdiff_t i = 0; i < runs; i++)
        job->t->relu_grad(n, y + i * step, x + i * step, y + i * step);
}

/* Outputs of a strip, [row][column][channel] and without gaps, to where they belong. */
static void store_strip(const fc_wino_job *job, const wino_strip *s, ptrdiff_t channel,
                        ptrdiff_t channels, ptrdiff_t ahead, const char *src) {
    const ptrdiff_t m = job->plan.m, *out = job->g.out, *stride = job->y.stride;
    const ptrdiff_t rows = FC_MIN(m, out[1] - s->row * m);
    const ptrdiff_t cols = FC_MIN(m * s->cols, out[2] - s->col * m);
    const int one = cols == out[2] && stride[3] == cols * stride[4]; /* all rows are one run */
    for (ptrdiff_t row = 0; row < (one ? 1 : rows); row++) {
        const fc_copy copy = {.rows = channels,
                              .cols = (one ? rows : 1) * cols,
                              .src = src + row * cols * job->plan.oc_panel * fc_wino_itemsize(job),
                              .src_row = 1,
                              .src_col = job->plan.oc_panel,
                              .dst = fc_at(&job->y, job->t->itemsize, s->n, channel) +
                                     ((s->row * m + row) * stride[3] + s->col * m * stride[4]) *
                                         fc_wino_itemsize(job),
                              .dst_row = stride[1],
                              .dst_col = stride[4],
                              .dst_ahead = ahead};
        job->t->copy_2d(&copy);
        if (job->gate)
            pass_gate(job, &copy);
    }
}

/* One strip's M of a panel's channels to outputs. `row` has a panel's bias, then room for the outputs. */
static void transform_strip(const fc_wino_job *job, const wino_strip *s, ptrdiff_t channel,
                            ptrdiff_t channels, ptrdiff_t ahead, const char *m, char *row) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t itemsize = fc_wino_itemsize(job), panel = plan->oc_panel;
    const ptrdiff_t cols = FC_MIN(plan->m * s->cols, job->g.out[2] - s->col * plan->m);
    char *outputs = row + panel * itemsize;
    fc_wino_output output = {.edge = plan->edge,
                             .m = plan->m,
                             .rows = FC_MIN(plan->m, job->g.out[1] - s->row * plan->m),
                             .vectors = fc_ceil_div(channels, job->t->lanes),
                             .src_step = plan->m_step,
                             .bias = row,
                             .relu = job->relu,
                             .dst_row = cols * panel,
                             .dst_col = panel};
    for (ptrdiff_t col = 0; col < s->cols; col++) {
        output.src = m + col * plan->oc_block * itemsize;
        output.cols = FC_MIN(plan->m, cols - col * plan->m);
        output.dst = outputs + col * plan->m * panel * itemsize;
        job->t->wino_output(&output);
    }
    store_strip(job, s, channel, channels, ahead, outputs);
}

static void transform_outputs(const fc_wino_job *job, const fc_wino_band *band, ptrdiff_t oc_first,
                              ptrdiff_t oc_last, const scratch *s) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t itemsize = fc_wino_itemsize(job);
    for (ptrdiff_t oc = oc_first; oc < oc_last; oc += plan->oc_panel) {
        const ptrdiff_t channel = job->group * (job->g.OC / job->g.G) + oc;
        const ptrdiff_t channels = FC_MIN(plan->oc_panel, oc_last - oc);
        const char *m = s->m + (oc - oc_first) * itemsize;
        job->t->fill(plan->oc_panel, 0, s->row, 1);
        for (ptrdiff_t i = 0; job->bias && i < channels; i++)
            job->t->fill(1, fc_bias_at(job->t, job->bias, channel + i), s->row + i * itemsize, 1);
        for (ptrdiff_t i = 0; i < band->strips; i++) {
            const wino_strip strip = strip_at(job, band->first + i);
            transform_strip(job, &strip, channel, channels,
                            distance(job, &job->y, band, &strip, i + 1),
                            m + i * plan->strip_cols * plan->oc_block * itemsize, s->row);
        }
    }
}

/* ---- tasks --------------------------------------------------------------------------------- */

/* Products of a band: blocks of strips x blocks of output channels. */
static ptrdiff_t products_of(const fc_wino_job *job, const fc_wino_band *band) {
    return fc_ceil_div(band->strips, job->plan.block_strips) *
           fc_ceil_div(job->ocs, job->plan.oc_block);
}

static void run_product(const fc_wino_job *job, const fc_wino_band *band, ptrdiff_t task,
                        const scratch *s) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t oc_blocks = fc_ceil_div(job->ocs, plan->oc_block);
    const ptrdiff_t strip = task / oc_blocks * plan->block_strips;
    const fc_wino_band block = {.first = band->first + strip,
                                .strips = FC_MIN(plan->block_strips, band->strips - strip),
                                .v = band->v + strip * plan->strip_cols * plan->v_pitch *
                                                   fc_wino_itemsize(job)};
    const ptrdiff_t oc_first = job->first_oc + task % oc_blocks * plan->oc_block;
    const ptrdiff_t oc_last = FC_MIN(oc_first + plan->oc_block, job->first_oc + job->ocs);
    if (plan->u_in_tasks)
        fc_wino_multiply_fresh(job, &block, oc_first, oc_last, s->packed, s->u, s->m);
    else
        fc_wino_multiply(job, &block, oc_first, oc_last,
                         panel_at(job, plan->own_u ? s->u : job->u, oc_first - job->first_oc),
                         s->m);
    transform_outputs(job, &block, oc_first, oc_last, s);
}

static fc_wino_band band_at(const fc_wino_job *job, ptrdiff_t first, char *v) {
    return (fc_wino_band){
        first, FC_MIN(job->plan.band_strips, fc_wino_strips(&job->g, &job->plan) - first), v};
}

static void product_task(void *context, ptrdiff_t task, int slot) {
    const fc_wino_job *job = context;
    const scratch s = carve_scratch(job, slot);
    fc_wino_band band = job->band;
    if (job->plan.own_v) {
        band.v = s.v;
        if (*s.stamp != job->group)
            transform_band(job, &band, s.patch);
        *s.stamp = job->group;
    }
    run_product(job, &band, task, &s);
}

static void band_task(void *context, ptrdiff_t task, int slot) {
    const fc_wino_job *job = context;
    const scratch s = carve_scratch(job, slot);
    const fc_wino_band band = band_at(job, task * job->plan.band_strips, s.v);
    if (job->plan.own_u && *s.stamp != job->group) {
        for (ptrdiff_t before = 0; before < job->ocs; before += job->plan.oc_panel)
            fc_wino_transform_filters(job, job->first_oc + before, s.packed,
                                      panel_at(job, s.u, before));
        *s.stamp = job->group;
    }
    transform_band(job, &band, s.patch);
    for (ptrdiff_t i = 0; i < products_of(job, &band); i++)
        run_product(job, &band, i, &s);
}

static void run_chunk(fc_wino_job *job, char *v) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t strips = fc_wino_strips(&job->g, &job->plan),
                    panels = fc_ceil_div(job->g.C / job->g.G, job->t->nr);
    if (!plan->u_in_tasks && !plan->own_u && !plan->prepared)
        transform_weights(job);
    if (plan->own_bands) {
        fc_parallel_for(plan->threads, fc_ceil_div(strips, plan->band_strips), band_task, job);
        return;
    }
    for (ptrdiff_t first = 0; first < strips; first += plan->band_strips) {
        job->band = band_at(job, first, v);
        /* V of a single band serves all chunks of filters */
        if (!plan->own_v && (job->first_oc == 0 || plan->band_strips < strips))
            fc_parallel_for(plan->threads, panels, image_task, job);
        fc_parallel_for(plan->threads, products_of(job, &job->band), product_task, job);
    }
}

/* ---- the call ------------------------------------------------------------------------------ */

/* Transformed beforehand: [group][panel][position][channel][filter]. */
static char *prepared_panel(const fc_wino_job *job, const void *packed) {
    const ptrdiff_t group = fc_ceil_div(job->g.OC / job->g.G, job->plan.oc_panel);
    return panel_at(job, (char *)packed + job->group * group * job->plan.u_panel_bytes,
                    job->first_oc);
}

fc_status fc_conv_winograd(const fc_conv *g, fc_dtype dtype, ptrdiff_t edge, const fc_array *x,
                           const fc_filters *w, const fc_array *bias, const fc_array *y, int relu,
                           const char *gate) {
    fc_wino_job job = {.g = *g, .x = *x, .y = *y, .bias = bias, .relu = relu, .gate = gate};
    job.t = fc_table(dtype);
    fc_tidy_width(&job.x, g->in);
    fc_tidy_width(&job.y, g->out);
    const fc_status status = fc_plan_winograd(g, dtype, edge, w->packed != NULL, &job.plan);
    if (status)
        return status;
    job.asks_ahead = fc_images_exceed_caches(g, job.t->itemsize, job.plan.threads);
    job.pack = (fc_conv_job){.g = *g, .w = w->plain, .w_group = w->group, .t = job.t};
    job.pack.plan = (fc_conv_plan){.swapped = 1, .oc_panel = job.plan.oc_panel};
    char *memory = fc_workspace_acquire(job.plan.workspace_bytes);
    if (!memory)
        return FC_NO_MEMORY;
    job.slots = memory;
    job.u = memory + (size_t)job.plan.threads * fc_slot_step(job.plan.slot_bytes);
    char *v = job.u + job.plan.u_bytes;
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

size_t fc_winograd_packed_bytes(const fc_conv *g, fc_dtype dtype, ptrdiff_t edge) {
    fc_wino_plan plan;
    if (fc_plan_winograd(g, dtype, edge, 1, &plan) != FC_OK)
        return 0;
    return (size_t)(g->G * fc_ceil_div(g->OC / g->G, plan.oc_panel) * plan.u_panel_bytes);
}

fc_status fc_winograd_pack(const fc_conv *g, fc_dtype dtype, ptrdiff_t edge, const fc_filters *w,
                           void *dst) {
    fc_wino_job job = {.g = *g, .t = fc_table(dtype), .ocs = g->OC / g->G};
    const fc_status status = fc_plan_winograd(g, dtype, edge, 1, &job.plan);
    if (status)
        return status;
    job.pack = (fc_conv_job){.g = *g, .w = w->plain, .w_group = w->group, .t = job.t};
    job.pack.plan = (fc_conv_plan){.swapped = 1, .oc_panel = job.plan.oc_panel};
    job.slots = fc_workspace_acquire((size_t)job.plan.threads * fc_slot_step(job.plan.slot_bytes));
    if (!job.slots)
        return FC_NO_MEMORY;
    for (job.group = 0; job.group < g->G; job.group++) {
        job.u = prepared_panel(&job, dst);
        transform_weights(&job);
    }
    fc_workspace_release(job.slots);
    return FC_OK;
}
