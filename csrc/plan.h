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

size_t fc_bias_bytes(const fc_conv *g, size_t itemsize);
size_t fc_weights_bytes(const fc_conv *g, const fc_conv_plan *plan, size_t itemsize);
size_t fc_image_bytes(const fc_conv_plan *plan, size_t itemsize);
size_t fc_segments_bytes(const fc_conv_plan *plan);
size_t fc_panel_bytes(const fc_conv_plan *plan, size_t itemsize);
size_t fc_slot_bytes(const fc_conv_plan *plan, size_t itemsize);

/* A run of output pixels that lie in one row: lane is its first place in the panel. */
typedef struct {
    ptrdiff_t lane, length;
    ptrdiff_t n, out[FC_SPATIAL];
} fc_segment;

#endif
