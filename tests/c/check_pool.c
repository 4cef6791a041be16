/* SPDX-License-Identifier: BSD-3-Clause
 * The kernels of pooling that work on planes, each against a plain loop. */
#include "check.h"

#include <string.h>

/* ---- a plane to a lane --------------------------------------------------------------------- */

enum { MOST_ROWS = 9, MOST_WINDOWS = 6, MOST_KERNEL = 4 };

/* Windows over rows of pixels, some of whose cells are beyond the ends of the row. */
typedef struct {
    fc_pixels p;
    const void *row[MOST_ROWS];
    int32_t id[MOST_ROWS], first[MOST_WINDOWS], last[MOST_WINDOWS];
} pixel_rows;

static void take_pixels(const fc_kernels *t, pixel_rows *r, ptrdiff_t rows, ptrdiff_t kernel,
                        ptrdiff_t dilation) {
    const ptrdiff_t out = 1 + below(MOST_WINDOWS), stride = 1 + below(3), pad = below(kernel);
    const ptrdiff_t width = FC_MAX(1, (out - 1) * stride + (kernel - 1) * dilation + 1 - 2 * pad);
    const double values[] = {-INFINITY, 0.0, -0.0, 0.5, INFINITY, NAN};
    r->p = (fc_pixels){.out = out,
                       .rows = rows,
                       .row = r->row,
                       .start = -pad,
                       .stride = stride,
                       .dilation = dilation,
                       .first = r->first,
                       .last = r->last,
                       .id = r->id,
                       .id_stride = below(4),
                       .id_dilation = 1 + below(3),
                       .dst = take_elements(t, out * t->lanes),
                       .arg = take((size_t)(out * t->lanes) * t->itemsize)};
    for (ptrdiff_t i = 0; i < out; i++) {
        ptrdiff_t first, last;
        fc_valid_range(i * stride - pad, dilation, kernel, width, &first, &last);
        r->first[i] = (int32_t)first;
        r->last[i] = (int32_t)last;
    }
    for (ptrdiff_t row = 0; row < rows; row++) {
        r->row[row] = take_random(t, width * t->lanes);
        r->id[row] = (int32_t)(1000 * row);
        for (ptrdiff_t i = 0; i < width * t->lanes; i++)
            if (below(2))
                put(t, (void *)r->row[row], i, i % 5 == 0 ? -INFINITY : values[below(6)]);
    }
}

static int64_t integer_at(const fc_kernels *t, const void *p, ptrdiff_t i) {
    return t->itemsize == 4 ? ((const int32_t *)p)[i] : ((const int64_t *)p)[i];
}

static void expect_maxima(const fc_kernels *t, const fc_pixels *p) {
    for (ptrdiff_t i = 0; i < p->out; i++)
        for (ptrdiff_t lane = 0; lane < t->lanes && p->first[i] < p->last[i]; lane++) {
            double best = 0;
            int64_t id = -1;
            for (ptrdiff_t r = 0; r < p->rows; r++)
                for (ptrdiff_t k = p->first[i]; k < p->last[i]; k++) {
                    const ptrdiff_t column = p->start + i * p->stride + k * p->dilation;
                    const double v = get(t, p->row[r], column * t->lanes + lane);
                    if (id >= 0 && !(v > best) && v == v)
                        continue;
                    best = v;
                    id = p->id[r] + i * p->id_stride + k * p->id_dilation;
                }
            const ptrdiff_t at = i * t->lanes + lane;
            expect(same(get(t, p->dst, at), best), "max_pixels of %td rows: %g instead of %g",
                   p->rows, get(t, p->dst, at), best);
            expect(!p->arg || integer_at(t, p->arg, at) == id,
                   "max_pixels of %td rows: not at %lld", p->rows, (long long)id);
        }
}

void check_max_pixels(const fc_kernels *t) {
    for (ptrdiff_t rows = 1; rows <= MOST_ROWS; rows++)
        for (ptrdiff_t kernel = 1; kernel <= MOST_KERNEL; kernel++)
            for (ptrdiff_t dilation = 1; dilation <= 2; dilation++)
                for (int with_arg = 0; with_arg < 2; with_arg++) {
                    pixel_rows r;
                    take_pixels(t, &r, rows, kernel, dilation);
                    for (ptrdiff_t i = 0; i < r.p.out; i++) /* no window is empty */
                        if (r.first[i] >= r.last[i])
                            r.p.out = i;
                    if (!with_arg)
                        r.p.arg = NULL;
                    t->max_pixels(&r.p);
                    expect_maxima(t, &r.p);
                    release();
                }
}

void check_sum_pixels(const fc_kernels *t) {
    for (ptrdiff_t kernel = 1; kernel <= MOST_KERNEL; kernel++)
        for (ptrdiff_t dilation = 1; dilation <= 2; dilation++) {
            pixel_rows r;
            take_pixels(t, &r, 1, kernel, dilation);
            t->sum_pixels(&r.p);
            for (ptrdiff_t at = 0; at < r.p.out * t->lanes; at++) {
                const ptrdiff_t i = at / t->lanes, lane = at % t->lanes;
                double sum = 0;
                for (ptrdiff_t k = r.first[i]; k < r.last[i]; k++) {
                    const ptrdiff_t column = r.p.start + i * r.p.stride + k * dilation;
                    sum += get(t, r.row[0], column * t->lanes + lane);
                }
                const double got = get(t, r.p.dst, at);
                const double bound = epsilon(t) * (double)(kernel * kernel);
                expect(same(got, sum) || fabs(got - sum) <= bound, "sum_pixels: %g not %g", got,
                       sum);
            }
            release();
        }
}

void check_scale_pixels(const fc_kernels *t) {
    for (ptrdiff_t n = 0; n < 5; n++) {
        void *pixels = take_random(t, n * t->lanes), *before = take_elements(t, n * t->lanes);
        double *scale = take((size_t)n * sizeof *scale);
        if (n)
            memcpy(before, pixels, (size_t)(n * t->lanes) * t->itemsize);
        for (ptrdiff_t i = 0; i < n; i++)
            scale[i] = uniform();
        t->scale_pixels(n, 0.3, scale, pixels);
        for (ptrdiff_t i = 0; i < n * t->lanes; i++) {
            const double exact = get(t, before, i) * (0.3 * scale[i / t->lanes]);
            put(t, before, i, exact);
            expect(get(t, pixels, i) == get(t, before, i), "scale_pixels: %g not %g",
                   get(t, pixels, i), exact);
        }
        release();
    }
}

/* ---- indices ------------------------------------------------------------------------------- */

static size_t index_bytes(fc_index_kind kind) {
    return kind == FC_INDEX_U8 ? 1 : kind == FC_INDEX_I32 ? sizeof(int32_t) : sizeof(int64_t);
}

static int64_t index_at(fc_index_kind kind, const void *index, ptrdiff_t i) {
    return kind == FC_INDEX_U8    ? ((const uint8_t *)index)[i]
           : kind == FC_INDEX_I32 ? ((const int32_t *)index)[i]
                                  : ((const int64_t *)index)[i];
}

static void check_put(const fc_kernels *t, fc_index_kind kind, ptrdiff_t n, ptrdiff_t planes,
                      ptrdiff_t plane_step) {
    const size_t count = (size_t)((planes - 1) * plane_step + n);
    void *arg = take((size_t)(n * t->lanes) * t->itemsize),
         *index = take(count * index_bytes(kind));
    void *before = take(count * index_bytes(kind));
    memcpy(before, index, count * index_bytes(kind));
    for (ptrdiff_t i = 0; i < n * t->lanes; i++)
        if (t->itemsize == 4)
            ((int32_t *)arg)[i] = (int32_t)below(200);
        else
            ((int64_t *)arg)[i] = below(200);
    t->put_pixel_ids(kind, n, planes, arg, index, plane_step);
    for (ptrdiff_t j = 0; j < (ptrdiff_t)count; j++) {
        const ptrdiff_t plane = j / plane_step, i = j % plane_step;
        const int64_t expected = i < n && plane < planes ? integer_at(t, arg, i * t->lanes + plane)
                                                         : index_at(kind, before, j);
        expect(index_at(kind, index, j) == expected, "put_pixel_ids of kind %d: %td x %td", kind,
               planes, n);
    }
    release();
}

void check_put_pixel_ids(const fc_kernels *t) {
    for (fc_index_kind kind = FC_INDEX_U8; kind <= FC_INDEX_PLANE; kind++)
        for (ptrdiff_t planes = 1; planes <= t->lanes; planes++)
            for (ptrdiff_t n = 1; n <= 2 * t->lanes + 1; n += 1 + n / 3) {
                check_put(t, kind, n, planes, n);
                check_put(t, kind, n, planes, n + 3);
            }
}

void check_store_index(const fc_kernels *t) {
    for (fc_index_kind kind = FC_INDEX_U8; kind <= FC_INDEX_PLANE; kind++)
        for (ptrdiff_t n = 1; n < 3 * t->lanes + 4; n++)
            for (ptrdiff_t stride = 1; stride <= 2; stride++) {
                const int64_t origin = kind == FC_INDEX_PLANE ? 1 + ((int64_t)1 << 40) : 0;
                int32_t *arg = take((size_t)n * sizeof *arg);
                void *index = take((size_t)((n - 1) * stride + 1) * index_bytes(kind));
                for (ptrdiff_t i = 0; i < n; i++)
                    arg[i] = (int32_t)below(200);
                t->store_index(kind, n, arg, origin, 3, index, stride);
                for (ptrdiff_t i = 0; i < n; i++)
                    expect(index_at(kind, index, i * stride) ==
                               arg[i] + (kind == FC_INDEX_PLANE ? origin + 3 * i : 0),
                           "store_index of kind %d: n %td stride %td", kind, n, stride);
                release();
            }
}

/* ---- scatter ------------------------------------------------------------------------------- */

static int equal_bytes(const fc_kernels *t, const void *a, const void *b, ptrdiff_t count) {
    return memcmp(a, b, (size_t)count * t->itemsize) == 0;
}

/* dx and a copy of it. */
static void take_twice(const fc_kernels *t, ptrdiff_t count, void **dx, void **copy) {
    *dx = take_random(t, count);
    *copy = take_elements(t, count);
    memcpy(*copy, *dx, (size_t)count * t->itemsize);
}

static void check_scattered(const fc_kernels *t, fc_scatter s) {
    const ptrdiff_t plane = s.plane;
    const int64_t wrong[] = {-1, plane, INT64_MIN, INT64_MAX, plane + ((int64_t)1 << 61)};
    s.dy_row = s.n * s.dy_step + 1;
    s.index_row = s.n * s.index_step + 2;
    s.dx_row = plane * s.dx_step + 1;
    void *expected;
    int64_t *index = take((size_t)(s.rows * s.index_row) * sizeof *index);
    s.dy = take_random(t, s.rows * s.dy_row);
    s.index = index;
    take_twice(t, s.rows * s.dx_row, &s.dx, &expected);
    ptrdiff_t bad = 0;
    for (ptrdiff_t i = 0; i < s.rows * s.n; i++) {
        const ptrdiff_t row = i / s.n, column = i % s.n;
        const int is_wrong = below(4) == 0;
        const int64_t to = is_wrong ? wrong[below(5)] : below(plane);
        index[row * s.index_row + column * s.index_step] = to;
        bad += is_wrong;
        const ptrdiff_t target = row * s.dx_row + (ptrdiff_t)(is_wrong ? 0 : to) * s.dx_step;
        if (!is_wrong)
            put(t, expected, target,
                get(t, expected, target) + get(t, s.dy, row * s.dy_row + column * s.dy_step));
    }
    const ptrdiff_t counted = t->scatter(&s);
    expect(counted == bad, "scatter counted %td wrong indices of %td", counted, bad);
    expect(equal_bytes(t, s.dx, expected, s.rows * s.dx_row), "scatter n %td plane %td", s.n,
           plane);
    release();
}

void check_scatter(const fc_kernels *t) {
    const ptrdiff_t steps[][3] = {{1, 1, 1}, {2, 1, 3}, {1, 3, 1}};
    for (ptrdiff_t rows = 1; rows <= 9; rows++)
        for (ptrdiff_t n = 1; n < 70; n += 1 + n / 2)
            for (ptrdiff_t plane = 1; plane < 40; plane += 13)
                for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
                    check_scattered(t, (fc_scatter){.rows = rows,
                                                    .n = n,
                                                    .plane = plane,
                                                    .dy_step = steps[i][0],
                                                    .index_step = steps[i][1],
                                                    .dx_step = steps[i][2]});
}

enum { CELLS = 256, SOME_CELLS = 6 };

/* Cells inside and outside the row, nowhere, and numbers that are no cells. */
static void check_cells(const fc_kernels *t, fc_cells s) {
    const ptrdiff_t plane = s.width + 7;
    const int edges = s.column != NULL;
    ptrdiff_t at_cell[CELLS];
    int32_t column[CELLS];
    void *expected;
    for (ptrdiff_t k = 0; k < CELLS; k++) {
        column[k] = (int32_t)(k < SOME_CELLS ? k - 2 : 0);
        at_cell[k] = k < SOME_CELLS && k != 3 ? column[k] + 7 : FC_NOWHERE;
    }
    s.cells = SOME_CELLS;
    s.at = at_cell;
    if (s.column) /* else the row is as wide as it takes */
        s.column = column;
    s.dy_plane = s.index_plane = s.n;
    s.dx_plane = plane;
    s.dy = take_random(t, s.planes * s.n);
    char *index = take((size_t)(s.planes * s.n) * index_bytes(s.kind));
    s.index = index;
    take_twice(t, s.planes * plane, &s.dx, &expected);
    for (ptrdiff_t i = 0; i < s.planes * s.n; i++) {
        const int32_t cell = (int32_t)(below(5)                ? below(SOME_CELLS)
                                       : s.kind == FC_INDEX_U8 ? 255
                                                               : -1);
        if (s.kind == FC_INDEX_U8)
            ((uint8_t *)index)[i] = (uint8_t)cell;
        else
            ((int32_t *)index)[i] = cell;
        const ptrdiff_t to = cell - 2 + i % s.n * s.stride;
        if (cell < 0 || cell >= SOME_CELLS || cell == 3 || (edges && (to < 0 || to >= s.width)))
            continue;
        const ptrdiff_t target = i / s.n * plane + to + 7;
        put(t, expected, target, get(t, expected, target) + get(t, s.dy, i));
    }
    t->scatter_cells(&s);
    expect(equal_bytes(t, s.dx, expected, s.planes * plane), "scatter_cells of kind %d: %td x %td",
           s.kind, s.planes, s.n);
    release();
}

void check_scatter_cells(const fc_kernels *t) {
    static const int32_t some_column;
    for (fc_index_kind kind = FC_INDEX_U8; kind <= FC_INDEX_I32; kind++)
        for (ptrdiff_t planes = 1; planes <= 9; planes++)
            for (ptrdiff_t n = 1; n < 40; n += 1 + n / 2)
                for (ptrdiff_t stride = 1; stride <= 3; stride++)
                    for (int edges = 0; edges < 2; edges++)
                        check_cells(t, (fc_cells){.planes = planes,
                                                  .n = n,
                                                  .kind = kind,
                                                  .stride = stride,
                                                  .column = edges ? &some_column : NULL,
                                                  .width = edges ? FC_MAX(1, n * stride - 1)
                                                                 : n * stride + SOME_CELLS});
}

static void check_cover(const fc_kernels *t, fc_cover s) {
    const ptrdiff_t height = s.rows * s.kernel[0], width = s.n * s.kernel[1];
    char *index = take((size_t)(s.rows * s.index_row) * index_bytes(s.kind));
    s.dy = take_random(t, s.rows * s.dy_row);
    s.index = index;
    void *expected;
    take_twice(t, height * s.dx_row, &s.dx, &expected);
    for (ptrdiff_t i = 0; i < s.rows * s.index_row; i++) {
        const int32_t cell = (int32_t)below(s.cell + s.kernel[0] * s.kernel[1] + 2);
        if (s.kind == FC_INDEX_U8)
            ((uint8_t *)index)[i] = (uint8_t)cell;
        else
            ((int32_t *)index)[i] = cell;
    }
    for (ptrdiff_t ih = 0; ih < height; ih++)
        for (ptrdiff_t iw = 0; iw < width; iw++) {
            const ptrdiff_t oh = ih / s.kernel[0], ow = iw / s.kernel[1];
            const ptrdiff_t here = s.cell + ih % s.kernel[0] * s.kernel[1] + iw % s.kernel[1];
            const int64_t from = index_at(s.kind, index, oh * s.index_row + ow);
            put(t, expected, ih * s.dx_row + iw,
                from == here ? get(t, s.dy, oh * s.dy_row + ow) : 0);
        }
    t->cover_cells(&s);
    expect(equal_bytes(t, s.dx, expected, height * s.dx_row), "cover_cells of kind %d: %td x %td",
           s.kind, s.rows, s.n);
    release();
}

void check_cover_cells(const fc_kernels *t) {
    for (fc_index_kind kind = FC_INDEX_U8; kind <= FC_INDEX_I32; kind++)
        for (ptrdiff_t n = 1; n < 4 * t->lanes; n += 1 + n / 3)
            for (ptrdiff_t kernel = 1; kernel <= 3; kernel++)
                for (ptrdiff_t gap = 0; gap < 2; gap++)
                    check_cover(t, (fc_cover){.rows = 1 + below(5),
                                              .n = n,
                                              .kernel = {1 + below(3), kernel},
                                              .kind = kind,
                                              .cell = (int32_t)below(5),
                                              .dy_row = n + gap,
                                              .index_row = n + 2 * gap,
                                              .dx_row = n * kernel + gap});
}

/* ---- windows two columns wide --------------------------------------------------------------- */

static void check_pairs(const fc_kernels *t, fc_pairs p) {
    const double values[] = {-INFINITY, 0.0, -0.0, 0.5, INFINITY, NAN};
    const ptrdiff_t n = (p.rows - 1) * p.x_row + (p.height - 1) * p.x_cell + 2 * p.n;
    void *x = take_random(t, n);
    for (ptrdiff_t i = 0; i < n; i++)
        if (below(2))
            put(t, x, i, i % 5 == 0 ? -INFINITY : values[below(6)]);
    p.x = x;
    p.y = take_elements(t, p.rows * p.n);
    if (p.arg)
        p.arg = take((size_t)(p.rows * p.n) * sizeof *p.arg);
    t->max_pairs(&p);
    for (ptrdiff_t i = 0; i < p.rows * p.n; i++) {
        double best = 0;
        int32_t id = -1;
        for (ptrdiff_t cell = 0; cell < 2 * p.height; cell++) {
            const ptrdiff_t row = i / p.n * p.x_row + cell / 2 * p.x_cell;
            const double v = get(t, x, row + i % p.n * 2 + cell % 2);
            if (id < 0 || v > best || v != v) {
                best = v;
                id = (int32_t)(cell / 2 * p.id_row + cell % 2);
            }
        }
        expect(same(get(t, p.y, i), best), "max_pairs %td of %td: %g instead of %g", i, p.n,
               get(t, p.y, i), best);
        expect(!p.arg || p.arg[i] == id, "max_pairs %td of %td: not at %d", i, p.n, id);
    }
    release();
}

void check_max_pairs(const fc_kernels *t) {
    int32_t some;
    const ptrdiff_t half = FC_MAX(1, t->lanes / 2);
    for (ptrdiff_t n = half; n < 4 * t->lanes; n = n < t->lanes ? t->lanes : n + 1 + n / 3)
        for (ptrdiff_t rows = 1; rows <= 4; rows++)
            for (ptrdiff_t height = 1; height <= 3; height++)
                for (int with_arg = 0; with_arg < 2; with_arg++)
                    check_pairs(t, (fc_pairs){.rows = rows,
                                              .n = n,
                                              .height = height,
                                              .x_row = below(3) * (2 * n + below(3)),
                                              .x_cell = 2 * n + below(3),
                                              .id_row = 2 + (int32_t)below(40),
                                              .arg = with_arg ? &some : NULL});
}
