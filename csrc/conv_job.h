/* SPDX-License-Identifier: BSD-3-Clause
 * One convolution at work: what the packing and the multiplication share. */
#ifndef FASTCONV_CONV_JOB_H
#define FASTCONV_CONV_JOB_H

#include <stdatomic.h>
#include <string.h>

#include "plan.h"

typedef struct {
    fc_conv g; /* simplified by fc_flatten_pointwise */
    fc_array x, w, y;
    ptrdiff_t w_group; /* elements from one group's weights to the next one's */
    const fc_array *bias;
    const void *prepared;  /* packed filters, or NULL */
    const fc_merge *merge; /* instead of y, or NULL */
    atomic_int *infinite;  /* merged: set where outputs are infinite or NaN */
    int relu;
    fc_conv_plan plan;
    const fc_kernels *t;
    const char *x_begin, *x_end; /* all memory of x lies between */
    int reads_x;                 /* pixels need no packing: one tap, stride 1, neighbours in x */
    int y_dense;                 /* pixels of one image are evenly spaced in y */
    char *weights, *packed_bias, *slots;
    ptrdiff_t *offsets; /* shifted: where filter taps find the image */
    size_t slot_bytes;
    ptrdiff_t first_group, groups, first_oc, ocs; /* the chunk at work; oc inside a group */
} fc_conv_job;

/* Channels packed at a time, for all panels of a block: see fc_pack_panels. */
enum { FC_PACK_CHANNELS = 16 };

/* The output pixels of one tile. */
typedef struct {
    const fc_segment *segments;
    ptrdiff_t count;
    ptrdiff_t pixels; /* up to the end of the last segment */
    ptrdiff_t start;  /* elements from the image's first panel or stored row to it */
    int one_run;      /* of one image, evenly spaced in y */
    const char *in_x; /* its first pixel in channel 0 of x, if the tile reads it there, or NULL */
} fc_panel;

/* Elements from one k to the next in a packed panel: a whole tile's where pixels are the vectors. */
static inline ptrdiff_t fc_panel_pitch(const fc_conv_job *job, const fc_panel *panel) {
    return job->plan.swapped ? panel->pixels : job->t->nr;
}

/* Packed weights: [group][block of the sum][oc panel][k][oc]. A panel holds its channels alone, or,
 * when they are the vectors, a whole tile's, zeros behind the last one. */
char *fc_weight_panel(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b, ptrdiff_t oc);
/* Packs the panel of `ocs` channels from oc, inside its group, to dst. */
void fc_pack_weight_panel(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                          ptrdiff_t oc, ptrdiff_t ocs, char *dst);
void fc_pack_weights(void *job, ptrdiff_t task, int slot); /* an fc_task: one panel of one block */
ptrdiff_t fc_pack_weights_tasks(const fc_conv_job *job);
void fc_pack_bias(const fc_conv_job *job);

/* Cuts `count` pixels from `pixel` on into runs within a row; returns how many runs. */
ptrdiff_t fc_find_segments(const fc_conv *g, ptrdiff_t pixel, ptrdiff_t count,
                           fc_segment *segments);

/* Whether a filter is one run of elements, channels outermost; axes of size 1 do not matter. */
int fc_weights_are_dense(const fc_conv *g, const fc_array *w);

/* Fills dst[k*pitch + pixel], k = (channel, tap), with the image at the pixels of the segments, and zeros
 * behind them. */
void fc_pack_panel(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                   const fc_segment *segments, ptrdiff_t count, ptrdiff_t pitch, char *dst);

/* Whether filters of one tap see each pixel once. */
static inline int fc_is_pointwise(const fc_conv *g) {
    return fc_volume(g->kernel) == 1 && fc_volume(g->stride) == 1 &&
           !memcmp(g->in, g->out, sizeof g->in) && !(g->pad[0] | g->pad[1] | g->pad[2]);
}

/* Whether pixels are better read where they lie than from panels: filters of one tap, neighbours in x.
 * Each channel then has its own page and no order that processors could foresee, which costs each panel of
 * channels some time; packing costs once. The bounds are measured. */
int fc_reads_x(const fc_conv_job *job);
/* The panels of a block of pixels; returns how many. */
ptrdiff_t fc_find_panels(const fc_conv_job *job, ptrdiff_t block, fc_panel *panels,
                         fc_segment *segments);
/* Packs the image under them, one block of the sum, but those that are read where they lie. */
void fc_pack_panels(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                    const fc_panel *places, ptrdiff_t panels, char *image);

/* Shifted: the offset of each filter tap, the panels of a block of output rows, and its image. */
void fc_find_offsets(const fc_conv_job *job);
ptrdiff_t fc_shifted_panels(const fc_conv_job *job, ptrdiff_t block, fc_panel *panels,
                            fc_segment *segments);
void fc_store_rows(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b, ptrdiff_t block,
                   char *image);

/* Merged: brings the outputs of a block of rows, one channel after the other, to where they belong. */
void fc_merge_rows(const fc_conv_job *job, ptrdiff_t group, ptrdiff_t block, const char *outputs);

#endif
