/* SPDX-License-Identifier: BSD-3-Clause */
#include "depthwise.h"

#include <string.h>

/* A block of outputs is at most that many columns wide: long rows are cut. */
enum { MOST_COLS = 1024 };

/* Rows of outputs whose image takes half the first-level cache; but at least four for each row that
 * the next block must lay out again. */
static ptrdiff_t block_rows(const fc_planes *p) {
    const fc_conv *g = &p->g;
    const ptrdiff_t row = g->kernel[0] * p->row_phases * p->col_phases * p->pitch;
    const ptrdiff_t budget = (ptrdiff_t)(fc_cpu_caches()->l1d / 2 / p->t->itemsize);
    const ptrdiff_t again = fc_reach(g, 1) / g->stride[1];
    return FC_MIN(g->out[1], FC_MAX(budget / row - again, FC_MAX(1, 4 * again)));
}

void fc_planes_init(fc_planes *p, const fc_conv *g, const fc_array *x, const fc_kernels *t) {
    const ptrdiff_t size[] = {g->N, g->C, g->in[0], g->in[1], g->in[2]};
    const char *begin;
    p->g = *g;
    p->x = *x;
    p->t = t;
    fc_tidy_width(&p->x, g->in);
    fc_array_bounds(&p->x, size, t->itemsize, &begin, &p->x_end);
    p->row_phases = FC_MIN(g->stride[1], fc_reach(g, 1) + 1);
    p->col_phases = FC_MIN(g->stride[2], fc_reach(g, 2) + 1);
    p->cols = fc_even_part(g->out[2], MOST_COLS);
    p->pitch = p->cols + fc_reach(g, 2) / g->stride[2];
    p->rows = fc_even_part(g->out[1], block_rows(p));
    p->row_blocks = fc_ceil_div(g->out[1], p->rows);
    p->col_blocks = fc_ceil_div(g->out[2], p->cols);
    p->blocks = g->out[0] * p->row_blocks * p->col_blocks;
    p->phase_elements = (p->rows + fc_reach(g, 1) / g->stride[1]) * p->pitch;
    /* kernels read whole vectors */
    p->elements = g->kernel[0] * p->row_phases * p->col_phases * p->phase_elements + t->lanes;
}

size_t fc_planes_bytes(const fc_planes *p) {
    return fc_align((size_t)p->elements * p->t->itemsize);
}

fc_plane_block fc_plane_block_at(const fc_planes *p, ptrdiff_t block) {
    fc_plane_block b;
    b.ow = block % p->col_blocks * p->cols;
    b.oh = block / p->col_blocks % p->row_blocks * p->rows;
    b.od = block / p->col_blocks / p->row_blocks;
    b.rows = FC_MIN(p->rows, p->g.out[1] - b.oh);
    b.cols = FC_MIN(p->cols, p->g.out[2] - b.ow);
    return b;
}

/* The part of one phase that lies in the image; plane is its first element at this depth. */
static void lay_out_phase(const fc_planes *p, const fc_plane_block *b, ptrdiff_t row_phase,
                          ptrdiff_t col_phase, const char *plane, char *dst) {
    const fc_conv *g = &p->g;
    const ptrdiff_t itemsize = (ptrdiff_t)p->t->itemsize, SH = g->stride[1], SW = g->stride[2];
    const ptrdiff_t ih = b->oh * SH - g->pad[1] + row_phase;
    const ptrdiff_t iw = b->ow * SW - g->pad[2] + col_phase;
    ptrdiff_t row, last_row, col, last_col;
    fc_valid_range(ih, SH, b->rows + fc_reach(g, 1) / SH, g->in[1], &row, &last_row);
    fc_valid_range(iw, SW, b->cols + fc_reach(g, 2) / SW, g->in[2], &col, &last_col);
    if (row >= last_row || col >= last_col)
        return;
    const fc_copy copy = {
        .rows = last_row - row,
        .cols = last_col - col,
        .src = plane +
               ((ih + row * SH) * p->x.stride[3] + (iw + col * SW) * p->x.stride[4]) * itemsize,
        .src_row = SH * p->x.stride[3],
        .src_col = SW * p->x.stride[4],
        .dst = dst + (row * p->pitch + col) * itemsize,
        .dst_row = p->pitch,
        .dst_col = 1,
        .readable_end = p->x_end};
    p->t->copy_2d(&copy);
}

void fc_planes_clear(const fc_planes *p, char *block) {
    memset(block, 0, (size_t)p->elements * p->t->itemsize);
}

void fc_lay_out_block(const fc_planes *p, ptrdiff_t n, ptrdiff_t c, const fc_plane_block *b,
                      char *dst) {
    const fc_conv *g = &p->g;
    const ptrdiff_t itemsize = (ptrdiff_t)p->t->itemsize;
    if (p->blocks > 1)
        fc_planes_clear(p, dst);
    for (ptrdiff_t kd = 0; kd < g->kernel[0]; kd++) {
        const ptrdiff_t id = b->od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
        const int inside = id >= 0 && id < g->in[0];
        for (ptrdiff_t row = 0; row < p->row_phases; row++)
            for (ptrdiff_t col = 0; col < p->col_phases; col++) {
                if (inside)
                    lay_out_phase(
                        p, b, row, col,
                        fc_at(&p->x, p->t->itemsize, n, c) + id * p->x.stride[2] * itemsize, dst);
                dst += p->phase_elements * itemsize;
            }
    }
}

void fc_planes_taps(const fc_planes *p, const char *block, const ptrdiff_t first[FC_SPATIAL],
                    const ptrdiff_t count[FC_SPATIAL], const void **taps) {
    const fc_conv *g = &p->g;
    const ptrdiff_t SH = g->stride[1], SW = g->stride[2];
    for (ptrdiff_t kd = first[0]; kd < first[0] + count[0]; kd++)
        for (ptrdiff_t kh = first[1]; kh < first[1] + count[1]; kh++)
            for (ptrdiff_t kw = first[2]; kw < first[2] + count[2]; kw++) {
                const ptrdiff_t h = kh * g->dilation[1], w = kw * g->dilation[2];
                const ptrdiff_t phase = (kd * p->row_phases + h % SH) * p->col_phases + w % SW;
                *taps++ = block + (phase * p->phase_elements + h / SH * p->pitch + w / SW) *
                                      (ptrdiff_t)p->t->itemsize;
            }
}

/* One input channel a group, and few filters on it: many would be better off with a GEMM. A block
 * with what surrounds it must stay small, which only far dilated filters break. */
int fc_is_depthwise(const fc_conv *g) {
    const double again = (double)(fc_reach(g, 1) / g->stride[1]);
    const double rows = FC_MIN((double)g->out[1], 1 + 4 * again) + again;
    const double cols = FC_MIN(g->out[2], MOST_COLS) + (double)(fc_reach(g, 2) / g->stride[2]);
    const double phases = (double)FC_MIN(g->stride[1], fc_reach(g, 1) + 1) *
                          (double)FC_MIN(g->stride[2], fc_reach(g, 2) + 1);
    return g->C == g->G && g->OC / g->G <= 4 &&
           (double)g->kernel[0] * phases * rows * cols <= 1 << 18;
}

void fc_pixel_taps(const fc_conv *g, const fc_array *x, size_t itemsize, ptrdiff_t n, ptrdiff_t c,
                   const ptrdiff_t out[FC_SPATIAL], const void *padding, const void **pixels) {
    const char *image = fc_at(x, itemsize, n, c);
    const ptrdiff_t *stride = x->stride;
    for (ptrdiff_t kd = 0; kd < g->kernel[0]; kd++) {
        const ptrdiff_t id = out[0] * g->stride[0] - g->pad[0] + kd * g->dilation[0];
        const int plane_inside = id >= 0 && id < g->in[0];
        for (ptrdiff_t kh = 0; kh < g->kernel[1]; kh++) {
            const ptrdiff_t ih = out[1] * g->stride[1] - g->pad[1] + kh * g->dilation[1];
            const int row_inside = plane_inside && ih >= 0 && ih < g->in[1];
            ptrdiff_t iw = out[2] * g->stride[2] - g->pad[2];
            for (ptrdiff_t kw = 0; kw < g->kernel[2]; kw++, iw += g->dilation[2])
                *pixels++ = row_inside && iw >= 0 && iw < g->in[2]
                                ? image + (id * stride[2] + ih * stride[3] + iw * stride[4]) *
                                              (ptrdiff_t)itemsize
                                : padding;
        }
    }
}
