/* SPDX-License-Identifier: BSD-3-Clause
 * The image side of the implicit GEMM: which pixels make a panel, and where the tile finds them, packed
 * or as they stand in x. */
#include <math.h>

#include "conv_job.h"

int fc_reads_x(const fc_conv_job *job) {
    const fc_conv *g = &job->g;
    const fc_conv_plan *plan = &job->plan;
    const double itemsize = (double)job->t->itemsize,
                 step = fabs((double)job->x.stride[1]) * itemsize;
    const double uses = (double)fc_ceil_div(plan->oc_block, plan->oc_panel);
    const double image = (double)g->N * (double)g->C * (double)fc_volume(g->in) * itemsize;
    return !plan->swapped && !plan->shifted && job->x.stride[4] == 1 && fc_is_pointwise(g) &&
           image <= (double)fc_cpu_caches()->l2 && (uses <= 10 || uses * step <= 32768);
}

/* Where the tile may read the pixels of a panel as they stand, channel after channel: neighbours of one
 * image, whose last vector does not reach beyond x. Else NULL. */
static const char *find_in_x(const fc_conv_job *job, const fc_panel *place) {
    const fc_segment *s = &place->segments[0];
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *stride = job->x.stride;
    if (!job->reads_x || place->count != 1)
        return NULL;
    const char *pixel = fc_at(&job->x, job->t->itemsize, s->n, 0) +
                        (s->out[0] * stride[2] + s->out[1] * stride[3] + s->out[2]) * itemsize;
    const ptrdiff_t to_highest =
        FC_MAX(0, (job->g.C - 1) * stride[1]); /* channels may run backwards */
    const ptrdiff_t read = to_highest + fc_round_up(place->pixels, job->t->lanes);
    return pixel + read * itemsize <= job->x_end ? pixel : NULL;
}

static fc_panel place_panel(const fc_conv_job *job, const fc_segment *segments, ptrdiff_t count,
                            ptrdiff_t start) {
    const fc_segment *last = &segments[count - 1];
    fc_panel panel = {.segments = segments, .count = count};
    panel.start = start;
    panel.pixels = last->lane + last->length;
    panel.one_run = count == 1 || (job->y_dense && segments[0].n == last->n);
    panel.in_x = find_in_x(job, &panel);
    return panel;
}

ptrdiff_t fc_find_panels(const fc_conv_job *job, ptrdiff_t block, fc_panel *panels,
                         fc_segment *segments) {
    const fc_conv_plan *plan = &job->plan;
    const ptrdiff_t start = block * plan->pixel_block;
    const ptrdiff_t end = FC_MIN(start + plan->pixel_block, job->g.N * fc_volume(job->g.out));
    ptrdiff_t used = 0;
    for (ptrdiff_t p = start; p < end; p += panels[used++].pixels) {
        const ptrdiff_t left = end - p;
        /* swapped, panels of equal height: 49 pixels are not eight times 6 and one */
        const ptrdiff_t pixels =
            plan->swapped ? fc_even_part(left, plan->pixel_panel) : FC_MIN(left, plan->pixel_panel);
        const ptrdiff_t count = fc_find_segments(&job->g, p, pixels, segments);
        panels[used] = place_panel(job, segments, count, p - start);
        segments += count;
    }
    return used;
}

/* Some channels of all panels, then the next channels: the image is read in runs as long as the block,
 * which processors fetch ahead, not in pieces of a panel's width. */
void fc_pack_panels(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                    const fc_panel *places, ptrdiff_t panels, char *image) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize;
    fc_sum_block some = *b;
    for (ptrdiff_t c = 0; c < b->channels; c += FC_PACK_CHANNELS) {
        some.channel = b->channel + c;
        some.channels = FC_MIN(FC_PACK_CHANNELS, b->channels - c);
        for (ptrdiff_t p = 0; p < panels; p++) {
            const fc_panel *place = &places[p];
            const ptrdiff_t pitch = fc_panel_pitch(job, place);
            if (!place->in_x)
                fc_pack_panel(job, group, &some, place->segments, place->count, pitch,
                              image +
                                  (place->start * b->channels + c * pitch) * b->taps * itemsize);
        }
    }
}
