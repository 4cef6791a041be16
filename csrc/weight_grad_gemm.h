/* SPDX-License-Identifier: BSD-3-Clause
 * The weight gradient as a GEMM, at work: what its plan and its driver share. */
#ifndef FASTCONV_WEIGHT_GRAD_GEMM_H
#define FASTCONV_WEIGHT_GRAD_GEMM_H

#include "conv_job.h"

typedef struct {
    fc_conv g;
    fc_conv_job image; /* packs x; its plan has the blocks of k and the pitch */
    fc_array dy, dw;
    const fc_kernels *t;
    ptrdiff_t itemsize, taps, sum, ocg, pixels;
    int threads, parts, dy_dense, dw_dense;
    int shifted, by_channels, store_at_once; /* by_channels: shifted, what a tile's rows are */
    int in_place, sums_in_dw;                /* rows of x are read, sums kept where they belong */
    ptrdiff_t blocks, block_rows;            /* of k, and the most rows of one */
    ptrdiff_t chunk, band, part;             /* pixels */
    ptrdiff_t x_cols;                        /* shifted: of a phase of a packed row of x */
    ptrdiff_t group_chunk, oc_chunk;
    size_t acc_bytes, dyt_bytes, segment_bytes, slot_bytes;
    /* at work: */
    ptrdiff_t first_group, groups, first_oc, ocs, panels;
    ptrdiff_t first_pixel, band_pixels;
    int fresh; /* the first band: sums start at zero */
    char *acc, *dyt, *slots;
} fc_weight_grad_job;

/* Rows of x that `lines` neighbouring rows of outputs see. */
static inline ptrdiff_t fc_rows_seen(const fc_conv *g, ptrdiff_t lines) {
    return (lines - 1) * g->stride[1] + fc_reach(g, 1) + 1;
}

/* Blocks, chunks and memory from what the caller asked for: g, dy, dw and t are set. */
void fc_plan_weight_grad(fc_weight_grad_job *job);

/* Whether filters are too few for the product, which has them along its vectors: half a vector at most, or so
 * few that neighbouring taps and channels of x fill more of one; though for single taps all else is cheaper
 * still. */
static inline int fc_filters_are_few(const fc_conv *g, const fc_kernels *t) {
    const ptrdiff_t ocs = g->OC / g->G;
    const ptrdiff_t along = g->C / g->G * (g->dilation[2] == 1 ? g->kernel[2] : 1);
    return fc_volume(g->kernel) > 1 &&
           (2 * ocs <= t->lanes || ocs * fc_ceil_div(along, t->lanes) < along);
}

/* The form for them, under the conditions of fc_gemm_weight_grad. */
fc_status fc_few_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                             const fc_array *x, const fc_array *dw);

/* Vector FMAs that the sum of a planned job takes, packing and all, by whichever driver. */
double fc_weight_grad_cost(const fc_weight_grad_job *job);

#endif
