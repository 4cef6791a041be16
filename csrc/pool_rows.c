/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool_rows.h"

size_t fc_row_cache_bytes(const ptrdiff_t slots[2], ptrdiff_t row_bytes) {
    const size_t count = (size_t)(slots[0] * slots[1]);
    return fc_align(count * sizeof(ptrdiff_t)) + count * (size_t)row_bytes;
}

char *fc_row_cache_init(row_cache *cache, const ptrdiff_t slots[2], ptrdiff_t row_bytes,
                        char *memory) {
    cache->slots[0] = slots[0];
    cache->slots[1] = slots[1];
    cache->row_bytes = row_bytes;
    cache->tags = (ptrdiff_t *)memory;
    cache->data = memory + fc_align((size_t)(slots[0] * slots[1]) * sizeof(ptrdiff_t));
    fc_row_cache_clear(cache);
    return memory + fc_row_cache_bytes(slots, row_bytes);
}

void fc_row_cache_clear(row_cache *cache) {
    for (ptrdiff_t i = 0; i < cache->slots[0] * cache->slots[1]; i++)
        cache->tags[i] = -1;
}

char *fc_row_cache_slot(row_cache *cache, ptrdiff_t d, ptrdiff_t h, ptrdiff_t height, int *fresh) {
    const ptrdiff_t slot = d % cache->slots[0] * cache->slots[1] + h % cache->slots[1];
    *fresh = cache->tags[slot] != d * height + h;
    cache->tags[slot] = d * height + h;
    return cache->data + slot * cache->row_bytes;
}

fc_status fc_pool_prepare(pool_job *job, fc_dtype dtype) {
    const fc_pool *g = &job->g;
    const fc_status status = fc_pool_check(g);
    if (status)
        return status;
    job->t = fc_table(dtype);
    job->itemsize = (ptrdiff_t)job->t->itemsize;
    fc_tidy_width(&job->x, g->in);
    fc_tidy_width(&job->y, g->out);
    job->channels_last = job->x.stride[1] == 1 && job->y.stride[1] == 1 && g->C > 1 &&
                         !(job->x.stride[4] == 1 && g->in[2] > 1);
    job->extent = (g->out[2] - 1) * g->stride[2] + (g->kernel[2] - 1) * g->dilation[2] + 1;
    job->phase_stride = fc_ceil_div(job->extent, g->stride[2]);
    /* cells are 32-bit numbers inside the kernels, plane offsets within a window likewise */
    const ptrdiff_t plane = g->in[1] * g->in[2];
    const ptrdiff_t reach = (g->kernel[0] - 1) * g->dilation[0] * plane +
                            (g->kernel[1] - 1) * g->dilation[1] * g->in[2] +
                            (g->kernel[2] - 1) * g->dilation[2];
    if (fc_volume(g->kernel) > INT32_MAX || reach > INT32_MAX)
        return FC_OVERFLOW;
    if (job->index_kind == FC_INDEX_U8 && fc_volume(g->kernel) > 255)
        return FC_BAD_GEOMETRY;
    return FC_OK;
}

size_t fc_pool_scale_bytes(const fc_pool *g) {
    return fc_align((size_t)(g->out[0] + g->out[1] + g->out[2]) * sizeof(double));
}

/* Cells of window `out` along an axis that count in an average. Average pooling has no dilation
 * in the interface, but the formula holds with one. */
static ptrdiff_t counted_cells(const fc_pool *g, int axis, ptrdiff_t out, fc_pool_kind kind) {
    const ptrdiff_t start = out * g->stride[axis] - g->pad[axis];
    ptrdiff_t first, last;
    if (kind == FC_POOL_AVERAGE_VALID)
        fc_valid_range(start, g->dilation[axis], g->kernel[axis], g->in[axis], &first, &last);
    else
        fc_valid_range(start + g->pad[axis], g->dilation[axis], g->kernel[axis],
                       g->in[axis] + g->pad[axis] + g->pad_end[axis], &first, &last);
    return FC_MAX(1, last - first);
}

void fc_pool_fill_scale(pool_job *job, char *memory) {
    double *next = (double *)memory;
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        job->scale[axis] = next;
        next += job->g.out[axis];
        for (ptrdiff_t i = 0; i < job->g.out[axis]; i++)
            job->scale[axis][i] =
                job->sum_kind == FC_POOL_SUM
                    ? 1.0
                    : 1.0 / (double)counted_cells(&job->g, axis, i, job->sum_kind);
    }
}
