/* SPDX-License-Identifier: BSD-3-Clause
 * What the depthwise drivers share: image planes laid out for kernels that slide over rows.
 *
 * A plane's outputs are cut into blocks. For a block the image under it is laid out in scratch
 * memory, padding included, as one small plane for each phase of the strides, so that every filter
 * tap of the block is a run along rows, one row of outputs after the other:
 *
 *   stride 2, padded rows:   a0 a1 a2 a3 a4      phase (0, 0): a0 a2 a4   phase (0, 1): a1 a3
 *                            b0 b1 b2 b3 b4                    c0 c2 c4                 c1 c3
 *                            c0 c1 c2 c3 c4      phase (1, 0): b0 b2 b4   phase (1, 1): b1 b3
 */
#ifndef FASTCONV_DEPTHWISE_H
#define FASTCONV_DEPTHWISE_H

#include "internal.h"

typedef struct {
    fc_conv g;
    fc_array x;
    const fc_kernels *t;
    const char *x_end;                         /* behind the last element of x */
    ptrdiff_t rows, cols;                      /* of outputs in a block, at most */
    ptrdiff_t row_blocks, col_blocks, blocks;  /* of one plane; in all of a volume */
    ptrdiff_t row_phases, col_phases;          /* that taps read */
    ptrdiff_t pitch, phase_elements, elements; /* of a laid-out row, phase, block */
} fc_planes;

typedef struct {
    ptrdiff_t od, oh, ow, rows, cols;
} fc_plane_block;

void fc_planes_init(fc_planes *p, const fc_conv *g, const fc_array *x, const fc_kernels *t);
size_t fc_planes_bytes(const fc_planes *p); /* of a laid-out block */
fc_plane_block fc_plane_block_at(const fc_planes *p, ptrdiff_t block);
void fc_lay_out_block(const fc_planes *p, ptrdiff_t n, ptrdiff_t c, const fc_plane_block *block,
                      char *dst);
/* Memory for blocks must be cleared before the first one: where all are the same part of a plane, what
 * is padding stays padding. */
void fc_planes_clear(const fc_planes *p, char *block);
/* Where the runs of a box of filter taps start in a block laid out at `block`. */
void fc_planes_taps(const fc_planes *p, const char *block, const ptrdiff_t first[FC_SPATIAL],
                    const ptrdiff_t count[FC_SPATIAL], const void **taps);

/* ---- channels last ---- */

/* Whether channels can be the vectors: one filter a channel, neighbours in both arrays. */
static inline int fc_channels_last(const fc_conv *g, const fc_array *x, const fc_array *y) {
    return g->OC == g->G && g->G > 1 && x->stride[1] == 1 && y->stride[1] == 1;
}

/* The pixels of image n, from channel c on, that the taps of one output see; `padding` for those
 * outside the image. */
void fc_pixel_taps(const fc_conv *g, const fc_array *x, size_t itemsize, ptrdiff_t n, ptrdiff_t c,
                   const ptrdiff_t out[FC_SPATIAL], const void *padding, const void **pixels);

#endif
