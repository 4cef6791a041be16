/* SPDX-License-Identifier: BSD-3-Clause
 * Winograd's algorithm: the products M = V U at the 36 positions, with U that is there or made here. */
#include "winograd.h"

/* Filters that are needed next, asked for while the tile multiplies: `rows` runs, `pitch` bytes apart. */
typedef struct {
    const char *row;
    ptrdiff_t rows, row_bytes, pitch, at;
} wino_ahead;

/* What to ask for during the next `bytes` of them. */
static const char *next_ahead(wino_ahead *ahead, ptrdiff_t bytes) {
    if (ahead->rows <= 0)
        return NULL;
    const char *from = ahead->row + ahead->at;
    ahead->at += bytes;
    if (ahead->at >= ahead->row_bytes) {
        ahead->at -= ahead->row_bytes;
        ahead->row += ahead->pitch;
        ahead->rows--;
    }
    return from;
}

/* A part of the products of a band: output channels, positions, and what they sum. */
typedef struct {
    ptrdiff_t oc_first, oc_last, position, positions, channel, channels;
    wino_ahead *ahead; /* or NULL: U is there, and what to ask for */
} wino_part;

/* The panel of filters whose turn comes after one of position `i` of a part; NULL behind the last. */
static const char *next_panel(const fc_wino_job *job, const wino_part *part, ptrdiff_t i,
                              ptrdiff_t oc, const char *u, ptrdiff_t u_step) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t panels = (oc - part->oc_first) / plan->oc_panel + 1;
    if (oc + plan->oc_panel < part->oc_last)
        return u + i * u_step * fc_wino_itemsize(job) + panels * plan->u_panel_bytes;
    return i + 1 < part->positions ? u + (i + 1) * u_step * fc_wino_itemsize(job) : NULL;
}

/* M of a part, whose U it gets: panels u_panel bytes apart, positions u_step elements. */
static void multiply(const fc_wino_job *job, const fc_wino_band *band, const wino_part *part,
                     char *u, ptrdiff_t u_step, char *m) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t itemsize = fc_wino_itemsize(job), nr = job->t->nr;
    const ptrdiff_t tiles = band->strips * plan->strip_cols, rows = fc_even_part(tiles, job->t->mr);
    fc_tile product = {.k_outer = 1,
                       .k_inner = part->channels,
                       .a_row = plan->v_pitch,
                       .a_step = 1,
                       .b_step = plan->oc_panel,
                       .ldc = plan->oc_block,
                       .init = part->channel ? FC_INIT_LOAD : FC_INIT_ZERO};
    const ptrdiff_t calls = fc_ceil_div(tiles, rows), panel_row = plan->oc_panel * itemsize;
    /* as many bytes as one tile for each position and step would need, 36 or 16 for a panel of filters; or
     * the next panel of U, a part in each call */
    product.ahead_step = (part->ahead ? (plan->edge == 6 ? 32 : 64) : panel_row) / calls;
    for (ptrdiff_t i = 0; i < part->positions; i++) {
        const ptrdiff_t p = part->position + i;
        const char *v = band->v + (p * plan->v_step + part->channel) * itemsize;
        char *m_panel = m + p * plan->m_step * itemsize, *u_panel = u + i * u_step * itemsize;
        for (ptrdiff_t oc = part->oc_first; oc < part->oc_last; oc += plan->oc_panel) {
            const ptrdiff_t filters = FC_MIN(plan->oc_panel, part->oc_last - oc);
            const char *next = part->ahead ? NULL : next_panel(job, part, i, oc, u, u_step);
            for (ptrdiff_t first = 0; first < filters; first += nr) {
                product.vectors = filters - first > job->t->lanes ? 2 : 1;
                product.b = u_panel + first * itemsize;
                for (ptrdiff_t t = 0; t < tiles; t += rows) {
                    product.m = FC_MIN(rows, tiles - t);
                    product.a = v + t * plan->v_pitch * itemsize;
                    product.c = m_panel + (t * plan->oc_block + first) * itemsize;
                    if (part->ahead)
                        product.ahead =
                            next_ahead(part->ahead, part->channels * product.ahead_step);
                    else if (next)
                        product.ahead = next + t / rows * part->channels * product.ahead_step;
                    else
                        product.ahead = NULL;
                    job->t->gemm_tile(&product);
                }
            }
            u_panel += plan->u_panel_bytes;
            m_panel += plan->oc_panel * itemsize;
        }
    }
}

void fc_wino_multiply(const fc_wino_job *job, const fc_wino_band *band, ptrdiff_t oc_first,
                      ptrdiff_t oc_last, char *u, char *m) {
    const ptrdiff_t channels = job->g.C / job->g.G;
    const wino_part part = {.oc_first = oc_first,
                            .oc_last = oc_last,
                            .positions = job->plan.positions,
                            .channels = channels};
    multiply(job, band, &part, u, fc_wino_panel_step(channels, job->plan.oc_panel, job->t), m);
}

/* The filters of the next block of channels, or of the next panel, where each is one run. */
static wino_ahead find_ahead(const fc_wino_job *job, ptrdiff_t oc, ptrdiff_t channel) {
    const fc_conv *g = &job->g;
    const fc_array *w = &job->pack.w;
    const ptrdiff_t channels = g->C / g->G, ocs = g->OC / g->G, itemsize = fc_wino_itemsize(job);
    if (channel >= channels) {
        channel = 0;
        oc += job->plan.oc_panel;
    }
    if (oc >= ocs || !fc_weights_are_dense(g, w))
        return (wino_ahead){.rows = 0};
    return (wino_ahead){
        .row = fc_at(w, job->t->itemsize, oc, channel) + job->group * job->pack.w_group * itemsize,
        .rows = FC_MIN(job->plan.oc_panel, ocs - oc),
        .row_bytes = FC_MIN(job->plan.channel_block, channels - channel) * w->stride[1] * itemsize,
        .pitch = w->stride[0] * itemsize};
}

void fc_wino_multiply_fresh(const fc_wino_job *job, const fc_wino_band *band, ptrdiff_t oc_first,
                            ptrdiff_t oc_last, char *packed, char *u, char *m) {
    const fc_wino_plan *plan = &job->plan;
    const ptrdiff_t itemsize = fc_wino_itemsize(job), channels = job->g.C / job->g.G;
    const ptrdiff_t u_step = fc_wino_panel_step(plan->u_channels, plan->oc_panel, job->t);
    const ptrdiff_t tap_bytes = plan->r * plan->r * plan->oc_panel * itemsize;
    wino_part part = {.oc_first = oc_first, .oc_last = oc_last, .positions = plan->edge};
    for (ptrdiff_t block = 0; block < channels; block += plan->channel_block) {
        const ptrdiff_t last = FC_MIN(block + plan->channel_block, channels);
        wino_ahead ahead = find_ahead(job, oc_first, last);
        part.ahead = &ahead;
        fc_wino_pack_filters(job, oc_first, block, last - block, packed);
        for (ptrdiff_t row = 0; row < plan->edge; row++) {
            part.position = row * plan->edge;
            for (part.channel = block; part.channel < last; part.channel += part.channels) {
                part.channels = FC_MIN(plan->u_channels, last - part.channel);
                fc_wino_transform_rows(job, row, 1, part.channels,
                                       packed + (part.channel - block) * tap_bytes, u, u_step);
                multiply(job, band, &part, u, u_step, m);
            }
        }
    }
}
