/* SPDX-License-Identifier: BSD-3-Clause
 * The kernels that work along a row, those of pooling above all, each against a plain loop. */
#include "check.h"

#include <string.h>

/* Row lengths around one, two and four vectors. */
static ptrdiff_t length_at(const fc_kernels *t, int i) {
    const ptrdiff_t L = t->lanes;
    const ptrdiff_t lengths[] = {0,     1,         2,         3,     L - 1,     L,
                                 L + 1, 2 * L - 1, 2 * L + 1, 4 * L, 4 * L + 3, 9 * L - 1};
    return i < (int)(sizeof lengths / sizeof *lengths) ? lengths[i] : -1;
}

/* Equal in every byte, gaps of a row included. */
static int equal_bytes(const fc_kernels *t, const void *a, const void *b, ptrdiff_t count) {
    return memcmp(a, b, (size_t)count * t->itemsize) == 0;
}

static ptrdiff_t strided_count(ptrdiff_t n, ptrdiff_t stride) {
    return n ? (n - 1) * (stride < 0 ? -stride : stride) + 1 : 0;
}

/* The element that index 0 means in a block of that many with a stride of either sign. */
static void *first_of(const fc_kernels *t, void *block, ptrdiff_t n, ptrdiff_t stride) {
    return at(t, block, stride < 0 && n ? (n - 1) * -stride : 0);
}

/* ---- taps ---------------------------------------------------------------------------------- */

enum { MOST_TAPS = 7 };

typedef struct {
    const void *src[MOST_TAPS];
    int32_t cell[MOST_TAPS];
} tap_list;

static tap_list take_taps(const fc_kernels *t, ptrdiff_t n, ptrdiff_t taps) {
    tap_list list = {0};
    for (ptrdiff_t i = 0; i < taps; i++) {
        list.src[i] = take_random(t, n);
        list.cell[i] = (int32_t)(1000 + 7 * i);
    }
    return list;
}

/* Ties, -inf alone, NaN and zeros of both signs. */
static void make_awkward(const fc_kernels *t, const tap_list *list, ptrdiff_t n, ptrdiff_t taps) {
    const double values[] = {-INFINITY, -INFINITY, 0.0, -0.0, 0.5, INFINITY, NAN};
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t tap = 0; tap < taps; tap++)
            put(t, (void *)list->src[tap], i, values[i % 3 == 0 ? 0 : below(7)]);
}

static void compare_maxima(const fc_kernels *t, ptrdiff_t n, ptrdiff_t taps, const tap_list *list) {
    void *best = take_elements(t, n);
    int32_t *arg = take((size_t)n * sizeof *arg);
    t->max_taps(n, taps, list->src, list->cell, best, arg);
    for (ptrdiff_t i = 0; i < n; i++) {
        double largest = -INFINITY;
        int32_t where = -1;
        for (ptrdiff_t tap = 0; tap < taps; tap++) {
            const double v = get(t, list->src[tap], i);
            if (v > largest || v != v) {
                largest = v;
                where = list->cell[tap];
            }
        }
        expect(same(get(t, best, i), largest) && arg[i] == where,
               "max_taps n %td taps %td: %g of cell %d at %td", n, taps, get(t, best, i), arg[i],
               i);
    }
}

void check_max_taps(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (ptrdiff_t taps = 1; taps <= MOST_TAPS; taps++)
            for (int awkward = 0; awkward < 2; awkward++) {
                const tap_list list = take_taps(t, n, taps);
                if (awkward)
                    make_awkward(t, &list, n, taps);
                compare_maxima(t, n, taps, &list);
                release();
            }
}

void check_sum_taps(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (ptrdiff_t taps = 0; taps <= MOST_TAPS; taps++) {
            const tap_list list = take_taps(t, n, taps);
            void *sums = take_elements(t, n);
            t->sum_taps(n, taps, list.src, sums);
            for (ptrdiff_t j = 0; j < n; j++) {
                double sum = 0, magnitude = 0;
                for (ptrdiff_t tap = 0; tap < taps; tap++) {
                    sum += get(t, list.src[tap], j);
                    magnitude += fabs(get(t, list.src[tap], j));
                }
                expect(fabs(get(t, sums, j) - sum) <= epsilon(t) * (double)taps * magnitude,
                       "sum_taps n %td taps %td: %g at %td", n, taps, get(t, sums, j), j);
            }
            release();
        }
}

void check_route_tap(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++) {
        void *dy = take_random(t, n), *dx = take_random(t, n), *before = take_elements(t, n);
        int32_t *arg = take((size_t)n * sizeof *arg);
        for (ptrdiff_t j = 0; j < n; j++)
            arg[j] = (int32_t)below(3) - 1;
        memcpy(before, dx, (size_t)n * t->itemsize);
        t->route_tap(n, dy, arg, 1, dx);
        for (ptrdiff_t j = 0; j < n; j++) {
            put(t, before, j, get(t, before, j) + (arg[j] == 1 ? get(t, dy, j) : 0));
            expect(get(t, dx, j) == get(t, before, j), "route_tap n %td: %g at %td", n,
                   get(t, dx, j), j);
        }
        release();
    }
}

/* ---- rows with a stride -------------------------------------------------------------------- */

static const ptrdiff_t row_strides[] = {1, 2, 3, -1, -2};
enum { ROW_STRIDES = sizeof row_strides / sizeof *row_strides };

void check_add_row(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (int s = 0; s < ROW_STRIDES; s++) {
            const ptrdiff_t stride = row_strides[s], count = strided_count(n, stride);
            void *src = take_random(t, n), *dst = take_random(t, count);
            void *expected = take_elements(t, count);
            if (count)
                memcpy(expected, dst, (size_t)count * t->itemsize);
            for (ptrdiff_t j = 0; j < n; j++) {
                void *e = first_of(t, expected, n, stride);
                put(t, e, j * stride, get(t, e, j * stride) + get(t, src, j));
            }
            t->add_row(n, src, first_of(t, dst, n, stride), stride);
            expect(equal_bytes(t, dst, expected, count), "add_row n %td stride %td", n, stride);
            release();
        }
}

void check_fill(const fc_kernels *t) {
    const double values[] = {0, 0.1, -INFINITY};
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (int s = 0; s < ROW_STRIDES; s++) {
            const ptrdiff_t stride = row_strides[s], count = strided_count(n, stride);
            void *dst = take_elements(t, count), *expected = take_elements(t, count);
            for (ptrdiff_t j = 0; j < n; j++)
                put(t, first_of(t, expected, n, stride), j * stride, values[i % 3]);
            t->fill(n, values[i % 3], first_of(t, dst, n, stride), stride);
            expect(equal_bytes(t, dst, expected, count), "fill n %td stride %td", n, stride);
            release();
        }
}

static void check_scaled(const fc_kernels *t, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t step,
                         int in_place) {
    void *block = take_random(t, strided_count(n, stride)), *before = take_elements(t, n);
    void *src = first_of(t, block, n, stride);
    void *dst = in_place ? src : take_elements(t, n);
    const ptrdiff_t scales = step ? n : 1;
    double *scale = take((size_t)scales * sizeof *scale);
    for (ptrdiff_t i = 0; i < scales; i++)
        scale[i] = uniform();
    for (ptrdiff_t i = 0; i < n; i++)
        put(t, before, i, get(t, src, i * stride));
    t->scale_row(n, src, stride, 0.75, scale, step, dst);
    for (ptrdiff_t i = 0; i < n; i++) {
        const double value = get(t, before, i) * (0.75 * scale[i * step]);
        expect(fabs(get(t, dst, i) - value) <= epsilon(t) * fabs(value),
               "scale_row n %td strides %td,%td: %g instead of %g", n, stride, step, get(t, dst, i),
               value);
    }
    release();
}

void check_scale_row(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (ptrdiff_t step = 0; step < 2; step++) {
            for (int s = 0; s < ROW_STRIDES; s++)
                check_scaled(t, n, row_strides[s], step, 0);
            check_scaled(t, n, 1, step, 1);
        }
}

/* ---- phases -------------------------------------------------------------------------------- */

static void check_split(const fc_kernels *t, ptrdiff_t n, ptrdiff_t phases, ptrdiff_t first,
                        ptrdiff_t stride) {
    const ptrdiff_t phase_stride = (first + n + phases - 1) / phases;
    const ptrdiff_t split_count = phases * phase_stride, row_count = strided_count(n, stride);
    void *row = take_random(t, row_count), *split = take_elements(t, split_count);
    void *expected = take_elements(t, split_count), *back = take_elements(t, row_count);
    for (ptrdiff_t i = 0; i < n; i++)
        put(t, expected, (first + i) % phases * phase_stride + (first + i) / phases,
            get(t, first_of(t, row, n, stride), i * stride));
    t->split_row(n, phases, first, first_of(t, row, n, stride), stride, split, phase_stride);
    expect(equal_bytes(t, split, expected, split_count),
           "split_row n %td phases %td first %td stride %td", n, phases, first, stride);
    t->merge_row(n, phases, first, split, phase_stride, first_of(t, back, n, stride), stride);
    for (ptrdiff_t i = 0; i < row_count; i++) {
        const double value = i % (stride < 0 ? -stride : stride) ? NAN : get(t, row, i);
        expect(same(get(t, back, i), value), "merge_row n %td phases %td first %td stride %td", n,
               phases, first, stride);
    }
    release();
}

static void check_phases(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (ptrdiff_t phases = 1; phases <= 4; phases++)
            for (ptrdiff_t first = 0; first <= 5; first++)
                for (int s = 0; s < ROW_STRIDES; s++)
                    check_split(t, n, phases, first, row_strides[s]);
}

/* A row that lies behind the last window has a negative length: nothing is written. */
static void check_no_row(const fc_kernels *t, ptrdiff_t phases) {
    void *row = take_random(t, 1), *split = take_elements(t, 1);
    for (ptrdiff_t n = -3; n <= 0; n++)
        t->split_row(n, phases, 5, row, 1, split, 1);
    expect(same(get(t, split, 0), NAN), "split_row writes where there is no row");
    release();
}

void check_split_row(const fc_kernels *t) {
    check_phases(t);
    for (ptrdiff_t phases = 1; phases <= 3; phases++)
        check_no_row(t, phases);
}

/* The inverse of split_row, checked with it. */
void check_merge_row(const fc_kernels *t) {
    check_phases(t);
}

void check_relu(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (int how = 0; how < 4; how++) {
            const int relu = how & 1 ? FC_RELU6 : FC_RELU;
            void *src = take_elements(t, n), *copy = take_elements(t, n);
            void *dst = how & 2 ? src : take_elements(t, n);
            for (ptrdiff_t j = 0; j < n; j++)
                put(t, src, j, 12 * uniform());
            if (n > 0)
                put(t, src, below(n), NAN);
            memcpy(copy, src, (size_t)n * t->itemsize);
            t->relu(n, src, relu, dst);
            for (ptrdiff_t j = 0; j < n; j++) {
                const double x = get(t, copy, j), y = relu == FC_RELU6 && x > 6 ? 6 : x;
                expect(same(get(t, dst, j), x < 0 ? 0 : y), "relu n %td: %g of %g", n,
                       get(t, dst, j), x);
            }
            release();
        }
}

void check_relu_grad(const fc_kernels *t) {
    const double values[] = {-1, -0.0, 0.0, 2, NAN, INFINITY, -INFINITY};
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++) {
        void *dy = take_random(t, n), *x = take_elements(t, n), *dx = take_elements(t, n);
        for (ptrdiff_t j = 0; j < n; j++)
            put(t, x, j, values[below(7)]);
        t->relu_grad(n, dy, x, dx);
        for (ptrdiff_t j = 0; j < n; j++)
            expect(get(t, dx, j) == (get(t, x, j) <= 0 ? 0 : get(t, dy, j)),
                   "relu_grad n %td: %g where x is %g", n, get(t, dx, j), get(t, x, j));
        release();
    }
}

static void check_sgd(const fc_kernels *t, ptrdiff_t n, const fc_sgd *rule, int moving) {
    void *g = take_random(t, n), *v = take_random(t, n), *p = take_random(t, n);
    void *new_v = take_elements(t, n), *new_p = take_elements(t, n);
    for (ptrdiff_t i = 0; i < n; i++) {
        put(t, new_v, i, get(t, v, i));
        put(t, new_p, i, get(t, p, i));
    }
    t->sgd_step(rule, n, g, moving ? new_v : NULL, new_p);
    for (ptrdiff_t i = 0; i < n; i++) {
        const double slope = get(t, g, i) + rule->weight_decay * get(t, p, i);
        const double along = moving ? rule->momentum * get(t, v, i) + slope : slope;
        const double step = rule->nesterov ? slope + rule->momentum * along : along;
        /* each of at most six operations rounds numbers below 4 */
        const double bound = 24 * epsilon(t);
        expect(fabs(get(t, new_p, i) - (get(t, p, i) - rule->lr * step)) <= bound &&
                   (!moving || fabs(get(t, new_v, i) - along) <= bound),
               "sgd_step n %td at %td: %g and %g", n, i, get(t, new_p, i), get(t, new_v, i));
    }
    release();
}

void check_sgd_step(const fc_kernels *t) {
    const fc_sgd rules[] = {
        {0.5, 0, 0, 0}, {0.5, 0, 0.25, 0}, {0.5, 0.9, 0, 0}, {0.5, 0.9, 0.1, 1}};
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (int rule = 0; rule < 4; rule++)
            check_sgd(t, n, &rules[rule], rule >= 2);
}
