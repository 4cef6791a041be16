/* SPDX-License-Identifier: BSD-3-Clause
 * Whole calls of the drivers against loops in double precision, in several layouts, with memory
 * that ends where the arrays end, on one thread and on three. */
#include "check.h"

#include <string.h>

enum { AXES = FC_SPATIAL + 2 };

/* ---- arrays -------------------------------------------------------------------------------- */

typedef enum { PLANES, CHANNELS_LAST, BACKWARDS, LAYOUTS } layout;

typedef struct {
    fc_array array;
    ptrdiff_t size[AXES], count;
} tensor;

static ptrdiff_t offset_of(const tensor *a, ptrdiff_t flat) {
    ptrdiff_t offset = 0;
    for (int axis = AXES - 1; axis >= 0; axis--) {
        offset += flat % a->size[axis] * a->array.stride[axis];
        flat /= a->size[axis];
    }
    return offset;
}

/* An array of those sizes with NaN in it, which ends where it should. */
static tensor make_tensor(size_t itemsize, const ptrdiff_t size[AXES], layout l) {
    static const int orders[LAYOUTS][AXES] = {
        {0, 1, 2, 3, 4}, {0, 2, 3, 4, 1}, {4, 3, 0, 2, 1}}; /* outermost first */
    tensor a = {.count = 1};
    ptrdiff_t step = l == BACKWARDS ? 2 : 1, first = 0, highest = 0;
    for (int i = AXES - 1; i >= 0; i--) {
        const int axis = orders[l][i];
        a.size[axis] = size[axis];
        a.count *= size[axis];
        a.array.stride[axis] = l == BACKWARDS && axis >= 3 ? -step : step;
        highest += (size[axis] - 1) * step;
        if (a.array.stride[axis] < 0)
            first += (size[axis] - 1) * step;
        step = step * size[axis] + (l == BACKWARDS);
    }
    char *memory = take((size_t)(a.count ? highest + 1 : 0) * itemsize);
    a.array.data = memory + first * (ptrdiff_t)itemsize;
    return a;
}

static tensor random_tensor(const fc_kernels *t, const ptrdiff_t size[AXES], layout l) {
    const tensor a = make_tensor(t->itemsize, size, l);
    for (ptrdiff_t i = 0; i < a.count; i++)
        put(t, a.array.data, offset_of(&a, i), uniform());
    return a;
}

static double value_at(const fc_kernels *t, const tensor *a, ptrdiff_t flat) {
    return get(t, a->array.data, offset_of(a, flat));
}

/* What an array should hold, with the sum of absolute values that bounds the rounding error. */
typedef struct {
    double *sum, *magnitude;
    ptrdiff_t terms;
} answer;

static answer make_answer(ptrdiff_t count, ptrdiff_t terms) {
    answer a = {take((size_t)count * sizeof(double)), take((size_t)count * sizeof(double)), terms};
    for (ptrdiff_t i = 0; i < count; i++)
        a.sum[i] = a.magnitude[i] = 0;
    return a;
}

static void add(answer *a, ptrdiff_t i, double value) {
    a->sum[i] += value;
    a->magnitude[i] += fabs(value);
}

/* `bound`, if it is not 0, takes the place of an element's own magnitude. */
static void compare(const fc_kernels *t, const tensor *actual, const answer *expected, double bound,
                    int relu, const char *what, const char *name) {
    for (ptrdiff_t i = 0; i < actual->count; i++) {
        const double sum = relu && expected->sum[i] < 0 ? 0 : expected->sum[i];
        const double error = fabs(value_at(t, actual, i) - sum);
        const double magnitude = bound != 0 ? bound : expected->magnitude[i];
        expect(error <= epsilon(t) * (double)(expected->terms + 2) * magnitude,
               "%s of %s: %g instead of %g at element %td", what, name, value_at(t, actual, i), sum,
               i);
    }
}

/* ---- convolution --------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    fc_conv g; /* out follows from the rest and pad_end */
    ptrdiff_t pad_end[FC_SPATIAL];
} conv_case;

#define CUBE(v) {v, v, v}
#define FLAT(v) {1, v, v}
#define PAD(v) {0, v, v}
static const conv_case conv_cases[] = {
    {"1x1", {2, 5, 7, 1, {1, 4, 5}, CUBE(1), {0}, CUBE(1), CUBE(1), {0}}, {0}},
    {"one pixel", {9, 13, 17, 1, CUBE(1), CUBE(1), {0}, CUBE(1), CUBE(1), {0}}, {0}},
    {"3x3", {2, 9, 15, 1, {1, 9, 11}, FLAT(3), {0}, CUBE(1), CUBE(1), PAD(1)}, PAD(1)},
    {"wide", {1, 3, 33, 1, {1, 5, 70}, FLAT(3), {0}, CUBE(1), CUBE(1), PAD(1)}, PAD(1)},
    {"stride 2", {2, 3, 6, 1, {1, 9, 12}, FLAT(3), {0}, FLAT(2), CUBE(1), PAD(1)}, PAD(1)},
    {"stride 2 dilation 2",
     {1, 4, 6, 2, {1, 11, 14}, FLAT(3), {0}, FLAT(2), FLAT(2), PAD(2)},
     PAD(2)},
    {"stride 4 dilation 6", {1, 2, 3, 1, {1, 17, 19}, FLAT(3), {0}, FLAT(4), FLAT(6), {0}}, {0}},
    {"stride over kernel", {1, 3, 5, 1, {1, 13, 9}, FLAT(2), {0}, FLAT(5), CUBE(1), {0}}, {0}},
    {"four-sided",
     {1, 2, 4, 1, {1, 5, 6}, {1, 3, 2}, {0}, {1, 2, 1}, CUBE(1), {0, 2, 0}},
     {0, 0, 3}},
    {"depthwise", {2, 19, 19, 19, {1, 7, 13}, FLAT(3), {0}, CUBE(1), CUBE(1), PAD(1)}, PAD(1)},
    {"depthwise stride 2",
     {1, 6, 12, 6, {1, 8, 9}, FLAT(5), {0}, FLAT(2), CUBE(1), PAD(2)},
     PAD(2)},
    {"3-D", {1, 3, 5, 1, {4, 5, 6}, {2, 3, 3}, {0}, {2, 1, 2}, {1, 2, 1}, CUBE(1)}, CUBE(1)},
    {"1-D", {3, 4, 4, 1, {1, 1, 37}, {1, 1, 5}, {0}, {1, 1, 3}, CUBE(1), {0, 0, 2}}, {0, 0, 2}},
    {"long sum", {1, 150, 5, 1, {1, 3, 4}, FLAT(3), {0}, CUBE(1), CUBE(1), PAD(1)}, PAD(1)},
    {"large kernel", {1, 1, 2, 1, {1, 41, 43}, {1, 40, 40}, {0}, CUBE(1), CUBE(1), {0}}, {0}},
    {"endless stride",
     {1, 3, 5, 1, {1, 6, 7}, FLAT(3), {0}, CUBE((ptrdiff_t)1 << 60), CUBE(1), PAD(1)},
     PAD(1)},
    {"depthwise, endless stride",
     {1, 5, 5, 5, {1, 6, 7}, FLAT(3), {0}, FLAT((ptrdiff_t)1 << 60), CUBE(1), {0}},
     {0}},
    {"depthwise, nothing in reach",
     {1, 5, 5, 5, {1, 2, 2}, {1, 1, 2}, {0}, FLAT(2), {1, 1, 5}, {0}},
     {0, 0, 10}},
    {"5x5 in groups", {2, 6, 14, 2, {1, 9, 23}, FLAT(5), {0}, CUBE(1), CUBE(1), PAD(2)}, PAD(1)},
    {"5x5 cropped",
     {1, 2, 3, 1, {1, 9, 12}, FLAT(5), {0}, CUBE(1), CUBE(1), {0, -1, -2}},
     {0, 3, 0}},
    {"3x3 cropped",
     {1, 2, 3, 1, {1, 9, 12}, FLAT(3), {0}, CUBE(1), CUBE(1), {0, -1, -2}},
     {0, 3, 0}},
    {"3x3 of blocks", {3, 4, 9, 1, {1, 37, 41}, FLAT(3), {0}, CUBE(1), CUBE(1), PAD(1)}, PAD(0)},
    {"stem", {2, 3, 10, 1, {1, 23, 70}, FLAT(7), {0}, FLAT(2), CUBE(1), PAD(3)}, PAD(3)},
    {"stem of uneven strides",
     {1, 2, 9, 1, {1, 11, 150}, {1, 4, 11}, {0}, {1, 3, 4}, CUBE(1), PAD(2)},
     {0, 1, 4}},
    {"stem in groups", {1, 4, 6, 2, {1, 9, 17}, FLAT(3), {0}, FLAT(2), CUBE(1), PAD(1)}, PAD(2)},
    {"tiles side by side", {2, 3, 5, 1, {1, 8, 12}, {1, 2, 4}, {0}, {1, 2, 4}, CUBE(1), {0}}, {0}},
    {"many tasks", {2, 8, 24, 1, {1, 19, 21}, FLAT(3), {0}, CUBE(1), CUBE(1), PAD(1)}, PAD(1)},
};

typedef struct {
    const fc_kernels *t;
    fc_dtype dtype;
    const conv_case *c;
    fc_conv g;
    tensor x, w, bias, dy;
    answer y, dx, dw, db;
} conv_data;

static ptrdiff_t axis_out(const conv_case *c, int axis) {
    const fc_conv *g = &c->g;
    return (g->in[axis] + g->pad[axis] + c->pad_end[axis] -
            g->dilation[axis] * (g->kernel[axis] - 1) - 1) /
               g->stride[axis] +
           1;
}

/* Position of flat index `flat` of a box of those sizes. */
static void unravel(ptrdiff_t flat, const ptrdiff_t size[FC_SPATIAL], ptrdiff_t at[FC_SPATIAL]) {
    at[2] = flat % size[2];
    at[1] = flat / size[2] % size[1];
    at[0] = flat / size[2] / size[1];
}

/* Flat index in the image of tap k of output o, or -1 in the padding. */
static ptrdiff_t image_cell(const ptrdiff_t in[FC_SPATIAL], const ptrdiff_t stride[FC_SPATIAL],
                            const ptrdiff_t dilation[FC_SPATIAL], const ptrdiff_t pad[FC_SPATIAL],
                            const ptrdiff_t o[FC_SPATIAL], const ptrdiff_t k[FC_SPATIAL]) {
    ptrdiff_t flat = 0;
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        const ptrdiff_t i = o[axis] * stride[axis] - pad[axis] + k[axis] * dilation[axis];
        if (i < 0 || i >= in[axis])
            return -1;
        flat = flat * in[axis] + i;
    }
    return flat;
}

/* One product for each output, channel and kernel cell that meets the image. */
static void multiply_plane(conv_data *d, ptrdiff_t n, ptrdiff_t oc, ptrdiff_t c) {
    const fc_conv *g = &d->g;
    const ptrdiff_t cg = g->C / g->G, channel = oc / (g->OC / g->G) * cg + c;
    const ptrdiff_t outs = fc_volume(g->out), taps = fc_volume(g->kernel);
    ptrdiff_t o[FC_SPATIAL], k[FC_SPATIAL];
    for (ptrdiff_t out = 0; out < outs; out++)
        for (ptrdiff_t tap = 0; tap < taps; tap++) {
            unravel(out, g->out, o);
            unravel(tap, g->kernel, k);
            const ptrdiff_t cell = image_cell(g->in, g->stride, g->dilation, g->pad, o, k);
            if (cell < 0)
                continue;
            const ptrdiff_t xi = (n * g->C + channel) * fc_volume(g->in) + cell;
            const ptrdiff_t wi = (oc * cg + c) * taps + tap, yi = (n * g->OC + oc) * outs + out;
            const double x = value_at(d->t, &d->x, xi), w = value_at(d->t, &d->w, wi);
            const double dy = value_at(d->t, &d->dy, yi);
            add(&d->y, yi, x * w);
            add(&d->dx, xi, dy * w);
            add(&d->dw, wi, dy * x);
        }
}

static conv_data make_conv(const fc_kernels *t, fc_dtype dtype, const conv_case *c, layout l) {
    conv_data d = {.t = t, .dtype = dtype, .c = c, .g = c->g};
    fc_conv *g = &d.g;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        g->out[axis] = axis_out(c, axis);
    const ptrdiff_t cg = g->C / g->G, outs = fc_volume(g->out), taps = fc_volume(g->kernel);
    const ptrdiff_t x_size[] = {g->N, g->C, g->in[0], g->in[1], g->in[2]};
    const ptrdiff_t w_size[] = {g->OC, cg, g->kernel[0], g->kernel[1], g->kernel[2]};
    const ptrdiff_t y_size[] = {g->N, g->OC, g->out[0], g->out[1], g->out[2]};
    const ptrdiff_t b_size[] = {g->OC, 1, 1, 1, 1};
    d.x = random_tensor(t, x_size, l);
    d.w = random_tensor(t, w_size, l);
    d.dy = random_tensor(t, y_size, l);
    d.bias = random_tensor(t, b_size, l);
    d.y = make_answer(d.dy.count, cg * taps + 1);
    d.dx = make_answer(d.x.count, g->OC / g->G * taps);
    d.dw = make_answer(d.w.count, g->N * outs);
    d.db = make_answer(g->OC, g->N * outs);
    for (ptrdiff_t i = 0; i < d.dy.count; i++) {
        add(&d.y, i, value_at(t, &d.bias, i / outs % g->OC));
        add(&d.db, i / outs % g->OC, value_at(t, &d.dy, i));
    }
    for (ptrdiff_t n = 0; n < g->N; n++)
        for (ptrdiff_t oc = 0; oc < g->OC; oc++)
            for (ptrdiff_t channel = 0; channel < cg; channel++)
                multiply_plane(&d, n, oc, channel);
    return d;
}

/* Rounding errors of the transforms grow with the sums of their absolute values: for an output of one
 * channel of numbers up to 1, at most the square of max over k of sum over i of |A[k][i]| * |G[i]| *
 * |B[i]| (the last two are sums over a row): 25 for F(4, 3), 8 for F(2, 3), 38 for F(2, 5), 32 for F(3, 4), 20 for F(5, 2). */
static double winograd_bound(ptrdiff_t terms) {
    return 38.0 * 38.0 * (double)terms;
}

static void check_naive_calls(const conv_data *d, layout l) {
    const fc_kernels *t = d->t;
    const char *name = d->c->name;
    const tensor dx = make_tensor(t->itemsize, d->x.size, l);
    const tensor dw = make_tensor(t->itemsize, d->w.size, l);
    for (int relu = 0; relu < 2; relu++) {
        const tensor y = make_tensor(t->itemsize, d->dy.size, l);
        fc_conv_forward_naive(&d->g, d->dtype, &d->x.array, &d->w.array, &d->bias.array, &y.array,
                              relu);
        compare(t, &y, &d->y, 0, relu, "naive forward", name);
    }
    fc_conv_input_grad_naive(&d->g, d->dtype, &d->dy.array, &d->w.array, NULL, &dx.array);
    fc_conv_weight_grad_naive(&d->g, d->dtype, &d->dy.array, &d->x.array, &dw.array);
    compare(t, &dx, &d->dx, 0, 0, "naive input gradient", name);
    compare(t, &dw, &d->dw, 0, 0, "naive weight gradient", name);
}

/* Filters packed before the call, in whatever form suits; their memory ends where it should. */
static void check_prepared(const conv_data *d, layout l, fc_algo algo, double bound) {
    fc_preparation p;
    fc_status status = fc_prepare(&d->g, d->dtype, algo, l == CHANNELS_LAST, &p);
    expect(status == FC_OK, "preparation of %s: %s", d->c->name, fc_status_message(status));
    if (p.form == FC_FORM_PLAIN)
        return;
    const tensor y = make_tensor(d->t->itemsize, d->dy.size, l);
    char *packed = take(p.packed_bytes);
    status = fc_pack_filters(&d->g, d->dtype, p.form, &d->w.array, packed);
    expect(status == FC_OK, "packing of %s: %s", d->c->name, fc_status_message(status));
    status =
        fc_conv_prepared(&d->g, d->dtype, p.form, packed, &d->x.array, &d->bias.array, &y.array, 1);
    expect(status == FC_OK, "prepared %s: %s", d->c->name, fc_status_message(status));
    compare(d->t, &y, &d->y, bound, 1, "prepared forward", d->c->name);
}

static void check_conv_calls(const conv_data *d, layout l, fc_algo algo) {
    const fc_kernels *t = d->t;
    const char *name = d->c->name;
    const int winograd = algo >= FC_WINOGRAD;
    const double y_bound = winograd ? winograd_bound(d->y.terms) : 0;
    const double dx_bound = winograd ? winograd_bound(d->dx.terms) : 0;
    for (int relu = 0; relu < 2; relu++) {
        const tensor y = make_tensor(t->itemsize, d->dy.size, l);
        const fc_status status = fc_conv_forward(&d->g, d->dtype, algo, &d->x.array, &d->w.array,
                                                 &d->bias.array, &y.array, relu);
        expect(status == FC_OK, "forward of %s: %s", name, fc_status_message(status));
        compare(t, &y, &d->y, y_bound, relu, winograd ? "Winograd forward" : "forward", name);
    }
    check_prepared(d, l, algo, y_bound);
    const tensor dx = make_tensor(t->itemsize, d->x.size, l);
    fc_conv_input_grad(&d->g, d->dtype, algo, &d->dy.array, &d->w.array, NULL, &dx.array);
    compare(t, &dx, &d->dx, dx_bound, 0, winograd ? "Winograd input gradient" : "input gradient",
            name);
    const tensor dw = make_tensor(t->itemsize, d->w.size, l);
    fc_conv_weight_grad(&d->g, d->dtype, algo, &d->dy.array, &d->x.array, &dw.array);
    compare(t, &dw, &d->dw, winograd ? winograd_bound(d->dw.terms) : 0, 0,
            winograd ? "Winograd weight gradient" : "weight gradient", name);
    const tensor db = make_tensor(t->itemsize, d->bias.size, l);
    fc_bias_grad(&d->g, d->dtype, &d->dy.array, &db.array);
    compare(t, &db, &d->db, 0, 0, "bias gradient", name);
}

/* im2col against image_cell, and <im2col x, c> = <x, col2im c>. */
static void check_columns(const conv_data *d, layout l) {
    const fc_kernels *t = d->t;
    const fc_conv *g = &d->g;
    const ptrdiff_t taps = fc_volume(g->kernel), outs = fc_volume(g->out);
    const ptrdiff_t count = g->N * g->C * taps * outs;
    void *cols = take_elements(t, count), *c = take_random(t, count);
    const tensor back = make_tensor(t->itemsize, d->x.size, l);
    double forward = 0, backward = 0, magnitude = 0;
    ptrdiff_t o[FC_SPATIAL], k[FC_SPATIAL];
    fc_im2col(g, d->dtype, &d->x.array, cols);
    fc_col2im(g, d->dtype, c, &back.array);
    for (ptrdiff_t i = 0; i < count; i++) {
        unravel(i % outs, g->out, o);
        unravel(i / outs % taps, g->kernel, k);
        const ptrdiff_t cell = image_cell(g->in, g->stride, g->dilation, g->pad, o, k);
        const ptrdiff_t plane = i / outs / taps * fc_volume(g->in);
        const double value = cell < 0 ? 0 : value_at(t, &d->x, plane + cell);
        expect(get(t, cols, i) == value, "im2col of %s at %td", d->c->name, i);
        forward += get(t, cols, i) * get(t, c, i);
        magnitude += fabs(get(t, cols, i) * get(t, c, i));
    }
    for (ptrdiff_t i = 0; i < d->x.count; i++)
        backward += value_at(t, &d->x, i) * value_at(t, &back, i);
    expect(fabs(forward - backward) <= epsilon(t) * (double)(taps + 2) * magnitude,
           "col2im of %s is not the adjoint of im2col", d->c->name);
}

static void check_convolutions(const fc_kernels *t, fc_dtype dtype) {
    for (size_t i = 0; i < sizeof conv_cases / sizeof *conv_cases; i++)
        for (int l = 0; l < LAYOUTS; l++) {
            const conv_data d = make_conv(t, dtype, &conv_cases[i], (layout)l);
            /* the naive loops are the same under every instruction set */
            if (t == fc_table_of(0, dtype))
                check_naive_calls(&d, (layout)l);
            for (int threads = 1; threads <= 3; threads += 2) {
                fc_set_num_threads(threads);
                check_conv_calls(&d, (layout)((l + threads) % LAYOUTS), FC_GEMM);
                if (fc_winograd_suits(&d.g))
                    check_conv_calls(&d, (layout)((l + threads) % LAYOUTS), FC_WINOGRAD_6);
                if (fc_winograd_suits(&d.g) && d.g.kernel[1] == 3)
                    check_conv_calls(&d, (layout)((l + threads) % LAYOUTS), FC_WINOGRAD_4);
            }
            check_columns(&d, (layout)l);
            release();
        }
}

/* ---- pooling ------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    fc_pool g;
} pool_case;

static const pool_case pool_cases[] = {
    {"2x2", {2, 3, {1, 8, 35}, FLAT(2), {1, 4, 17}, FLAT(2), CUBE(1), {0}, {0}}},
    {"3x3 stride 2", {1, 5, {1, 9, 40}, FLAT(3), {1, 5, 20}, FLAT(2), CUBE(1), PAD(1), PAD(1)}},
    {"3x3 stride 1", {1, 9, {1, 5, 34}, FLAT(3), {1, 3, 32}, CUBE(1), CUBE(1), {0}, {0}}},
    {"stride 3", {1, 17, {1, 10, 9}, FLAT(2), {1, 3, 3}, FLAT(3), CUBE(1), {0}, {0}}},
    {"dilation", {1, 2, {1, 9, 21}, FLAT(3), {1, 5, 11}, FLAT(2), FLAT(2), PAD(2), PAD(2)}},
    {"3-D", {1, 3, {4, 5, 6}, CUBE(2), {3, 3, 4}, {1, 2, 2}, CUBE(1), {0, 1, 1}, {0, 1, 1}}},
    {"endless stride",
     {1, 3, {1, 6, 7}, FLAT(3), CUBE(1), FLAT((ptrdiff_t)1 << 60), CUBE(1), PAD(1), PAD(1)}},
    {"large window", {1, 2, {1, 17, 19}, {1, 16, 17}, FLAT(2), FLAT(1), CUBE(1), {0}, {0}}},
    {"many tasks", {4, 16, {1, 33, 33}, FLAT(3), {1, 16, 16}, FLAT(2), CUBE(1), {0}, {0}}},
};

typedef struct {
    const fc_kernels *t;
    fc_dtype dtype;
    const pool_case *c;
    tensor x, dy;
    answer maxima, sums, averages, dx_max, dx_sum, dx_average;
    int64_t *plane_index;
    int32_t *cell;
} pool_data;

/* The window of one output: its maximum, its sum and where they pass their gradients. */
static void pool_window(pool_data *d, ptrdiff_t plane, ptrdiff_t out) {
    const fc_pool *g = &d->c->g;
    const ptrdiff_t taps = fc_volume(g->kernel), yi = plane * fc_volume(g->out) + out;
    ptrdiff_t o[FC_SPATIAL], k[FC_SPATIAL], inside = 0;
    double largest = -INFINITY;
    unravel(out, g->out, o);
    for (int pass = 0; pass < 2; pass++)
        for (ptrdiff_t tap = 0; tap < taps; tap++) {
            unravel(tap, g->kernel, k);
            const ptrdiff_t cell = image_cell(g->in, g->stride, g->dilation, g->pad, o, k);
            const ptrdiff_t xi = plane * fc_volume(g->in) + cell;
            if (cell < 0)
                continue;
            if (pass) {
                add(&d->dx_sum, xi, value_at(d->t, &d->dy, yi));
                add(&d->dx_average, xi, value_at(d->t, &d->dy, yi) / (double)inside);
                continue;
            }
            const double x = value_at(d->t, &d->x, xi);
            inside++;
            add(&d->sums, yi, x);
            if (x > largest) {
                largest = x;
                d->plane_index[yi] = cell;
                d->cell[yi] = (int32_t)tap;
            }
        }
    add(&d->maxima, yi, largest);
    d->averages.sum[yi] = d->sums.sum[yi] / (double)inside;
    d->averages.magnitude[yi] = d->sums.magnitude[yi] / (double)inside;
    add(&d->dx_max, plane * fc_volume(g->in) + d->plane_index[yi], value_at(d->t, &d->dy, yi));
}

static pool_data make_pool(const fc_kernels *t, fc_dtype dtype, const pool_case *c, layout l) {
    const fc_pool *g = &c->g;
    const ptrdiff_t x_size[] = {g->N, g->C, g->in[0], g->in[1], g->in[2]};
    const ptrdiff_t y_size[] = {g->N, g->C, g->out[0], g->out[1], g->out[2]};
    const ptrdiff_t taps = fc_volume(g->kernel);
    pool_data d = {.t = t, .dtype = dtype, .c = c};
    d.x = random_tensor(t, x_size, l);
    d.dy = random_tensor(t, y_size, l);
    answer *const outputs[] = {&d.maxima, &d.sums, &d.averages};
    answer *const gradients[] = {&d.dx_max, &d.dx_sum, &d.dx_average};
    for (int i = 0; i < 3; i++) {
        *outputs[i] = make_answer(d.dy.count, taps);
        *gradients[i] = make_answer(d.x.count, taps);
    }
    d.plane_index = take((size_t)d.dy.count * sizeof *d.plane_index);
    d.cell = take((size_t)d.dy.count * sizeof *d.cell);
    for (ptrdiff_t plane = 0; plane < g->N * g->C; plane++)
        for (ptrdiff_t out = 0; out < fc_volume(g->out); out++)
            pool_window(&d, plane, out);
    return d;
}

/* Element `flat` of an index array of that kind. */
static int64_t index_at(const tensor *a, fc_index_kind kind, ptrdiff_t flat) {
    const ptrdiff_t offset = offset_of(a, flat);
    return kind == FC_INDEX_U8    ? ((const uint8_t *)a->array.data)[offset]
           : kind == FC_INDEX_I32 ? ((const int32_t *)a->array.data)[offset]
                                  : ((const int64_t *)a->array.data)[offset];
}

static void check_max_pool(const pool_data *d, layout l) {
    const fc_pool *g = &d->c->g;
    const char *name = d->c->name;
    const size_t sizes[] = {1, sizeof(uint8_t), sizeof(int32_t), sizeof(int64_t)};
    for (int kind = FC_INDEX_NONE; kind <= FC_INDEX_PLANE; kind++) {
        if (kind == FC_INDEX_U8 && fc_volume(g->kernel) > 255)
            continue;
        const tensor y = make_tensor(d->t->itemsize, d->dy.size, l);
        const tensor index = make_tensor(sizes[kind], d->dy.size, l);
        const tensor dx = make_tensor(d->t->itemsize, d->x.size, l == BACKWARDS ? PLANES : l);
        fc_max_pool_forward(g, d->dtype, &d->x.array, &y.array, (fc_index_kind)kind, &index.array);
        compare(d->t, &y, &d->maxima, 0, 0, "max pooling", name);
        if (kind == FC_INDEX_NONE)
            continue;
        for (ptrdiff_t i = 0; i < y.count; i++)
            expect(index_at(&index, (fc_index_kind)kind, i) ==
                       (kind == FC_INDEX_PLANE ? d->plane_index[i] : d->cell[i]),
                   "max pooling of %s: index %td of kind %d", name, i, kind);
        const fc_status status =
            kind == FC_INDEX_PLANE
                ? fc_unpool(g, d->dtype, &d->dy.array, &index.array, &dx.array, 0)
                : fc_max_pool_backward(g, d->dtype, &d->dy.array, (fc_index_kind)kind, &index.array,
                                       &dx.array);
        expect(status == FC_OK, "max pooling's gradient: %s", fc_status_message(status));
        compare(d->t, &dx, &d->dx_max, 0, 0, "max pooling's gradient", name);
    }
}

static void check_sum_pool(const pool_data *d, layout l) {
    const fc_pool *g = &d->c->g;
    const char *name = d->c->name;
    const fc_pool_kind kinds[] = {FC_POOL_SUM, FC_POOL_AVERAGE_VALID};
    for (int i = 0; i < 2; i++) {
        const tensor y = make_tensor(d->t->itemsize, d->dy.size, l);
        const tensor dx = make_tensor(d->t->itemsize, d->x.size, l);
        fc_sum_pool_forward(g, d->dtype, kinds[i], &d->x.array, &y.array);
        fc_sum_pool_backward(g, d->dtype, kinds[i], &d->dy.array, &dx.array);
        compare(d->t, &y, i ? &d->averages : &d->sums, 0, 0, "sum pooling", name);
        compare(d->t, &dx, i ? &d->dx_average : &d->dx_sum, 0, 0, "sum pooling's gradient", name);
    }
}

/* Wrong indices are reported, and nothing outside the plane is touched. */
static void check_wrong_indices(const fc_kernels *t, fc_dtype dtype) {
    const fc_pool g = {1, 1, {1, 2, 3}, CUBE(1), {1, 1, 4}, CUBE(1), CUBE(1), {0}, {0}};
    const ptrdiff_t x_size[] = {1, 1, 1, 2, 3}, y_size[] = {1, 1, 1, 1, 4};
    const int64_t wrong[] = {-1, 6, INT64_MIN, INT64_MAX, (int64_t)1 << 61};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const tensor dy = random_tensor(t, y_size, PLANES),
                     dx = make_tensor(t->itemsize, x_size, 0);
        const tensor index = make_tensor(sizeof(int64_t), y_size, PLANES);
        for (ptrdiff_t j = 0; j < 4; j++)
            ((int64_t *)index.array.data)[j] = j == 2 ? wrong[i] : 5;
        expect(fc_unpool(&g, dtype, &dy.array, &index.array, &dx.array, 0) == FC_BAD_INDEX,
               "index %lld was accepted", (long long)wrong[i]);
        release();
    }
}

static void check_pools(const fc_kernels *t, fc_dtype dtype) {
    for (size_t i = 0; i < sizeof pool_cases / sizeof *pool_cases; i++)
        for (int l = 0; l < LAYOUTS; l++)
            for (int threads = 1; threads <= 3; threads += 2) {
                const pool_data d = make_pool(t, dtype, &pool_cases[i], (layout)l);
                fc_set_num_threads(threads);
                check_max_pool(&d, (layout)((l + threads) % LAYOUTS));
                check_sum_pool(&d, (layout)((l + threads) % LAYOUTS));
                release();
            }
    check_wrong_indices(t, dtype);
}

/* ---- refusals ------------------------------------------------------------------------------ */

/* Geometries that C must refuse whatever Python did: impossible ones and those that overflow. */
static void check_refusals(fc_dtype dtype) {
    const ptrdiff_t huge = (ptrdiff_t)1 << 62;
    const fc_conv good = conv_cases[0].g;
    const fc_array none = {0};
    fc_conv bad[12];
    for (int i = 0; i < 12; i++) {
        bad[i] = good;
        memcpy(bad[i].out, good.in, sizeof good.out);
    }
    bad[0].N = -1, bad[1].C = 0, bad[2].G = 0, bad[3].G = 3, bad[4].in[1] = 0;
    bad[5].kernel[2] = 0, bad[6].stride[0] = 0, bad[7].dilation[1] = -1;
    bad[8].N = huge, bad[9].in[2] = huge, bad[10].out[1] = huge, bad[10].stride[1] = 4;
    bad[11].kernel[1] = 3, bad[11].dilation[1] = huge;
    for (int i = 0; i < 12; i++) {
        const fc_status status =
            fc_conv_forward(&bad[i], dtype, FC_AUTO, &none, &none, NULL, &none, 0);
        expect(status == (i < 8 ? FC_BAD_GEOMETRY : FC_OVERFLOW), "geometry %d gives %s", i,
               fc_status_message(status));
    }
}

/* Few filters' weight gradient would turn the padded image to channels last: 2^64 bytes of it, whose size
 * must not wrap around, and which another way does without. No tap meets the image. */
static void check_far_padding(const fc_kernels *t, fc_dtype dtype) {
    const ptrdiff_t huge = (ptrdiff_t)1 << 29;
    const fc_conv g = {
        1, 64, 1, 1, {1, 8, 8}, FLAT(2), CUBE(1), CUBE(1), FLAT(huge - 1), PAD(huge / 2 - 4)};
    const fc_array x = {take_random(t, 64 * 64), {64 * 64, 64, 64, 8, 1}};
    const fc_array dy = {take_random(t, 1), {1, 1, 1, 1, 1}};
    const fc_array dw = {take_elements(t, 64 * 4), {64 * 4, 4, 4, 2, 1}};
    const fc_status status = fc_conv_weight_grad(&g, dtype, FC_AUTO, &dy, &x, &dw);
    expect(status == FC_OK, "far padding: %s", fc_status_message(status));
    for (ptrdiff_t i = 0; i < 64 * 4; i++)
        expect(get(t, dw.data, i) == 0, "far padding: %g at %td", get(t, dw.data, i), i);
    release();
}

void check_drivers(fc_dtype dtype) {
    const fc_kernels *t = fc_table(dtype);
    check_convolutions(t, dtype);
    check_pools(t, dtype);
    check_refusals(dtype);
    check_far_padding(t, dtype);
}
