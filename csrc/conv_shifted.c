/* SPDX-License-Identifier: BSD-3-Clause
 * The implicit GEMM without panels: rows of the image are stored once, padding included, and the tile
 * reads what a filter tap sees through a pointer that is shifted by the tap's offset. Packing costs one
 * move for each element of the image instead of one for each tap, which is most of the work where there
 * are few output channels to share a packed panel.
 *
 *   stored, 3 rows of 4, 3x3 filter:   . . . . . . x x x x . x x x x . x x x x . . . . . .
 *   positions of outputs               0 1 2 3 - 5 6 7 8 - 10 ...      tap (kh, kw) is kh*5 + kw further
 *
 * Rows lie `row_pitch` apart; with stride 1 the padding behind one row is that before the next. A row of
 * outputs has positions in every row, and none in the padding. Flat panels run over the ends of rows,
 * and what the tile computes in between is dropped; other panels end with the row.
 *
 * With stride S rows and columns are split into S phases, each a plane of its own, so that outputs are
 * neighbours again: row r of phase a is row r*SH + a of the image, and a tap's offset names a phase. */
#include <math.h>
#include <string.h>

#include "conv_job.h"

/* ---- plan ---------------------------------------------------------------------------------- */

/* Rows of the image beyond the first phases are never met where the stride is longer than the filter. */
static ptrdiff_t row_phases(const fc_conv *g) {
    return FC_MIN(g->stride[1], fc_reach(g, 1) + 1);
}

static ptrdiff_t find_pitch(const fc_conv *g) {
    const ptrdiff_t whole = g->out[2] + fc_reach(g, 2) / g->stride[2];
    if (g->stride[2] != 1)
        return whole;
    /* neighbours share padding: what is read behind a row must be the zeros before the next one */
    const ptrdiff_t shared = FC_MAX(g->in[2] + g->pad[2], whole - g->pad[2]);
    return FC_MIN(whole, FC_MAX(g->out[2], shared));
}

/* Positions from a block's first output to its last. */
static ptrdiff_t span_rows(const fc_conv *g, const fc_conv_plan *plan, ptrdiff_t rows) {
    return (rows - 1) * plan->row_pitch + g->out[2];
}

static void lay_out(const fc_conv *g, const fc_kernels *t, ptrdiff_t rows, fc_conv_plan *plan) {
    const ptrdiff_t stored = rows + fc_reach(g, 1) / g->stride[1];
    plan->row_block = rows;
    plan->plane_step =
        fc_spread(stored * plan->row_pitch + fc_reach(g, 2) / g->stride[2], t->itemsize);
    plan->channel_step = fc_spread(row_phases(g) * g->stride[2] * plan->plane_step, t->itemsize);
    plan->out_step = fc_spread(rows * plan->row_pitch + t->nr, t->itemsize);
}

/* Outputs of a block of rows before they are merged, padding between them. */
size_t fc_merged_bytes(const fc_conv_plan *plan, size_t itemsize) {
    return fc_align((size_t)(plan->oc_block * plan->out_step) * itemsize);
}

size_t fc_shifted_bytes(const fc_conv_plan *plan, size_t itemsize) {
    return fc_align((size_t)(plan->channel_block * plan->channel_step + FC_MAX_NR) * itemsize);
}

/* Vectors of outputs in a block of rows; one alone in its tile takes the time of 1.3. */
static double block_vectors(const fc_conv *g, const fc_kernels *t, const fc_conv_plan *plan,
                            ptrdiff_t rows) {
    const ptrdiff_t run = plan->flat ? span_rows(g, plan, rows) : g->out[2];
    const ptrdiff_t vectors = fc_ceil_div(run, t->lanes);
    return (double)(plan->flat ? 1 : rows) * ((double)vectors + 0.3 * (double)(vectors % 2));
}

/* Vector FMAs that one vector of outputs takes for each step of the sum: tiles of few rows wait for their
 * sums, four cycles each, of which two begin in a cycle, or one where a product is an instruction of its
 * own; a row has two. */
double fc_tile_cost(const fc_kernels *t, ptrdiff_t ocs, ptrdiff_t panel) {
    const ptrdiff_t least_rows = t->fma ? 4 : 2;
    return 1.06 * (double)(fc_ceil_div(ocs, panel) * FC_MAX(panel, least_rows));
}

/* A block of rows, for each step of the sum: tiles, outputs that y cannot take directly (20 FMAs for
 * each vector), storing the image (4 for a vector). */
static double block_cost(const fc_conv *g, const fc_kernels *t, const fc_conv_plan *plan,
                         ptrdiff_t rows, ptrdiff_t ocs) {
    const double sum = (double)(plan->channel_block * plan->tap_block);
    const ptrdiff_t tail = g->out[2] % t->nr;
    const double vectors = block_vectors(g, t, plan, rows);
    const double moved = plan->merged           ? 0
                         : plan->flat           ? vectors
                         : tail % t->lanes == 0 ? 0
                                                : (double)(rows * fc_ceil_div(tail, t->lanes));
    const ptrdiff_t stored = (rows + fc_reach(g, 1) / g->stride[1]) * row_phases(g) * g->stride[2];
    const double row = (double)fc_ceil_div(plan->row_pitch, t->lanes);
    return vectors * fc_tile_cost(t, ocs, plan->oc_panel) + 20 * moved * (double)ocs / sum +
           4 * (double)stored * row / (double)plan->tap_block;
}

/* Cuts rows x output channels into tasks, as plan_tasks does with pixels: returns the cost for a step
 * of the sum, all tasks together if there is one thread. */
static double plan_blocks(const fc_conv *g, const fc_kernels *t, ptrdiff_t most,
                          fc_conv_plan *plan) {
    const ptrdiff_t ocs = g->OC / g->G, oc_panels = fc_ceil_div(ocs, plan->oc_panel);
    ptrdiff_t best_rows = 1, best_oc = oc_panels;
    double best = -1;
    for (ptrdiff_t cuts = 1; cuts <= oc_panels && cuts <= 4 * plan->threads; cuts++) {
        const ptrdiff_t oc = fc_ceil_div(oc_panels, cuts);
        const ptrdiff_t oc_blocks = fc_ceil_div(oc_panels, oc);
        for (ptrdiff_t blocks = fc_ceil_div(g->out[1], most);; blocks *= 2) {
            const ptrdiff_t rows = fc_ceil_div(g->out[1], blocks);
            const ptrdiff_t tasks =
                g->G * FC_MAX(g->N, 1) * fc_ceil_div(g->out[1], rows) * oc_blocks;
            const double cost = (double)(fc_ceil_div(tasks, plan->threads) * plan->threads) *
                                block_cost(g, t, plan, rows, FC_MIN(ocs, oc * plan->oc_panel));
            if (best < 0 || cost < 0.98 * best) {
                best = cost;
                best_rows = rows;
                best_oc = oc;
            }
            if (rows <= 1 || tasks >= 16 * plan->threads)
                break;
        }
        if (plan->threads == 1 || plan->merged)
            break;
    }
    lay_out(g, t, best_rows, plan);
    plan->oc_block = best_oc * plan->oc_panel;
    plan->oc_blocks = fc_ceil_div(ocs, plan->oc_block);
    plan->pixel_block = best_rows * g->out[2];
    plan->pixel_blocks = g->N * fc_ceil_div(g->out[1], best_rows);
    return best;
}

/* Most output rows of a block whose image fits half the second-level cache; 0 if not one does. */
static ptrdiff_t most_rows(const fc_conv *g, const fc_kernels *t, const fc_conv_plan *plan) {
    const ptrdiff_t l2 = (ptrdiff_t)fc_cpu_caches()->l2;
    ptrdiff_t rows = FC_MIN(g->out[1], FC_MAX_PIXELS / fc_ceil_div(plan->row_pitch, t->nr));
    fc_conv_plan trial = *plan;
    for (; rows > 0; rows = rows * 3 / 4) {
        lay_out(g, t, rows, &trial);
        trial.oc_block = fc_round_up(g->OC / g->G, trial.oc_panel);
        const size_t outputs = plan->merged ? fc_merged_bytes(&trial, t->itemsize) : 0;
        if (fc_shifted_bytes(&trial, t->itemsize) + outputs <= (size_t)(l2 / 2))
            break;
    }
    return rows;
}

/* Vectors in which outputs with a stride are packed, over those that they fill: pieces of rows end with
 * the row or the panel, and each of them in a vector of its own. */
static double cut_vectors(const fc_conv *g, const fc_kernels *t) {
    const double row = (double)g->out[2], whole = row / (double)t->lanes;
    return g->out[2] % t->lanes == 0 ? 1 : 1 + 0.5 * (1 + row / (double)t->nr) / whole;
}

/* The same with packed panels: 14 FMAs to pack a vector of neighbours, 24 to pick one with a stride. */
static double packed_cost(const fc_conv *g, const fc_kernels *t, const fc_conv_plan *plan) {
    const double vectors = (double)(g->N * fc_volume(g->out)) / (double)t->lanes;
    const ptrdiff_t ocs = g->OC / g->G;
    const double tile = plan->swapped ? 1.06 * (double)fc_round_up(ocs, t->lanes)
                                      : fc_tile_cost(t, ocs, plan->oc_panel);
    return (double)g->G * vectors * (tile + (g->stride[2] == 1 ? 14 : 24 * cut_vectors(g, t)));
}

void fc_plan_shifted(const fc_conv *g, const fc_kernels *t, fc_conv_plan *plan) {
    const ptrdiff_t taps = fc_volume(g->kernel);
    /* the estimates are not good enough for less than a twentieth */
    const double packed = packed_cost(g, t, plan);
    const double sum = (double)(g->C / g->G) * (double)taps;
    double best = plan->merged ? HUGE_VAL : 0.95 * packed;
    plan->shifted = 0;
    plan->cost = packed * sum;
    fc_conv_plan trial = *plan;
    /* a row of outputs and all that its taps meet; also keeps the sums below from overflowing */
    const double extent = ((double)g->stride[1] + (double)fc_reach(g, 1)) *
                          ((double)g->out[2] * (double)g->stride[2] + (double)fc_reach(g, 2));
    if (g->in[0] != 1 || g->out[0] != 1 || g->kernel[0] != 1 || g->pad[0] != 0 ||
        (taps == 1 && !plan->merged) || plan->tap_block != taps || extent > 1e7)
        return;
    trial.shifted = 1;
    trial.swapped = trial.tiles_in_scratch = 0;
    trial.oc_panel = fc_even_part(g->OC / g->G, t->mr);
    trial.pixel_panel = t->nr;
    trial.row_pitch = find_pitch(g);
    const ptrdiff_t most = most_rows(g, t, &trial);
    if (most == 0)
        return;
    for (trial.flat = 0; trial.flat <= 1; trial.flat++) {
        const double cost = plan_blocks(g, t, most, &trial);
        if (cost < best) {
            best = cost;
            *plan = trial;
            plan->cost = cost * sum;
        }
    }
}

/* ---- the image ----------------------------------------------------------------------------- */

void fc_find_offsets(const fc_conv_job *job) {
    const fc_conv *g = &job->g;
    const fc_conv_plan *plan = &job->plan;
    for (ptrdiff_t tap = 0; tap < fc_volume(g->kernel); tap++) {
        const ptrdiff_t h = tap / g->kernel[2] * g->dilation[1];
        const ptrdiff_t w = tap % g->kernel[2] * g->dilation[2];
        const ptrdiff_t phase = h % g->stride[1] * g->stride[2] + w % g->stride[2];
        job->offsets[tap] =
            phase * plan->plane_step + h / g->stride[1] * plan->row_pitch + w / g->stride[2];
    }
}

/* Output rows of one image. */
typedef struct {
    ptrdiff_t n, row, rows;
} row_block;

static row_block find_block(const fc_conv_job *job, ptrdiff_t block) {
    const ptrdiff_t height = job->g.out[1], blocks = fc_ceil_div(height, job->plan.row_block);
    row_block b = {.n = block / blocks, .row = block % blocks * job->plan.row_block};
    b.rows = FC_MIN(job->plan.row_block, height - b.row);
    return b;
}

ptrdiff_t fc_shifted_panels(const fc_conv_job *job, ptrdiff_t block, fc_panel *panels,
                            fc_segment *segments) {
    const row_block b = find_block(job, block);
    const ptrdiff_t pitch = job->plan.row_pitch, width = job->g.out[2];
    const ptrdiff_t end = span_rows(&job->g, &job->plan, b.rows);
    ptrdiff_t used = 0;
    for (ptrdiff_t p = 0; p < end;) {
        const ptrdiff_t row_end = p - p % pitch + width;
        if (p >= row_end) { /* in the padding */
            p += pitch - p % pitch;
            continue;
        }
        const ptrdiff_t last = FC_MIN(p + job->t->nr, job->plan.flat ? end : row_end);
        fc_panel *panel = &panels[used++];
        *panel = (fc_panel){.start = p, .segments = segments};
        for (ptrdiff_t q = p; q < last; q += pitch - q % pitch) {
            fc_segment *s = segments++;
            *s = (fc_segment){.lane = q - p, .n = b.n};
            s->length = FC_MIN(width - q % pitch, last - q);
            s->out[1] = b.row + q / pitch;
            s->out[2] = q % pitch;
            panel->pixels = s->lane + s->length;
            panel->count++;
        }
        panel->one_run = panel->count == 1;
        p = last;
    }
    return used;
}

/* One channel; what lies outside the image is left as it is, zero. */
static void store_plane(const fc_conv_job *job, const row_block *b, const char *plane, char *dst) {
    const fc_conv *g = &job->g;
    const fc_conv_plan *plan = &job->plan;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize;
    const ptrdiff_t pad = FC_MAX(g->pad[2], 0), crop = FC_MAX(-g->pad[2], 0);
    const ptrdiff_t extent = (g->out[2] - 1) * g->stride[2] + fc_reach(g, 2) + 1;
    const ptrdiff_t columns = FC_MIN(g->in[2] - crop, extent - pad);
    for (ptrdiff_t phase = 0; columns > 0 && phase < row_phases(g); phase++) {
        const ptrdiff_t rows = b->rows + (fc_reach(g, 1) - phase) / g->stride[1];
        ptrdiff_t first, last;
        fc_valid_range(b->row * g->stride[1] - g->pad[1] + phase, g->stride[1], rows, g->in[1],
                       &first, &last);
        for (ptrdiff_t r = first; r < last; r++) {
            const ptrdiff_t ih = (b->row + r) * g->stride[1] - g->pad[1] + phase;
            const char *src = plane + (ih * job->x.stride[3] + crop * job->x.stride[4]) * itemsize;
            job->t->split_row(
                columns, g->stride[2], pad, src, job->x.stride[4],
                dst + (phase * g->stride[2] * plan->plane_step + r * plan->row_pitch) * itemsize,
                plan->plane_step);
        }
    }
}

void fc_store_rows(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b, ptrdiff_t block,
                   char *image) {
    const fc_conv *g = &job->g;
    const row_block rows = find_block(job, block);
    if (b->channel == 0)
        memset(image, 0, fc_shifted_bytes(&job->plan, job->t->itemsize));
    for (ptrdiff_t c = 0; c < b->channels; c++)
        store_plane(
            job, &rows,
            fc_at(&job->x, job->t->itemsize, rows.n, group * (g->C / g->G) + b->channel + c),
            image + c * job->plan.channel_step * (ptrdiff_t)job->t->itemsize);
}

/* Whether no output of a block of rows is infinite or NaN. */
static int are_finite(const fc_conv_job *job, const row_block *b, const char *outputs) {
    const fc_conv_plan *plan = &job->plan;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize;
    double sum = 0;
    for (ptrdiff_t oc = 0; oc < job->g.OC / job->g.G; oc++)
        for (ptrdiff_t r = 0; r < b->rows; r++)
            job->t->sum_rows(1, job->g.out[2],
                             outputs + (oc * plan->out_step + r * plan->row_pitch) * itemsize, 1, 1,
                             &sum);
    return isfinite(sum);
}

void fc_merge_rows(const fc_conv_job *job, ptrdiff_t group, ptrdiff_t block, const char *outputs) {
    const fc_merge *m = job->merge;
    const fc_conv_plan *plan = &job->plan;
    const row_block b = find_block(job, block);
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize;
    if (!are_finite(job, &b, outputs))
        atomic_store(job->infinite, 1);
    for (ptrdiff_t c = 0; c < m->channels; c++) {
        char *y = fc_at(&m->y, job->t->itemsize, b.n, group * m->channels + c);
        for (ptrdiff_t r = 0; r < b.rows; r++)
            for (ptrdiff_t phase = 0; phase < m->stride[0]; phase++) {
                const ptrdiff_t row = (b.row + r) * m->stride[0] + phase;
                const ptrdiff_t channel = (phase * m->channels + c) * m->stride[1];
                if (row < m->size[0])
                    job->t->merge_row(
                        m->size[1], m->stride[1], 0,
                        outputs + (channel * plan->out_step + r * plan->row_pitch) * itemsize,
                        plan->out_step, y + row * m->y.stride[3] * itemsize, m->y.stride[4]);
            }
    }
}
