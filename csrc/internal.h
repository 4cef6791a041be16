/* SPDX-License-Identifier: BSD-3-Clause
 * What the C files share among themselves: the kernel table and the helpers of the drivers. */
#ifndef FASTCONV_INTERNAL_H
#define FASTCONV_INTERNAL_H

#include "fastconv.h"

#define FC_MIN(a, b) ((a) < (b) ? (a) : (b))
#define FC_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Widest tile of all instruction sets: drivers keep one tile on the stack. */
#define FC_MAX_MR 14
#define FC_MAX_NR 32

/* ---- kernels ---------------------------------------------------------------------------- */

typedef enum {
    FC_INIT_ZERO,
    FC_INIT_LOAD,         /* c itself */
    FC_INIT_BIAS,         /* bias[m] in every column */
    FC_INIT_BIAS_COLUMNS, /* bias[n] in every row */
    FC_INIT_ADD /* zero; c is added in the end: two short sums round less than a long one */
} fc_init;

/* One call of the GEMM tile: c[m][n] (+)= sum over k of a[k][m] * b[k][n].
 * k runs over k_outer rows of k_inner steps. a's rows m are a_row apart and its steps a_step: a packed
 * panel has 1 and m, rows of a matrix as they stand its pitch and 1. From one row of k to the next
 * a_skip more elements are left out. b moves by b_step a step and starts b_row apart in each row (a
 * packed b has one row); if b_at is set, step k of every row is b_at[k] elements behind its start
 * instead. n is vectors*lanes. Cache lines from `ahead` on are asked for, ahead_step bytes with each
 * step: what a later call reads comes into the second-level cache meanwhile. */
typedef struct {
    ptrdiff_t m, vectors;
    ptrdiff_t k_outer, k_inner;
    const void *a, *b;
    ptrdiff_t a_row, a_step, a_skip;
    ptrdiff_t b_step, b_row;
    const ptrdiff_t *b_at; /* [k_inner] or NULL */
    void *c;
    ptrdiff_t ldc;
    const void *bias; /* [m] or [vectors*lanes] */
    fc_init init;
    int relu;
    const char *ahead; /* or NULL */
    ptrdiff_t ahead_step;
} fc_tile;

/* dst[r*dst_row + c*dst_col] = src[r*src_row + c*src_col]. Whole vectors are cheaper than tails:
 * source elements before readable_end, if it is set, may be read though they are not copied. A transpose
 * asks for what lies src_ahead elements behind what it reads, and dst_ahead behind what it writes. */
typedef struct {
    ptrdiff_t rows, cols;
    const void *src;
    ptrdiff_t src_row, src_col;
    void *dst;
    ptrdiff_t dst_row, dst_col;
    const void *readable_end;
    ptrdiff_t src_ahead, dst_ahead;
} fc_copy;

/* A run of windows along image rows, for `taps` neighbouring filter taps and some channels:
 * dst[c*dst_row + k*dst_tap + i] = row c of src at column start + i*stride + k*dilation, or zero
 * where that is outside [0, width). src is column 0 of the first row; columns are neighbours. What
 * lies between readable_begin and readable_end may be read, `spill` elements behind a run of dst
 * overwritten: runs further right are written later. */
typedef struct {
    ptrdiff_t rows, taps, length;
    const void *src;
    ptrdiff_t src_row, start, stride, dilation, width;
    void *dst;
    ptrdiff_t dst_row, dst_tap;
    const void *readable_begin, *readable_end;
    ptrdiff_t spill;
    ptrdiff_t ahead; /* what lies so many elements further is asked for meanwhile, or 0 */
} fc_pack;

/* Some pixels of planes whose rows follow each other without a gap, for many filter taps:
 * dst[(c*taps + k)*pitch + i] = element i + shift[k] of channel c, or zero where bit i of inside[k] is
 * not set. Memory as for fc_pack; nothing behind the last row of dst is written. */
enum { FC_PLANE_PIXELS = 32, FC_PLANE_TAPS = 25 };
typedef struct {
    ptrdiff_t channels, taps, pitch; /* pitch: at most FC_PLANE_PIXELS */
    const void *src;                 /* where pixel 0 of the first channel is without a shift */
    ptrdiff_t src_channel;
    ptrdiff_t shift[FC_PLANE_TAPS];
    uint32_t inside[FC_PLANE_TAPS];
    void *dst;
    const void *readable_begin, *readable_end;
} fc_pack_plane;

/* Depthwise filters on rows of outputs: see kernels/depthwise.inc. Tap t of output (r, i) is
 * src[t][r*src_row + i]; up to a vector behind a row's end may be read. square: 3 or 5 where the taps
 * are a dense filter of that size, rows src_row apart as the outputs' are; any other value: as the
 * taps say. Exactly the outputs are written. */
typedef struct {
    ptrdiff_t rows, cols, taps, square;
    const void *const *src;
    ptrdiff_t src_row;
    const void *weights;
    double bias;
    int relu;
    void *dst;
    ptrdiff_t dst_row;
} fc_weigh;

/* The same taps times dy, whose rows end in zeros up to a whole vector; `lanes` has a vector a tap. */
typedef struct {
    ptrdiff_t rows, cols, taps;
    const void *const *src;
    ptrdiff_t src_row;
    const void *dy;
    ptrdiff_t dy_row;
    void *lanes;
} fc_dot;

/* A row of windows over pixels of `lanes` interleaved planes: see kernels/pool_planes.inc. Window i
 * begins at column start + i*stride, has the cells [first[i], last[i]) of its row inside the image, and
 * sees `rows` rows of it, whose column 0 is row[r]. A cell's id is id[r] + i*id_stride +
 * cell*id_dilation. */
typedef struct {
    ptrdiff_t out, rows;
    const void *const *row;
    ptrdiff_t start, stride, dilation;
    const int32_t *first, *last; /* [out] */
    const int32_t *id;           /* [rows] */
    ptrdiff_t id_stride, id_dilation;
    void *dst; /* [out][lanes] */
    void *arg; /* the same in integers of the element's size, or NULL */
} fc_pixels;

/* Windows two columns wide, next to each other: `rows` rows of n of them, `height` cells high. Row r
 * sees the image rows x + r*x_row + kh*x_cell, its cell (kh, kw) is called kh*id_row + kw. */
typedef struct {
    ptrdiff_t rows, n, height;
    const void *x;
    ptrdiff_t x_row, x_cell;
    int32_t id_row;
    void *y;      /* [rows][n] */
    int32_t *arg; /* the same, or NULL */
} fc_pairs;

/* Gradients handed to indices: dx[r*dx_row + index*dx_step] += dy[r*dy_row + i*dy_step] for i < n of
 * each row; an index is valid from 0 to below `plane`. */
typedef struct {
    ptrdiff_t rows, n, plane;
    const void *dy;
    ptrdiff_t dy_row, dy_step;
    const int64_t *index;
    ptrdiff_t index_row, index_step;
    void *dx;
    ptrdiff_t dx_row, dx_step;
} fc_scatter;

/* The same from kernel cells, for a row of n windows of each plane: window i's cell k is element
 * at[k] + i*stride of the plane, unless that is FC_NOWHERE, or its column, column[k] + i*stride, is
 * outside [0, width) (column is NULL where none can be), or k is no cell: then nothing is added. Bytes have 256 entries. */
#define FC_NOWHERE PTRDIFF_MIN
typedef struct {
    ptrdiff_t planes, n;
    fc_index_kind kind; /* FC_INDEX_U8 or FC_INDEX_I32 */
    ptrdiff_t cells;
    const ptrdiff_t *at;
    const int32_t *column;
    ptrdiff_t stride, width;
    const void *dy;
    ptrdiff_t dy_plane;
    const void *index;
    ptrdiff_t index_plane;
    void *dx;
    ptrdiff_t dx_plane;
} fc_cells;

/* The same where windows neither overlap nor leave gaps: writes all elements under `rows` rows of n
 * windows of kernel[0] x kernel[1] cells, the first of which is called `cell`. */
typedef struct {
    ptrdiff_t rows, n, kernel[2];
    fc_index_kind kind; /* FC_INDEX_U8 or FC_INDEX_I32 */
    int32_t cell;
    const void *dy;
    ptrdiff_t dy_row;
    const void *index;
    ptrdiff_t index_row;
    void *dx;
    ptrdiff_t dx_row;
} fc_cover;

/* Numbers to be normalized, their gradients, and what becomes of them: see kernels/norm.inc. Rows of
 * all three arrays are `row` elements apart. */
typedef struct {
    ptrdiff_t rows, cols, row;
    int per_column;
    const void *x, *dy; /* dy may be NULL */
    const void *shift, *scale, *dy_scale, *bias;
    int relu;
    void *y;
    double *sums, *products;
} fc_norm_block;

/* Winograd's transforms, F(m x m, r x r) with tiles of `edge` = m + r - 1 both ways, 6 or 4: see
 * kernels/winograd_axis.inc. Channels or filters are the vectors, whole ones.
 * wino_input: `rows` x `cols` tiles, m apart both ways, of a patch [row][column][channel], `src_col`
 * channels to a column, of which `vectors` are transformed; position p of a tile goes to
 * dst[p*dst_step + tile*dst_tile + channel]. */
typedef struct {
    ptrdiff_t edge, m, rows, cols, vectors;
    const void *src;
    ptrdiff_t src_row, src_col;
    void *dst;
    ptrdiff_t dst_tile, dst_step;
} fc_wino_input;

/* src[channel][tap][filter] to the positions of `rows` rows, 1 or all, from `row` on; the first of
 * them is at dst[channel*filters + filter], the others dst_step apart; filters: whole vectors. */
typedef struct {
    ptrdiff_t edge, r, row, rows, channels, filters;
    const void *src;
    void *dst;
    ptrdiff_t dst_step;
} fc_wino_weights;

/* Position p of one tile, src[p*src_step + channel], plus bias[channel], to the first `rows` x `cols` of
 * its m x m outputs, dst[row*dst_row + col*dst_col + channel]. */
typedef struct {
    ptrdiff_t edge, m, rows, cols, vectors;
    const void *src;
    ptrdiff_t src_step;
    const void *bias;
    int relu;
    void *dst;
    ptrdiff_t dst_row, dst_col;
} fc_wino_output;

/* The same with channels along the vectors, for the weight gradient: see kernels/winograd_grad.inc.
 * `rows` x `cols` tiles of a patch [row][column][channel], m apart both ways; a column has `pitch`
 * channels, of which `vectors` are transformed. Position p of a tile goes to dst[p*dst_step], tile
 * after tile, `pitch` apart. */
typedef struct {
    ptrdiff_t m, rows, cols, vectors, pitch;
    const void *src;
    ptrdiff_t src_row;
    void *dst;
    ptrdiff_t dst_step;
} fc_wino_patch;

/* Position p of channel c, src[p*src_step + c], to (or, with `add`, added to) tap k of the r*r of
 * `channels`, dst[k*dst_step + c], in whole vectors. */
typedef struct {
    ptrdiff_t r, channels;
    const void *src;
    ptrdiff_t src_step;
    void *dst;
    ptrdiff_t dst_step;
    int add;
} fc_wino_taps;

typedef struct {
    const char *isa;
    int fma; /* a product and its addition are one instruction */
    ptrdiff_t mr, nr, lanes;
    size_t itemsize;
#define FC_KERNEL(result, name, arguments) result(*name) arguments;
#include "kernels.inc"
#undef FC_KERNEL
} fc_kernels;

const fc_kernels *fc_table(fc_dtype dtype);
const fc_kernels *fc_table_of(ptrdiff_t isa, fc_dtype dtype);

/* ---- arrays ----------------------------------------------------------------------------- */

/* Address of element (n, c) of an image array; n and c may be any two leading indices. */
static inline char *fc_at(const fc_array *a, size_t itemsize, ptrdiff_t n, ptrdiff_t c) {
    return a->data + (n * a->stride[0] + c * a->stride[1]) * (ptrdiff_t)itemsize;
}

/* The lowest element that an array of these sizes, none 0, touches, and one past the highest. What
 * lies between belongs to the caller's array or to a larger one that it is a view of. */
void fc_array_bounds(const fc_array *a, const ptrdiff_t size[FC_SPATIAL + 2], size_t itemsize,
                     const char **begin, const char **end);

/* ---- geometry --------------------------------------------------------------------------- */

ptrdiff_t fc_ceil_div(ptrdiff_t a, ptrdiff_t b);
ptrdiff_t fc_round_up(ptrdiff_t a, ptrdiff_t b);
/* Parts of equal size, at most `most`: 64 output channels are 5 panels of 13, not 4 of 14 and 8. */
ptrdiff_t fc_even_part(ptrdiff_t size, ptrdiff_t most);
ptrdiff_t fc_gcd(ptrdiff_t a, ptrdiff_t b);            /* the greatest common divisor */
int fc_multiply(ptrdiff_t *product, ptrdiff_t factor); /* 0 when it would overflow */

static inline ptrdiff_t fc_volume(const ptrdiff_t size[FC_SPATIAL]) {
    return size[0] * size[1] * size[2];
}

double fc_multiply_adds(const fc_conv *g);

/* From the first tap of an axis to the last. */
static inline ptrdiff_t fc_reach(const fc_conv *g, int axis) {
    return (g->kernel[axis] - 1) * g->dilation[axis];
}

/* Whether the spatial axes can be walked as one axis with the width's stride. */
int fc_is_dense(const fc_array *a, const ptrdiff_t size[FC_SPATIAL]);

/* Where there is one output no step is taken: makes the stride no longer than the image, so that
 * nothing grows or overflows with it. */
void fc_limit_strides(const ptrdiff_t in[FC_SPATIAL], const ptrdiff_t out[FC_SPATIAL],
                      ptrdiff_t stride[FC_SPATIAL]);

/* The stride of an axis of size 1 means nothing: gives the width the one that counts. */
void fc_tidy_width(fc_array *a, const ptrdiff_t size[FC_SPATIAL]);

/* A 1x1 filter with stride 1 and no padding sees an image as one long row; where the image is a
 * single pixel, as in a fully connected layer, the batch becomes that row. Longer rows pack in
 * longer runs. Changes the geometry and strides to say so where the arrays allow it. */
void fc_flatten_pointwise(fc_conv *g, fc_array *x, fc_array *y);

/* How many groups, and channels of each, to take at a time so that `elements` for each channel
 * stay below the limit; channels are taken in multiples of a tile. */
void fc_chunk_channels(ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t elements, ptrdiff_t limit,
                       ptrdiff_t multiple, ptrdiff_t *group_chunk, ptrdiff_t *channel_chunk);

/* Packed or summed weights beyond this many bytes are handled in chunks, to stay in the
 * last-level cache. */
size_t fc_chunk_bytes(void);

/* Which of `count` positions start, start+step, ... lie inside [0, size): first and one past last. */
void fc_valid_range(ptrdiff_t start, ptrdiff_t step, ptrdiff_t count, ptrdiff_t size,
                    ptrdiff_t *first, ptrdiff_t *last);

/* ---- drivers ------------------------------------------------------------------------------ */

/* The convolution behind forward and input gradient. `gate`, if set, is the output of a ReLU that lies in
 * memory as y does, which must be dense: y becomes the gradient of that ReLU's input. Group i's weights start i*w_group elements
 * behind w's data: the gradient's weights, with channels exchanged, need that freedom. */
fc_status fc_conv_core(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *x,
                       const fc_array *w, ptrdiff_t w_group, const fc_array *bias,
                       const fc_array *y, int relu, const char *gate);

/* The filters of a call: any strides, group i's i*group elements behind the first one's; or, where
 * `packed` is set, in that form. */
typedef struct {
    fc_array plain;
    ptrdiff_t group;
    const void *packed;
    fc_form form;
} fc_filters;

/* The drivers behind it. */
fc_status fc_conv_gemm(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_filters *w,
                       const fc_array *bias, const fc_array *y, int relu);
/* The edge of the tile that a call asks for, 4 or 6, or 0. */
static inline ptrdiff_t fc_winograd_edge(fc_algo algo) {
    return algo == FC_WINOGRAD_4 ? 4 : algo == FC_WINOGRAD_6 ? 6 : 0;
}

static inline int fc_is_winograd(fc_algo algo) {
    return algo >= FC_WINOGRAD;
}

/* fc_choose_algo's answer without the reasons, Winograd's algorithm with its tile: calls that have no choice do not pay for estimates. */
fc_algo fc_auto_algo(const fc_conv *g, fc_dtype dtype);
/* edge: of the tile, 4 or 6, or 0 for the faster one by estimate; prepared filters have theirs. */
fc_status fc_conv_winograd(const fc_conv *g, fc_dtype dtype, ptrdiff_t edge, const fc_array *x,
                           const fc_filters *w, const fc_array *bias, const fc_array *y, int relu,
                           const char *gate);

/* Their filters, packed: bytes, and the packing of w->plain to dst. */
size_t fc_gemm_packed_bytes(const fc_conv *g, const fc_conv_plan *plan, size_t itemsize);
fc_status fc_gemm_pack(const fc_conv *g, fc_dtype dtype, fc_form form, const fc_filters *w,
                       void *dst);
size_t fc_winograd_packed_bytes(const fc_conv *g, fc_dtype dtype, ptrdiff_t edge);
fc_status fc_winograd_pack(const fc_conv *g, fc_dtype dtype, ptrdiff_t edge, const fc_filters *w,
                           void *dst);

/* Outputs that are phases of a larger array: channel (ph*channels + c)*stride[1] + pw of a group
 * holds rows ph, ph + stride[0], ... and such columns of channel c of y, of `size` rows and columns. */
typedef struct {
    fc_array y;
    ptrdiff_t channels, stride[2], size[2];
} fc_merge;

/* A stride-1 convolution in a plane whose outputs are merged; FC_BAD_GEOMETRY if that does not suit.
 * *finite tells whether no output is infinite or NaN, nor so large that their sum is. */
fc_status fc_conv_merged(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                         ptrdiff_t w_group, const fc_array *bias, const fc_merge *merge,
                         int *finite);

/* Strides along an axis beyond which phases are not merged. */
#define FC_MOST_PHASES 16

/* One of the phases has a box of the merged filter's taps, from `first` on, `step` apart, with filters
 * of its own of any strides; none where an axis has none. Its taps are numbered from `number` on among
 * those of all phases. */
typedef struct {
    fc_array w;
    ptrdiff_t first[FC_SPATIAL], taps[FC_SPATIAL], step[FC_SPATIAL], number;
} fc_phase;

/* All of them: phase (pd*stride[1] + ph)*stride[2] + pw holds planes pd, pd + stride[0], ..., such rows
 * and such columns of an array of `size`. */
typedef struct {
    ptrdiff_t count, taps, stride[FC_SPATIAL], size[FC_SPATIAL];
    fc_phase phase[FC_MOST_PHASES * FC_MOST_PHASES];
} fc_phase_list;

/* An element's value. */
double fc_value_at(const fc_kernels *t, const void *element);

/* Element oc of the bias. */
double fc_bias_at(const fc_kernels *t, const fc_array *bias, ptrdiff_t oc);

/* Whether the depthwise drivers should compute this: one input channel a group. */
int fc_is_depthwise(const fc_conv *g);

fc_status fc_conv_depthwise(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                            ptrdiff_t w_group, const fc_array *bias, const fc_array *y, int relu);

/* The same for merged outputs: g is the convolution of one phase if it had all the taps. */
fc_status fc_depthwise_merged(const fc_conv *g, fc_dtype dtype, const fc_array *x,
                              const fc_phase *phases, ptrdiff_t w_group, const fc_array *bias,
                              const fc_merge *merge);

/* Dense, by the GEMM: all phases of y in one pass, each with its own taps; FC_BAD_GEOMETRY where that
 * does not suit. */
fc_status fc_conv_phases(const fc_conv *g, fc_dtype dtype, const fc_array *x,
                         const fc_phase_list *phases, ptrdiff_t w_group, const fc_array *bias,
                         const fc_array *y);

fc_status fc_depthwise_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                   const fc_array *x, const fc_array *dw);

/* The same as a product of matrices, for N > 0 and a geometry that fc_flatten_pointwise has seen. */
fc_status fc_gemm_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                              const fc_array *x, const fc_array *dw);

/* ---- scratch memory and threads --------------------------------------------------------- */

void *fc_workspace_acquire(size_t bytes); /* 64-byte aligned; NULL when out of memory */
void fc_workspace_release(void *memory);

static inline size_t fc_align(size_t bytes) {
    return (bytes + 63) & ~(size_t)63;
}

/* Bytes from one thread's part of a block of scratch memory to the next one's, which lie at its beginning.
 * Large parts start at a huge page, so that a thread finds its part at the same address, and in its own
 * caches, in calls with other plans, too. */
size_t fc_slot_step(size_t bytes);

/* At least so many elements, an odd number of cache lines: what lies that far apart, position after
 * position of a transform, falls into different sets of the caches. */
static inline ptrdiff_t fc_spread(ptrdiff_t elements, size_t itemsize) {
    const ptrdiff_t lines = ((ptrdiff_t)fc_align((size_t)elements * itemsize) / 64) | 1;
    return lines * 64 / (ptrdiff_t)itemsize;
}

typedef void (*fc_task)(void *context, ptrdiff_t task, int slot);

/* Runs task 0 .. tasks-1, on at most `threads` threads; slot < threads tells which of them. */
void fc_parallel_for(int threads, ptrdiff_t tasks, fc_task task, void *context);

/* Threads worth waking for so many multiply-adds (or moved elements). */
int fc_threads_for(double multiply_adds);

#endif
