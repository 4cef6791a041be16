/* SPDX-License-Identifier: BSD-3-Clause
 * When Winograd's algorithm can compute a convolution, when it should, and with which blocking. No
 * state, no clock. */
#include <math.h>

#include "plan.h"

enum { POSITIONS = FC_WINO_POSITIONS, MOST_TILES = 64, LEAST_CHANNELS = 24 };
enum { MOST_OWN_V = 16 << 20 }; /* bytes, all threads together */

/* Outputs and taps along one axis of the variant that fits the filter; 0 when none does. */
static ptrdiff_t outputs_of_tile(const fc_conv *g) {
    if (g->kernel[1] != g->kernel[2])
        return 0;
    return g->kernel[1] == 3 ? 4 : g->kernel[1] == 5 ? 2 : 0;
}

static ptrdiff_t band_budget(void) {
    const fc_caches *caches = fc_cpu_caches();
    return (ptrdiff_t)FC_MIN(FC_MAX(caches->l2, caches->l3 / 4), (size_t)8 << 20);
}

int fc_winograd_suits(const fc_conv *g) {
    const ptrdiff_t m = outputs_of_tile(g);
    if (m == 0 || g->in[0] != 1 || g->out[0] != 1 || g->kernel[0] != 1 || g->pad[0] != 0)
        return 0;
    for (int axis = 1; axis < FC_SPATIAL; axis++)
        if (g->stride[axis] != 1 || g->dilation[axis] != 1)
            return 0;
    /* even one row of tiles must leave the scratch memory bounded */
    const double tiles = (double)fc_ceil_div(g->out[2], m) + FC_MAX_NR;
    return POSITIONS * tiles * (double)(g->C / g->G) * sizeof(double) <= 16e6 &&
           (double)g->in[2] + 6 * (double)g->out[2] <= 1e6;
}

/* Output channels a task takes: M in half the second-level cache, three tasks for a thread. */
static void plan_oc_block(ptrdiff_t ocs, ptrdiff_t blocks, ptrdiff_t itemsize, fc_wino_plan *plan) {
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2;
    const ptrdiff_t panels = fc_ceil_div(ocs, plan->oc_panel);
    const ptrdiff_t panel_bytes = POSITIONS * plan->oc_panel * plan->tile_block * itemsize;
    const ptrdiff_t fit = FC_MAX(1, l2 / 2 / panel_bytes);
    ptrdiff_t cuts = fc_ceil_div(panels, fit);
    if (plan->threads > 1)
        cuts = FC_MIN(panels, FC_MAX(cuts, fc_ceil_div(3 * plan->threads, blocks)));
    plan->oc_block = fc_ceil_div(panels, cuts) * plan->oc_panel;
}

/* Where all filters stay in half the second-level cache, each task takes tile rows of its own through
 * all steps: what one core writes and another one reads is slow. The bands must be as full as one
 * for all would be, and enough for all threads. */
static int plan_own_bands(const fc_conv *g, const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2, itemsize = (ptrdiff_t)t->itemsize;
    const ptrdiff_t channels = g->C / g->G, ocs = g->OC / g->G;
    const ptrdiff_t rows = FC_MAX(1, g->N * plan->tile_rows);
    const ptrdiff_t panels = fc_ceil_div(ocs, plan->oc_panel);
    const ptrdiff_t u_bytes =
        panels * POSITIONS * fc_wino_panel_step(channels, plan->oc_panel, t) * itemsize;
    const ptrdiff_t tiles = FC_MIN(MOST_TILES, l2 / 4 / (POSITIONS * channels * itemsize));
    if (u_bytes > l2 * 3 / 2 || tiles < plan->tile_cols)
        return 0;
    ptrdiff_t bands = fc_ceil_div(rows, tiles / plan->tile_cols);
    if (bands < 4 * plan->threads) /* as many for each thread */
        bands = fc_round_up(bands, plan->threads);
    const ptrdiff_t band_rows = fc_ceil_div(rows, bands);
    const ptrdiff_t block = fc_round_up(band_rows * plan->tile_cols, t->lanes);
    bands = fc_ceil_div(rows, band_rows);
    if (bands < plan->threads ||
        4 * bands * block > 5 * fc_round_up(rows * plan->tile_cols, t->lanes))
        return 0;
    const ptrdiff_t fit = FC_MAX(1, l2 / 4 / (POSITIONS * plan->oc_panel * block * itemsize));
    plan->band_rows = band_rows;
    plan->tile_block = block;
    plan->oc_block = fc_even_part(panels, fit) * plan->oc_panel;
    plan->oc_chunk = ocs;
    plan->channel_block = channels;
    return 1;
}

/* Where all tiles are one block: small tasks, which threads can share evenly. */
static ptrdiff_t a_dozen(ptrdiff_t ocs, ptrdiff_t oc_panel) {
    return FC_MIN(fc_ceil_div(12, oc_panel), fc_ceil_div(ocs, oc_panel)) * oc_panel;
}

/* U is used once, right after it was made. A task goes through V once for its filters: the more it
 * takes, the less V travels; M and the U of some channels share the second-level cache with what
 * streams past. Fewer than 64 channels at a time would load and store M too often. */
static void plan_u_in_tasks(ptrdiff_t channels, ptrdiff_t ocs, ptrdiff_t itemsize,
                            fc_wino_plan *plan) {
    enum { SHORTEST = 64 };
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2;
    const ptrdiff_t panels = fc_ceil_div(ocs, plan->oc_panel);
    const ptrdiff_t panel_bytes = POSITIONS * plan->oc_panel * itemsize;
    const ptrdiff_t u_budget = l2 * 3 / 8;
    const ptrdiff_t fit = FC_MAX(
        1, FC_MIN(l2 / 2 / (panel_bytes * plan->tile_block), u_budget / (panel_bytes * SHORTEST)));
    ptrdiff_t cuts = fc_ceil_div(panels, fit);
    if (cuts < 4 * plan->threads) /* as many for each thread */
        cuts = FC_MIN(panels, fc_round_up(cuts, plan->threads));
    plan->oc_block = fc_ceil_div(panels, cuts) * plan->oc_panel;
    plan->channel_block =
        fc_even_part(channels, FC_MAX(16, u_budget / (POSITIONS * plan->oc_block * itemsize)));
    plan->oc_chunk = ocs;
}

/* U is used for several blocks of tiles, and made in chunks that stay in the last-level cache meanwhile;
 * or it was made before the call. Small tasks share evenly, but each reads all of V. */
static void plan_u_whole(ptrdiff_t channels, ptrdiff_t ocs, ptrdiff_t blocks, int once,
                         const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize, l2 = (ptrdiff_t)fc_cpu_caches()->l2;
    const ptrdiff_t panel = POSITIONS * fc_wino_panel_step(channels, plan->oc_panel, t) * itemsize;
    const ptrdiff_t most = FC_MAX(1, (ptrdiff_t)fc_chunk_bytes() / panel);
    plan->oc_chunk = once ? ocs : FC_MIN(ocs, most * plan->oc_panel);
    plan->channel_block = channels;
    plan_oc_block(plan->oc_chunk, blocks, itemsize, plan);
    if (once && POSITIONS * channels * (plan->tile_block + t->lanes) * itemsize <= l2 * 3 / 4)
        plan->oc_block = FC_MIN(plan->oc_block, a_dozen(ocs, plan->oc_panel));
}

/* All threads make V of a band, then share out its products. */
static void plan_shared_bands(const fc_conv *g, const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize;
    const ptrdiff_t channels = g->C / g->G, ocs = g->OC / g->G;
    const ptrdiff_t rows = FC_MAX(1, g->N * plan->tile_rows);
    const ptrdiff_t row_bytes = POSITIONS * channels * plan->tile_cols * itemsize;
    plan->band_rows = fc_even_part(rows, FC_MAX(1, band_budget() / row_bytes));
    const ptrdiff_t tiles = plan->band_rows * plan->tile_cols;
    plan->tile_block = fc_round_up(FC_MIN(tiles, MOST_TILES), t->lanes);
    const ptrdiff_t blocks = fc_ceil_div(tiles, plan->tile_block);
    const int once = plan->band_rows >= rows && blocks == 1; /* U is used once */
    plan->u_in_tasks = once && !plan->prepared;
    /* a line of V from another core's cache takes ten times as long as making it once more */
    plan->own_v = once && plan->threads > 1;
    if (plan->u_in_tasks)
        plan_u_in_tasks(channels, ocs, itemsize, plan);
    else
        plan_u_whole(channels, ocs, blocks, once, t, plan);
}

fc_status fc_plan_winograd(const fc_conv *g, fc_dtype dtype, int prepared, fc_wino_plan *plan) {
    const fc_kernels *t = fc_table(dtype);
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize, lanes = t->lanes;
    const ptrdiff_t channels = g->C / g->G, ocs = g->OC / g->G;
    if (!fc_winograd_suits(g))
        return FC_BAD_GEOMETRY;
    *plan = (fc_wino_plan){0};
    plan->m = outputs_of_tile(g);
    plan->r = g->kernel[1];
    plan->tile_rows = fc_ceil_div(g->out[1], plan->m);
    plan->tile_cols = fc_ceil_div(g->out[2], plan->m);
    plan->threads = fc_threads_for(fc_multiply_adds(g));
    plan->oc_panel = fc_even_part(ocs, t->mr);
    plan->prepared = prepared;
    plan->own_bands = plan_own_bands(g, t, plan);
    if (!plan->own_bands)
        plan_shared_bands(g, t, plan);
    const ptrdiff_t blocks = fc_ceil_div(plan->band_rows * plan->tile_cols, plan->tile_block);
    plan->tile_pitch = plan->tile_block + lanes;
    plan->v_step = fc_spread(channels * plan->tile_pitch, t->itemsize);
    plan->m_step = fc_spread(plan->oc_block * plan->tile_block, t->itemsize);
    plan->phase_pitch = plan->tile_cols + 2 + lanes;
    const ptrdiff_t split_row = plan->m * plan->phase_pitch * itemsize;
    const ptrdiff_t tile_rows = FC_MIN(plan->band_rows, plan->tile_rows);
    /* rows of one channel: half the second-level cache, two of three need not be split again */
    plan->split_rows =
        FC_MAX(1, FC_MIN(tile_rows, (ptrdiff_t)fc_cpu_caches()->l2 / 2 / (plan->m * split_row)));
    plan->row_pitch = plan->m * plan->tile_cols;
    const size_t split = (size_t)((plan->m * plan->split_rows + FC_WINO_EDGE) * split_row);
    const size_t packed =
        (size_t)((plan->channel_block * plan->oc_panel * plan->r * plan->r + lanes) * itemsize);
    plan->packed_bytes = fc_align(FC_MAX(split, packed));
    plan->u_panel_bytes =
        POSITIONS * fc_wino_panel_step(plan->channel_block, plan->oc_panel, t) * itemsize;
    const size_t u_bytes =
        (size_t)(fc_ceil_div(plan->u_in_tasks ? plan->oc_block : plan->oc_chunk, plan->oc_panel) *
                 plan->u_panel_bytes);
    plan->u_bytes = plan->u_in_tasks || prepared ? 0 : u_bytes;
    plan->u_slot_bytes = plan->u_in_tasks ? u_bytes : 0;
    plan->m_bytes = fc_align((size_t)((POSITIONS * plan->m_step + lanes) * itemsize));
    const size_t v = fc_align((size_t)((POSITIONS * blocks * plan->v_step + lanes) * itemsize));
    if ((size_t)plan->threads * v > MOST_OWN_V)
        plan->own_v = 0;
    const int own = plan->own_bands || plan->own_v;
    plan->v_bytes = own ? 0 : v;
    plan->v_slot_bytes = own ? v : 0;
    plan->slot_bytes = FC_WINO_STAMP_BYTES + plan->packed_bytes + plan->u_slot_bytes +
                       plan->m_bytes + plan->v_slot_bytes +
                       fc_align((size_t)(plan->m * plan->row_pitch * itemsize));
    plan->workspace_bytes =
        plan->u_bytes + plan->v_bytes + (size_t)plan->threads * plan->slot_bytes;
    return FC_OK;
}

/* ---- the choice ---------------------------------------------------------------------------- */

/* Costs in vector FMAs, the unit in which the tile works; the factors are measured (docs/performance.md)
 * and hold for all instruction sets within what the choice needs: what is not product is vector
 * operations, too. */
static double gemm_cost(const fc_conv *g, fc_dtype dtype) {
    fc_conv_plan plan;
    const ptrdiff_t weight_row = g->C / g->G * fc_volume(g->kernel);
    return fc_plan_conv(g, dtype, 0, weight_row, &plan) == FC_OK ? plan.cost : HUGE_VAL;
}

/* What the threads do while they wait for each other, 8 us at 7.6 G FMAs/s, each time that they meet
 * and would not for the GEMM. */
static double meeting_cost(const fc_conv *g, const fc_wino_plan *plan) {
    const ptrdiff_t bands = fc_ceil_div(FC_MAX(1, g->N * plan->tile_rows), plan->band_rows);
    const ptrdiff_t chunks = fc_ceil_div(g->OC / g->G, plan->oc_chunk);
    const ptrdiff_t u = plan->u_in_tasks || plan->prepared ? 0 : 1;
    const ptrdiff_t meetings =
        g->G * chunks * (plan->own_bands || plan->own_v ? 1 + u : 2 * bands + u) - 1;
    return plan->threads > 1 ? 60e3 * (double)(meetings * plan->threads) : 0;
}

/* Vector FMAs in the time that an element of U takes to come from memory, where it was made before the
 * call and all of it outgrows the second-level cache: 13.7 GB/s on one core beside 7.6 G FMAs/s. */
static double streaming_cost(const fc_conv *g, const fc_kernels *t, const fc_wino_plan *plan) {
    const double bytes = POSITIONS * (double)g->OC * (double)(g->C / g->G) * (double)t->itemsize;
    return plan->prepared && bytes > (double)fc_cpu_caches()->l2 ? 0.6 * (double)t->itemsize : 0;
}

static double winograd_cost(const fc_conv *g, const fc_kernels *t, const fc_wino_plan *plan) {
    const double rows = (double)(g->N * plan->tile_rows);
    const double tiles = rows * (double)plan->tile_cols;
    const double channels = (double)(g->C / g->G), ocs = (double)(g->OC / g->G);
    const double vectors = (double)fc_ceil_div((ptrdiff_t)tiles, t->lanes);
    /* a single vector does not fill the pipelines; U and V come from the last-level cache */
    const double product = FC_MAX((vectors == 1 ? 1.7 : 1.3) * vectors, streaming_cost(g, t, plan));
    const double row_vectors = rows * (double)fc_ceil_div(plan->tile_cols, t->lanes);
    const double panels = (double)fc_ceil_div(g->OC / g->G, plan->oc_panel) *
                          (double)fc_ceil_div(plan->oc_panel, t->lanes);
    const double weights = plan->prepared ? 0 : 400 * channels * panels;
    const double images = plan->own_v ? plan->threads : 1;
    return (double)g->G * (product * POSITIONS * channels * ocs +
                           row_vectors * (300 * channels * images + 500 * ocs) + weights) +
           meeting_cost(g, plan);
}

/* Below some work there is little to save. Sums over few channels are so precise that Winograd's error
 * would be more than 2.5 times theirs (docs/performance.md). */
static int may_take_winograd(const fc_conv *g) {
    return g->C / g->G >= LEAST_CHANNELS && fc_multiply_adds(g) >= 1e6 && !fc_is_depthwise(g);
}

ptrdiff_t fc_lanes(fc_dtype dtype) {
    return fc_table(dtype)->lanes;
}

fc_algo fc_auto_algo(const fc_conv *g, fc_dtype dtype) {
    return may_take_winograd(g) ? fc_choose_algo(g, dtype, 0).algo : FC_GEMM;
}

fc_choice fc_choose_algo(const fc_conv *g, fc_dtype dtype, int prepared) {
    const fc_kernels *t = fc_table(dtype);
    fc_choice choice = {.algo = FC_GEMM, .depthwise = fc_is_depthwise(g)};
    choice.gemm_cost = choice.winograd_cost = -1;
    fc_wino_plan plan;
    if (fc_plan_winograd(g, dtype, prepared, &plan) != FC_OK)
        return choice;
    choice.gemm_cost = gemm_cost(g, dtype);
    choice.winograd_cost = winograd_cost(g, t, &plan);
    choice.winograd_bytes = plan.workspace_bytes;
    choice.tile_outputs = plan.m;
    choice.winograd_tile[0] = plan.oc_panel;
    choice.winograd_tile[1] = FC_MIN(t->nr, plan.tile_block) * plan.m * plan.m;
    choice.winograd_channels = plan.channel_block;
    if (may_take_winograd(g) && choice.winograd_cost < choice.gemm_cost)
        choice.algo = FC_WINOGRAD;
    return choice;
}
