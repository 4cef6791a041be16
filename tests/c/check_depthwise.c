/* SPDX-License-Identifier: BSD-3-Clause
 * The depthwise kernels against plain loops. */
#include "check.h"

#include <string.h>

enum { MOST_TAPS = 25 };

/* Columns around one and four vectors, rows around four. */
static ptrdiff_t cols_at(const fc_kernels *t, int i) {
    const ptrdiff_t L = t->lanes, cols[] = {1, L - 1, L, L + 1, 2 * L + 3, 4 * L, 5 * L + 1};
    return i < (int)(sizeof cols / sizeof *cols) ? FC_MAX(1, cols[i]) : 0;
}

/* Runs of rows, each in memory of its own that ends a vector behind the last row's end, as a
 * laid-out block does; what lies behind a row's end is infinite. */
static void take_runs(const fc_kernels *t, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t pitch,
                      ptrdiff_t taps, const void **src) {
    for (ptrdiff_t tap = 0; tap < taps; tap++) {
        const ptrdiff_t count = (rows - 1) * pitch + cols + t->lanes;
        void *run = take_random(t, count);
        for (ptrdiff_t i = 0; i < count; i++)
            if (i % pitch >= cols)
                put(t, run, i, INFINITY);
        src[tap] = run;
    }
}

/* What one output is, and how far rounding may take it from there. */
static void expect_weighed(const fc_kernels *t, const fc_weigh *p, ptrdiff_t r, ptrdiff_t i) {
    double sum = p->bias, magnitude = fabs(p->bias);
    const double result = get(t, p->dst, r * p->dst_row + i);
    for (ptrdiff_t tap = 0; tap < p->taps; tap++) {
        const double product = get(t, p->weights, tap) * get(t, p->src[tap], r * p->src_row + i);
        sum += product;
        magnitude += fabs(product);
    }
    if (p->relu && sum < 0)
        sum = 0;
    expect(fabs(result - sum) <= epsilon(t) * (double)(p->taps + 2) * magnitude,
           "weigh_taps %td x %td, %td taps, square %td, relu %d: %g instead of %g at %td, %td",
           p->rows, p->cols, p->taps, p->square, p->relu, result, sum, r, i);
}

static void check_weighed(const fc_kernels *t, fc_weigh p) {
    void *dst = take_elements(t, (p.rows - 1) * p.dst_row + p.cols);
    p.weights = take_random(t, p.taps);
    p.bias = uniform();
    p.dst = dst;
    t->weigh_taps(&p);
    for (ptrdiff_t r = 0; r < p.rows; r++)
        for (ptrdiff_t i = 0;
             i < p.dst_row && r * p.dst_row + i < (p.rows - 1) * p.dst_row + p.cols; i++) {
            if (i < p.cols)
                expect_weighed(t, &p, r, i);
            else
                expect(isnan(get(t, dst, r * p.dst_row + i)), "weigh_taps wrote behind a row");
        }
    release();
}

/* Taps anywhere, and the taps of a dense square filter, which overlap. */
void check_weigh_taps(const fc_kernels *t) {
    ptrdiff_t cols;
    for (int i = 0; (cols = cols_at(t, i)) > 0; i++)
        for (ptrdiff_t rows = 1; rows <= 6; rows++)
            for (int relu = 0; relu < 2; relu++) {
                const void *src[MOST_TAPS];
                fc_weigh p = {.rows = rows, .cols = cols, .src = src, .relu = relu};
                p.dst_row = cols + below(3);
                for (p.taps = 0; p.taps <= 7; p.taps++) {
                    p.src_row = cols + 1 + below(3);
                    take_runs(t, rows, cols, p.src_row, p.taps, src);
                    check_weighed(t, p);
                }
                for (p.square = 3; p.square <= 5; p.square += 2) {
                    p.taps = p.square * p.square;
                    p.src_row = cols + p.square - 1 + below(3);
                    const char *image = take_random(t, (rows + p.square - 2) * p.src_row + cols +
                                                           p.square - 1 + t->lanes);
                    for (ptrdiff_t k = 0; k < p.taps; k++)
                        src[k] = image +
                                 (k / p.square * p.src_row + k % p.square) * (ptrdiff_t)t->itemsize;
                    check_weighed(t, p);
                }
            }
}

/* One row of one phase as weigh_taps makes it, next to what weigh_pair made of both. */
static void expect_pair(const fc_kernels *t, const fc_weigh *pair, ptrdiff_t phase) {
    fc_weigh p = pair[phase];
    p.dst_row = p.cols;
    p.dst = take_elements(t, p.rows * p.cols);
    p.relu = pair->relu;
    t->weigh_taps(&p);
    for (ptrdiff_t r = 0; r < p.rows; r++)
        for (ptrdiff_t i = 0; i < p.cols; i++) {
            const double sum = get(t, p.dst, r * p.dst_row + i);
            const double result = get(t, pair->dst, r * pair->dst_row + 2 * i + phase);
            expect(fabs(result - sum) <= 2 * epsilon(t) * (double)((p.taps + 2) * (p.taps + 1)),
                   "weigh_pair %td x %td, phase %td, %td taps, relu %d: %g instead of %g", p.rows,
                   p.cols, phase, p.taps, p.relu, result, sum);
        }
}

static void check_pair(const fc_kernels *t, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t fewer,
                       int relu) {
    const void *src[2][MOST_TAPS];
    const double bias = uniform();
    const ptrdiff_t width = 2 * cols - fewer, dst_row = width + below(3);
    const ptrdiff_t count = (rows - 1) * dst_row + width;
    fc_weigh pair[2];
    for (ptrdiff_t phase = 0; phase < 2; phase++) {
        fc_weigh *p = &pair[phase];
        *p = (fc_weigh){.rows = rows, .cols = cols - phase * fewer, .taps = below(5)};
        p->src = src[phase];
        p->src_row = cols + 1;
        p->bias = bias;
        p->weights = take_random(t, p->taps);
        take_runs(t, rows, cols, p->src_row, p->taps, src[phase]);
    }
    pair->relu = relu;
    pair->dst = take_elements(t, count);
    pair->dst_row = dst_row;
    t->weigh_pair(pair);
    expect_pair(t, pair, 0);
    expect_pair(t, pair, 1);
    for (ptrdiff_t i = 0; i < count; i++)
        expect(i % dst_row < width || isnan(get(t, pair->dst, i)), "weigh_pair wrote behind a row");
    release();
}

void check_weigh_pair(const fc_kernels *t) {
    ptrdiff_t cols;
    for (int i = 0; (cols = cols_at(t, i)) > 0; i++)
        for (ptrdiff_t rows = 1; rows <= 6; rows++)
            for (int relu = 0; relu < 2; relu++)
                for (int again = 0; again < 4; again++)
                    check_pair(t, rows, cols, again % 2, relu);
}

static void check_dots(const fc_kernels *t, const fc_dot *p) {
    double sum[MOST_TAPS] = {0}, magnitude[MOST_TAPS] = {0};
    for (ptrdiff_t j = 0; j < p->taps * t->lanes; j++) {
        sum[j / t->lanes] += get(t, p->lanes, j);
        magnitude[j / t->lanes] += fabs(get(t, p->lanes, j));
    }
    t->dot_taps(p);
    for (ptrdiff_t tap = 0; tap < p->taps; tap++) {
        double result = 0;
        for (ptrdiff_t r = 0; r < p->rows; r++)
            for (ptrdiff_t i = 0; i < p->cols; i++) {
                const double product =
                    get(t, p->src[tap], r * p->src_row + i) * get(t, p->dy, r * p->dy_row + i);
                sum[tap] += product;
                magnitude[tap] += fabs(product);
            }
        for (ptrdiff_t lane = 0; lane < t->lanes; lane++)
            result += get(t, p->lanes, tap * t->lanes + lane);
        expect(fabs(result - sum[tap]) <=
                   epsilon(t) * (double)(p->rows * p->cols + 2) * magnitude[tap],
               "dot_taps %td x %td, %td taps: %g instead of %g", p->rows, p->cols, p->taps, result,
               sum[tap]);
    }
}

void check_dot_taps(const fc_kernels *t) {
    ptrdiff_t cols;
    for (int i = 0; (cols = cols_at(t, i)) > 0; i++)
        for (ptrdiff_t rows = 1; rows <= 3; rows++)
            for (ptrdiff_t taps = 0; taps <= 12; taps++) {
                const void *src[MOST_TAPS];
                const ptrdiff_t pitch = cols + 1 + below(3), dy_row = fc_round_up(cols, t->lanes);
                void *dy = take_random(t, rows * dy_row);
                for (ptrdiff_t j = 0; j < rows * dy_row; j++)
                    if (j % dy_row >= cols) /* does not count */
                        put(t, dy, j, INFINITY);
                take_runs(t, rows, cols, pitch, taps, src);
                const fc_dot dot = {.rows = rows,
                                    .cols = cols,
                                    .taps = taps,
                                    .src = src,
                                    .src_row = pitch,
                                    .dy = dy,
                                    .dy_row = dy_row,
                                    .lanes = take_random(t, taps * t->lanes)};
                check_dots(t, &dot);
                release();
            }
}

static void expect_pixel(const fc_kernels *t, ptrdiff_t n, ptrdiff_t taps, int relu) {
    const ptrdiff_t row = fc_round_up(n, t->lanes) + below(2) * t->lanes;
    const void *src[MOST_TAPS];
    for (ptrdiff_t tap = 0; tap < taps; tap++)
        src[tap] = take_random(t, n);
    void *weights = take_random(t, taps * row), *dst = take_elements(t, n);
    void *bias = take_random(t, fc_round_up(n, t->lanes));
    t->weigh_channels(n, taps, src, weights, row, bias, relu, dst);
    for (ptrdiff_t c = 0; c < n; c++) {
        double sum = get(t, bias, c), magnitude = fabs(sum);
        for (ptrdiff_t tap = 0; tap < taps; tap++) {
            const double product = get(t, weights, tap * row + c) * get(t, src[tap], c);
            sum += product;
            magnitude += fabs(product);
        }
        if (relu && sum < 0)
            sum = 0;
        expect(fabs(get(t, dst, c) - sum) <= epsilon(t) * (double)(taps + 2) * magnitude,
               "weigh_channels n %td taps %td relu %d: %g instead of %g at %td", n, taps, relu,
               get(t, dst, c), sum, c);
    }
    release();
}

void check_weigh_channels(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = cols_at(t, i)) > 0; i++)
        for (ptrdiff_t taps = 0; taps <= 9; taps++)
            for (int relu = 0; relu < 2; relu++)
                expect_pixel(t, n, taps, relu);
}

void check_dot_channels(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = cols_at(t, i)) > 0; i++)
        for (ptrdiff_t taps = 0; taps <= 9; taps++) {
            const ptrdiff_t row = n + below(3);
            const void *src[MOST_TAPS];
            void *dy = take_random(t, n), *sums = take_random(t, taps * row);
            void *before = take_elements(t, taps * row);
            for (ptrdiff_t tap = 0; tap < taps; tap++)
                src[tap] = take_random(t, n);
            memcpy(before, sums, (size_t)(taps * row) * t->itemsize);
            t->dot_channels(n, taps, src, dy, sums, row);
            for (ptrdiff_t j = 0; j < taps * row; j++) {
                const ptrdiff_t c = j % row;
                const double product = c < n ? get(t, src[j / row], c) * get(t, dy, c) : 0;
                const double sum = get(t, before, j) + product;
                expect(fabs(get(t, sums, j) - sum) <=
                           2 * epsilon(t) * (fabs(product) + fabs(get(t, before, j))),
                       "dot_channels n %td: %g instead of %g at %td", n, get(t, sums, j), sum, j);
            }
            release();
        }
}
