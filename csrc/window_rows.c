/* SPDX-License-Identifier: BSD-3-Clause */
#include "window_rows.h"

size_t fc_row_cache_bytes(const ptrdiff_t slots[2], ptrdiff_t row_bytes) {
    const size_t count = (size_t)(slots[0] * slots[1]);
    return fc_align(count * sizeof(ptrdiff_t)) + count * (size_t)row_bytes;
}

void fc_row_cache_init(fc_row_cache *cache, const ptrdiff_t slots[2], ptrdiff_t row_bytes,
                       char *memory) {
    cache->slots[0] = slots[0];
    cache->slots[1] = slots[1];
    cache->row_bytes = row_bytes;
    cache->tags = (ptrdiff_t *)memory;
    cache->data = memory + fc_align((size_t)(slots[0] * slots[1]) * sizeof(ptrdiff_t));
    for (ptrdiff_t i = 0; i < slots[0] * slots[1]; i++)
        cache->tags[i] = -1;
}

char *fc_row_cache_slot(fc_row_cache *cache, ptrdiff_t d, ptrdiff_t h, ptrdiff_t height,
                        int *fresh) {
    const ptrdiff_t slot = d % cache->slots[0] * cache->slots[1] + h % cache->slots[1];
    *fresh = cache->tags[slot] != d * height + h;
    cache->tags[slot] = d * height + h;
    return cache->data + slot * cache->row_bytes;
}

void fc_windows_init(fc_windows *w, const fc_pool *g, const fc_array *x, const fc_kernels *t) {
    w->g = *g;
    w->x = *x;
    w->t = t;
    w->extent = (g->out[2] - 1) * g->stride[2] + (g->kernel[2] - 1) * g->dilation[2] + 1;
    w->phase_stride = fc_ceil_div(w->extent, g->stride[2]);
}

static void window_slots(const fc_pool *g, ptrdiff_t slots[2]) {
    for (int axis = 0; axis < 2; axis++)
        slots[axis] = FC_MIN(g->in[axis], (g->kernel[axis] - 1) * g->dilation[axis] + 1);
}

static ptrdiff_t row_bytes(const fc_windows *w) {
    return (ptrdiff_t)fc_align((size_t)(w->phase_stride * w->g.stride[2]) * w->t->itemsize);
}

/* The row cache, one row of padding, taps, offsets. */
size_t fc_taps_bytes(const fc_windows *w) {
    ptrdiff_t slots[2];
    window_slots(&w->g, slots);
    return fc_align(fc_row_cache_bytes(slots, row_bytes(w))) + (size_t)row_bytes(w) +
           fc_align((size_t)fc_volume(w->g.kernel) * sizeof(void *)) +
           fc_align((size_t)w->g.kernel[2] * sizeof(ptrdiff_t));
}

void fc_taps_init(fc_taps *s, const fc_windows *w, double padding, char *memory) {
    const ptrdiff_t itemsize = (ptrdiff_t)w->t->itemsize;
    ptrdiff_t slots[2];
    window_slots(&w->g, slots);
    fc_row_cache_init(&s->rows, slots, row_bytes(w), memory);
    memory += fc_align(fc_row_cache_bytes(slots, row_bytes(w)));
    /* padding is written once: laying out a row never touches it */
    w->t->fill(slots[0] * slots[1] * row_bytes(w) / itemsize, padding, s->rows.data, 1);
    w->t->fill(row_bytes(w) / itemsize, padding, memory, 1);
    s->padding = memory;
    s->taps = (const void **)(memory + row_bytes(w));
    s->offsets =
        (ptrdiff_t *)((char *)s->taps + fc_align((size_t)fc_volume(w->g.kernel) * sizeof(void *)));
    for (ptrdiff_t kw = 0; kw < w->g.kernel[2]; kw++) {
        const ptrdiff_t at = kw * w->g.dilation[2], stride = w->g.stride[2];
        s->offsets[kw] = (at % stride * w->phase_stride + at / stride) * itemsize;
    }
}

/* Where one row is already a run of windows (stride 1, nothing padded) it is read where it lies. */
static const char *lay_out_row(const fc_windows *w, fc_taps *s, const char *plane, ptrdiff_t id,
                               ptrdiff_t ih) {
    const fc_pool *g = &w->g;
    const ptrdiff_t pad = FC_MAX(g->pad[2], 0), crop = FC_MAX(-g->pad[2], 0);
    const ptrdiff_t at = id * w->x.stride[2] + ih * w->x.stride[3] + crop * w->x.stride[4];
    const char *row = plane + at * (ptrdiff_t)w->t->itemsize;
    int fresh;
    if (g->stride[2] == 1 && pad == 0 && w->x.stride[4] == 1 && w->extent <= g->in[2] - crop)
        return row;
    char *dst = fc_row_cache_slot(&s->rows, id, ih, g->in[1], &fresh);
    if (fresh)
        w->t->split_row(FC_MIN(g->in[2] - crop, w->extent - pad), g->stride[2], pad, row,
                        w->x.stride[4], dst, w->phase_stride);
    return dst;
}

void fc_gather_taps(const fc_windows *w, fc_taps *s, const char *plane, ptrdiff_t od,
                    ptrdiff_t oh) {
    const fc_pool *g = &w->g;
    const void **tap = s->taps;
    for (ptrdiff_t kd = 0; kd < g->kernel[0]; kd++) {
        const ptrdiff_t id = od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
        for (ptrdiff_t kh = 0; kh < g->kernel[1]; kh++) {
            const ptrdiff_t ih = oh * g->stride[1] - g->pad[1] + kh * g->dilation[1];
            const int inside = id >= 0 && id < g->in[0] && ih >= 0 && ih < g->in[1];
            const char *row = inside ? lay_out_row(w, s, plane, id, ih) : s->padding;
            for (ptrdiff_t kw = 0; kw < g->kernel[2]; kw++)
                *tap++ = row + s->offsets[kw];
        }
    }
}
