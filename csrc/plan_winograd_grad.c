/* SPDX-License-Identifier: BSD-3-Clause
 * When the weight gradient can and should be computed by Winograd's algorithm, and with which blocking.
 * No state, no clock. */
#include "weight_grad_gemm.h"
#include "winograd_grad.h"

enum { POSITIONS = FC_WINO_POSITIONS };

int fc_winograd_grad_suits(const fc_conv *g) {
    /* one tile of all channels leaves the scratch memory bounded */
    const double channels = (double)((g->C + g->OC) / g->G) + 2 * FC_MAX_NR;
    return fc_winograd_suits(g) && POSITIONS * channels * sizeof(double) <= 16e6;
}

/* Bytes of V and W together, a tile's and those of all tiles given. A thread's own stay in half its
 * second-level cache. Shared ones pass through the last-level cache; longer sums mean fewer output
 * transforms. But where all would be one band, that memory would be used once in a call, and a net has
 * other uses for the caches until the next one: smaller bands stay in the second-level caches, as long
 * as they are twice M. */
static ptrdiff_t band_budget(const fc_wino_grad_plan *plan, const fc_kernels *t, double all) {
    const fc_caches *caches = fc_cpu_caches();
    if (plan->splits)
        return (ptrdiff_t)caches->l2 / 2;
    const ptrdiff_t most = (ptrdiff_t)FC_MIN(FC_MAX(caches->l2, caches->l3 / 4), (size_t)20 << 20);
    const ptrdiff_t m = POSITIONS * plan->acc_pitch * plan->oc_chunk * (ptrdiff_t)t->itemsize;
    return all > (double)most ? most : FC_MIN(most, FC_MAX(2 * m, 2 * (ptrdiff_t)caches->l2));
}

static ptrdiff_t patch_elements(const fc_wino_grad_plan *plan, ptrdiff_t rows, ptrdiff_t cols,
                                const fc_kernels *t) {
    const ptrdiff_t overlap = plan->r - 1;
    return (plan->m * rows + overlap) * (plan->m * cols + overlap) * t->nr;
}

/* As many tiles as fit the band and whose patch takes a quarter of the second-level cache: whole rows,
 * or parts of one. Each thread should find some of them. */
static void plan_strips(const fc_conv *g, const fc_kernels *t, fc_wino_grad_plan *plan) {
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize;
    const ptrdiff_t tile_bytes =
        POSITIONS * (plan->c_panels + fc_ceil_div(plan->oc_chunk, t->nr)) * t->nr * itemsize;
    const double all = (double)(g->N * plan->tile_rows * plan->tile_cols) * (double)tile_bytes;
    const ptrdiff_t most_tiles = FC_MAX(1, band_budget(plan, t, all) / tile_bytes);
    const ptrdiff_t most_patch = (ptrdiff_t)fc_cpu_caches()->l2 / 4 / itemsize;
    const ptrdiff_t panels = plan->splits ? 1 : plan->c_panels + plan->oc_panels;
    ptrdiff_t cols = FC_MIN(plan->tile_cols, most_tiles), rows = 1;
    while (cols > 1 && patch_elements(plan, 1, cols, t) > most_patch)
        cols = (cols + 1) / 2;
    plan->strip_cols = fc_even_part(plan->tile_cols, cols);
    plan->col_strips = fc_ceil_div(plan->tile_cols, plan->strip_cols);
    if (plan->col_strips == 1) {
        rows = FC_MIN(plan->tile_rows, most_tiles / cols);
        while (rows > 1 && (patch_elements(plan, rows, cols, t) > most_patch ||
                            panels * g->N * fc_ceil_div(plan->tile_rows, rows) < 4 * plan->threads))
            rows--;
    }
    plan->strip_rows = fc_even_part(plan->tile_rows, rows);
    plan->row_strips = fc_ceil_div(plan->tile_rows, plan->strip_rows);
    plan->strips = g->N * plan->row_strips * plan->col_strips;
    const ptrdiff_t strip_tiles = plan->strip_rows * plan->strip_cols;
    const ptrdiff_t own = plan->splits ? fc_ceil_div(plan->strips, plan->splits) : plan->strips;
    plan->band_strips = fc_even_part(own, FC_MAX(1, most_tiles / strip_tiles));
    plan->bands = fc_ceil_div(own, plan->band_strips);
    plan->band_tiles = plan->band_strips * strip_tiles;
}

/* What a task multiplies. Its M, all positions of it, is twice the second-level cache at most: what passes
 * through between its writing and its reading would push out a smaller one as well, and the larger the
 * block, the less often V and W are read. Of the blocks that are left, those with the fewest vector FMAs
 * for the busiest thread, the bytes counted in that reading costs, and M beyond that cache. */
static void plan_blocks(const fc_kernels *t, fc_wino_grad_plan *plan) {
    const ptrdiff_t nr = t->nr, oc_panels = fc_ceil_div(plan->oc_chunk, nr);
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2;
    const ptrdiff_t least = POSITIONS * nr * nr * (ptrdiff_t)t->itemsize;
    const ptrdiff_t most = FC_MAX(1, FC_MIN(2 * l2, ((ptrdiff_t)8 << 20) / plan->threads) / least);
    const double tiles = (double)plan->band_tiles;
    double best = -1;
    for (ptrdiff_t c = 1; c <= FC_MIN(plan->c_panels, most); c++)
        for (ptrdiff_t oc = 1; oc <= FC_MIN(oc_panels, most / c); oc++) {
            const ptrdiff_t tasks = fc_ceil_div(plan->c_panels, c) * fc_ceil_div(oc_panels, oc);
            const double read = tiles * (double)(c + oc);
            const double beyond = c * oc * least > l2 / 8 * 5 ? (double)(c * oc * nr) : 0;
            const double cost =
                (double)fc_ceil_div(tasks, plan->threads) *
                (tiles * (double)(c * oc * nr * 2) +
                 (double)(t->itemsize * (size_t)nr) * (0.13 * read + 0.05 * beyond));
            if (best < 0 || cost < best) {
                best = cost;
                plan->c_block = c * nr;
                plan->oc_block = oc * nr;
            }
        }
}

static void plan_memory(const fc_kernels *t, fc_wino_grad_plan *plan) {
    const size_t itemsize = t->itemsize;
    const ptrdiff_t chunk = fc_round_up(plan->oc_chunk, t->nr);
    plan->v_step = fc_spread(plan->band_tiles * plan->acc_pitch, itemsize);
    plan->w_step = fc_spread(plan->band_tiles * chunk, itemsize);
    plan->m_step = fc_spread(plan->c_block * plan->oc_block, itemsize);
    plan->v_bytes = (size_t)(POSITIONS * plan->v_step) * itemsize;
    plan->w_bytes = (size_t)(POSITIONS * plan->w_step) * itemsize;
    plan->m_bytes = (size_t)(POSITIONS * plan->m_step) * itemsize;
    plan->acc_bytes = 0;
    const size_t patch =
        (size_t)patch_elements(plan, plan->strip_rows, plan->strip_cols, t) * itemsize;
    const size_t taps = (size_t)(plan->r * plan->r * plan->c_block) * itemsize;
    const size_t threads = (size_t)plan->threads, splits = (size_t)plan->splits;
    if (plan->splits) {
        plan->slot_bytes = fc_align(FC_MAX(patch, taps));
        plan->split_bytes = fc_slot_step(plan->v_bytes + plan->w_bytes + plan->m_bytes);
        plan->workspace_bytes =
            splits * plan->split_bytes + threads * fc_slot_step(plan->slot_bytes);
        return;
    }
    if (plan->bands > 1)
        plan->acc_bytes =
            fc_align((size_t)(plan->r * plan->r * plan->oc_chunk * plan->acc_pitch) * itemsize);
    plan->slot_bytes = fc_align(FC_MAX(patch, plan->m_bytes + taps));
    plan->workspace_bytes =
        plan->v_bytes + plan->w_bytes + plan->acc_bytes + threads * fc_slot_step(plan->slot_bytes);
}

/* Threads have bands of their own where M of some output channels fits the second-level cache together with
 * some tiles of V and W. For each chunk of output channels x is transformed again: that pays for two of
 * them, or four where a tile is 2x2 outputs, whose V and W are four times as large. */
static void plan_own_bands(const fc_conv *g, const fc_kernels *t, fc_wino_grad_plan *plan) {
    const ptrdiff_t least = POSITIONS * plan->acc_pitch * t->nr * (ptrdiff_t)t->itemsize;
    const ptrdiff_t most = (ptrdiff_t)fc_cpu_caches()->l2 / 8 * 3 / least;
    const ptrdiff_t tiles = g->N * plan->tile_rows * plan->tile_cols;
    plan->splits = 0;
    if (most == 0 || tiles < 32 * plan->threads)
        return;
    const ptrdiff_t chunks = fc_ceil_div(plan->oc_panels, most);
    if (chunks > 8 / plan->m)
        return;
    plan->splits = plan->threads;
    plan->oc_chunk = FC_MIN(plan->oc_chunk, fc_ceil_div(plan->oc_panels, chunks) * t->nr);
}

fc_status fc_plan_winograd_grad(const fc_conv *g, fc_dtype dtype, fc_wino_grad_plan *plan) {
    const fc_kernels *t = fc_table(dtype);
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize, ocs = g->OC / g->G, nr = t->nr;
    if (!fc_winograd_grad_suits(g))
        return FC_BAD_GEOMETRY;
    plan->threads = fc_threads_for(fc_multiply_adds(g));
    plan->r = g->kernel[1];
    plan->m = FC_WINO_EDGE + 1 - plan->r;
    plan->tile_rows = fc_ceil_div(g->out[1], plan->m);
    plan->tile_cols = fc_ceil_div(g->out[2], plan->m);
    plan->c_panels = fc_ceil_div(g->C / g->G, nr);
    plan->oc_panels = fc_ceil_div(ocs, nr);
    plan->acc_pitch = plan->c_panels * nr;
    plan->oc_chunk = ocs;
    plan_own_bands(g, t, plan);
    plan_strips(g, t, plan);
    plan->splits = FC_MIN(plan->splits, plan->strips);
    if (plan->splits) {
        plan->c_block = plan->acc_pitch;
        plan->oc_block = fc_round_up(plan->oc_chunk, nr);
    } else {
        const ptrdiff_t most =
            (ptrdiff_t)fc_chunk_bytes() / (plan->r * plan->r * plan->acc_pitch * itemsize);
        if (plan->bands > 1)
            plan->oc_chunk = FC_MIN(ocs, FC_MAX(1, most / nr) * nr);
        plan_blocks(t, plan);
    }
    plan_memory(t, plan);
    return FC_OK;
}

/* ---- the choice ---------------------------------------------------------------------------- */

/* Costs are in vector FMAs, as in plan_winograd.c; the factors are measured (docs/performance.md). */

/* Of all threads as long as the busiest one works. */
static double imbalance(const fc_wino_grad_plan *plan) {
    const ptrdiff_t tasks =
        fc_ceil_div(plan->acc_pitch, plan->c_block) * fc_ceil_div(plan->oc_chunk, plan->oc_block);
    if (plan->splits)
        return 1;
    return (double)(plan->threads * fc_ceil_div(tasks, plan->threads)) / (double)tasks;
}

static double winograd_cost(const fc_conv *g, const fc_kernels *t, const fc_wino_grad_plan *plan) {
    const double tiles = (double)(g->N * plan->tile_rows * plan->tile_cols);
    const double vectors = (double)fc_ceil_div(g->C / g->G, t->lanes), ocs = (double)(g->OC / g->G);
    const double oc_vectors = (double)fc_ceil_div(g->OC / g->G, t->lanes);
    /* sums are read and written once a band, transformed once a band or thread */
    const double bands = (double)fc_ceil_div(plan->strips, plan->band_strips);
    const double outputs = plan->splits ? (double)plan->splits : bands;
    /* x is transformed once for each chunk of output channels */
    const double chunks = (double)fc_ceil_div(g->OC / g->G, plan->oc_chunk);
    /* turning and transforming a vector of a tile: operations, and the bytes they move */
    const double moved = (6 + (double)(plan->m * plan->m) / 2) * (double)t->itemsize;
    const double transform = 200 + moved * (double)t->lanes;
    const double product = imbalance(plan) * POSITIONS * (1.33 * tiles + 10 * bands);
    return (double)g->G *
           (ocs * vectors * (product + 100.0 * (double)(plan->r * plan->r) * outputs) +
            transform * tiles * (chunks * vectors + oc_vectors));
}

/* Short sums are so precise that Winograd's error would be more than 2.5 times theirs: the fewest pixels
 * that the GEMM would have to add up in one go. */
static ptrdiff_t least_pixels(const fc_wino_grad_plan *plan) {
    return plan->r == 3 ? 350 : 900;
}

int fc_winograd_grad_pays(const fc_conv *g, fc_dtype dtype) {
    fc_wino_grad_plan plan;
    fc_weight_grad_job gemm = {.g = *g, .t = fc_table(dtype)};
    if (fc_multiply_adds(g) < FC_WINO_LEAST_WORK) /* there is little to save */
        return 0;
    if (fc_plan_winograd_grad(g, dtype, &plan) != FC_OK)
        return 0;
    fc_plan_weight_grad(&gemm);
    return gemm.part >= least_pixels(&plan) &&
           winograd_cost(g, gemm.t, &plan) < fc_weight_grad_cost(&gemm);
}
