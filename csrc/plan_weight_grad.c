/* SPDX-License-Identifier: BSD-3-Clause
 * The blocking of the weight gradient's GEMM (conv_weight_grad_gemm.c). No state, no clock. */
#include "weight_grad_gemm.h"

/* Rows of cols in a block, about: dyt is read once for each block. */
enum { BLOCK_ROWS = 256, SHIFTED_ROWS = 1024 };

/* Most pixels packed at a time; longer sums bring nothing. */
enum { CHUNK_PIXELS = 1024 };

/* Of dy turned at a time, about. */
enum { BAND_BYTES = 8 << 20 };

/* Below them shifted rows would be multiplied in tiles too narrow, or row ends cost too much. */
enum { MIN_CHANNELS = 8, MIN_KERNEL_ROWS = 6, MIN_COLUMNS = 8 };

static void plan_blocks(fc_weight_grad_job *job) {
    const ptrdiff_t channels = job->g.C / job->g.G;
    ptrdiff_t blocks = fc_ceil_div(job->sum, job->shifted ? SHIFTED_ROWS : BLOCK_ROWS);
    if (job->parts == 1 && job->threads > 1) /* tasks to share out evenly */
        blocks = fc_round_up(blocks, 2 * job->threads);
    const ptrdiff_t rows = fc_ceil_div(job->sum, blocks);
    fc_conv_plan *plan = &job->image.plan;
    plan->swapped = 1; /* nothing is filled up behind the last pixel */
    plan->tap_block = job->shifted || job->taps <= 2 * BLOCK_ROWS ? job->taps : BLOCK_ROWS;
    plan->channel_block =
        plan->tap_block < job->taps ? 1 : fc_even_part(channels, FC_MAX(1, rows / job->taps));
    job->block_rows = plan->channel_block * plan->tap_block;
    job->blocks = fc_sum_blocks(&job->g, plan);
}

/* Half the second-level cache for what is packed at a time. */
static void plan_pixels(fc_weight_grad_job *job) {
    const fc_conv *g = &job->g;
    const ptrdiff_t half = (ptrdiff_t)fc_cpu_caches()->l2 / 2 / job->itemsize;
    const ptrdiff_t ocs = fc_round_up(job->oc_chunk, job->t->lanes) * job->group_chunk;
    const ptrdiff_t rows = job->shifted
                               ? job->image.plan.channel_block * g->stride[1] * g->stride[2]
                               : job->block_rows;
    const ptrdiff_t beside = job->parts > 1 ? ocs : 0;
    const ptrdiff_t budget = BAND_BYTES / job->itemsize;
    const ptrdiff_t fit = FC_MIN(half / (rows + beside), budget / ocs);
    const ptrdiff_t chunk = FC_MAX(128, FC_MIN(CHUNK_PIXELS, fit));
    job->part = FC_MAX(1, fc_ceil_div(job->pixels, job->parts));
    ptrdiff_t pitch, segments, packed;
    if (job->shifted) {
        job->part = fc_round_up(job->part, g->out[2]);
        const ptrdiff_t lines = fc_even_part(job->part / g->out[2], FC_MAX(1, chunk / g->out[2]));
        const ptrdiff_t strips = FC_MIN(lines, lines / g->out[1] + 2);
        job->chunk = lines * g->out[2];
        segments = lines * g->stride[1] + strips * fc_rows_seen(g, 1);
        pitch = segments * job->x_cols;
        packed = job->image.plan.channel_block * g->stride[2];
    } else {
        job->chunk = fc_even_part(job->part, chunk);
        if (job->in_place && g->out[2] <= job->chunk) /* whole images */
            job->chunk = FC_MIN(job->part, fc_round_up(job->chunk, g->out[2]));
        pitch = segments = job->in_place ? 0 : job->chunk;
        packed = rows;
    }
    job->parts = (int)FC_MAX(1, fc_ceil_div(job->pixels, job->part)); /* none without a pixel */
    const ptrdiff_t most = budget / (ocs * job->chunk);
    job->band = job->parts > 1 ? job->chunk : FC_MAX(1, most) * job->chunk;
    job->band = FC_MIN(job->band, job->part);
    job->image.plan.image_pitch = fc_spread(pitch, job->t->itemsize);
    job->acc_bytes = job->sums_in_dw ? 0 : fc_align((size_t)(ocs * job->sum * job->itemsize));
    job->dyt_bytes = fc_align((size_t)(ocs * job->band * job->itemsize));
    job->segment_bytes = fc_align((size_t)segments * sizeof(fc_segment));
    job->slot_bytes = job->segment_bytes +
                      fc_align((size_t)(packed * job->image.plan.image_pitch * job->itemsize));
}

/* Whether rows of x are packed once for all taps: where that is less than the columns and rows are long
 * enough for the tile's inner loop. */
static void plan_shifts(fc_weight_grad_job *job) {
    const fc_conv *g = &job->g;
    const ptrdiff_t lines = FC_MIN(g->out[1], FC_MAX(1, CHUNK_PIXELS / 2 / g->out[2]));
    job->x_cols = g->out[2] + fc_reach(g, 2) / g->stride[2];
    job->by_channels = g->C / g->G >= MIN_CHANNELS;
    job->shifted =
        g->stride[2] <= g->kernel[2] && g->kernel[0] == 1 && job->taps > 1 &&
        (job->by_channels || g->kernel[1] >= MIN_KERNEL_ROWS) && g->out[2] >= MIN_COLUMNS &&
        g->out[2] <= FC_MIN(CHUNK_PIXELS, BAND_BYTES / job->itemsize / g->OC) &&
        g->dilation[2] <= g->out[2] / 2 && fc_rows_seen(g, lines) <= g->kernel[1] * lines;
    job->image.g = job->g;
    if (!job->shifted)
        return;
    /* the "taps" that are packed are the phases of the stride */
    job->image.g.kernel[1] = job->image.g.stride[1] = 1;
    job->image.g.kernel[2] = g->stride[2];
    job->image.g.dilation[1] = job->image.g.dilation[2] = 1;
}

/* Each thread sums its own pixels where dw fits half its second-level cache, and there are enough. */
static int plan_parts(const fc_weight_grad_job *job) {
    const size_t bytes = (size_t)job->g.G * (size_t)job->sum *
                         (size_t)fc_round_up(job->ocg, job->t->lanes) * job->t->itemsize;
    return bytes <= fc_cpu_caches()->l2 / 2 && job->pixels >= 128 * job->threads ? job->threads : 1;
}

/* Whether the tile reads x and keeps its sums where they lie: an image is a row of columns as it stands. */
static void plan_in_place(fc_weight_grad_job *job) {
    const fc_conv *g = &job->g;
    const fc_array *x = &job->image.x, *dw = &job->dw;
    job->in_place = fc_is_pointwise(g) && fc_volume(g->out) == g->out[2] && x->stride[4] == 1 &&
                    !fc_rows_share_sets(job->t->mr, x->stride[1], job->t->itemsize);
    job->sums_in_dw =
        job->parts == 1 && job->taps == 1 && dw->stride[0] == 1 && job->ocg % job->t->lanes == 0;
}

void fc_plan_weight_grad(fc_weight_grad_job *job) {
    const fc_conv *g = &job->g;
    job->itemsize = (ptrdiff_t)job->t->itemsize;
    job->taps = fc_volume(g->kernel);
    job->sum = g->C / g->G * job->taps;
    job->ocg = g->OC / g->G;
    job->pixels = g->N * fc_volume(g->out);
    job->threads = fc_threads_for(fc_multiply_adds(g));
    job->parts = plan_parts(job);
    job->store_at_once = job->parts == 1;
    plan_shifts(job);
    plan_in_place(job);
    plan_blocks(job);
    fc_chunk_channels(g->G, fc_round_up(job->ocg, job->t->lanes), FC_MAX(job->sum, BLOCK_ROWS),
                      (ptrdiff_t)fc_chunk_bytes() / job->itemsize, job->t->nr, &job->group_chunk,
                      &job->oc_chunk);
    job->oc_chunk = FC_MIN(job->oc_chunk, job->ocg);
    plan_pixels(job);
    job->dy_dense = fc_is_dense(&job->dy, g->out);
    job->dw_dense = fc_weights_are_dense(g, &job->dw);
}

/* The factors are measured (docs/performance.md). */
double fc_weight_grad_cost(const fc_weight_grad_job *job) {
    const fc_conv *g = &job->g;
    const double ocs = (double)job->ocg, channels = (double)(g->C / g->G);
    double products, packing;
    if (fc_filters_are_few(g, job->t)) {
        const ptrdiff_t vectors = fc_ceil_div(g->kernel[2] * (g->C / g->G), job->t->lanes);
        products = 1.5 * ocs * (double)(job->taps / g->kernel[2] * vectors);
        packing = 6 * (channels + ocs);
    } else {
        products = 1.25 * (double)(job->sum * fc_ceil_div(job->ocg, job->t->lanes));
        packing = 2 * (job->shifted ? channels * (double)(g->stride[1] * g->stride[2])
                                    : (double)job->sum) +
                  1.2 * ocs;
    }
    return (double)g->G * (double)job->pixels * (products + packing);
}
