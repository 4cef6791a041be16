/* SPDX-License-Identifier: BSD-3-Clause
 * The kernels of batch normalization and of sums, each against a plain loop. */
#include "check.h"

/* Lengths around the unrolled loops, and beyond the longest sum in lanes. */
static ptrdiff_t length_at(const fc_kernels *t, int i) {
    const ptrdiff_t L = t->lanes;
    const ptrdiff_t lengths[] = {0, 1, L - 1, L, L + 1, 4 * L, 4 * L + 3, 9 * L - 1, 128 * L + 5};
    return i < (int)(sizeof lengths / sizeof *lengths) ? lengths[i] : -1;
}

void check_add(const fc_kernels *t) {
    ptrdiff_t n;
    for (int i = 0; (n = length_at(t, i)) >= 0; i++)
        for (int relu = 0; relu < 2; relu++)
            for (int in_place = 0; in_place < 2; in_place++) {
                void *a = take_random(t, n), *b = take_random(t, n), *sums = take_elements(t, n);
                void *dst = in_place ? a : take_elements(t, n);
                if (n > 1)
                    put(t, a, 1, NAN);
                for (ptrdiff_t j = 0; j < n; j++) {
                    const double sum = get(t, a, j) + get(t, b, j);
                    put(t, sums, j, relu && sum < 0 ? 0 : sum);
                }
                t->add(n, a, b, relu, dst);
                for (ptrdiff_t j = 0; j < n; j++)
                    expect(same(get(t, dst, j), get(t, sums, j)), "add n %td relu %d: %g at %td", n,
                           relu, get(t, dst, j), j);
                release();
            }
}

/* A block with parameters and gaps between its rows; dy is there where `with_dy` says so. */
static fc_norm_block take_block(const fc_kernels *t, ptrdiff_t rows, ptrdiff_t cols, int per_column,
                                int with_dy) {
    const ptrdiff_t row = cols + 3, count = rows && cols ? (rows - 1) * row + cols : 0;
    const ptrdiff_t channels = per_column ? cols : 1;
    return (fc_norm_block){.rows = rows,
                           .cols = cols,
                           .row = row,
                           .per_column = per_column,
                           .x = take_random(t, count),
                           .dy = with_dy ? take_random(t, count) : NULL,
                           .shift = take_random(t, channels),
                           .scale = take_random(t, channels),
                           .dy_scale = take_random(t, channels),
                           .bias = take_random(t, channels),
                           .y = take_elements(t, count),
                           .sums = take((size_t)channels * sizeof(double)),
                           .products = take((size_t)channels * sizeof(double))};
}

/* Rows and columns, channels first and last, without and with dy. */
static void each_block(const fc_kernels *t, void (*check)(const fc_kernels *, fc_norm_block *)) {
    const ptrdiff_t rows[] = {0, 1, 2, 33, 65};
    ptrdiff_t cols;
    for (int i = 0; (cols = length_at(t, i)) >= 0; i++)
        for (int r = 0; r < (cols > 9 * t->lanes ? 3 : 5); r++)
            for (int how = 0; how < 4; how++) {
                fc_norm_block block = take_block(t, rows[r], cols, how & 1, how & 2);
                check(t, &block);
                release();
            }
}

static void expect_sums(const fc_kernels *t, fc_norm_block *b) {
    const ptrdiff_t channels = b->per_column ? b->cols : 1;
    for (ptrdiff_t c = 0; c < channels; c++)
        b->sums[c] = b->products[c] = 1;
    t->norm_sums(b);
    for (ptrdiff_t c = 0; c < channels; c++) {
        double size = 1, terms = 1;
        long double sum = 1, product = 1; /* more exact than what is checked */
        for (ptrdiff_t r = 0; r < b->rows; r++)
            for (ptrdiff_t i = b->per_column ? c : 0; i < (b->per_column ? c + 1 : b->cols); i++) {
                const double z = get(t, b->x, r * b->row + i) - get(t, b->shift, c);
                const double g = b->dy ? get(t, b->dy, r * b->row + i) : z;
                sum += g;
                product += (long double)g * z;
                size += (1 + fabs(g)) * (1 + fabs(z));
                terms++;
            }
        const double limit = epsilon(t) * size * FC_MIN(terms + 4, 40);
        expect(fabsl(b->sums[c] - sum) <= limit && fabsl(b->products[c] - product) <= limit,
               "norm_sums %td x %td, per_column %d, dy %d: %g and %g instead of %g and %g", b->rows,
               b->cols, b->per_column, b->dy != NULL, b->sums[c], b->products[c], (double)sum,
               (double)product);
    }
}

void check_norm_sums(const fc_kernels *t) {
    each_block(t, expect_sums);
}

static void expect_applied(const fc_kernels *t, fc_norm_block *b) {
    for (b->relu = 0; b->relu < 2; b->relu++) {
        t->norm_apply(b);
        for (ptrdiff_t r = 0; r < b->rows; r++)
            for (ptrdiff_t i = 0; i < b->cols; i++) {
                const ptrdiff_t c = b->per_column ? i : 0, at = r * b->row + i;
                double y = get(t, b->scale, c) * (get(t, b->x, at) - get(t, b->shift, c)) +
                           get(t, b->bias, c);
                if (b->dy)
                    y += get(t, b->dy_scale, c) * get(t, b->dy, at);
                y = b->relu && y < 0 ? 0 : y;
                expect(fabs(get(t, b->y, at) - y) <= 8 * epsilon(t),
                       "norm_apply %td x %td, per_column %d, dy %d: %g instead of %g", b->rows,
                       b->cols, b->per_column, b->dy != NULL, get(t, b->y, at), y);
            }
    }
}

void check_norm_apply(const fc_kernels *t) {
    each_block(t, expect_applied);
}
