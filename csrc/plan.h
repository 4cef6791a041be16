/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FASTCONV_PLAN_H
#define FASTCONV_PLAN_H

#include "internal.h"

/* The summed axis of a convolution, channels x filter taps, is cut into blocks: whole channels
 * with all their taps, or, where one channel has too many taps, a part of them. */
typedef struct {
    ptrdiff_t channel, channels; /* first and number, inside the group */
    ptrdiff_t tap, taps;
} fc_sum_block;

ptrdiff_t fc_sum_blocks(const fc_conv *g, const fc_conv_plan *plan);
fc_sum_block fc_sum_block_at(const fc_conv *g, const fc_conv_plan *plan, ptrdiff_t index);

/* Most pixels in a block. A panel is at least one pixel wide. */
#define FC_MAX_PIXELS 1024

/* Channels that `ocs` take up when packed: whole panels if they are the vectors. */
ptrdiff_t fc_packed_channels(const fc_conv_plan *plan, ptrdiff_t ocs);

/* Whether rows that the tile reads where they lie leave less than two fifths of a set of the first-level
 * cache to the rest: more than 4 of 8 ways, 7 of 12. */
int fc_rows_share_sets(ptrdiff_t rows, ptrdiff_t row_step, size_t itemsize);

/* Vector FMAs while a byte comes from beyond the second-level cache: 13.7 GB/s on one core beside 7.6 G FMAs/s,
 * measured. */
#define FC_FMAS_A_BYTE 0.55

/* Vector FMAs of the tiles for one vector of outputs and one step of the sum. */
double fc_tile_cost(const fc_kernels *t, ptrdiff_t ocs, ptrdiff_t panel);
/* Decides whether reading the image through shifted pointers is cheaper than packing panels, for a plan
 * whose tile and blocks of the sum stand, and if so sets its blocks: conv_shifted.c. */
void fc_plan_shifted(const fc_conv *g, const fc_kernels *t, fc_conv_plan *plan);
/* The plan of fc_conv_merged; FC_BAD_GEOMETRY if it does not suit. */
fc_status fc_plan_merged(const fc_conv *g, fc_dtype dtype, ptrdiff_t weight_row,
                         fc_conv_plan *plan);
size_t fc_merged_bytes(const fc_conv_plan *plan, size_t itemsize);
size_t fc_shifted_bytes(const fc_conv_plan *plan, size_t itemsize);

/* Whether images and outputs are more than the second-level caches of the threads hold, so that a task
 * should ask for what it reads next. */
int fc_images_exceed_caches(const fc_conv *g, size_t itemsize, int threads);

size_t fc_bias_bytes(const fc_conv *g, size_t itemsize);
size_t fc_weights_bytes(const fc_conv *g, const fc_conv_plan *plan, size_t itemsize);
size_t fc_image_bytes(const fc_conv_plan *plan, size_t itemsize);
size_t fc_offsets_bytes(const fc_conv *g, const fc_conv_plan *plan);
size_t fc_segments_bytes(const fc_conv_plan *plan);
size_t fc_panel_bytes(const fc_conv_plan *plan, size_t itemsize);
size_t fc_slot_bytes(const fc_conv_plan *plan, size_t itemsize);

/* The form of prepared filters for the GEMM, and the plan with them. */
fc_form fc_gemm_form(const fc_conv *g, fc_dtype dtype, int channels_last);
fc_status fc_plan_prepared(const fc_conv *g, fc_dtype dtype, int channels_last, fc_form form,
                           fc_conv_plan *plan);

/* Winograd's tiles are 6 x 6, or, for short sums or filters that would not fit, 4 x 4; these are the
 * larger ones. */
enum { FC_WINO_EDGE = 6, FC_WINO_POSITIONS = FC_WINO_EDGE * FC_WINO_EDGE };
#define FC_WINO_LEAST_WORK 1e6     /* multiply-adds from which "auto" may take it */
enum { FC_WINO_STAMP_BYTES = 64 }; /* of a slot: which V it holds */

/* Elements between two positions of a panel of transformed filters. */
static inline ptrdiff_t fc_wino_panel_step(ptrdiff_t channels, ptrdiff_t filters,
                                           const fc_kernels *t) {
    return fc_spread(channels * filters, t->itemsize);
}

/* Winograd's F(m x m, r x r): see conv_winograd.c for what strips, bands and blocks are. */
typedef struct {
    ptrdiff_t m, r, edge, positions;  /* edge = m + r - 1, positions its square */
    ptrdiff_t tile_rows, tile_cols;   /* of one image */
    ptrdiff_t strip_cols, col_strips; /* tiles in a strip, strips in a row of tiles */
    ptrdiff_t band_strips, block_strips, patch_strips; /* in V, in a task, turned at a time */
    ptrdiff_t v_pitch, v_step, m_step; /* elements between tiles of V, positions of V and M */
    ptrdiff_t oc_panel, oc_block, oc_chunk, channel_block;
    ptrdiff_t u_channels; /* transformed at a time, where u_in_tasks */
    int prepared;         /* filters were transformed before the call */
    int u_in_tasks;       /* filters are transformed where they are used, once */
    int own_bands;        /* a task transforms a band and multiplies it: V never leaves its core */
    int own_u;            /* each slot makes all of U for itself: for own_bands */
    int own_v;            /* each slot transforms the whole band for itself */
    int threads;
    ptrdiff_t u_panel_bytes; /* transformed filters of one panel, channel_block channels */
    size_t patch_bytes, packed_bytes, u_slot_bytes, m_bytes, v_slot_bytes, slot_bytes;
    size_t u_bytes, v_bytes, workspace_bytes;
} fc_wino_plan;

/* Strips of all images, one where there are none. */
static inline ptrdiff_t fc_wino_strips(const fc_conv *g, const fc_wino_plan *plan) {
    return FC_MAX(1, g->N * plan->tile_rows * plan->col_strips);
}

/* edge: of the tile, 4 or 6, or 0 for the faster one by estimate. */
fc_status fc_plan_winograd(const fc_conv *g, fc_dtype dtype, ptrdiff_t edge, int prepared,
                           fc_wino_plan *plan);

/* A run of output pixels that lie in one row: lane is its first place in the panel. */
typedef struct {
    ptrdiff_t lane, length;
    ptrdiff_t n, out[FC_SPATIAL];
} fc_segment;

#endif
