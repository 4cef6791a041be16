/* SPDX-License-Identifier: BSD-3-Clause
 * Windows that slide along the rows of image planes, for pooling.
 *
 * All windows of one output row are handled at once. For them a kernel cell is a "tap": a run of
 * elements, element i being what window i sees through that cell. With stride S a row of the image
 * is laid out as S phases, padding included, so that every tap is contiguous:
 *
 *   row, padded:  0 x0 x1 x2 x3 x4 0     S = 2:  phase 0: 0 x1 x3 0    tap 0: phase 0
 *                                                phase 1: x0 x2 x4     tap 1: phase 1
 *                                                                      tap 2: phase 0, from x1 on
 *
 * Laid-out rows are kept in a small cache, because windows that overlap need them again. */
#ifndef FASTCONV_WINDOW_ROWS_H
#define FASTCONV_WINDOW_ROWS_H

#include "internal.h"

/* Rows needed at the same time are consecutive along both axes: they fall into different slots. */
typedef struct {
    ptrdiff_t slots[2]; /* depth, height */
    ptrdiff_t *tags;    /* which row a slot holds, -1 for none */
    char *data;
    ptrdiff_t row_bytes;
} fc_row_cache;

size_t fc_row_cache_bytes(const ptrdiff_t slots[2], ptrdiff_t row_bytes);
/* Carves an empty cache out of `memory`. */
void fc_row_cache_init(fc_row_cache *cache, const ptrdiff_t slots[2], ptrdiff_t row_bytes,
                       char *memory);
/* The slot for row (d, h) of planes `height` rows high; *fresh tells that it must be filled. */
char *fc_row_cache_slot(fc_row_cache *cache, ptrdiff_t d, ptrdiff_t h, ptrdiff_t height,
                        int *fresh);

/* How the rows of an image are laid out for a geometry. pad may be negative: a crop. */
typedef struct {
    fc_pool g;
    fc_array x;
    const fc_kernels *t;
    ptrdiff_t extent;       /* elements of a padded row that windows reach */
    ptrdiff_t phase_stride; /* elements of a phase */
} fc_windows;

void fc_windows_init(fc_windows *w, const fc_pool *g, const fc_array *x, const fc_kernels *t);

/* Scratch of one thread: laid-out rows, and the taps of one output row, one for each kernel cell. */
typedef struct {
    fc_row_cache rows;
    const char *padding; /* a row of nothing else */
    const void **taps;
    ptrdiff_t *offsets; /* bytes from a laid-out row to the run of each kernel column */
} fc_taps;

size_t fc_taps_bytes(const fc_windows *w);
void fc_taps_init(fc_taps *s, const fc_windows *w, double padding, char *memory);

/* Sets the taps of output row (od, oh); what lies outside the image is padding. */
void fc_gather_taps(const fc_windows *w, fc_taps *s, const char *plane, ptrdiff_t od, ptrdiff_t oh);

/* Number of a kernel cell, counted over the kernel. */
static inline int32_t fc_cell(const fc_pool *g, ptrdiff_t kd, ptrdiff_t kh, ptrdiff_t kw) {
    return (int32_t)((kd * g->kernel[1] + kh) * g->kernel[2] + kw);
}

#endif
