/* SPDX-License-Identifier: BSD-3-Clause
 * From filters to U, the transformed filters of Winograd's algorithm, a panel at a time. */
#include <string.h>

#include "winograd.h"

/* Filters of the input gradient: channels are exchanged and each filter is one run, backwards. */
static int filters_are_flipped(const fc_wino_job *job) {
    const ptrdiff_t r = job->plan.r, *s = job->pack.w.stride;
    return s[4] == -1 && s[3] == -r && s[0] == r * r;
}

/* The same as fc_pack_weight_panel; all filters of a channel are one run then. */
static void pack_flipped(const fc_wino_job *job, ptrdiff_t oc, ptrdiff_t filters, ptrdiff_t channel,
                         ptrdiff_t channels, char *packed) {
    const ptrdiff_t taps = job->plan.r * job->plan.r, panel = job->plan.oc_panel;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, last = taps - 1;
    const fc_array *w = &job->pack.w;
    const char *src = fc_at(w, job->t->itemsize, oc, channel) +
                      (job->group * job->pack.w_group - last) * itemsize;
    if (filters < panel)
        memset(packed, 0, (size_t)(channels * taps * panel * itemsize));
    for (ptrdiff_t c = 0; c < channels; c++) {
        const fc_copy copy = {.rows = filters,
                              .cols = taps,
                              .src = src + c * w->stride[1] * itemsize,
                              .src_row = taps,
                              .src_col = 1,
                              .dst = packed + (c * taps + last) * panel * itemsize,
                              .dst_row = 1,
                              .dst_col = -panel};
        job->t->copy_2d(&copy);
    }
}

void fc_wino_pack_filters(const fc_wino_job *job, ptrdiff_t oc, ptrdiff_t channel,
                          ptrdiff_t channels, char *packed) {
    const ptrdiff_t r = job->plan.r;
    const ptrdiff_t filters = FC_MIN(job->plan.oc_panel, job->g.OC / job->g.G - oc);
    const fc_sum_block block = {.channel = channel, .channels = channels, .taps = r * r};
    if (filters_are_flipped(job))
        pack_flipped(job, oc, filters, channel, channels, packed);
    else
        fc_pack_weight_panel(&job->pack, job->group, &block, oc, filters, packed);
}

void fc_wino_transform_rows(const fc_wino_job *job, ptrdiff_t row, ptrdiff_t rows,
                            ptrdiff_t channels, const char *packed, char *u, ptrdiff_t step) {
    const fc_wino_weights weights = {.edge = job->plan.edge,
                                     .r = job->plan.r,
                                     .row = row,
                                     .rows = rows,
                                     .channels = channels,
                                     .filters = job->plan.oc_panel,
                                     .src = packed,
                                     .dst = u,
                                     .dst_step = step};
    job->t->wino_weights(&weights);
}

/* A few channels at a time, whose taps stay in the first-level cache. */
void fc_wino_transform_filters(const fc_wino_job *job, ptrdiff_t oc, char *packed, char *u) {
    const ptrdiff_t channels = job->g.C / job->g.G, some = job->t->lanes;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, panel = job->plan.oc_panel;
    const ptrdiff_t step = fc_wino_panel_step(channels, panel, job->t);
    for (ptrdiff_t c = 0; c < channels; c += some) {
        const ptrdiff_t count = FC_MIN(some, channels - c);
        fc_wino_pack_filters(job, oc, c, count, packed);
        fc_wino_transform_rows(job, 0, job->plan.edge, count, packed, u + c * panel * itemsize,
                               step);
    }
}
