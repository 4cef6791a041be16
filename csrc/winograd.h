/* SPDX-License-Identifier: BSD-3-Clause
 * One Winograd convolution at work. */
#ifndef FASTCONV_WINOGRAD_H
#define FASTCONV_WINOGRAD_H

#include "conv_job.h"

/* Strips of all images, and their V. */
typedef struct {
    ptrdiff_t first, strips;
    char *v;
} fc_wino_band;

typedef struct {
    fc_conv g;
    fc_array x, y;
    const fc_array *bias;
    int relu;
    const char *gate; /* the output of a ReLU, as y lies in memory, or NULL */
    const fc_kernels *t;
    fc_conv_job pack; /* what fc_pack_weight_panel needs */
    fc_wino_plan plan;
    int asks_ahead; /* for images and outputs */
    char *u, *slots;
    fc_wino_band band; /* at work, where all threads share one */
    ptrdiff_t group, first_oc, ocs;
} fc_wino_job;

static inline ptrdiff_t fc_wino_itemsize(const fc_wino_job *job) {
    return (ptrdiff_t)job->t->itemsize;
}

/* Taps of the panel from filter oc on, some channels, [channel][tap][filter], zeros for filters that are
 * missing. */
void fc_wino_pack_filters(const fc_wino_job *job, ptrdiff_t oc, ptrdiff_t channel,
                          ptrdiff_t channels, char *packed);

/* Rows of six positions of their U, [position][channel][filter], positions `step` elements apart: one,
 * or all six. */
void fc_wino_transform_rows(const fc_wino_job *job, ptrdiff_t row, ptrdiff_t rows,
                            ptrdiff_t channels, const char *packed, char *u, ptrdiff_t step);

/* All of that panel's U; `packed` has room for the taps of a vector of channels. */
void fc_wino_transform_filters(const fc_wino_job *job, ptrdiff_t oc, char *packed, char *u);

/* M of a band and some output channels, whose U it gets. */
void fc_wino_multiply(const fc_wino_job *job, const fc_wino_band *band, ptrdiff_t oc_first,
                      ptrdiff_t oc_last, char *u, char *m);

/* M of a band and a panel of output channels: for some channels, row by row of the positions, filters
 * are transformed and used at once, while the first-level cache has them. */
void fc_wino_multiply_fresh(const fc_wino_job *job, const fc_wino_band *band, ptrdiff_t oc_first,
                            ptrdiff_t oc_last, char *packed, char *u, char *m);

#endif
