/* SPDX-License-Identifier: BSD-3-Clause
 * Winograd's transforms against their matrices, as they stand in kernels/winograd_axis.inc, and the three
 * together against the plain sum. */
#include <string.h>

#include "check.h"

enum { EDGE = 6, POSITIONS = 36, MOST = 5 }; /* of the larger tiles; the smaller ones have edge 4 */

static const double A = 0.70710678118654752440, B = 1.41421356237309504880;

typedef double matrix[EDGE][EDGE]; /* rows and columns that are not used are 0 */

static void make_bt(ptrdiff_t edge, matrix m) {
    const matrix small = {{-1, 0, 1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
    const matrix bt = {{1, 0, -2.5, 0, 1, 0},  {0, -B, -2, A, 1, 0},   {0, B, -2, -A, 1, 0},
                       {0, -A, -0.5, B, 1, 0}, {0, A, -0.5, -B, 1, 0}, {0, 1, 0, -2.5, 0, 1}};
    memcpy(m, edge == EDGE ? bt : small, sizeof bt);
}

/* The finite ones, edge - 1 of them. */
static const double *points_of(ptrdiff_t edge) {
    static const double points[] = {0, A, -A, B, -B}, small[] = {0, 1, -1};
    return edge == EDGE ? points : small;
}

static void make_g(ptrdiff_t edge, ptrdiff_t r, matrix m) {
    const double *points = points_of(edge);
    memset(m, 0, sizeof(matrix));
    for (ptrdiff_t i = 0; i < edge - 1; i++)
        for (ptrdiff_t k = 0; k < r; k++)
            m[i][k] = pow(points[i], (double)k);
    m[edge - 1][r - 1] = 1;
}

/* Powers of the points, m of them, over the product of the distances to the other points. */
static void make_at(ptrdiff_t edge, ptrdiff_t m, matrix at) {
    const double *points = points_of(edge);
    memset(at, 0, sizeof(matrix));
    for (ptrdiff_t i = 0; i < edge - 1; i++) {
        double scale = 1;
        for (ptrdiff_t j = 0; j < edge - 1; j++)
            if (j != i)
                scale *= points[i] - points[j];
        for (ptrdiff_t k = 0; k < m; k++)
            at[k][i] = pow(points[i], (double)k) / scale;
    }
    at[m - 1][edge - 1] = 1;
}

/* out = t * in * t', with the sum of absolute values that bounds the rounding error. */
static void transform(const matrix t, const matrix in, matrix out, double *magnitude) {
    *magnitude = 0;
    for (int i = 0; i < EDGE; i++)
        for (int j = 0; j < EDGE; j++) {
            double sum = 0, absolute = 0;
            for (int k = 0; k < EDGE; k++)
                for (int l = 0; l < EDGE; l++) {
                    sum += t[i][k] * in[k][l] * t[j][l];
                    absolute += fabs(t[i][k] * in[k][l] * t[j][l]);
                }
            out[i][j] = sum;
            *magnitude = fmax(*magnitude, absolute);
        }
}

static void compare(const fc_kernels *t, double actual, double expected, double magnitude,
                    const char *what, ptrdiff_t variant, ptrdiff_t i) {
    /* a dozen roundings for each axis */
    expect(fabs(actual - expected) <= 24 * epsilon(t) * magnitude,
           "%s %td: %g instead of %g at %td", what, variant, actual, expected, i);
}

/* The positions of one transformed tile, `step` elements apart. */
static void compare_positions(const fc_kernels *t, ptrdiff_t edge, const matrix transformation,
                              const matrix tile, void *actual, ptrdiff_t step, const char *what,
                              ptrdiff_t variant) {
    matrix expected;
    double magnitude;
    transform(transformation, tile, expected, &magnitude);
    for (ptrdiff_t p = 0; p < edge * edge; p++)
        compare(t, get(t, actual, p * step), expected[p / edge][p % edge], magnitude, what, variant,
                p);
}

static void check_input(const fc_kernels *t, ptrdiff_t edge, ptrdiff_t m, ptrdiff_t rows,
                        ptrdiff_t cols, ptrdiff_t vectors) {
    const ptrdiff_t channels = vectors * t->lanes, src_col = channels + t->lanes;
    const ptrdiff_t src_row = (m * cols + edge - m) * src_col;
    const ptrdiff_t dst_tile = channels + 1, step = rows * cols * dst_tile + 1;
    void *src = take_random(t, (m * rows + edge - m) * src_row);
    void *dst = take_elements(t, edge * edge * step);
    const fc_wino_input input = {.edge = edge,
                                 .m = m,
                                 .rows = rows,
                                 .cols = cols,
                                 .vectors = vectors,
                                 .src = src,
                                 .src_row = src_row,
                                 .src_col = src_col,
                                 .dst = dst,
                                 .dst_tile = dst_tile,
                                 .dst_step = step};
    t->wino_input(&input);
    matrix bt, d;
    make_bt(edge, bt);
    memset(d, 0, sizeof d);
    for (ptrdiff_t i = 0; i < rows * cols * dst_tile; i++) {
        const ptrdiff_t tile = i / dst_tile, channel = i % dst_tile;
        if (channel >= channels) {
            const double untouched = get(t, dst, i);
            expect(untouched != untouched, "wino_input wrote between two tiles");
            continue;
        }
        for (ptrdiff_t k = 0; k < edge * edge; k++)
            d[k / edge][k % edge] = get(t, src,
                                        (tile / cols * m + k / edge) * src_row +
                                            (tile % cols * m + k % edge) * src_col + channel);
        compare_positions(t, edge, (const double (*)[EDGE])bt, (const double (*)[EDGE])d,
                          at(t, dst, i), step, "wino_input", m);
    }
    release();
}

void check_wino_input(const fc_kernels *t) {
    for (ptrdiff_t vectors = 1; vectors <= 2; vectors++)
        for (ptrdiff_t cols = 1; cols <= 3; cols++)
            for (ptrdiff_t rows = 1; rows <= 2; rows++) {
                check_input(t, EDGE, 4, rows, cols, vectors);
                check_input(t, EDGE, 2, rows, cols, vectors);
                check_input(t, 4, 2, rows, cols, vectors);
            }
}

/* The positions of `rows` rows, from `row` on. */
static void check_weights(const fc_kernels *t, ptrdiff_t edge, ptrdiff_t r, ptrdiff_t row,
                          ptrdiff_t rows, ptrdiff_t filters) {
    const ptrdiff_t channels = 3, step = channels * filters + 1;
    const ptrdiff_t count = channels * r * r * filters;
    void *src = take_random(t, count), *dst = take_elements(t, rows * edge * step);
    const fc_wino_weights weights = {.edge = edge,
                                     .r = r,
                                     .row = row,
                                     .rows = rows,
                                     .channels = channels,
                                     .filters = filters,
                                     .src = src,
                                     .dst = dst,
                                     .dst_step = step};
    t->wino_weights(&weights);
    matrix g, taps, expected;
    make_g(edge, r, g);
    for (ptrdiff_t i = 0; i < channels * filters; i++) {
        double magnitude;
        memset(taps, 0, sizeof taps);
        for (ptrdiff_t tap = 0; tap < r * r; tap++)
            taps[tap / r][tap % r] =
                get(t, src, (i / filters * r * r + tap) * filters + i % filters);
        transform((const double (*)[EDGE])g, (const double (*)[EDGE])taps, expected, &magnitude);
        for (ptrdiff_t p = 0; p < rows * edge; p++)
            compare(t, get(t, dst, p * step + i), expected[row + p / edge][p % edge], magnitude,
                    "wino_weights", r, p);
    }
    release();
}

static void check_all_weights(const fc_kernels *t, ptrdiff_t edge, ptrdiff_t r) {
    for (ptrdiff_t vectors = 1; vectors <= 3; vectors++) {
        check_weights(t, edge, r, 0, edge, vectors * t->lanes);
        for (ptrdiff_t row = 0; row < edge; row++)
            check_weights(t, edge, r, row, 1, vectors * t->lanes);
    }
}

void check_wino_weights(const fc_kernels *t) {
    check_all_weights(t, EDGE, 3);
    check_all_weights(t, EDGE, 5);
    check_all_weights(t, 4, 3);
}

static void check_output(const fc_kernels *t, ptrdiff_t edge, ptrdiff_t m, ptrdiff_t rows,
                         ptrdiff_t cols, ptrdiff_t vectors, int relu) {
    const ptrdiff_t channels = vectors * t->lanes, step = channels + 1;
    const ptrdiff_t dst_col = channels + 1, dst_row = cols * dst_col + 1;
    void *src = take_random(t, (edge * edge - 1) * step + channels),
         *bias = take_random(t, channels);
    fc_wino_output output = {.edge = edge,
                             .m = m,
                             .rows = rows,
                             .cols = cols,
                             .vectors = vectors,
                             .src = src,
                             .src_step = step,
                             .bias = bias,
                             .relu = relu,
                             .dst_row = dst_row,
                             .dst_col = dst_col};
    output.dst = take_elements(t, rows * dst_row);
    t->wino_output(&output);
    matrix at, products, expected;
    make_at(edge, m, at);
    memset(products, 0, sizeof products);
    for (ptrdiff_t i = 0; i < rows * dst_row; i++) {
        const ptrdiff_t row = i / dst_row, col = i % dst_row / dst_col;
        const ptrdiff_t channel = i % dst_row % dst_col;
        const double actual = get(t, output.dst, i);
        double magnitude;
        if (col >= cols || channel >= channels) {
            expect(actual != actual, "wino_output wrote beside its outputs");
            continue;
        }
        for (ptrdiff_t p = 0; p < edge * edge; p++)
            products[p / edge][p % edge] = get(t, src, p * step + channel);
        transform((const double (*)[EDGE])at, (const double (*)[EDGE])products, expected,
                  &magnitude);
        const double offset = get(t, bias, channel), sum = expected[row][col] + offset;
        compare(t, actual, relu && sum < 0 ? 0 : sum, magnitude + fabs(offset), "wino_output", m,
                i);
    }
    release();
}

static void check_outputs(const fc_kernels *t, ptrdiff_t edge, ptrdiff_t m) {
    for (ptrdiff_t vectors = 1; vectors <= 3; vectors++)
        for (ptrdiff_t rows = 1; rows <= m; rows++)
            for (ptrdiff_t cols = 1; cols <= m; cols++)
                check_output(t, edge, m, rows, cols, vectors, (int)(cols % 2));
}

void check_wino_output(const fc_kernels *t) {
    check_outputs(t, EDGE, 4);
    check_outputs(t, EDGE, 2);
    check_outputs(t, 4, 2);
}

/* ---- weight gradient: channels along the vectors -------------------------------------------- */

static void check_patch(const fc_kernels *t, ptrdiff_t edge, ptrdiff_t m, ptrdiff_t rows,
                        ptrdiff_t cols, ptrdiff_t vectors) {
    const ptrdiff_t pitch = 2 * t->lanes, channels = vectors * t->lanes;
    const ptrdiff_t src_row = (m * cols + edge - m) * pitch;
    const ptrdiff_t step = rows * cols * pitch + 1;
    void *src = take_random(t, (m * rows + edge - m) * src_row);
    void *dst = take_elements(t, POSITIONS * step);
    const fc_wino_patch patch = {.m = m,
                                 .rows = rows,
                                 .cols = cols,
                                 .vectors = vectors,
                                 .pitch = pitch,
                                 .src = src,
                                 .src_row = src_row,
                                 .dst = dst,
                                 .dst_step = step};
    matrix transformation, tile;
    if (edge == EDGE)
        make_bt(EDGE, transformation);
    else
        make_g(EDGE, edge, transformation);
    (edge == EDGE ? t->wino_grad_image : t->wino_grad_dy)(&patch);
    for (ptrdiff_t i = 0; i < rows * cols * pitch; i++) {
        const ptrdiff_t channel = i % pitch, col = i / pitch % cols, row = i / pitch / cols;
        if (channel >= channels) {
            const double untouched = get(t, dst, i);
            expect(untouched != untouched, "wino_grad wrote channels that were not asked for");
            continue;
        }
        memset(tile, 0, sizeof tile);
        for (ptrdiff_t k = 0; k < edge * edge; k++)
            tile[k / edge][k % edge] = get(
                t, src, (m * row + k / edge) * src_row + (m * col + k % edge) * pitch + channel);
        compare_positions(t, EDGE, (const double (*)[EDGE])transformation,
                          (const double (*)[EDGE])tile, at(t, dst, i), step, "wino_grad", edge);
    }
    release();
}

static void check_patches(const fc_kernels *t, ptrdiff_t edge, ptrdiff_t m) {
    for (ptrdiff_t vectors = 1; vectors <= 2; vectors++)
        for (ptrdiff_t cols = 1; cols <= 3; cols++)
            for (ptrdiff_t rows = 1; rows <= 2; rows++)
                check_patch(t, edge, m, rows, cols, vectors);
}

void check_wino_grad_image(const fc_kernels *t) {
    check_patches(t, EDGE, 4);
    check_patches(t, EDGE, 2);
}

void check_wino_grad_dy(const fc_kernels *t) {
    check_patches(t, 4, 4);
    check_patches(t, 2, 2);
}

static void check_taps(const fc_kernels *t, ptrdiff_t r, ptrdiff_t channels, int add) {
    enum { MOST_TAPS = MOST * MOST };
    const ptrdiff_t whole = (channels + t->lanes - 1) / t->lanes * t->lanes;
    const ptrdiff_t src_step = whole + 1, dst_step = whole;
    void *src = take_random(t, POSITIONS * src_step), *dst = take_random(t, r * r * dst_step);
    double before[MOST_TAPS * 64];
    for (ptrdiff_t i = 0; i < r * r * dst_step; i++)
        before[i] = get(t, dst, i);
    const fc_wino_taps taps = {.r = r,
                               .channels = channels,
                               .src = src,
                               .src_step = src_step,
                               .dst = dst,
                               .dst_step = dst_step,
                               .add = add};
    matrix at, products, expected;
    make_at(EDGE, r, at);
    t->wino_grad_taps(&taps);
    for (ptrdiff_t c = 0; c < channels; c++) {
        double magnitude;
        for (ptrdiff_t p = 0; p < POSITIONS; p++)
            products[p / EDGE][p % EDGE] = get(t, src, p * src_step + c);
        transform((const double (*)[EDGE])at, (const double (*)[EDGE])products, expected,
                  &magnitude);
        for (ptrdiff_t k = 0; k < r * r; k++) {
            const ptrdiff_t i = k * dst_step + c;
            const double sum = expected[k / r][k % r] + (add ? before[i] : 0);
            compare(t, get(t, dst, i), sum, magnitude + 1, "wino_grad_taps", add, i);
        }
    }
    release();
}

void check_wino_grad_taps(const fc_kernels *t) {
    for (ptrdiff_t r = 3; r <= 5; r += 2)
        for (ptrdiff_t channels = 1; channels <= 2 * t->lanes + 1; channels++)
            for (int add = 0; add < 2; add++)
                check_taps(t, r, channels, add);
}
