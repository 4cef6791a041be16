/* SPDX-License-Identifier: BSD-3-Clause
 * The weight gradient by Winograd's F(r x r, m x m): see conv_winograd_grad.c for what the blocks are. */
#ifndef FASTCONV_WINOGRAD_GRAD_H
#define FASTCONV_WINOGRAD_GRAD_H

#include "plan.h"

typedef struct {
    ptrdiff_t r, m;
    ptrdiff_t tile_rows, tile_cols;           /* of one image */
    ptrdiff_t strip_rows, strip_cols;         /* tiles transformed at a time */
    ptrdiff_t row_strips, col_strips, strips; /* of one image; of all images */
    ptrdiff_t band_strips, band_tiles;        /* transformed at once; room for so many tiles */
    ptrdiff_t bands, splits; /* splits: threads that sum strips of their own, 0: they share bands */
    ptrdiff_t c_panels, oc_panels;         /* of nr channels */
    ptrdiff_t c_block, oc_block, oc_chunk; /* channels a task multiplies; those summed at once */
    ptrdiff_t v_step, w_step, m_step;      /* elements between positions */
    ptrdiff_t acc_pitch;                   /* elements between taps of the summed gradient */
    int threads;
    size_t v_bytes, w_bytes, m_bytes, acc_bytes, slot_bytes, split_bytes, workspace_bytes;
} fc_wino_grad_plan;

/* Whether it can compute the weight gradient of this convolution: 3x3 or 5x5 filters, stride 1, no
 * dilation, one plane. */
int fc_winograd_grad_suits(const fc_conv *g);

/* Whether it should. */
int fc_winograd_grad_pays(const fc_conv *g, fc_dtype dtype);

fc_status fc_plan_winograd_grad(const fc_conv *g, fc_dtype dtype, fc_wino_grad_plan *plan);

fc_status fc_winograd_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                  const fc_array *x, const fc_array *dw);

#endif
