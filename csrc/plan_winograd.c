/* SPDX-License-Identifier: BSD-3-Clause
 * When Winograd's algorithm can compute a convolution, when it should, and with which blocking. No
 * state, no clock. */
#include <math.h>

#include "plan.h"

enum { MOST_TILES = 64, LEAST_CHANNELS = 24, LEAST_CHANNELS_4 = 16 };
enum { MOST_OWN = 16 << 20 }; /* bytes, all threads together */

/* Outputs along one axis of the tile of that edge, where it fits the filter; else 0. */
static ptrdiff_t outputs_of_tile(const fc_conv *g, ptrdiff_t edge) {
    const ptrdiff_t r = g->kernel[1];
    if (r != g->kernel[2] || !(r == 3 || (r == 5 && edge == 6)))
        return 0;
    return edge + 1 - r;
}

static ptrdiff_t band_budget(void) {
    const fc_caches *caches = fc_cpu_caches();
    return (ptrdiff_t)FC_MIN(FC_MAX(caches->l2, caches->l3 / 4), (size_t)16 << 20);
}

int fc_winograd_suits(const fc_conv *g) {
    const ptrdiff_t m = outputs_of_tile(g, 6);
    if (m == 0 || g->in[0] != 1 || g->out[0] != 1 || g->kernel[0] != 1 || g->pad[0] != 0)
        return 0;
    for (int axis = 1; axis < FC_SPATIAL; axis++)
        if (g->stride[axis] != 1 || g->dilation[axis] != 1)
            return 0;
    /* even one row of tiles must leave the scratch memory bounded; smaller ones take less */
    const double tiles = (double)fc_ceil_div(g->out[2], m) + FC_MAX_NR;
    return FC_WINO_POSITIONS * tiles * (double)(g->C / g->G) * sizeof(double) <= 16e6 &&
           (double)g->in[2] + 6 * (double)g->out[2] <= 1e6;
}

/* Bytes of U, V and M for each of what they grow with. */
static ptrdiff_t position_bytes(const fc_kernels *t, const fc_wino_plan *plan) {
    return plan->positions * (ptrdiff_t)t->itemsize;
}

static ptrdiff_t v_bytes_of(const fc_conv *g, const fc_kernels *t, const fc_wino_plan *plan,
                            ptrdiff_t tiles) {
    return tiles * (g->C / g->G) * position_bytes(t, plan);
}

/* A panel of filters, some tiles. */
static ptrdiff_t m_bytes_of(const fc_kernels *t, const fc_wino_plan *plan, ptrdiff_t tiles) {
    return tiles * plan->oc_panel * position_bytes(t, plan);
}

static ptrdiff_t u_bytes_of(const fc_conv *g, const fc_kernels *t, const fc_wino_plan *plan) {
    return fc_round_up(g->OC / g->G, plan->oc_panel) * (g->C / g->G) * position_bytes(t, plan);
}

static void cut_strips(ptrdiff_t most, fc_wino_plan *plan) {
    plan->strip_cols = fc_even_part(plan->tile_cols, most);
    plan->col_strips = fc_ceil_div(plan->tile_cols, plan->strip_cols);
}

/* Each task takes strips of its own through all steps. The bands must be as full as one for all would
 * be, and enough for all threads. */
static int plan_own_bands(const fc_conv *g, const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2;
    const ptrdiff_t ocs = g->OC / g->G, panels = fc_ceil_div(ocs, plan->oc_panel);
    const ptrdiff_t tiles = FC_MIN(MOST_TILES, l2 / 4 / v_bytes_of(g, t, plan, 1));
    if (u_bytes_of(g, t, plan) > l2 * 3 / 2 || tiles < FC_MIN(plan->strip_cols, t->mr))
        return 0;
    fc_wino_plan own = *plan;
    cut_strips(tiles, &own);
    const ptrdiff_t strips = fc_wino_strips(g, &own);
    ptrdiff_t bands = fc_ceil_div(strips, tiles / own.strip_cols);
    if (bands < 4 * own.threads) /* as many for each thread */
        bands = fc_round_up(bands, own.threads);
    own.band_strips = own.block_strips = fc_ceil_div(strips, bands);
    bands = fc_ceil_div(strips, own.band_strips);
    if (bands < own.threads || 4 * bands * own.band_strips > 5 * strips)
        return 0;
    const ptrdiff_t m = m_bytes_of(t, &own, own.band_strips * own.strip_cols);
    own.oc_block = fc_even_part(panels, FC_MAX(1, l2 / 4 / m)) * own.oc_panel;
    own.oc_chunk = ocs;
    own.channel_block = g->C / g->G;
    own.own_bands = 1;
    *plan = own;
    return 1;
}

/* All tiles are one block. U is used once, right after it was made, and does not leave the first-level
 * cache: a row of positions of some channels takes three eighths of it, or, where M is loaded and stored
 * for many tiles each time, twice that; the taps that it is made from take an eighth of the second-level
 * one. A task has a panel of filters. Prepared, it goes through V
 * once for its filters: the more it takes, the less V travels; M shares the second-level cache with
 * what streams past. */
static void plan_few_tiles(const fc_conv *g, const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t strips = fc_wino_strips(g, plan);
    const fc_caches *caches = fc_cpu_caches();
    const ptrdiff_t l1d = (ptrdiff_t)caches->l1d, l2 = (ptrdiff_t)caches->l2;
    const ptrdiff_t channels = g->C / g->G, ocs = g->OC / g->G;
    const ptrdiff_t panels = fc_ceil_div(ocs, plan->oc_panel);
    const ptrdiff_t panel_bytes = plan->oc_panel * (ptrdiff_t)t->itemsize;
    const ptrdiff_t u_budget = l1d * 3 / (strips * plan->strip_cols > t->mr ? 4 : 8);
    plan->band_strips = plan->block_strips = strips;
    plan->u_in_tasks = !plan->prepared;
    plan->channel_block = channels;
    if (plan->u_in_tasks) {
        plan->oc_block = plan->oc_panel;
        plan->channel_block =
            fc_even_part(channels, FC_MAX(16, l2 / 8 / (plan->r * plan->r * panel_bytes)));
        plan->u_channels =
            fc_even_part(plan->channel_block, FC_MAX(8, u_budget / (plan->edge * panel_bytes)));
    } else {
        const ptrdiff_t fit = l2 / 2 / m_bytes_of(t, plan, strips * plan->strip_cols);
        ptrdiff_t cuts = fc_ceil_div(panels, FC_MAX(1, fit));
        if (cuts < 4 * plan->threads) /* as many for each thread */
            cuts = FC_MIN(panels, fc_round_up(cuts, plan->threads));
        plan->oc_block = fc_ceil_div(panels, cuts) * plan->oc_panel;
    }
    plan->oc_chunk = ocs;
    /* a line of V from another core's cache takes ten times as long as making it once more */
    plan->own_v = plan->threads > 1;
}

/* Tiles, and filters, of a block whose M takes the second-level cache: as many of both, for then a product
 * has the most to do with what it reads of U and V, which come from beyond that cache. M is written once
 * and read once, so that it need not all stay. */
static ptrdiff_t block_side(const fc_kernels *t, const fc_wino_plan *plan) {
    return (ptrdiff_t)sqrt((double)fc_cpu_caches()->l2 / (double)position_bytes(t, plan));
}

/* All threads make V of a band, then share out its products. U is made in chunks that stay in the last-level
 * cache meanwhile, or was made before the call. Tasks are cut for the threads to end together, and to
 * multiply much for each byte of V that they read. */
static void plan_shared_bands(const fc_conv *g, const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t ocs = g->OC / g->G, panels = fc_ceil_div(ocs, plan->oc_panel);
    const ptrdiff_t strip_bytes = v_bytes_of(g, t, plan, plan->strip_cols);
    const ptrdiff_t panel_bytes = u_bytes_of(g, t, plan) / panels;
    const ptrdiff_t side = block_side(t, plan);
    const ptrdiff_t chunk =
        plan->prepared ? panels
                       : fc_even_part(panels, FC_MAX(1, (ptrdiff_t)fc_chunk_bytes() / panel_bytes));
    plan->oc_chunk = FC_MIN(ocs, chunk * plan->oc_panel);
    plan->channel_block = g->C / g->G;
    plan->band_strips =
        fc_even_part(fc_wino_strips(g, plan), FC_MAX(1, band_budget() / strip_bytes));
    plan->block_strips = fc_even_part(plan->band_strips, FC_MAX(1, side / plan->strip_cols));
    const ptrdiff_t tiles = plan->block_strips * plan->strip_cols;
    const ptrdiff_t fit = FC_MIN(chunk, FC_MAX(1, side * side / (tiles * plan->oc_panel)));
    const ptrdiff_t blocks = fc_ceil_div(plan->band_strips, plan->block_strips);
    double best = HUGE_VAL;
    for (ptrdiff_t some = 1; some <= fit; some++) {
        const ptrdiff_t rounds = fc_ceil_div(blocks * fc_ceil_div(chunk, some), plan->threads);
        const double vectors = (double)(some * plan->oc_panel / t->lanes);
        const double time = (double)rounds * (vectors + FC_FMAS_A_BYTE * (double)t->itemsize);
        if (time <= best) {
            best = time;
            plan->oc_block = some * plan->oc_panel;
        }
    }
}

/* Whether few tiles make one block: M of a panel of filters fits half the second-level cache, and V, or
 * most of it, stays there. Else V comes from afar for every panel, or for all that M of a task has room for,
 * against U and V for every block of shared bands. Measured: filters that are transformed in the task make
 * sums shorter, and M travels more often, which weighs as 0.7 of the bytes; that shared bands let threads
 * wait for each other, as a sixth. */
static int tiles_are_few(const fc_conv *g, const fc_kernels *t, const fc_wino_plan *plan) {
    const ptrdiff_t tiles = fc_wino_strips(g, plan) * plan->strip_cols;
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2, ocs = g->OC / g->G;
    const ptrdiff_t m = m_bytes_of(t, plan, tiles);
    const ptrdiff_t v = v_bytes_of(g, t, plan, tiles), u = u_bytes_of(g, t, plan);
    if (m > l2 / 2 || v <= l2 * 3 / 2)
        return m <= l2 / 2;
    const ptrdiff_t panels = fc_ceil_div(ocs, plan->oc_panel), side = block_side(t, plan);
    const double shared =
        (double)u * (double)fc_ceil_div(tiles, side) + (double)v * (double)fc_ceil_div(ocs, side);
    if (plan->prepared)
        return 1.17 * shared > (double)u + (double)v * (double)fc_ceil_div(panels, l2 / 2 / m);
    return (double)u + shared > 1.7 * (double)v * (double)panels;
}

/* Filters outweigh the image, or bands of a thread's own are impossible, and tiles are few. */
static void plan_blocks(const fc_conv *g, const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t tiles = fc_wino_strips(g, plan) * plan->strip_cols;
    const int few = tiles_are_few(g, t, plan);
    if (few && tiles * plan->threads <= 2 * (g->OC / g->G))
        plan_few_tiles(g, t, plan);
    else if (!plan_own_bands(g, t, plan))
        (few ? plan_few_tiles : plan_shared_bands)(g, t, plan);
}

/* Memory of V, and of the patches that are turned before it. */
static void plan_image(const fc_conv *g, const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize;
    const ptrdiff_t channels = fc_round_up(g->C / g->G, t->lanes);
    plan->v_pitch = fc_spread(channels, t->itemsize);
    plan->v_step = fc_spread(plan->band_strips * plan->strip_cols * plan->v_pitch, t->itemsize);
    const ptrdiff_t row_bytes = (plan->m * plan->strip_cols + plan->r - 1) * t->nr * itemsize;
    const ptrdiff_t fit = (ptrdiff_t)fc_cpu_caches()->l2 / 8 / (plan->m * row_bytes);
    /* strips of several images or columns are not one patch */
    plan->patch_strips = plan->col_strips > 1
                             ? 1
                             : FC_MAX(1, FC_MIN(FC_MIN(plan->band_strips, plan->tile_rows), fit));
    plan->patch_bytes = (size_t)((plan->m * plan->patch_strips + plan->r - 1) * row_bytes);
    const size_t v = (size_t)(plan->positions * plan->v_step * itemsize);
    if ((size_t)plan->threads * v > MOST_OWN)
        plan->own_v = 0;
    const int own = plan->own_bands || plan->own_v;
    plan->v_bytes = own ? 0 : v;
    plan->v_slot_bytes = own ? v : 0;
}

static void plan_memory(const fc_kernels *t, fc_wino_plan *plan) {
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize;
    /* taps of a panel, and its U */
    const ptrdiff_t channels = plan->u_in_tasks ? plan->channel_block : t->lanes;
    const ptrdiff_t packed = channels * plan->oc_panel * plan->r * plan->r;
    const ptrdiff_t row_bytes =
        plan->edge * fc_wino_panel_step(plan->u_channels, plan->oc_panel, t) * itemsize;
    const ptrdiff_t row = (plan->m * plan->m * plan->strip_cols + 1) * plan->oc_panel;
    plan->m_step = fc_spread(plan->oc_block * plan->block_strips * plan->strip_cols, t->itemsize);
    plan->packed_bytes = fc_align(FC_MAX(plan->patch_bytes, (size_t)(packed * itemsize)));
    plan->u_panel_bytes =
        plan->positions * fc_wino_panel_step(plan->channel_block, plan->oc_panel, t) * itemsize;
    const size_t u = (size_t)(fc_ceil_div(plan->oc_chunk, plan->oc_panel) * plan->u_panel_bytes);
    /* as for V: a line of U from another core's cache takes longer than making it once more */
    plan->own_u = plan->own_bands && !plan->prepared && plan->threads > 1 &&
                  (size_t)plan->threads * u <= MOST_OWN;
    plan->u_bytes = plan->u_in_tasks || plan->own_u || plan->prepared ? 0 : u;
    plan->u_slot_bytes = plan->u_in_tasks ? fc_align((size_t)row_bytes) : plan->own_u ? u : 0;
    plan->m_bytes = (size_t)(plan->positions * plan->m_step * itemsize);
    plan->slot_bytes = FC_WINO_STAMP_BYTES + plan->packed_bytes + plan->u_slot_bytes +
                       plan->m_bytes + plan->v_slot_bytes + fc_align((size_t)(row * itemsize));
    plan->workspace_bytes =
        plan->u_bytes + plan->v_bytes + (size_t)plan->threads * fc_slot_step(plan->slot_bytes);
}

static void plan_tile(const fc_conv *g, const fc_kernels *t, ptrdiff_t edge, int prepared,
                      fc_wino_plan *plan) {
    *plan = (fc_wino_plan){.prepared = prepared, .edge = edge, .positions = edge * edge};
    plan->m = outputs_of_tile(g, edge);
    plan->r = g->kernel[1];
    plan->tile_rows = fc_ceil_div(g->out[1], plan->m);
    plan->tile_cols = fc_ceil_div(g->out[2], plan->m);
    cut_strips(MOST_TILES, plan);
    plan->threads = fc_threads_for(fc_multiply_adds(g));
    plan->oc_panel = fc_round_up(fc_even_part(g->OC / g->G, fc_round_up(t->mr, t->nr)), t->lanes);
    plan_blocks(g, t, plan);
    plan_image(g, t, plan);
    plan_memory(t, plan);
}

/* ---- the choice ---------------------------------------------------------------------------- */

/* Costs in vector FMAs, the unit in which the tile works; the factors are measured (docs/performance.md)
 * and hold for all instruction sets within what the choice needs: what is not product is vector
 * operations, too. */
static double gemm_cost(const fc_conv *g, fc_dtype dtype) {
    fc_conv_plan plan;
    const ptrdiff_t weight_row = g->C / g->G * fc_volume(g->kernel);
    if (fc_plan_conv(g, dtype, 0, weight_row, &plan) != FC_OK)
        return HUGE_VAL;
    /* filters come from far */
    return plan.cost +
           FC_FMAS_A_BYTE * (double)(g->OC * weight_row) * (double)fc_table(dtype)->itemsize;
}

/* What the threads do while they wait for each other, 8 us at 7.6 G FMAs/s, each time that they meet
 * and would not for the GEMM. */
static double meeting_cost(const fc_conv *g, const fc_wino_plan *plan) {
    const ptrdiff_t bands = fc_ceil_div(fc_wino_strips(g, plan), plan->band_strips);
    const ptrdiff_t chunks = fc_ceil_div(g->OC / g->G, plan->oc_chunk);
    const ptrdiff_t u = plan->u_in_tasks || plan->own_u || plan->prepared ? 0 : 1;
    const int own = plan->own_bands || plan->own_v;
    const ptrdiff_t v = own ? 0 : bands > 1 ? bands * chunks : 1; /* V of one band is made once */
    const ptrdiff_t products = plan->own_bands ? 1 : bands;
    const ptrdiff_t meetings = g->G * (v + chunks * (products + u)) - 1;
    return plan->threads > 1 ? 60e3 * (double)(meetings * plan->threads) : 0;
}

/* Vector FMAs in the time that an element of U takes to come from memory, where it was made before the
 * call and all of it does not stay in the second-level cache beside the rest: 9.5 GB/s on one core, asked
 * for ahead, beside 7.6 G FMAs/s, or half as many where vectors are short and each takes two instructions. */
static double streaming_cost(const fc_conv *g, const fc_kernels *t, const fc_wino_plan *plan) {
    const double bytes =
        (double)plan->positions * (double)g->OC * (double)(g->C / g->G) * (double)t->itemsize;
    if (!plan->prepared || bytes <= (double)fc_cpu_caches()->l2 * 3 / 8)
        return 0;
    return (t->lanes * (ptrdiff_t)t->itemsize > 16 ? 0.8 : 0.4) * (double)t->itemsize;
}

static double winograd_cost(const fc_conv *g, const fc_kernels *t, const fc_wino_plan *plan) {
    const int small = plan->edge == 4;
    const double tiles = (double)(g->N * plan->tile_rows * plan->tile_cols);
    const double channels = (double)(g->C / g->G), lanes = (double)t->lanes;
    const double c_vectors = (double)fc_ceil_div(g->C / g->G, t->lanes);
    const double oc_vectors = (double)fc_ceil_div(g->OC / g->G, t->lanes);
    /* U and V come from the second-level cache at best */
    const double product = FC_MAX(1.3 * tiles, lanes * streaming_cost(g, t, plan));
    const double in = small ? 200 : 500,
                 out = small ? 200 : 700; /* a tile's transforms, by vector */
    /* they are additions: half an FMA each where that is two instructions */
    const double adds = t->fma ? 1 : 0.5;
    /* a vector of filters is packed, 9 of taps, and 36 or 16 of U written and read: bound by their bytes */
    const double weights = plan->prepared ? 0 : (small ? 6.5 : 7.5) * lanes * (double)t->itemsize;
    const double images = plan->own_v ? plan->threads : 1, copies = plan->own_u ? plan->threads : 1;
    return (double)g->G * (product * (double)plan->positions * channels * oc_vectors +
                           tiles * adds * (in * c_vectors * images + out * oc_vectors) +
                           weights * channels * oc_vectors * copies) +
           meeting_cost(g, plan);
}

fc_status fc_plan_winograd(const fc_conv *g, fc_dtype dtype, ptrdiff_t edge, int prepared,
                           fc_wino_plan *plan) {
    const fc_kernels *t = fc_table(dtype);
    if (!fc_winograd_suits(g) || (edge && !outputs_of_tile(g, edge)))
        return FC_BAD_GEOMETRY;
    plan_tile(g, t, edge ? edge : 6, prepared, plan);
    if (!edge && outputs_of_tile(g, 4)) {
        fc_wino_plan smaller;
        plan_tile(g, t, 4, prepared, &smaller);
        if (winograd_cost(g, t, &smaller) < winograd_cost(g, t, plan))
            *plan = smaller;
    }
    return FC_OK;
}

/* Below some work there is little to save. Sums over few channels are so precise that the error of the
 * larger tile would be more than 2.5 times theirs (docs/performance.md); the smaller one's is below it, but
 * vectors of fewer channels are mostly empty. */
static int may_take_winograd(const fc_conv *g, ptrdiff_t edge) {
    return g->C / g->G >= (edge == 4 ? LEAST_CHANNELS_4 : LEAST_CHANNELS) &&
           fc_multiply_adds(g) >= FC_WINO_LEAST_WORK && !fc_is_depthwise(g);
}

ptrdiff_t fc_lanes(fc_dtype dtype) {
    return fc_table(dtype)->lanes;
}

fc_algo fc_auto_algo(const fc_conv *g, fc_dtype dtype) {
    return may_take_winograd(g, 4) ? fc_choose_algo(g, dtype, FC_AUTO, 0).algo : FC_GEMM;
}

fc_choice fc_choose_algo(const fc_conv *g, fc_dtype dtype, fc_algo algo, int prepared) {
    const fc_kernels *t = fc_table(dtype);
    fc_choice choice = {.algo = algo == FC_AUTO ? FC_GEMM : algo, .depthwise = fc_is_depthwise(g)};
    ptrdiff_t edge = fc_winograd_edge(algo);
    choice.gemm_cost = choice.winograd_cost = -1;
    if (algo == FC_AUTO && outputs_of_tile(g, 4) && !may_take_winograd(g, 6))
        edge = 4;
    fc_wino_plan plan;
    if (fc_plan_winograd(g, dtype, edge, prepared, &plan) != FC_OK)
        return choice;
    choice.gemm_cost = gemm_cost(g, dtype);
    choice.winograd_cost = winograd_cost(g, t, &plan);
    choice.winograd_bytes = plan.workspace_bytes;
    choice.tile_outputs = plan.m;
    choice.winograd_tile[0] = FC_MIN(t->nr, plan.oc_panel);
    choice.winograd_tile[1] = t->mr * plan.m * plan.m;
    choice.winograd_channels = plan.channel_block;
    const int pays = may_take_winograd(g, plan.edge) && choice.winograd_cost < choice.gemm_cost;
    if (fc_is_winograd(algo) || (algo == FC_AUTO && pays))
        choice.algo = plan.edge == 4 ? FC_WINOGRAD_4 : FC_WINOGRAD_6;
    return choice;
}
