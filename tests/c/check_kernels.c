/* SPDX-License-Identifier: BSD-3-Clause
 * The kernels behind convolution, each against the plain loop that its comment gives. */
#include "check.h"

#include <string.h>

void check_kernels(const fc_kernels *t) {
#define FC_KERNEL(result, name, arguments)                                                         \
    expect(t->name != NULL, "%s is missing", #name);                                               \
    check_##name(t);
#include "kernels.inc"
#undef FC_KERNEL
    expect(t->mr >= 1 && t->mr <= FC_MAX_MR, "mr %td", t->mr);
    expect(t->nr == 2 * t->lanes && t->nr * (ptrdiff_t)t->itemsize <= FC_MAX_NR * 4, "nr %td",
           t->nr);
}

/* ---- gemm_tile ----------------------------------------------------------------------------- */

typedef struct {
    ptrdiff_t k_outer, k_inner, b_step, b_row, ldc_gap;
    int a_kind;
    const ptrdiff_t *b_at;
} tile_shape;

static int reads_c(const fc_tile *tile) {
    return tile->init == FC_INIT_LOAD || tile->init == FC_INIT_ADD;
}

/* c[m][n] before, its sum and the sum of the absolute values that bounds the rounding error. */
static void expected_tile(const fc_kernels *t, const fc_tile *tile, ptrdiff_t m, ptrdiff_t n,
                          const void *c_before, double *sum, double *magnitude) {
    *sum = tile->init == FC_INIT_ZERO   ? 0
           : reads_c(tile)              ? get(t, c_before, m * tile->ldc + n)
           : tile->init == FC_INIT_BIAS ? get(t, tile->bias, m)
                                        : get(t, tile->bias, n);
    *magnitude = fabs(*sum);
    for (ptrdiff_t row = 0; row < tile->k_outer; row++)
        for (ptrdiff_t k = 0; k < tile->k_inner; k++) {
            const ptrdiff_t step = (row * tile->k_inner + k) * tile->a_step + row * tile->a_skip;
            const ptrdiff_t place = tile->b_at ? tile->b_at[k] : k * tile->b_step;
            const double product = get(t, tile->a, step + m * tile->a_row) *
                                   get(t, tile->b, row * tile->b_row + place + n);
            *sum += product;
            *magnitude += fabs(product);
        }
    if (tile->relu && *sum < 0)
        *sum = 0;
}

static void check_tile(const fc_kernels *t, fc_tile tile, const tile_shape *shape) {
    const ptrdiff_t n = tile.vectors * t->lanes, terms = shape->k_outer * shape->k_inner;
    const ptrdiff_t ldc = n + shape->ldc_gap, c_count = (tile.m - 1) * ldc + n;
    ptrdiff_t reach = (shape->k_inner - 1) * shape->b_step;
    for (ptrdiff_t k = 0; shape->b_at && k < shape->k_inner; k++)
        reach = FC_MAX(k ? reach : 0, shape->b_at[k]);
    const ptrdiff_t b_count = terms ? (shape->k_outer - 1) * shape->b_row + reach + n : 0;
    tile.k_outer = shape->k_outer;
    tile.k_inner = shape->k_inner;
    tile.b_step = shape->b_step;
    tile.b_row = shape->b_row;
    tile.b_at = shape->b_at;
    tile.ldc = ldc;
    /* a packed panel, rows as they stand, and columns of a wider matrix */
    const ptrdiff_t a_strides[][2] = {{1, tile.m}, {terms + 2, 1}, {1, tile.m + 3}};
    tile.a_row = a_strides[shape->a_kind][0];
    tile.a_step = a_strides[shape->a_kind][1];
    tile.a_skip = shape->k_outer > 1 ? shape->a_kind : 0;
    const ptrdiff_t skipped = (shape->k_outer - 1) * tile.a_skip;
    const ptrdiff_t a_reach = (terms - 1) * tile.a_step + skipped + (tile.m - 1) * tile.a_row;
    tile.a = take_random(t, terms ? a_reach + 1 : 0);
    tile.b = take_random(t, b_count);
    if (tile.init == FC_INIT_BIAS || tile.init == FC_INIT_BIAS_COLUMNS)
        tile.bias = take_random(t, tile.init == FC_INIT_BIAS ? tile.m : n);
    tile.ahead = shape->a_kind ? tile.b : NULL;
    tile.ahead_step = 24;
    void *before = take_random(t, c_count);
    tile.c = take_elements(t, c_count);
    if (reads_c(&tile))
        memcpy(tile.c, before, (size_t)c_count * t->itemsize);
    t->gemm_tile(&tile);
    for (ptrdiff_t i = 0; i < c_count; i++) {
        const ptrdiff_t row = i / ldc, column = i % ldc;
        double sum, magnitude;
        if (column >= n) {
            expect(same(get(t, tile.c, i), reads_c(&tile) ? get(t, before, i) : NAN),
                   "gemm_tile wrote between two rows");
            continue;
        }
        expected_tile(t, &tile, row, column, before, &sum, &magnitude);
        const double error = fabs(get(t, tile.c, i) - sum);
        expect(error <= epsilon(t) * (double)(terms + 2) * magnitude,
               "gemm_tile m %td vectors %td k %tdx%td b %td,%td init %d relu %d: error %g at "
               "[%td][%td]",
               tile.m, tile.vectors, tile.k_outer, tile.k_inner, tile.b_step, tile.b_row,
               (int)tile.init, tile.relu, error, row, column);
    }
    release();
}

/* NaN and infinity go where IEEE arithmetic sends them, also through ReLU. */
static void check_tile_nan(const fc_kernels *t) {
    const double cases[][3] = {
        {NAN, 1, NAN}, {INFINITY, 0, NAN}, {INFINITY, 1, INFINITY}, {-INFINITY, 1, 0}, {1, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        void *a = take_random(t, 1), *b = take_random(t, t->nr), *c = take_elements(t, t->nr);
        put(t, a, 0, cases[i][0]);
        for (ptrdiff_t n = 0; n < t->nr; n++)
            put(t, b, n, cases[i][1]);
        const fc_tile tile = {.m = 1,
                              .vectors = 2,
                              .k_outer = 1,
                              .k_inner = 1,
                              .a = a,
                              .b = b,
                              .a_row = 1,
                              .a_step = 1,
                              .b_step = t->nr,
                              .c = c,
                              .ldc = t->nr,
                              .relu = 1};
        t->gemm_tile(&tile);
        for (ptrdiff_t n = 0; n < t->nr; n++)
            expect(same(get(t, c, n), cases[i][2]), "gemm_tile: %g * %g gives %g", cases[i][0],
                   cases[i][1], get(t, c, n));
        release();
    }
}

void check_gemm_tile(const fc_kernels *t) {
    static const ptrdiff_t places[] = {3, 0, 17, 4, 4, 29};
    const tile_shape shapes[] = {
        {1, 1, t->nr, 0, 0, 0, NULL}, {1, 37, t->nr, 0, 0, 0, NULL}, {1, 8, t->nr, 0, 5, 1, NULL},
        {1, 5, 1, 0, 1, 2, NULL},     {3, 5, 1, 11, 0, 1, NULL},     {2, 7, 3, 30, 3, 1, NULL},
        {4, 1, 0, t->nr, 0, 2, NULL}, {1, 0, t->nr, 0, 0, 0, NULL},  {0, 3, t->nr, 0, 0, 1, NULL},
        {2, 3, t->nr, 0, 0, 0, NULL}, {1, 37, t->nr, 0, 0, 1, NULL}, {1, 19, t->nr, 0, 0, 2, NULL},
        {1, 6, 0, 0, 0, 0, places},   {3, 5, 0, 23, 2, 1, places},   {5, 1, 0, 7, 0, 2, places},
        {2, 0, 0, 3, 0, 0, places},
    };
    for (ptrdiff_t m = 1; m <= t->mr; m++)
        for (ptrdiff_t vectors = 1; vectors <= 2; vectors++)
            for (int init = FC_INIT_ZERO; init <= FC_INIT_ADD; init++)
                for (int relu = 0; relu < 2; relu++)
                    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
                        const fc_tile tile = {
                            .m = m, .vectors = vectors, .init = (fc_init)init, .relu = relu};
                        check_tile(t, tile, &shapes[i]);
                    }
    check_tile_nan(t);
}

/* ---- copy_2d ------------------------------------------------------------------------------- */

/* Strides of rows x cols elements and where they lie: lowest offset and extent. */
typedef struct {
    ptrdiff_t row, col;
} strides;

static ptrdiff_t reach(ptrdiff_t size, ptrdiff_t stride, int sign) {
    return size > 0 && stride * sign > 0 ? (size - 1) * stride : 0;
}

static ptrdiff_t lowest(ptrdiff_t rows, ptrdiff_t cols, strides s) {
    return reach(rows, s.row, -1) + reach(cols, s.col, -1);
}

static ptrdiff_t extent(ptrdiff_t rows, ptrdiff_t cols, strides s) {
    return rows && cols ? reach(rows, s.row, 1) + reach(cols, s.col, 1) - lowest(rows, cols, s) + 1
                        : 0;
}

static void check_copy(const fc_kernels *t, ptrdiff_t rows, ptrdiff_t cols, strides src,
                       strides dst, int may_read_around) {
    const ptrdiff_t src_count = extent(rows, cols, src), dst_count = extent(rows, cols, dst);
    void *src_block = take_random(t, src_count), *dst_block = take_elements(t, dst_count);
    void *expected = take_elements(t, dst_count);
    fc_copy copy = {
        .rows = rows,
        .cols = cols,
        .src = at(t, src_block, -lowest(rows, cols, src)),
        .src_row = src.row,
        .src_col = src.col,
        .dst = at(t, dst_block, -lowest(rows, cols, dst)),
        .dst_row = dst.row,
        .dst_col = dst.col,
    };
    if (may_read_around)
        copy.readable_end = at(t, src_block, src_count);
    void *first = at(t, expected, -lowest(rows, cols, dst));
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < cols; c++)
            put(t, first, r * dst.row + c * dst.col, get(t, copy.src, r * src.row + c * src.col));
    t->copy_2d(&copy);
    expect(memcmp(expected, dst_block, (size_t)dst_count * t->itemsize) == 0,
           "copy_2d %tdx%td from strides %td,%td to %td,%td", rows, cols, src.row, src.col, dst.row,
           dst.col);
    release();
}

/* Every `step`-th element of rows in a larger block that may be read to its end: nothing behind the
 * columns of dst may change. */
static void check_steps(const fc_kernels *t, ptrdiff_t cols, ptrdiff_t step, ptrdiff_t margin) {
    const ptrdiff_t rows = 3, src_row = cols * step + 1, dst_row = cols + 2;
    const ptrdiff_t src_count = rows * src_row + margin;
    void *src = take_random(t, src_count), *dst = take_elements(t, rows * dst_row);
    const fc_copy copy = {
        .rows = rows,
        .cols = cols,
        .src = src,
        .src_row = src_row,
        .src_col = step,
        .dst = dst,
        .dst_row = dst_row,
        .dst_col = 1,
        .readable_end = at(t, src, src_count),
    };
    t->copy_2d(&copy);
    for (ptrdiff_t i = 0; i < rows * dst_row; i++) {
        const ptrdiff_t column = i % dst_row;
        const double expected =
            column >= cols ? NAN : get(t, src, i / dst_row * src_row + column * step);
        expect(same(get(t, dst, i), expected),
               "copy_2d of %td, every %td., margin %td: %g at [%td][%td]", cols, step, margin,
               get(t, dst, i), i / dst_row, column);
    }
    release();
}

void check_copy_2d(const fc_kernels *t) {
    const ptrdiff_t L = t->lanes;
    const ptrdiff_t sizes[] = {0, 1, 2, 3, L - 1, L, L + 1, 2 * L - 1, 2 * L, 2 * L + 3, 5 * L + 1};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (int i = 0; i < SIZES; i++)
        for (int j = 0; j < SIZES; j++) {
            const ptrdiff_t rows = sizes[i], cols = sizes[j];
            const strides from[] = {
                {cols, 1},     {cols + 3, 1}, {1, rows},
                {1, rows + 2}, {2 * cols, 2}, {2, 2 * rows},
                {3 * cols, 3}, {-cols, -1},   {-1, rows},
                {cols, -1},    {0, 0},        {0, 1},
                {1, 0},        {0, 2},        {1, 1},
                {2, 1},        {1, 2},        {2 * cols + 1, -2},
            };
            const strides to[] = {
                {cols, 1},     {cols + 2, 1}, {1, rows},  {1, rows + 3}, {2 * cols, 2},
                {2, 2 * rows}, {-cols, -1},   {-1, rows}, {1, -rows},    {7 * cols, 5},
            };
            for (size_t s = 0; s < sizeof from / sizeof *from; s++)
                for (size_t d = 0; d < sizeof to / sizeof *to; d++)
                    check_copy(t, rows, cols, from[s], to[d], (s + d) % 2 == 0);
        }
    for (int i = 0; i < SIZES; i++)
        for (ptrdiff_t step = 1; step <= 4; step++)
            for (ptrdiff_t margin = 0; margin <= 4 * L; margin += 2 * L)
                if (sizes[i] > 0)
                    check_steps(t, sizes[i], step, margin);
}

static void check_pack(const fc_kernels *t, const fc_pack *shape, ptrdiff_t margin) {
    fc_pack p = *shape;
    const ptrdiff_t row = p.width + 1, count = p.rows * row + 2 * margin;
    void *src = take_random(t, count);
    p.dst_tap = p.length + p.spill + 1;
    p.dst_row = p.taps * p.dst_tap + 1;
    void *dst = take_elements(t, p.rows * p.dst_row);
    p.src = at(t, src, margin);
    p.src_row = row;
    p.dst = dst;
    p.readable_begin = src;
    p.readable_end = at(t, src, count);
    t->pack_taps(&p);
    for (ptrdiff_t i = 0; i < p.rows * p.dst_row; i++) {
        const ptrdiff_t inside = i % p.dst_row, tap = inside / p.dst_tap;
        const ptrdiff_t lane = inside % p.dst_tap;
        const ptrdiff_t column = p.start + lane * p.stride + tap * p.dilation;
        if (tap < p.taps && lane >= p.length && lane < p.length + p.spill)
            continue;
        const double expected = tap >= p.taps || lane >= p.length ? NAN
                                : column < 0 || column >= p.width
                                    ? 0
                                    : get(t, p.src, i / p.dst_row * row + column);
        expect(same(get(t, dst, i), expected),
               "pack_taps: width %td, start %td, stride %td, length %td, spill %td, margin %td: "
               "%g at [%td][%td][%td]",
               p.width, p.start, p.stride, p.length, p.spill, margin, get(t, dst, i), i / p.dst_row,
               tap, lane);
    }
    release();
}

void check_pack_taps(const fc_kernels *t) {
    const ptrdiff_t L = t->lanes;
    const ptrdiff_t lengths[] = {1, 2, L - 1, L, L + 1, 2 * L - 1, 2 * L, 3 * L + 2};
    const ptrdiff_t strides[] = {1, 2, 3, 4}, spills[] = {0, 1, L / 2, L};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t j = 0; j < sizeof strides / sizeof *strides; j++)
            for (size_t k = 0; k < sizeof spills / sizeof *spills; k++)
                for (ptrdiff_t start = -4; start <= 2; start += 2)
                    for (ptrdiff_t cut = -4; cut <= 4; cut += 4)
                        for (ptrdiff_t margin = 0; margin <= 4 * L; margin += 2 * L) {
                            const fc_pack p = {
                                .rows = 2,
                                .taps = 3,
                                .length = lengths[i],
                                .start = start,
                                .stride = strides[j],
                                .dilation = 1 + (cut == 0),
                                .width = FC_MAX(0, lengths[i] * strides[j] + cut),
                                .spill = spills[k],
                            };
                            if (p.length > 0)
                                check_pack(t, &p, margin);
                        }
}

/* Planes of 5x4 pixels, taps of a 3x3 filter, from some pixel on. */
static void check_plane(const fc_kernels *t, ptrdiff_t first, ptrdiff_t length, ptrdiff_t pitch,
                        ptrdiff_t taps, ptrdiff_t margin) {
    enum { W = 4, PIXELS = 20, CHANNELS = 3 };
    const ptrdiff_t count = CHANNELS * PIXELS + 2 * margin, rows = CHANNELS * taps;
    void *src = take_random(t, count), *dst = take_elements(t, rows * pitch);
    fc_pack_plane p = {.channels = CHANNELS,
                       .taps = taps,
                       .pitch = pitch,
                       .src = at(t, src, margin + first),
                       .src_channel = PIXELS,
                       .dst = dst,
                       .readable_begin = src,
                       .readable_end = at(t, src, count)};
    for (ptrdiff_t k = 0; k < taps; k++) {
        p.shift[k] = (k / 3 - 1) * W + k % 3 - 1;
        for (ptrdiff_t i = 0; i < length; i++) {
            const ptrdiff_t row = (first + i) / W + k / 3 - 1, column = (first + i) % W + k % 3 - 1;
            if (row >= 0 && row < PIXELS / W && column >= 0 && column < W)
                p.inside[k] |= (uint32_t)1 << i;
        }
    }
    t->pack_plane(&p);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = 0; i < pitch; i++) {
            const ptrdiff_t k = r % taps,
                            from = margin + r / taps * PIXELS + first + i + p.shift[k];
            const double expected = p.inside[k] >> i & 1 ? get(t, src, from) : 0;
            expect(same(get(t, dst, r * pitch + i), expected),
                   "pack_plane: pixels %td+%td, pitch %td, taps %td, margin %td: %g at [%td][%td]",
                   first, length, pitch, taps, margin, get(t, dst, r * pitch + i), r, i);
        }
    release();
}

void check_pack_plane(const fc_kernels *t) {
    const ptrdiff_t lengths[] = {1, 5, 7, 13, 20};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (ptrdiff_t first = 0; first + lengths[i] <= 20; first += 3)
            for (ptrdiff_t taps = 1; taps <= 9; taps += 4)
                for (ptrdiff_t margin = 0; margin <= 40; margin += 20) {
                    check_plane(t, first, lengths[i], lengths[i], taps, margin);
                    check_plane(t, first, lengths[i], FC_PLANE_PIXELS, taps, margin);
                }
}

/* ---- sum_rows ------------------------------------------------------------------------------ */

static void check_row_sums(const fc_kernels *t, ptrdiff_t rows, ptrdiff_t cols, strides s) {
    void *block = take_random(t, extent(rows, cols, s));
    const void *src = at(t, block, -lowest(rows, cols, s));
    double *sums = take((size_t)rows * sizeof *sums);
    for (ptrdiff_t r = 0; r < rows; r++)
        sums[r] = (double)r;
    t->sum_rows(rows, cols, src, s.row, s.col, sums);
    for (ptrdiff_t r = 0; r < rows; r++) {
        double sum = (double)r, magnitude = fabs(sum);
        for (ptrdiff_t c = 0; c < cols; c++) {
            sum += get(t, src, r * s.row + c * s.col);
            magnitude += fabs(get(t, src, r * s.row + c * s.col));
        }
        /* a chunk of 32 vectors is summed in the elements' precision, then its lanes */
        const double tolerance =
            epsilon(t) * (double)(32 + t->lanes) * magnitude + 0x1p-52 * (double)cols * magnitude;
        expect(fabs(sums[r] - sum) <= tolerance, "sum_rows %tdx%td strides %td,%td: error %g", rows,
               cols, s.row, s.col, fabs(sums[r] - sum));
    }
    release();
}

void check_sum_rows(const fc_kernels *t) {
    const ptrdiff_t L = t->lanes;
    const ptrdiff_t sizes[] = {0, 1, 2, L, L + 1, 3 * L + 2, 33 * L + 1, 70 * L};
    for (ptrdiff_t rows = 0; rows < 5; rows++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const ptrdiff_t cols = sizes[i];
            const strides all[] = {{cols, 1}, {cols + 1, 1}, {1, rows}, {1, rows + 3},
                                   {1, 1},    {2 * cols, 2}, {0, 0},    {-cols, -1}};
            for (size_t s = 0; s < sizeof all / sizeof *all; s++)
                check_row_sums(t, rows, cols, all[s]);
        }
}

/* ---- fma_loop ------------------------------------------------------------------------------ */

void check_fma_loop(const fc_kernels *t) {
    const double operations = t->fma_loop(1000);
    expect(operations > 0 && fmod(operations, 2.0 * (double)t->lanes * 1000) == 0,
           "fma_loop tells of %g operations", operations);
    expect(t->fma_loop(2000) == 2 * operations, "fma_loop does not count its rounds");
}
