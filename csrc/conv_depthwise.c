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
    const char *src = fc_at(&job->weights, job->t->itemsize, oc % ocs, 0) +
                      oc / ocs * job->w_group * itemsize;
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

static double load_bias(const depthwise_job *job, ptrdiff_t oc) {
    double bias = 0;
    if (job->bias) /* a sum of one row of one element: its value as a double */
        job->t->sum_rows(1, 1, job->bias->data + oc * job->bias->stride[0] *
                                                     (ptrdiff_t)job->t->itemsize, 1, 1, &bias);
    return bias;
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
        const fc_copy copy = {.rows = 1, .cols = width, .src = result, .src_col = 1, .dst = y,
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
        const double bias = load_bias(job, oc);
        load_weights(job, oc, s.weights);
        for (ptrdiff_t od = 0; od < g->out[0]; od++)
            for (ptrdiff_t oh = 0; oh < g->out[1]; oh++)
                run_row(job, &s, plane, y, bias, od, oh);
    }
}

fc_status fc_conv_depthwise(const fc_conv *g, fc_dtype dtype, const fc_array *x, const fc_array *w,
                            ptrdiff_t w_group, const fc_array *bias, const fc_array *y, int relu) {
    const fc_status status = fc_conv_check(g);
    if (status)
        return status;
    depthwise_job job = {.g = *g, .weights = *w, .y = *y, .w_group = w_group, .bias = bias};
    job.relu = relu;
    job.t = fc_table(dtype);
    fc_array image = *x;
    fc_tidy_width(&image, g->in);
    fc_tidy_width(&job.y, g->out);
    fc_pool windows = {.N = g->N, .C = g->C};
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        windows.in[axis] = g->in[axis];
        windows.out[axis] = g->out[axis];
        windows.kernel[axis] = g->kernel[axis];
        windows.stride[axis] = g->stride[axis];
        windows.dilation[axis] = g->dilation[axis];
        windows.pad[axis] = g->pad[axis];
    }
    fc_windows_init(&job.w, &windows, &image, job.t);
    job.slot_bytes = scratch_bytes(&job);
    const int threads = fc_threads_for((double)g->N * (double)g->OC * (double)fc_volume(g->out) *
                                       (double)fc_volume(g->kernel));
    job.scratch = fc_workspace_acquire((size_t)threads * job.slot_bytes);
    if (!job.scratch)
        return FC_NO_MEMORY;
    fc_parallel_for(threads, g->N * g->G, plane_task, &job);
    fc_workspace_release(job.scratch);
    return FC_OK;
}
