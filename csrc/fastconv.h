/* SPDX-License-Identifier: BSD-3-Clause
 * The whole C interface of fastconv: it knows nothing of Python.
 *
 * Letters: N images, C input channels, OC output channels, G groups; three spatial axes
 * throughout, in the order depth, height, width (1-D and 2-D have leading axes of size 1).
 * Strides and leading dimensions count elements, not bytes, unless a name says bytes. */
#ifndef FASTCONV_H
#define FASTCONV_H

#include <stddef.h>
#include <stdint.h>

#define FC_VERSION "0.1.0"
#define FC_SPATIAL 3

/* What `relu` asks for everywhere: nothing, max(y, 0), or min(max(y, 0), 6). */
enum { FC_NO_RELU, FC_RELU, FC_RELU6 };

typedef enum {
#define FC_STATUS(name, message) FC_##name,
#include "status.inc"
#undef FC_STATUS
    FC_STATUS_COUNT
} fc_status;

const char *fc_status_message(fc_status status);

typedef enum { FC_F32, FC_F64, FC_DTYPE_COUNT } fc_dtype;

/* ---- geometry -------------------------------------------------------------------------- */

/* A convolution: out = floor((in + pad + pad_end - dilation*(kernel-1) - 1) / stride) + 1.
 * pad is the padding before the first element; the padding behind the last one follows from
 * out. pad may be negative inside the library (an input gradient may crop). */
typedef struct {
    ptrdiff_t N, C, OC, G;
    ptrdiff_t in[FC_SPATIAL], kernel[FC_SPATIAL], out[FC_SPATIAL];
    ptrdiff_t stride[FC_SPATIAL], dilation[FC_SPATIAL], pad[FC_SPATIAL];
} fc_conv;

/* A pooling: the same without filters; every window holds at least one element of the image. */
typedef struct {
    ptrdiff_t N, C;
    ptrdiff_t in[FC_SPATIAL], kernel[FC_SPATIAL], out[FC_SPATIAL];
    ptrdiff_t stride[FC_SPATIAL], dilation[FC_SPATIAL], pad[FC_SPATIAL], pad_end[FC_SPATIAL];
} fc_pool;

/* An array of the caller with any strides, also negative ones or zero.
 * Axes: [N, C, D, H, W] for images, [OC, C/G, KD, KH, KW] for weights, the first for vectors. */
typedef struct {
    char *data;
    ptrdiff_t stride[FC_SPATIAL + 2];
} fc_array;

fc_status fc_conv_check(const fc_conv *g);
fc_status fc_pool_check(const fc_pool *g);

/* ---- convolution ----------------------------------------------------------------------- */

/* Weights are packed once a call; or, in one pixel block, where they are used, once; or the tile reads
 * them as they stand; or they were packed before the call. */
typedef enum {
    FC_WEIGHTS_PACKED,
    FC_WEIGHTS_IN_TASKS,
    FC_WEIGHTS_DIRECT,
    FC_WEIGHTS_PREPARED
} fc_weights_use;

/* What a convolution will do: chosen by fc_plan_conv from the geometry, the kernels' tile sizes,
 * the caches and the thread count alone, so that the same call always sums in the same order.
 *
 * The tile multiplies a panel of one operand, broadcast, by a panel of the other, in vectors. By
 * default pixels are the vectors; swapped, output channels are: small maps then waste no lanes,
 * and channels-last outputs are written in whole vectors. Shifted, the image is not packed in
 * panels: its rows are stored once and read through shifted pointers (conv_shifted.c). */
typedef struct {
    int swapped, shifted, merged;
    fc_weights_use weights;
    int tiles_in_scratch; /* tiles are summed in scratch memory and moved to y at the end */
    ptrdiff_t oc_panel, pixel_panel; /* the tile: output channels x pixels */
    ptrdiff_t image_pitch; /* elements from one k to the next in a panel of pixels as vectors */
    ptrdiff_t channel_block, tap_block;  /* a block of the summed axis: channels x filter taps */
    ptrdiff_t pixel_block, pixel_blocks; /* output pixels a task computes, whole panels */
    ptrdiff_t oc_block, oc_blocks;       /* output channels a task computes, whole panels */
    ptrdiff_t group_chunk, oc_chunk;     /* groups, channels of each, with weights packed at once */
    ptrdiff_t row_block;                 /* shifted: output rows a task computes */
    ptrdiff_t row_pitch, plane_step, channel_step; /* and the layout of the stored rows */
    ptrdiff_t out_step;                            /* merged: elements of a channel of outputs */
    int flat;                                      /* panels run on over the ends of rows */
    int threads;            /* slots of scratch memory, at most that many threads */
    size_t workspace_bytes; /* scratch memory of the call, all threads together */
    double multiply_adds;
    double cost; /* estimate, in vector FMAs */
} fc_conv_plan;

/* weight_row: elements from one filter to the next where each is one run of elements [C/G][KD][KH]
 * [KW], else 0. */
fc_status fc_plan_conv(const fc_conv *g, fc_dtype dtype, int channels_last, ptrdiff_t weight_row,
                       fc_conv_plan *plan);

/* FC_WINOGRAD where it does not suit is FC_BAD_GEOMETRY. It has tiles of 6x6 pixels and, for 3x3 filters,
 * of 4x4, and takes those that are faster by estimate; the last two ask for one of them. */
typedef enum { FC_AUTO, FC_GEMM, FC_WINOGRAD, FC_WINOGRAD_4, FC_WINOGRAD_6 } fc_algo;

fc_status fc_conv_forward(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *x,
                          const fc_array *w, const fc_array *bias, const fc_array *y, int relu);
fc_status fc_conv_input_grad(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *dy,
                             const fc_array *w, const fc_array *bias, const fc_array *dx);

/* FC_WINOGRAD takes the GEMM where this gradient has no Winograd form, as for 5x5 filters. */
fc_status fc_conv_weight_grad(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *dy,
                              const fc_array *x, const fc_array *dw);
fc_status fc_bias_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy, const fc_array *db);

/* Whether Winograd's algorithm can compute this convolution: 3x3 or 5x5 filters, stride 1, no
 * dilation, one plane. */
int fc_winograd_suits(const fc_conv *g);

/* What FC_AUTO takes, and why: estimated costs in vector FMAs, below 0 where Winograd's algorithm does not
 * suit and there is no choice. Depthwise convolutions have a kernel of their own under FC_GEMM's name. */
typedef struct {
    fc_algo algo;
    int depthwise;
    double gemm_cost, winograd_cost; /* of the tile that it would take */
    ptrdiff_t tile_outputs;          /* along one axis of Winograd's tile */
    ptrdiff_t winograd_tile[2];      /* filters and outputs of one call of its kernel */
    ptrdiff_t winograd_channels;
    size_t winograd_bytes; /* scratch memory of Winograd's algorithm */
} fc_choice;
/* g has passed fc_conv_check; prepared: packing or transforming the filters costs nothing. The algorithm is
 * the one asked for, or that of "auto"; Winograd's is named with its tile. */
fc_choice fc_choose_algo(const fc_conv *g, fc_dtype dtype, fc_algo algo, int prepared);
/* Elements in a vector. */
ptrdiff_t fc_lanes(fc_dtype dtype);

/* ---- convolution with prepared filters, for inference ------------------------------------ */

/* How filters lie that were packed before the call: not at all, for algorithms that read them as they
 * are; in panels for the tile's broadcast side, or for its vectors; transformed for Winograd's
 * tiles of 6x6 or of 4x4. What a form looks like depends on the filters, groups, dtype and kernels in use, not on
 * the image, the thread count or the layout: all shapes share it. */
typedef enum {
    FC_FORM_PLAIN,
    FC_FORM_PANELS,
    FC_FORM_VECTORS,
    FC_FORM_TRANSFORMED,
    FC_FORM_TRANSFORMED_4,
    FC_FORM_COUNT
} fc_form;

/* The form that is fastest for this convolution by this algorithm, and what will run. */
typedef struct {
    fc_form form;
    fc_choice choice;
    size_t packed_bytes; /* of all filters in that form */
    fc_conv_plan plan;   /* of the GEMM with prepared filters */
} fc_preparation;

/* FC_WINOGRAD where it does not suit is FC_BAD_GEOMETRY. */
fc_status fc_prepare(const fc_conv *g, fc_dtype dtype, fc_algo algo, int channels_last,
                     fc_preparation *preparation);

/* Brings the filters into a form other than FC_FORM_PLAIN, at 64-byte aligned memory. */
fc_status fc_pack_filters(const fc_conv *g, fc_dtype dtype, fc_form form, const fc_array *w,
                          void *packed);

/* fc_conv_forward with filters that were packed with the kernels now in use. */
fc_status fc_conv_prepared(const fc_conv *g, fc_dtype dtype, fc_form form, const void *packed,
                           const fc_array *x, const fc_array *bias, const fc_array *y, int relu);

/* The loops of the lecture, one thread. */
fc_status fc_conv_forward_naive(const fc_conv *g, fc_dtype dtype, const fc_array *x,
                                const fc_array *w, const fc_array *bias, const fc_array *y,
                                int relu);
/* The same without bias for dense dx behind a ReLU: x, its output, lies in memory as dx does, and dx is 0
 * where x is 0 or less. */
fc_status fc_conv_input_grad_relu(const fc_conv *g, fc_dtype dtype, fc_algo algo,
                                  const fc_array *dy, const fc_array *w, const void *x,
                                  const fc_array *dx);
fc_status fc_conv_input_grad_naive(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                   const fc_array *w, const fc_array *bias, const fc_array *dx);
fc_status fc_conv_weight_grad_naive(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                    const fc_array *x, const fc_array *dw);

/* cols is a contiguous [N, C*KD*KH*KW, OD*OH*OW]; OC and G of the geometry are not used. */
fc_status fc_im2col(const fc_conv *g, fc_dtype dtype, const fc_array *x, void *cols);
fc_status fc_col2im(const fc_conv *g, fc_dtype dtype, const void *cols, const fc_array *x);

/* ---- pooling --------------------------------------------------------------------------- */

/* How max pooling reports where its maxima are. */
typedef enum {
    FC_INDEX_NONE,
    FC_INDEX_U8,   /* number of the cell inside its window, at most 255 cells */
    FC_INDEX_I32,  /* the same for larger windows */
    FC_INDEX_PLANE /* int64: number of the element inside its image plane (forward alone) */
} fc_index_kind;

/* What the sum over a window is divided by: nothing; its cells inside the padded image; its cells
 * inside the image. */
typedef enum { FC_POOL_SUM, FC_POOL_AVERAGE, FC_POOL_AVERAGE_VALID } fc_pool_kind;

/* The index array holds the type of its kind; its strides count its own elements. */
fc_status fc_max_pool_forward(const fc_pool *g, fc_dtype dtype, const fc_array *x,
                              const fc_array *y, fc_index_kind kind, const fc_array *index);
fc_status fc_max_pool_backward(const fc_pool *g, fc_dtype dtype, const fc_array *dy,
                               fc_index_kind kind, const fc_array *index, const fc_array *dx);
fc_status fc_sum_pool_forward(const fc_pool *g, fc_dtype dtype, fc_pool_kind kind,
                              const fc_array *x, const fc_array *y);
fc_status fc_sum_pool_backward(const fc_pool *g, fc_dtype dtype, fc_pool_kind kind,
                               const fc_array *dy, const fc_array *dx);

/* dx[index] += dy over planes of any origin: max pooling's gradient when only the plane indices
 * are known. dx planes are dense; zeroed tells that they hold zeros already. An index outside its
 * plane is FC_BAD_INDEX. */
fc_status fc_unpool(const fc_pool *g, fc_dtype dtype, const fc_array *dy, const fc_array *index,
                    const fc_array *dx, int zeroed);

/* ---- activation ------------------------------------------------------------------------ */

/* n neighbouring elements: y = max(x, 0) or, where `relu` is FC_RELU6, no more than 6, NaN kept; y may
 * be x. dx = dy where x is not 0 or less, else 0. */
void fc_relu(fc_dtype dtype, ptrdiff_t n, const void *x, int relu, void *y);
void fc_relu_grad(fc_dtype dtype, ptrdiff_t n, const void *dy, const void *x, void *dx);

/* y = a + b, and the activation `relu` of that; y may be a or b. */
void fc_add(fc_dtype dtype, ptrdiff_t n, const void *a, const void *b, int relu, void *y);

/* ---- batch normalization ----------------------------------------------------------------- */

/* Dense arrays [N][C][pixels], or [N][pixels][C] with channels_last; vectors have C elements. */
typedef struct {
    ptrdiff_t N, C, pixels;
    int channels_last;
    double eps;
} fc_norm;

/* y = (x - mean) / sqrt(var + eps) * weight + bias, rectified if so asked; mean and var are first set
 * to those of x if `training`. weight and bias may be NULL. */
fc_status fc_batch_norm(const fc_norm *g, fc_dtype dtype, const void *x, const void *weight,
                        const void *bias, void *mean, void *var, int training, int relu, void *y);

/* Its gradients; dx may be NULL. In training mean and var are functions of x. */
fc_status fc_batch_norm_grad(const fc_norm *g, fc_dtype dtype, const void *dy, const void *x,
                             const void *weight, const void *mean, const void *var, int training,
                             void *dx, void *dweight, void *dbias);

/* ---- optimizers ------------------------------------------------------------------------ */

/* g += weight_decay * p, v = momentum * v + g, p -= lr * v, or lr * (g + momentum * v) with nesterov. */
typedef struct {
    double lr, momentum, weight_decay;
    int nesterov;
} fc_sgd;

/* A step of n neighbouring parameters p with gradients g; v is NULL where there is no momentum. */
void fc_sgd_step(fc_dtype dtype, const fc_sgd *rule, ptrdiff_t n, const void *g, void *v, void *p);

/* ---- machine ---------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int available;
} fc_feature;

const char *fc_compiler(void); /* that built this library */
ptrdiff_t fc_isa_count(void);  /* instruction sets compiled in, widest last */
const char *fc_isa_name(ptrdiff_t i);
int fc_isa_available(ptrdiff_t i);
const char *fc_isa(void);               /* the one in use */
fc_status fc_set_isa(const char *name); /* not while another thread computes */
const fc_feature *fc_cpu_features(ptrdiff_t *count);

typedef struct {
    size_t l1d, l2, l3; /* bytes; l2 and l3 as seen by one core */
} fc_caches;
const fc_caches *fc_cpu_caches(void);
/* For tests: plans as on another processor. Not while another thread computes. */
void fc_set_cpu_caches(const fc_caches *sizes);

int fc_default_threads(void);
int fc_get_num_threads(void);
void fc_set_num_threads(int threads);

/* Memory for a large result, 64-byte aligned; NULL when there is none. Given back, it is kept for
 * results to come. */
void *fc_result_acquire(size_t bytes);
void fc_result_release(void *memory);
void fc_release_memory(void);
size_t fc_cached_memory(void);

/* Operations per second of independent FMAs in registers; bytes per second of a copy (read and
 * written bytes both count). The two roofs every kernel is compared with. */
double fc_measure_peak(fc_dtype dtype, int threads, double seconds);
double fc_measure_bandwidth(int threads, size_t bytes, double seconds);

/* GFLOP-per-second check of the GEMM tile alone, operands in the second-level cache. */
double fc_measure_tile(fc_dtype dtype, double seconds);

#endif
