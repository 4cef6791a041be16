/* SPDX-License-Identifier: BSD-3-Clause
 * Sizes: the only place where they are multiplied and checked. */
#include "internal.h"

const char *fc_status_message(fc_status status) {
    static const char *const messages[] = {
#define FC_STATUS(name, message) message,
#include "status.inc"
#undef FC_STATUS
    };
    return status >= 0 && status < FC_STATUS_COUNT ? messages[status] : "unknown status";
}

ptrdiff_t fc_ceil_div(ptrdiff_t a, ptrdiff_t b) {
    return (a + b - 1) / b;
}

ptrdiff_t fc_round_up(ptrdiff_t a, ptrdiff_t b) {
    return fc_ceil_div(a, b) * b;
}

ptrdiff_t fc_even_part(ptrdiff_t size, ptrdiff_t most) {
    return fc_ceil_div(size, fc_ceil_div(size, most));
}

ptrdiff_t fc_gcd(ptrdiff_t a, ptrdiff_t b) {
    while (b) {
        const ptrdiff_t r = a % b;
        a = b, b = r;
    }
    return a;
}

double fc_multiply_adds(const fc_conv *g) {
    return (double)g->N * (double)g->OC * (double)(g->C / g->G) * (double)fc_volume(g->out) *
           (double)fc_volume(g->kernel);
}

int fc_multiply(ptrdiff_t *product, ptrdiff_t factor) {
    return !__builtin_mul_overflow(*product, factor, product);
}

void fc_valid_range(ptrdiff_t start, ptrdiff_t step, ptrdiff_t count, ptrdiff_t size,
                    ptrdiff_t *first, ptrdiff_t *last) {
    /* start + i*step >= 0 and < size; step > 0, and a division costs more than all the rest */
    const ptrdiff_t before = FC_MAX(-start, 0), inside = FC_MAX(size - start, 0);
    const ptrdiff_t lo = step == 1 ? before : fc_ceil_div(before, step);
    const ptrdiff_t hi = step == 1 ? inside : fc_ceil_div(inside, step);
    *first = FC_MIN(lo, count);
    *last = FC_MAX(*first, FC_MIN(hi, count));
}

void fc_array_bounds(const fc_array *a, const ptrdiff_t size[FC_SPATIAL + 2], size_t itemsize,
                     const char **begin, const char **end) {
    ptrdiff_t lowest = 0, highest = 0;
    for (int axis = 0; axis < FC_SPATIAL + 2; axis++) {
        const ptrdiff_t reach = (size[axis] - 1) * a->stride[axis];
        lowest += FC_MIN(reach, 0);
        highest += FC_MAX(reach, 0);
    }
    *begin = a->data + lowest * (ptrdiff_t)itemsize;
    *end = a->data + (highest + 1) * (ptrdiff_t)itemsize;
}

/* One axis: positive sizes, the padded extent and the reach of the last window in range. */
static fc_status check_axis(ptrdiff_t in, ptrdiff_t kernel, ptrdiff_t out, ptrdiff_t stride,
                            ptrdiff_t dilation, ptrdiff_t pad) {
    if (in < 1 || kernel < 1 || out < 1 || stride < 1 || dilation < 1)
        return FC_BAD_GEOMETRY;
    ptrdiff_t reach = out - 1, span = kernel - 1, end;
    if (!fc_multiply(&reach, stride) || !fc_multiply(&span, dilation) ||
        __builtin_add_overflow(reach, span, &end) || __builtin_add_overflow(end, 1, &end) ||
        __builtin_sub_overflow(end, pad, &end) || __builtin_add_overflow(in, pad, &end))
        return FC_OVERFLOW;
    return FC_OK;
}

/* Products of sizes times 8 bytes must stay below PTRDIFF_MAX, so that no offset overflows. */
static fc_status check_product(ptrdiff_t a, ptrdiff_t b, const ptrdiff_t size[FC_SPATIAL]) {
    ptrdiff_t bytes = 8;
    if (!fc_multiply(&bytes, FC_MAX(a, 1)) || !fc_multiply(&bytes, FC_MAX(b, 1)))
        return FC_OVERFLOW;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        if (!fc_multiply(&bytes, size[axis]))
            return FC_OVERFLOW;
    return FC_OK;
}

fc_status fc_conv_check(const fc_conv *g) {
    if (g->N < 0 || g->C < 1 || g->OC < 1 || g->G < 1 || g->C % g->G || g->OC % g->G)
        return FC_BAD_GEOMETRY;
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        const fc_status status = check_axis(g->in[axis], g->kernel[axis], g->out[axis],
                                            g->stride[axis], g->dilation[axis], g->pad[axis]);
        if (status)
            return status;
    }
    if (check_product(g->N, g->C, g->in) || check_product(g->N, g->OC, g->out) ||
        check_product(g->OC, g->C / g->G, g->kernel))
        return FC_OVERFLOW;
    return FC_OK;
}

fc_status fc_pool_check(const fc_pool *g) {
    if (g->N < 0 || g->C < 1)
        return FC_BAD_GEOMETRY;
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        const fc_status status = check_axis(g->in[axis], g->kernel[axis], g->out[axis],
                                            g->stride[axis], g->dilation[axis], g->pad[axis]);
        if (status)
            return status;
        if (g->pad[axis] < 0 || g->pad_end[axis] < 0)
            return FC_BAD_GEOMETRY;
    }
    if (check_product(g->N, g->C, g->in) || check_product(g->N, g->C, g->out) ||
        check_product(1, 1, g->kernel))
        return FC_OVERFLOW;
    return FC_OK;
}

double fc_value_at(const fc_kernels *t, const void *element) {
    double value = 0; /* a sum of one row of one element: its value as a double */
    t->sum_rows(1, 1, element, 1, 1, &value);
    return value;
}

double fc_bias_at(const fc_kernels *t, const fc_array *bias, ptrdiff_t oc) {
    return fc_value_at(t, bias->data + oc * bias->stride[0] * (ptrdiff_t)t->itemsize);
}

int fc_is_dense(const fc_array *a, const ptrdiff_t size[FC_SPATIAL]) {
    const ptrdiff_t *s = a->stride;
    return (size[1] == 1 || s[3] == size[2] * s[4]) &&
           (size[0] == 1 || s[2] == size[1] * size[2] * s[4]);
}

void fc_limit_strides(const ptrdiff_t in[FC_SPATIAL], const ptrdiff_t out[FC_SPATIAL],
                      ptrdiff_t stride[FC_SPATIAL]) {
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        if (out[axis] == 1)
            stride[axis] = FC_MIN(stride[axis], in[axis]);
}

void fc_tidy_width(fc_array *a, const ptrdiff_t size[FC_SPATIAL]) {
    if (size[2] == 1)
        a->stride[4] = size[1] > 1 ? a->stride[3] : size[0] > 1 ? a->stride[2] : 1;
}

void fc_flatten_pointwise(fc_conv *g, fc_array *x, fc_array *y) {
    fc_tidy_width(x, g->in);
    fc_tidy_width(y, g->out);
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        if (g->kernel[axis] != 1 || g->stride[axis] != 1 || g->pad[axis] != 0 ||
            g->out[axis] != g->in[axis])
            return;
    if (!fc_is_dense(x, g->in) || !fc_is_dense(y, g->out))
        return;
    ptrdiff_t pixels = fc_volume(g->in);
    if (pixels == 1 && g->N > 1) {
        pixels = g->N;
        g->N = 1;
        x->stride[4] = x->stride[0];
        y->stride[4] = y->stride[0];
    }
    g->in[0] = g->in[1] = g->out[0] = g->out[1] = 1;
    g->in[2] = g->out[2] = pixels;
}

void fc_chunk_channels(ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t elements, ptrdiff_t limit,
                       ptrdiff_t multiple, ptrdiff_t *group_chunk, ptrdiff_t *channel_chunk) {
    const ptrdiff_t fit = FC_MAX(1, limit / elements);
    *group_chunk = FC_MAX(1, FC_MIN(groups, fit / channels));
    *channel_chunk = fit >= channels ? channels : FC_MAX(multiple, fit / multiple * multiple);
}
