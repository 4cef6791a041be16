/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution with one input channel a group: every output plane is a weighted sum of shifted
 * rows of one input plane. A GEMM would use one row of its tile; here a row of outputs is one call
 * of weigh_taps. */
#include "window_rows.h"

typedef struct {
    fc_windows w;
    fc_conv g;
    fc_array weights, y;
    ptrdiff_t w_group;
    const fc_array *bias;
    int relu;
    const fc_kernels *t;
    char *scratch;
    size_t slot_bytes;
} depthwise_job;

typedef struct {
    fc_taps t;
    char *weights, *row;
} scratch;

static size_t weights_bytes(const depthwise_job *job) {
    return fc_align((size_t)fc_volume(job->g.kernel) * job->t->itemsize);
}

static size_t scratch_bytes(const depthwise_job *job) {
    return fc_align(fc_taps_bytes(&job->w)) + weights_bytes(job) +
           fc_align((size_t)job->g.out[2] * job->t->itemsize);
}

static scratch carve_scratch(const depthwise_job *job, int slot) {
    scratch s;
    char *memory = job->scratch + (size_t)slot * job->slot_bytes;
    fc_taps_init(&s.t, &job->w, 0, memory);
    s.weights = memory + fc_align(fc_taps_bytes(&job->w));
    s.row = s.weights + weights_bytes(job);
    return s;
}

/* The filter of one output channel, dense. */
static void load_weights(const depthwise_job *job, ptrdiff_t oc, char *dst) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, ocs = job->g.OC / job->g.G;
    const ptrdiff_t *kernel = job->g.kernel;
    const char *src =
        fc_at(&job->weights, job->t->itemsize, oc % ocs, 0) + oc / ocs * job->w_group * itemsize;
    for (ptrdiff_t kd = 0; kd < kernel[0]; kd++) {
        const fc_copy copy = {.rows = kernel[1],
                              .cols = kernel[2],
                              .src = src + kd * job->weights.stride[2] * itemsize,
                              .src_row = job->weights.stride[3],
                              .src_col = job->weights.stride[4],
                              .dst = dst + kd * kernel[1] * kernel[2] * itemsize,
                              .dst_row = kernel[2],
                              .dst_col = 1};
        job->t->copy_2d(&copy);
    }
}

static void run_row(const depthwise_job *job, scratch *s, const char *plane, char *y, double bias,
                    ptrdiff_t od, ptrdiff_t oh) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, width = job->g.out[2];
    fc_gather_taps(&job->w, &s->t, plane, od, oh);
    y += (od * job->y.stride[2] + oh * job->y.stride[3]) * itemsize;
    char *result = job->y.stride[4] == 1 ? y : s->row;
    job->t->weigh_taps(width, fc_volume(job->g.kernel), s->t.taps, s->weights, bias, job->relu,
                       result);
    if (result != y) {
        const fc_copy copy = {.rows = 1,
                              .cols = width,
                              .src = result,
                              .src_col = 1,
                              .dst = y,
                              .dst_col = job->y.stride[4]};
        job->t->copy_2d(&copy);
    }
}

/* One input plane and all the output channels made from it. */
static void plane_task(void *context, ptrdiff_t task, int slot) {
    const depthwise_job *job = context;
    const fc_conv *g = &job->g;
    const ptrdiff_t n = task / g->G, group = task % g->G, ocs = g->OC / g->G;
    scratch s = carve_scratch(job, slot);
    const char *plane = fc_at(&job->w.x, job->t->itemsize, n, group);
    for (ptrdiff_t oc = group * ocs; oc < (group + 1) * ocs; oc++) {
        char *y = fc_at(&job->y, job->t->itemsize, n, oc);
        const double bias = job->bias ? fc_bias_at(job->t, job->bias, oc) : 0;
        load_weights(job, oc, s.weights);
        for (ptrdiff_t od = 0; od < g->out[0]; od++)
            for (ptrdiff_t oh = 0; oh < g->out[1]; oh++)
                run_row(job, &s, plane, y, bias, od, oh);
    }
}

/* The windows of a convolution, as those of a pooling. */
static void init_windows(fc_windows *w, const fc_conv *g, const fc_array *x, const fc_kernels *t) {
    fc_pool windows = {.N = g->N, .C = g->C};
    fc_array image = *x;
    fc_tidy_width(&image, g->in);
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        windows.in[axis] = g->in[axis];
        windows.out[axis] = g->out[axis];
        windows.kernel[axis] = g->kernel[axis];
        windows.stride[axis] = g->stride[axis];
        windows.dilation[axis] = g->dilation[axis];
        windows.pad[axis] = g->pad[axis];
    }
    fc_windows_init(w, &windows, &image, t);
}

fc_status fc_conv_depthwise(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                            ptrdiff_t w_group, const fc_array *bias, const fc_array *y, int relu) {
    const fc_status status = fc_conv_check(g);
    if (status)
        return status;
    depthwise_job job = {.g = *g, .weights = *w, .y = *y, .w_group = w_group, .bias = bias};
    job.relu = relu;
    job.t = fc_table(dtype);
    fc_tidy_width(&job.y, g->out);
    init_windows(&job.w, g, x, job.t);
    job.slot_bytes = scratch_bytes(&job);
    const int threads = fc_threads_for(fc_multiply_adds(g));
    job.scratch = fc_workspace_acquire((size_t)threads * job.slot_bytes);
    if (!job.scratch)
        return FC_NO_MEMORY;
    fc_parallel_for(threads, g->N * g->G, plane_task, &job);
    fc_workspace_release(job.scratch);
    return FC_OK;
}

/* ---- weight gradient ----------------------------------------------------------------------- */

typedef struct {
    fc_windows w;
    fc_conv g;
    fc_array dy, dw;
    const fc_kernels *t;
    char *scratch;
    size_t slot_bytes;
} grad_job;

typedef struct {
    fc_taps t;
    char *lanes, *row; /* sums of every tap, lane by lane; a row of dy */
    double *sums;
} grad_scratch;

static size_t lanes_bytes(const grad_job *job) {
    return fc_align((size_t)(fc_volume(job->g.kernel) * job->t->lanes) * job->t->itemsize);
}

static size_t row_bytes(const grad_job *job) {
    return fc_align((size_t)job->g.out[2] * job->t->itemsize);
}

static size_t grad_scratch_bytes(const grad_job *job) {
    return fc_align(fc_taps_bytes(&job->w)) + lanes_bytes(job) + row_bytes(job) +
           fc_align((size_t)fc_volume(job->g.kernel) * sizeof(double));
}

static void add_row_products(const grad_job *job, grad_scratch *s, const char *plane,
                             const char *dy, ptrdiff_t od, ptrdiff_t oh) {
    const ptrdiff_t *stride = job->dy.stride, width = job->g.out[2];
    const char *row = dy + (od * stride[2] + oh * stride[3]) * (ptrdiff_t)job->t->itemsize;
    fc_gather_taps(&job->w, &s->t, plane, od, oh);
    if (stride[4] != 1) {
        const fc_copy copy = {.rows = 1,
                              .cols = width,
                              .src = row,
                              .src_col = stride[4],
                              .dst = s->row,
                              .dst_col = 1};
        job->t->copy_2d(&copy);
        row = s->row;
    }
    job->t->dot_taps(width, fc_volume(job->g.kernel), s->t.taps, row, s->lanes);
}

static void store_filter(const grad_job *job, ptrdiff_t oc, const double *sums) {
    const ptrdiff_t *kernel = job->g.kernel, *stride = job->dw.stride;
    char *dw = fc_at(&job->dw, job->t->itemsize, oc, 0);
    for (ptrdiff_t kd = 0; kd < kernel[0]; kd++)
        for (ptrdiff_t kh = 0; kh < kernel[1]; kh++)
            for (ptrdiff_t kw = 0; kw < kernel[2]; kw++)
                job->t->fill(1, *sums++,
                             dw + (kd * stride[2] + kh * stride[3] + kw * stride[4]) *
                                      (ptrdiff_t)job->t->itemsize,
                             1);
}

/* One filter over all images: no two tasks add to the same sum. */
static void filter_task(void *context, ptrdiff_t oc, int slot) {
    const grad_job *job = context;
    const fc_conv *g = &job->g;
    const ptrdiff_t taps = fc_volume(g->kernel), lanes = job->t->lanes;
    char *memory = job->scratch + (size_t)slot * job->slot_bytes;
    grad_scratch s;
    s.lanes = memory + fc_align(fc_taps_bytes(&job->w));
    s.row = s.lanes + lanes_bytes(job);
    s.sums = (double *)(s.row + row_bytes(job));
    job->t->fill(taps * lanes, 0, s.lanes, 1);
    for (ptrdiff_t n = 0; n < g->N; n++) {
        const char *plane = fc_at(&job->w.x, job->t->itemsize, n, oc / (g->OC / g->G));
        const char *dy = fc_at(&job->dy, job->t->itemsize, n, oc);
        fc_taps_init(&s.t, &job->w, 0, memory);
        for (ptrdiff_t od = 0; od < g->out[0]; od++)
            for (ptrdiff_t oh = 0; oh < g->out[1]; oh++)
                add_row_products(job, &s, plane, dy, od, oh);
    }
    for (ptrdiff_t t = 0; t < taps; t++)
        s.sums[t] = 0;
    job->t->sum_rows(taps, lanes, s.lanes, lanes, 1, s.sums);
    store_filter(job, oc, s.sums);
}

fc_status fc_depthwise_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                   const fc_array *x, const fc_array *dw) {
    grad_job job = {.g = *g, .dy = *dy, .dw = *dw, .t = fc_table(dtype)};
    const int threads = fc_threads_for(fc_multiply_adds(g));
    fc_tidy_width(&job.dy, g->out);
    init_windows(&job.w, g, x, job.t);
    job.slot_bytes = grad_scratch_bytes(&job);
    job.scratch = fc_workspace_acquire((size_t)threads * job.slot_bytes);
    if (!job.scratch)
        return FC_NO_MEMORY;
    fc_parallel_for(threads, g->OC, filter_task, &job);
    fc_workspace_release(job.scratch);
    return FC_OK;
}
