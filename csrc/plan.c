/* SPDX-License-Identifier: BSD-3-Clause
 * From geometry, tile sizes, caches and threads to the blocking of a convolution. No state, no
 * clock: the same arguments give the same plan, hence the same order of summation. */
#include "plan.h"

size_t fc_chunk_bytes(void) {
    const size_t l3 = fc_cpu_caches()->l3;
    return FC_MIN(FC_MAX(l3 / 2, (size_t)4 << 20), (size_t)16 << 20);
}

/* Length of the summed axis in one block. The longer, the fewer calls to pack and the fewer times
 * the output is read back; a panel of the image may take an eighth of the second-level cache, so
 * that a block has several. 1024 floats, 512 doubles: measured, see docs/performance.md; more brings
 * nothing. Swapped, the weight panel stays in half the first-level cache while the pixels stream past
 * it. */
static ptrdiff_t sum_target(const fc_kernels *t, int swapped) {
    const fc_caches *caches = fc_cpu_caches();
    const ptrdiff_t step = t->nr * (ptrdiff_t)t->itemsize;
    if (swapped)
        return FC_MAX(64, (ptrdiff_t)caches->l1d / 2 / step);
    const ptrdiff_t most = 4096 / (ptrdiff_t)t->itemsize;
    return FC_MAX(64, FC_MIN(most, (ptrdiff_t)caches->l2 / 8 / step));
}

static void plan_sum(const fc_conv *g, const fc_kernels *t, fc_conv_plan *plan) {
    const ptrdiff_t channels = g->C / g->G, taps = fc_volume(g->kernel);
    const ptrdiff_t target = sum_target(t, plan->swapped);
    plan->tap_block = taps <= 2 * target ? taps : target;
    const ptrdiff_t block = fc_even_part(channels, FC_MAX(1, target / taps));
    plan->channel_block = plan->tap_block < taps ? 1 : block;
}

/* Vector FMAs for one step of the summed axis, if `along` elements lie along the vectors. */
static double step_cost(ptrdiff_t along, ptrdiff_t across, const fc_kernels *t) {
    return (double)fc_ceil_div(along, t->lanes) * (double)across;
}

int fc_rows_share_sets(ptrdiff_t rows, ptrdiff_t row_step, size_t itemsize) {
    enum { WAY = 4096 }; /* bytes from one line of a set to the next, on all processors so far */
    const ptrdiff_t ways = (ptrdiff_t)fc_cpu_caches()->l1d / WAY;
    ptrdiff_t row = row_step % WAY * (ptrdiff_t)itemsize % WAY, sets = 1;
    while (row % WAY != 0) {
        row *= 2;
        sets *= 2;
    }
    return fc_ceil_div(rows, sets) > 3 * ways / 5;
}

/* Whether the tile can read the filters as they stand, where pixels are the vectors: each filter is one
 * run, and its rows do not share sets of the cache. */
static int weights_can_be_direct(const fc_kernels *t, ptrdiff_t weight_row, ptrdiff_t oc_panel) {
    return weight_row > 0 && !fc_rows_share_sets(oc_panel, weight_row, t->itemsize);
}

/* Swapped, weights must be packed, at some 1.3 FMAs for each, where the tile could have read them. */
static int prefers_swapped(const fc_conv *g, const fc_kernels *t, int channels_last,
                           ptrdiff_t weight_row) {
    const ptrdiff_t ocs = g->OC / g->G, pixels = FC_MAX(1, g->N * fc_volume(g->out));
    const double usual = step_cost(pixels, ocs, t), swapped = step_cost(ocs, pixels, t);
    const int direct = weights_can_be_direct(t, weight_row, fc_even_part(ocs, t->mr));
    return channels_last ? swapped < 1.2 * usual
                         : 1.05 * swapped + (direct ? 1.3 * (double)ocs : 0) < usual;
}

/* What tile and which sums, for plan->swapped. */
static void plan_tile(const fc_conv *g, const fc_kernels *t, int channels_last,
                      fc_conv_plan *plan) {
    const ptrdiff_t ocs = g->OC / g->G, pixels = FC_MAX(1, g->N * fc_volume(g->out));
    plan->oc_panel = plan->swapped ? t->nr : fc_even_part(ocs, t->mr);
    plan->pixel_panel = plan->swapped ? fc_even_part(pixels, t->mr) : t->nr;
    plan->tiles_in_scratch = plan->swapped && !channels_last;
    plan_sum(g, t, plan);
}

/* Pixel panels in a block: packed, they live in half the second-level cache. */
static ptrdiff_t most_panels(const fc_kernels *t, const fc_conv_plan *plan) {
    const ptrdiff_t sum = plan->channel_block * plan->tap_block;
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2;
    const ptrdiff_t fit = l2 / 2 / (sum * (ptrdiff_t)t->itemsize * plan->pixel_panel);
    return FC_MAX(1, FC_MIN(fit, FC_MAX_PIXELS / plan->pixel_panel));
}

/* Where the filters outweigh the image, a task takes all pixels and some output channels: it needs
 * each weight once, right after packing it, and packed weights never leave the caches. */
static int weights_fit_tasks(const fc_conv *g, const fc_kernels *t, const fc_conv_plan *plan) {
    const ptrdiff_t pixels = g->N * fc_volume(g->out);
    return fc_ceil_div(pixels, plan->pixel_panel) <= most_panels(t, plan) &&
           pixels * plan->threads <= 2 * g->OC;
}

/* Vector FMAs in the time that a step's filters of one panel take to come from memory, where all of them
 * outgrow the second-level cache: every task reads its own anew. */
static double filters_cost(const fc_conv *g, const fc_kernels *t, const fc_conv_plan *plan) {
    const double filter = (double)(g->C / g->G * fc_volume(g->kernel)) * (double)t->itemsize;
    const double panel = (double)plan->oc_panel * (double)t->itemsize;
    return (double)g->OC * filter > (double)fc_cpu_caches()->l2 ? FC_FMAS_A_BYTE * panel : 0;
}

/* Cuts pixels x output channels into tasks: the fewest that keep all threads busy to the end. */
static void plan_tasks(const fc_conv *g, const fc_kernels *t, fc_conv_plan *plan) {
    const ptrdiff_t pixels = FC_MAX(1, g->N * fc_volume(g->out));
    const ptrdiff_t panels = fc_ceil_div(pixels, plan->pixel_panel);
    const ptrdiff_t ocs = FC_MIN(g->OC / g->G, plan->oc_chunk);
    const ptrdiff_t oc_panels = fc_ceil_div(ocs, plan->oc_panel);
    const ptrdiff_t most = most_panels(t, plan);
    /* vector operations a step: of the tile, and some 6 to pack a panel of the image */
    const double tile = 2.0 * (double)(plan->swapped ? plan->pixel_panel : plan->oc_panel);
    const double filters = filters_cost(g, t, plan);
    ptrdiff_t best_pixels = FC_MIN(panels, most), best_oc = oc_panels;
    if (plan->weights == FC_WEIGHTS_IN_TASKS) {
        /* every task packs the whole image: up to four a thread, for balance, while that is at most a
         * quarter of packing the filters, else one */
        const ptrdiff_t tasks = FC_MAX(plan->threads, ocs / (4 * pixels));
        best_oc = fc_ceil_div(oc_panels, FC_MIN(tasks, 4 * plan->threads));
    } else if (plan->threads > 1) {
        double best = -1;
        for (ptrdiff_t oc_blocks = 1; oc_blocks <= oc_panels && oc_blocks <= 4 * plan->threads;
             oc_blocks++) {
            const ptrdiff_t oc = fc_ceil_div(oc_panels, oc_blocks);
            for (ptrdiff_t blocks = fc_ceil_div(panels, most);; blocks *= 2) {
                const ptrdiff_t width = fc_ceil_div(panels, blocks);
                const ptrdiff_t tasks =
                    plan->group_chunk * fc_ceil_div(panels, width) * fc_ceil_div(oc_panels, oc);
                const double cost =
                    (double)fc_ceil_div(tasks, plan->threads) *
                    ((double)oc * FC_MAX((double)width * tile, filters) + 6 * (double)width);
                if (best < 0 || cost < 0.98 * best) { /* a finer cut must pay */
                    best = cost;
                    best_pixels = width;
                    best_oc = oc;
                }
                if (width <= 1 || tasks >= 16 * plan->threads)
                    break;
            }
        }
    }
    plan->pixel_block = best_pixels * plan->pixel_panel;
    plan->pixel_blocks = fc_ceil_div(pixels, plan->pixel_block);
    plan->oc_block = best_oc * plan->oc_panel;
    plan->oc_blocks = fc_ceil_div(ocs, plan->oc_block);
}

/* Chunks, tasks and memory, for a tile and a use of the weights. */
static void plan_work(const fc_conv *g, const fc_kernels *t, fc_conv_plan *plan) {
    plan->group_chunk = g->G;
    plan->oc_chunk = g->OC / g->G;
    if (plan->weights == FC_WEIGHTS_PACKED)
        fc_chunk_channels(g->G, g->OC / g->G, g->C / g->G * fc_volume(g->kernel),
                          (ptrdiff_t)(fc_chunk_bytes() / t->itemsize), plan->oc_panel,
                          &plan->group_chunk, &plan->oc_chunk);
    if (!plan->shifted)
        plan_tasks(g, t, plan);
    plan->image_pitch = t->nr;
    plan->workspace_bytes = fc_weights_bytes(g, plan, t->itemsize) + fc_offsets_bytes(g, plan) +
                            (size_t)plan->threads * fc_slot_bytes(plan, t->itemsize);
}

/* The tile, the blocks of the sum, and whether the image is packed. */
static fc_status plan_layout(const fc_conv *g, const fc_kernels *t, int channels_last, int swapped,
                             int merged, fc_conv_plan *plan) {
    const fc_status status = fc_conv_check(g);
    if (status)
        return status;
    plan->multiply_adds = fc_multiply_adds(g);
    plan->threads = fc_threads_for(plan->multiply_adds);
    plan->merged = merged;
    plan->swapped = swapped;
    plan_tile(g, t, channels_last, plan);
    fc_plan_shifted(g, t, plan);
    if (swapped && plan->shifted) { /* the sum is cut for the tile in use */
        plan->swapped = 0;
        plan_tile(g, t, channels_last, plan);
        fc_plan_shifted(g, t, plan);
    }
    return merged && !plan->shifted ? FC_BAD_GEOMETRY : FC_OK;
}

static fc_status plan_call(const fc_conv *g, fc_dtype dtype, int channels_last,
                           ptrdiff_t weight_row, int merged, fc_conv_plan *plan) {
    const fc_kernels *t = fc_table(dtype);
    const int swapped = prefers_swapped(g, t, channels_last, weight_row);
    const fc_status status = plan_layout(g, t, channels_last, swapped, merged, plan);
    if (status)
        return status;
    plan->weights = !plan->swapped && weights_can_be_direct(t, weight_row, plan->oc_panel)
                        ? FC_WEIGHTS_DIRECT
                    : !plan->shifted && weights_fit_tasks(g, t, plan) ? FC_WEIGHTS_IN_TASKS
                                                                      : FC_WEIGHTS_PACKED;
    plan_work(g, t, plan);
    return FC_OK;
}

fc_status fc_plan_conv(const fc_conv *g, fc_dtype dtype, int channels_last, ptrdiff_t weight_row,
                       fc_conv_plan *plan) {
    return plan_call(g, dtype, channels_last, weight_row, 0, plan);
}

fc_status fc_plan_merged(const fc_conv *g, fc_dtype dtype, ptrdiff_t weight_row,
                         fc_conv_plan *plan) {
    return plan_call(g, dtype, 0, weight_row, 1, plan);
}

fc_form fc_gemm_form(const fc_conv *g, fc_dtype dtype, int channels_last) {
    const fc_kernels *t = fc_table(dtype);
    fc_conv_plan plan;
    const int swapped = prefers_swapped(g, t, channels_last, 0);
    return plan_layout(g, t, channels_last, swapped, 0, &plan) == FC_OK && plan.swapped
               ? FC_FORM_VECTORS
               : FC_FORM_PANELS;
}

fc_status fc_plan_prepared(const fc_conv *g, fc_dtype dtype, int channels_last, fc_form form,
                           fc_conv_plan *plan) {
    const fc_kernels *t = fc_table(dtype);
    const int swapped = form == FC_FORM_VECTORS;
    const fc_status status = plan_layout(g, t, channels_last, swapped, 0, plan);
    if (status)
        return status;
    if (swapped && !plan->swapped) { /* the filters say how they are read */
        plan->swapped = 1;
        plan->shifted = 0;
        plan_tile(g, t, channels_last, plan);
    }
    plan->weights = FC_WEIGHTS_PREPARED;
    plan_work(g, t, plan);
    return FC_OK;
}

ptrdiff_t fc_sum_blocks(const fc_conv *g, const fc_conv_plan *plan) {
    return fc_ceil_div(g->C / g->G, plan->channel_block) *
           fc_ceil_div(fc_volume(g->kernel), plan->tap_block);
}

fc_sum_block fc_sum_block_at(const fc_conv *g, const fc_conv_plan *plan, ptrdiff_t index) {
    const ptrdiff_t taps = fc_volume(g->kernel), tap_blocks = fc_ceil_div(taps, plan->tap_block);
    fc_sum_block b;
    b.channel = index / tap_blocks * plan->channel_block;
    b.channels = FC_MIN(plan->channel_block, g->C / g->G - b.channel);
    b.tap = index % tap_blocks * plan->tap_block;
    b.taps = FC_MIN(plan->tap_block, taps - b.tap);
    return b;
}

ptrdiff_t fc_packed_channels(const fc_conv_plan *plan, ptrdiff_t ocs) {
    return plan->swapped ? fc_round_up(ocs, plan->oc_panel) : ocs;
}

int fc_images_exceed_caches(const fc_conv *g, size_t itemsize, int threads) {
    const double elements =
        (double)g->C * (double)fc_volume(g->in) + (double)g->OC * (double)fc_volume(g->out);
    return (double)g->N * elements * (double)itemsize >
           (double)threads * (double)fc_cpu_caches()->l2;
}

size_t fc_bias_bytes(const fc_conv *g, size_t itemsize) {
    return fc_align((size_t)(g->OC + FC_MAX_NR) * itemsize);
}

/* Packed weights of a chunk. */
size_t fc_gemm_packed_bytes(const fc_conv *g, const fc_conv_plan *plan, size_t itemsize) {
    const ptrdiff_t sum = g->C / g->G * fc_volume(g->kernel);
    const ptrdiff_t ocs = fc_packed_channels(plan, plan->oc_chunk);
    return fc_align((size_t)(plan->group_chunk * ocs * sum) * itemsize);
}

/* The packed weights, and behind them the bias, which may be read one tile too far. */
size_t fc_weights_bytes(const fc_conv *g, const fc_conv_plan *plan, size_t itemsize) {
    return (plan->weights == FC_WEIGHTS_PACKED ? fc_gemm_packed_bytes(g, plan, itemsize) : 0) +
           fc_bias_bytes(g, itemsize);
}

size_t fc_image_bytes(const fc_conv_plan *plan, size_t itemsize) {
    if (plan->shifted)
        return fc_shifted_bytes(plan, itemsize);
    return fc_align((size_t)(plan->pixel_block * plan->channel_block * plan->tap_block) * itemsize);
}

size_t fc_offsets_bytes(const fc_conv *g, const fc_conv_plan *plan) {
    return plan->shifted ? fc_align((size_t)fc_volume(g->kernel) * sizeof(ptrdiff_t)) : 0;
}

size_t fc_segments_bytes(const fc_conv_plan *plan) {
    return fc_align((size_t)plan->pixel_block * sizeof(fc_segment));
}

size_t fc_panel_bytes(const fc_conv_plan *plan, size_t itemsize) {
    const ptrdiff_t sum = plan->channel_block * plan->tap_block;
    return plan->weights == FC_WEIGHTS_IN_TASKS
               ? fc_align((size_t)(plan->oc_panel * sum) * itemsize)
               : 0;
}

/* Packed image block, segments of its panels, a panel of weights, tiles. */
size_t fc_slot_bytes(const fc_conv_plan *plan, size_t itemsize) {
    const size_t tiles = fc_align((size_t)(plan->pixel_block * plan->oc_block) * itemsize);
    return fc_image_bytes(plan, itemsize) + fc_segments_bytes(plan) +
           fc_panel_bytes(plan, itemsize) +
           (plan->merged             ? fc_merged_bytes(plan, itemsize)
            : plan->tiles_in_scratch ? tiles
                                     : 0);
}
