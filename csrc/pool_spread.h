/* SPDX-License-Identifier: BSD-3-Clause
 * What the ways of spreading an average's gradient share. */
#ifndef FASTCONV_POOL_SPREAD_H
#define FASTCONV_POOL_SPREAD_H

#include "pool.h"

/* Windows along an axis that cover some of so many neighbours at most. */
ptrdiff_t fc_most_covering(const fc_pool *g, int axis, ptrdiff_t neighbours);

/* Which ones may cover some of positions [begin, end). */
void fc_covering_range(const fc_pool *g, int axis, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t *first,
                       ptrdiff_t *last);

/* Bytes of a list of what covers a position of dx. */
size_t fc_covering_bytes(const fc_pool *g);

/* A row of windows (axis 4), or all channels of one (axis 1), with their share, contiguous. */
void fc_load_scaled(const fc_pool_job *job, ptrdiff_t n, int axis, ptrdiff_t image,
                    ptrdiff_t channel, const ptrdiff_t out[FC_SPATIAL], char *dst);

/* Planes, in bands (pool_spread_planes.c). */
fc_status fc_pool_spread_planes(fc_pool_job *job);

#endif
