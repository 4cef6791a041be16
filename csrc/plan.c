/* SPDX-License-Identifier: BSD-3-Clause
 * From geometry, tile sizes, caches and threads to the blocking of a convolution. No state, no
 * clock: the same arguments give the same plan, hence the same order of summation. */
#include "plan.h"

size_t fc_chunk_bytes(void) {
    const size_t l3 = fc_cpu_caches()->l3;
    return FC_MIN(FC_MAX(l3 / 2, (size_t)4 << 20), (size_t)16 << 20);
}

ptrdiff_t fc_sum_target(const fc_kernels *t) {
    const ptrdiff_t l1 = (ptrdiff_t)fc_cpu_caches()->l1d;
    return FC_MAX(64, l1 / 2 / (t->nr * (ptrdiff_t)t->itemsize));
}

static void plan_sum(const fc_conv *g, const fc_kernels *t, fc_conv_plan *plan) {
    const ptrdiff_t channels = g->C / g->G, taps = fc_volume(g->kernel), target = fc_sum_target(t);
    plan->tap_block = taps <= 2 * target ? taps : target;
    ptrdiff_t block = FC_MAX(1, target / taps);
    block = fc_ceil_div(channels, fc_ceil_div(channels, block)); /* blocks of equal size */
    plan->channel_block = plan->tap_block < taps ? 1 : block;
}

/* Cuts pixels x output channels into tasks: the fewest that keep all threads busy to the end. */
static void plan_tasks(const fc_conv *g, const fc_kernels *t, fc_conv_plan *plan) {
    const ptrdiff_t ocs = g->OC / g->G, sum = plan->channel_block * plan->tap_block;
    const ptrdiff_t pixels = g->N * fc_volume(g->out);
    const ptrdiff_t panels = FC_MAX(1, fc_ceil_div(pixels, t->nr));
    const ptrdiff_t oc_panels = fc_ceil_div(FC_MIN(ocs, plan->oc_chunk), plan->mr);
    /* the packed block of the image lives in half the second-level cache */
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2;
    const ptrdiff_t most = FC_MIN(FC_MAX(1, l2 / 2 / (sum * (ptrdiff_t)t->itemsize * t->nr)),
                                  FC_MAX(1, 1024 / t->nr));
    ptrdiff_t best_pixels = FC_MIN(panels, most), best_oc = oc_panels;
    if (plan->threads > 1) {
        double best = -1;
        for (ptrdiff_t oc_blocks = 1; oc_blocks <= oc_panels && oc_blocks <= 4 * plan->threads;
             oc_blocks++) {
            const ptrdiff_t oc = fc_ceil_div(oc_panels, oc_blocks);
            for (ptrdiff_t blocks = fc_ceil_div(panels, most);; blocks *= 2) {
                const ptrdiff_t width = fc_ceil_div(panels, blocks);
                const ptrdiff_t tasks =
                    plan->group_chunk * fc_ceil_div(panels, width) * fc_ceil_div(oc_panels, oc);
                /* vector operations a step: the tiles, and some 6 to pack a panel of the image */
                const double cost = (double)fc_ceil_div(tasks, plan->threads) * (double)width *
                                    (double)(oc * plan->mr * 2 + 6);
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
    plan->pixel_block = best_pixels * t->nr;
    plan->pixel_blocks = fc_ceil_div(pixels, plan->pixel_block);
    plan->oc_block = best_oc * plan->mr;
    plan->oc_blocks = fc_ceil_div(FC_MIN(ocs, plan->oc_chunk), plan->oc_block);
}

fc_status fc_plan_conv(const fc_conv *g, fc_dtype dtype, fc_conv_plan *plan) {
    const fc_status status = fc_conv_check(g);
    if (status)
        return status;
    const fc_kernels *t = fc_table(dtype);
    const ptrdiff_t ocs = g->OC / g->G;
    /* 64 output channels are 5 tiles of 13 rows, not 4 of 14 and one of 8 */
    plan->mr = fc_ceil_div(ocs, fc_ceil_div(ocs, t->mr));
    plan->nr = t->nr;
    plan->multiply_adds = (double)g->N * (double)g->OC * (double)(g->C / g->G) *
                          (double)fc_volume(g->out) * (double)fc_volume(g->kernel);
    plan->threads = fc_threads_for(plan->multiply_adds);
    plan_sum(g, t, plan);
    fc_chunk_channels(g->G, ocs, g->C / g->G * fc_volume(g->kernel),
                      (ptrdiff_t)(fc_chunk_bytes() / t->itemsize), plan->mr, &plan->group_chunk,
                      &plan->oc_chunk);
    plan_tasks(g, t, plan);
    plan->workspace_bytes = fc_weights_bytes(g, plan, t->itemsize) +
                            (size_t)plan->threads * fc_slot_bytes(plan, t->itemsize);
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

/* Packed weights of a chunk, and behind them the bias of all output channels. */
size_t fc_weights_bytes(const fc_conv *g, const fc_conv_plan *plan, size_t itemsize) {
    const ptrdiff_t sum = g->C / g->G * fc_volume(g->kernel);
    return fc_align((size_t)(plan->group_chunk * plan->oc_chunk * sum) * itemsize) +
           fc_align((size_t)g->OC * itemsize);
}

/* Packed image block, and the segments of its panels. */
size_t fc_slot_bytes(const fc_conv_plan *plan, size_t itemsize) {
    return fc_align((size_t)(plan->pixel_block * plan->channel_block * plan->tap_block) * itemsize) +
           fc_align((size_t)plan->pixel_block * sizeof(fc_segment));
}
