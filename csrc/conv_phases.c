/* SPDX-License-Identifier: BSD-3-Clause
 * The input gradient of a strided convolution, all phases of dx in one pass. Each phase is a stride-1
 * convolution of dy with taps of its own (conv_input_grad.c). A task packs a block of dy once, for the
 * taps of all phases, and each phase's tiles read of a panel [channel][tap][pixels] the taps that meet it:
 *
 *   taps of a panel, 3x3 filter, stride 2:   | 0 | 1 |      phase 0: tap 3      phase 1: taps 2, 3
 *                                            | 2 | 3 |      phase 2: taps 1, 3  phase 3: 0, 1, 2, 3
 *
 * Outputs stay in the second-level cache until rows of dx are merged from them, each written once, in whole
 * vectors. A phase that no tap reaches is a sum of no terms: the bias, or zero. */
#include "conv_job.h"

typedef struct {
    fc_conv_job image; /* of one phase if it had all the taps; y and w are not used */
    const fc_phase_list *phases;
    const fc_array *y;
} phases_job;

/* Scratch memory of a task. */
typedef struct {
    char *image, *outputs;
    fc_segment *segments;
} scratch;

/* ---- plan ---------------------------------------------------------------------------------- */

static size_t outputs_bytes(const fc_phase_list *list, const fc_conv_plan *plan, size_t itemsize) {
    return fc_align((size_t)(list->count * plan->oc_block * plan->out_step) * itemsize);
}

static size_t segments_bytes(const fc_conv_plan *plan) { /* those of panels and of the block */
    return fc_align((size_t)(2 * plan->pixel_block) * sizeof(fc_segment));
}

static void set_blocks(const fc_conv *g, const fc_kernels *t, ptrdiff_t panels, ptrdiff_t oc,
                       fc_conv_plan *plan) {
    plan->pixel_block = panels * plan->pixel_panel;
    plan->pixel_blocks = fc_ceil_div(g->N * fc_volume(g->out), plan->pixel_block);
    plan->out_step = fc_spread(plan->pixel_block, t->itemsize);
    plan->oc_block = FC_MIN(g->OC / g->G, oc * plan->oc_panel);
    plan->oc_blocks = fc_ceil_div(g->OC / g->G, plan->oc_block);
}

/* Panels of a block that fill three quarters of the second-level cache, image and outputs together. */
static ptrdiff_t most_panels(const fc_phase_list *list, const fc_kernels *t, ptrdiff_t ocs,
                             const fc_conv_plan *plan) {
    const ptrdiff_t sum = plan->channel_block * plan->tap_block;
    const ptrdiff_t panel = (sum + list->count * ocs) * plan->pixel_panel * (ptrdiff_t)t->itemsize;
    const ptrdiff_t fit = (ptrdiff_t)fc_cpu_caches()->l2 / 4 * 3 / panel;
    return FC_MIN(fit, FC_MAX_PIXELS / plan->pixel_panel);
}

/* Cuts pixels x channels of dx into tasks. More channels share a packed panel, more pixels a panel of
 * weights. Vector operations of a panel for each channel of dy: tiles, 7 for a vector to pack; and those
 * which wait for weights, once a block. Returns 0 where not one panel fits. */
static int plan_blocks(const fc_conv *g, const fc_phase_list *list, const fc_kernels *t,
                       fc_conv_plan *plan) {
    const ptrdiff_t panels = fc_ceil_div(g->N * fc_volume(g->out), plan->pixel_panel);
    const ptrdiff_t oc_panels = fc_ceil_div(g->OC / g->G, plan->oc_panel);
    double best = -1;
    for (ptrdiff_t cuts = 1; cuts <= oc_panels && cuts <= 16 * plan->threads; cuts++) {
        const ptrdiff_t oc = fc_ceil_div(oc_panels, cuts), ocs = oc * plan->oc_panel;
        const ptrdiff_t most = most_panels(list, t, ocs, plan);
        if (most < 1 || fc_ceil_div(oc_panels, oc) != cuts)
            continue;
        for (ptrdiff_t blocks = fc_ceil_div(panels, most);; blocks *= 2) {
            const ptrdiff_t width = fc_ceil_div(panels, blocks);
            const ptrdiff_t tasks = g->G * fc_ceil_div(panels, width) * cuts;
            const double tiles = (double)(ocs * list->taps);
            const double cost = (double)fc_ceil_div(tasks, plan->threads) *
                                ((double)width * (tiles + 7 * (double)plan->tap_block) + tiles / 4);
            if (best < 0 || cost < 0.98 * best) { /* a finer cut must pay */
                best = cost;
                set_blocks(g, t, width, oc, plan);
            }
            if (width <= 1 || tasks >= 16 * plan->threads)
                break;
        }
    }
    return best >= 0;
}

static fc_status plan_phases(const fc_conv *g, const fc_phase_list *list, const fc_kernels *t,
                             fc_conv_plan *plan) {
    enum { SUM_BYTES = 4096 }; /* as that of the forward pass */
    const ptrdiff_t taps = fc_volume(g->kernel), ocs = g->OC / g->G;
    const ptrdiff_t target = SUM_BYTES / (ptrdiff_t)t->itemsize;
    const double weights = (double)g->OC * (double)(g->C / g->G) * (double)list->taps;
    *plan = (fc_conv_plan){.pixel_panel = t->nr, .image_pitch = t->nr, .tap_block = taps};
    if (taps > target || weights * (double)t->itemsize > (double)fc_chunk_bytes())
        return FC_BAD_GEOMETRY;
    plan->weights = FC_WEIGHTS_PACKED;
    plan->oc_panel = fc_even_part(ocs, t->mr);
    plan->channel_block = fc_even_part(g->C / g->G, target / taps);
    plan->group_chunk = g->G;
    plan->oc_chunk = ocs;
    plan->threads = fc_threads_for((double)(g->N * fc_volume(g->out)) * weights);
    /* where filters outweigh the image, tasks had better take all pixels and pack filters for themselves */
    if (g->N * fc_volume(g->out) * plan->threads <= 2 * g->OC)
        return FC_BAD_GEOMETRY;
    return plan_blocks(g, list, t, plan) ? FC_OK : FC_BAD_GEOMETRY;
}

/* ---- weights ------------------------------------------------------------------------------- */

/* Packed weights: [group][phase][block of the sum][oc panel][channel][tap][oc]. */
static char *weight_panel(const phases_job *job, ptrdiff_t group, const fc_phase *phase,
                          const fc_sum_block *b, ptrdiff_t oc) {
    const fc_conv *g = &job->image.g;
    const ptrdiff_t ocs = g->OC / g->G, taps = fc_volume(phase->taps);
    const ptrdiff_t filters = ocs * (g->C / g->G); /* of one tap */
    const ptrdiff_t offset = (group * job->phases->taps + phase->number) * filters +
                             (b->channel * ocs + oc * b->channels) * taps;
    return job->image.weights + offset * (ptrdiff_t)job->image.t->itemsize;
}

static void pack_weights_task(void *context, ptrdiff_t task, int slot) {
    const phases_job *job = context;
    const fc_conv_plan *plan = &job->image.plan;
    const ptrdiff_t ocs = job->image.g.OC / job->image.g.G;
    const ptrdiff_t panels = fc_ceil_div(ocs, plan->oc_panel);
    const ptrdiff_t blocks = fc_sum_blocks(&job->image.g, plan);
    const fc_phase *phase = &job->phases->phase[task / panels / blocks % job->phases->count];
    const ptrdiff_t group = task / panels / blocks / job->phases->count;
    const ptrdiff_t oc = task % panels * plan->oc_panel;
    fc_sum_block b = fc_sum_block_at(&job->image.g, plan, task / panels % blocks);
    fc_conv_job one = job->image;
    (void)slot;
    one.w = phase->w;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        one.g.kernel[axis] = phase->taps[axis];
    b.taps = fc_volume(phase->taps);
    if (b.taps > 0)
        fc_pack_weight_panel(&one, group, &b, oc, FC_MIN(plan->oc_panel, ocs - oc),
                             weight_panel(job, group, phase, &b, oc));
}

/* Where in a packed panel each phase finds the steps of its sum, all taps of one channel after the other. */
static void find_offsets(const phases_job *job) {
    const ptrdiff_t *kernel = job->image.g.kernel;
    const fc_conv_plan *plan = &job->image.plan;
    ptrdiff_t *offset = job->image.offsets;
    for (const fc_phase *p = job->phases->phase; p < job->phases->phase + job->phases->count; p++)
        for (ptrdiff_t step = 0; step < plan->channel_block * fc_volume(p->taps); step++) {
            const ptrdiff_t channel = step / fc_volume(p->taps), tap = step % fc_volume(p->taps);
            const ptrdiff_t at[] = {tap / p->taps[2] / p->taps[1], tap / p->taps[2] % p->taps[1],
                                    tap % p->taps[2]};
            ptrdiff_t place = 0;
            for (int axis = 0; axis < FC_SPATIAL; axis++)
                place = place * kernel[axis] + p->first[axis] + at[axis] * p->step[axis];
            *offset++ = (channel * plan->tap_block + place) * plan->image_pitch;
        }
}

/* The steps of a phase's sum; returns where in a panel the first one is. Steps that lie evenly need no
 * offsets. */
static ptrdiff_t find_steps(const phases_job *job, const fc_phase *phase, ptrdiff_t channels,
                            fc_tile *tile) {
    const fc_conv_plan *plan = &job->image.plan;
    const ptrdiff_t taps = fc_volume(phase->taps);
    const ptrdiff_t *offsets = job->image.offsets + phase->number * plan->channel_block;
    tile->k_outer = 1;
    tile->k_inner = channels * taps;
    tile->b_at = taps == 1 || taps == plan->tap_block ? NULL : offsets;
    tile->b_step = plan->tap_block / FC_MAX(taps, 1) * plan->image_pitch;
    return tile->b_at || taps == 0 ? 0 : offsets[0];
}

/* ---- tasks --------------------------------------------------------------------------------- */

/* One block of the sum, all phases: outputs [phase][oc][pixel]. */
static void multiply_block(const phases_job *job, ptrdiff_t group, const fc_sum_block *b,
                           ptrdiff_t oc_first, ptrdiff_t oc_last, const fc_panel *places,
                           ptrdiff_t panels, const scratch *s) {
    const fc_conv_job *image = &job->image;
    const fc_conv_plan *plan = &image->plan;
    const ptrdiff_t itemsize = (ptrdiff_t)image->t->itemsize;
    fc_tile tile = {.a_row = 1, .ldc = plan->out_step};
    tile.init = b->channel > 0 ? FC_INIT_LOAD : image->bias ? FC_INIT_BIAS : FC_INIT_ZERO;
    for (ptrdiff_t i = 0; i < job->phases->count; i++) {
        const fc_phase *phase = &job->phases->phase[i];
        const ptrdiff_t first = find_steps(job, phase, b->channels, &tile);
        if (tile.k_inner == 0 && b->channel > 0)
            continue;
        for (ptrdiff_t oc = oc_first; oc < oc_last; oc += plan->oc_panel) {
            char *outputs =
                s->outputs + (i * plan->oc_block + oc - oc_first) * plan->out_step * itemsize;
            tile.m = tile.a_step = FC_MIN(plan->oc_panel, oc_last - oc);
            tile.a = weight_panel(job, group, phase, b, oc);
            tile.bias = image->packed_bias + (group * (image->g.OC / image->g.G) + oc) * itemsize;
            for (ptrdiff_t p = 0; p < panels; p++) {
                tile.vectors = fc_ceil_div(places[p].pixels, image->t->lanes);
                tile.b = s->image + (places[p].start * b->channels * b->taps + first) * itemsize;
                tile.c = outputs + places[p].start * itemsize;
                image->t->gemm_tile(&tile);
            }
        }
    }
}

/* What a run of outputs of all phases becomes in one channel: rows of y. */
static void merge_run(const phases_job *job, const fc_segment *s, ptrdiff_t channel,
                      const char *outputs) {
    const fc_phase_list *list = job->phases;
    const fc_array *y = job->y;
    const fc_conv_plan *plan = &job->image.plan;
    const ptrdiff_t itemsize = (ptrdiff_t)job->image.t->itemsize;
    const ptrdiff_t step = plan->oc_block * plan->out_step, column = s->out[2] * list->stride[2];
    const ptrdiff_t columns = FC_MIN(s->length * list->stride[2], list->size[2] - column);
    char *first =
        fc_at(y, job->image.t->itemsize, s->n, channel) + column * y->stride[4] * itemsize;
    outputs += s->lane * itemsize;
    for (ptrdiff_t d = 0; d < list->stride[0]; d++)
        for (ptrdiff_t h = 0; h < list->stride[1]; h++) {
            const ptrdiff_t plane = s->out[0] * list->stride[0] + d;
            const ptrdiff_t row = s->out[1] * list->stride[1] + h;
            if (plane < list->size[0] && row < list->size[1])
                job->image.t->merge_row(
                    columns, list->stride[2], 0, outputs, step,
                    first + (plane * y->stride[2] + row * y->stride[3]) * itemsize, y->stride[4]);
            outputs += list->stride[2] * step * itemsize;
        }
}

static scratch carve_scratch(const phases_job *job, int slot) {
    const fc_conv_job *image = &job->image;
    scratch s;
    s.image = image->slots + (size_t)slot * image->slot_bytes;
    s.outputs = s.image + fc_image_bytes(&image->plan, image->t->itemsize);
    s.segments =
        (fc_segment *)(s.outputs + outputs_bytes(job->phases, &image->plan, image->t->itemsize));
    return s;
}

static void compute_task(void *context, ptrdiff_t task, int slot) {
    const phases_job *job = context;
    const fc_conv_job *image = &job->image;
    const fc_conv_plan *plan = &image->plan;
    const ptrdiff_t ocs = image->g.OC / image->g.G;
    const ptrdiff_t pixel_block = task / plan->oc_blocks % plan->pixel_blocks;
    const ptrdiff_t group = task / plan->oc_blocks / plan->pixel_blocks;
    const ptrdiff_t oc_first = task % plan->oc_blocks * plan->oc_block;
    const ptrdiff_t oc_last = FC_MIN(oc_first + plan->oc_block, ocs);
    const scratch s = carve_scratch(job, slot);
    fc_panel panels[FC_MAX_PIXELS];
    const ptrdiff_t count = fc_find_panels(image, pixel_block, panels, s.segments);
    const fc_panel *last = &panels[count - 1];
    const ptrdiff_t pixels = last->start + last->pixels;
    fc_segment *runs = s.segments + (last->segments - s.segments) + last->count; /* of the block */
    for (ptrdiff_t block = 0; block < fc_sum_blocks(&image->g, plan); block++) {
        const fc_sum_block b = fc_sum_block_at(&image->g, plan, block);
        fc_pack_panels(image, group, &b, panels, count, s.image);
        multiply_block(job, group, &b, oc_first, oc_last, panels, count, &s);
    }
    const ptrdiff_t found =
        fc_find_segments(&image->g, pixel_block * plan->pixel_block, pixels, runs);
    for (ptrdiff_t oc = oc_first; oc < oc_last; oc++) {
        const char *outputs =
            s.outputs + (oc - oc_first) * plan->out_step * (ptrdiff_t)image->t->itemsize;
        for (ptrdiff_t i = 0; i < found; i++)
            merge_run(job, &runs[i], group * ocs + oc, outputs);
    }
}

fc_status fc_conv_phases(const fc_conv *g, fc_dtype dtype, const fc_array *x,
                         const fc_phase_list *phases, ptrdiff_t w_group, const fc_array *bias,
                         const fc_array *y) {
    phases_job job = {.phases = phases, .y = y};
    fc_conv_job *image = &job.image;
    *image = (fc_conv_job){.g = *g, .x = *x, .w_group = w_group, .bias = bias};
    image->t = fc_table(dtype);
    const size_t itemsize = image->t->itemsize;
    const fc_status status = plan_phases(g, phases, image->t, &image->plan);
    if (status)
        return status;
    const ptrdiff_t size[] = {g->N, g->C, g->in[0], g->in[1], g->in[2]};
    fc_array_bounds(x, size, itemsize, &image->x_begin, &image->x_end);
    const ptrdiff_t filters = g->OC * (g->C / g->G) * phases->taps;
    const size_t weights = fc_align((size_t)filters * itemsize);
    const size_t offsets =
        fc_align((size_t)(phases->taps * image->plan.channel_block) * sizeof(ptrdiff_t));
    image->slot_bytes = fc_image_bytes(&image->plan, itemsize) +
                        outputs_bytes(phases, &image->plan, itemsize) +
                        segments_bytes(&image->plan);
    image->weights = fc_workspace_acquire(weights + offsets + fc_bias_bytes(g, itemsize) +
                                          (size_t)image->plan.threads * image->slot_bytes);
    if (!image->weights)
        return FC_NO_MEMORY;
    image->offsets = (ptrdiff_t *)(image->weights + weights);
    image->packed_bias = (char *)image->offsets + offsets;
    image->slots = image->packed_bias + fc_bias_bytes(g, itemsize);
    find_offsets(&job);
    if (bias)
        fc_pack_bias(image);
    /* a few filters are packed sooner than a second thread wakes */
    fc_parallel_for(filters < 16384 ? 1 : image->plan.threads,
                    g->G * phases->count * fc_sum_blocks(g, &image->plan) *
                        fc_ceil_div(g->OC / g->G, image->plan.oc_panel),
                    pack_weights_task, &job);
    fc_parallel_for(image->plan.threads, g->G * image->plan.pixel_blocks * image->plan.oc_blocks,
                    compute_task, &job);
    fc_workspace_release(image->weights);
    return FC_OK;
}
