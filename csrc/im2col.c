/* SPDX-License-Identifier: BSD-3-Clause
 * The lecture's im2col: every receptive field stretched into a column, and its adjoint col2im.
 * cols[n][(c*KD + kd)*KH*KW + kh*KW + kw][od*OH*OW + oh*OW + ow] */
#include <string.h>

#include "internal.h"

typedef struct {
    const fc_conv *g;
    const fc_array *x;
    char *cols;
    const fc_kernels *t;
    const char *x_begin, *x_end;
} cols_job;

/* The rectangle of outputs (oh, ow) of one tap and depth that see the image, and where. */
typedef struct {
    ptrdiff_t h_first, h_last, w_first, w_last; /* empty when a last is 0 */
    ptrdiff_t offset;                           /* of the first one, inside the image plane */
} seen;

static seen find_seen(const cols_job *job, ptrdiff_t od, ptrdiff_t tap) {
    const fc_conv *g = job->g;
    const ptrdiff_t kw = tap % g->kernel[2], kh = tap / g->kernel[2] % g->kernel[1];
    const ptrdiff_t kd = tap / g->kernel[2] / g->kernel[1];
    const ptrdiff_t id = od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
    const ptrdiff_t ih = kh * g->dilation[1] - g->pad[1], iw = kw * g->dilation[2] - g->pad[2];
    seen s = {0};
    fc_valid_range(ih, g->stride[1], g->out[1], g->in[1], &s.h_first, &s.h_last);
    fc_valid_range(iw, g->stride[2], g->out[2], g->in[2], &s.w_first, &s.w_last);
    if (id < 0 || id >= g->in[0] || s.h_first == s.h_last || s.w_first == s.w_last)
        return (seen){0};
    s.offset = id * job->x->stride[2] + (ih + s.h_first * g->stride[1]) * job->x->stride[3] +
               (iw + s.w_first * g->stride[2]) * job->x->stride[4];
    return s;
}

static char *cols_row(const cols_job *job, ptrdiff_t plane, ptrdiff_t tap, ptrdiff_t od) {
    const fc_conv *g = job->g;
    const ptrdiff_t row = plane * fc_volume(g->kernel) + tap;
    return job->cols +
           (row * fc_volume(g->out) + od * g->out[1] * g->out[2]) * (ptrdiff_t)job->t->itemsize;
}

static void im2col_task(void *context, ptrdiff_t plane, int slot) {
    const cols_job *job = context;
    const fc_conv *g = job->g;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, width = g->out[2];
    const char *x = fc_at(job->x, job->t->itemsize, plane / g->C, plane % g->C);
    (void)slot;
    for (ptrdiff_t tap = 0; tap < fc_volume(g->kernel); tap++)
        for (ptrdiff_t od = 0; od < g->out[0]; od++) {
            const seen s = find_seen(job, od, tap);
            char *dst = cols_row(job, plane, tap, od);
            if (s.h_last - s.h_first < g->out[1] || s.w_last - s.w_first < width)
                memset(dst, 0, (size_t)(g->out[1] * width * itemsize));
            const fc_copy copy = {
                .rows = s.h_last - s.h_first,
                .cols = s.w_last - s.w_first,
                .src = x + s.offset * itemsize,
                .src_row = g->stride[1] * job->x->stride[3],
                .src_col = g->stride[2] * job->x->stride[4],
                .dst = dst + (s.h_first * width + s.w_first) * itemsize,
                .dst_row = width,
                .dst_col = 1,
                .readable_end = job->x_end,
            };
            if (s.h_last > 0)
                job->t->copy_2d(&copy);
        }
}

/* One image plane: zero, then every tap's rows added where they came from. */
static void col2im_task(void *context, ptrdiff_t plane, int slot) {
    const cols_job *job = context;
    const fc_conv *g = job->g;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize;
    static const double zero = 0;
    char *x = fc_at(job->x, job->t->itemsize, plane / g->C, plane % g->C);
    (void)slot;
    for (ptrdiff_t id = 0; id < g->in[0]; id++) {
        const fc_copy clear = {.rows = g->in[1],
                               .cols = g->in[2],
                               .src = &zero,
                               .dst = x + id * job->x->stride[2] * itemsize,
                               .dst_row = job->x->stride[3],
                               .dst_col = job->x->stride[4]};
        job->t->copy_2d(&clear);
    }
    for (ptrdiff_t tap = 0; tap < fc_volume(g->kernel); tap++)
        for (ptrdiff_t od = 0; od < g->out[0]; od++) {
            const seen s = find_seen(job, od, tap);
            const char *src = cols_row(job, plane, tap, od);
            for (ptrdiff_t oh = s.h_first; oh < s.h_last; oh++)
                job->t->add_row(
                    s.w_last - s.w_first, src + (oh * g->out[2] + s.w_first) * itemsize,
                    x + (s.offset + (oh - s.h_first) * g->stride[1] * job->x->stride[3]) * itemsize,
                    g->stride[2] * job->x->stride[4]);
        }
}

static fc_status run(const fc_conv *g, fc_dtype dtype, const fc_array *x, void *cols,
                     fc_task task) {
    const fc_status status = fc_conv_check(g);
    if (status || g->N == 0)
        return status;
    ptrdiff_t bytes = 8; /* the matrix is KD*KH*KW times as large as the image it is made from */
    if (!fc_multiply(&bytes, g->N) || !fc_multiply(&bytes, g->C) ||
        !fc_multiply(&bytes, fc_volume(g->kernel)) || !fc_multiply(&bytes, fc_volume(g->out)))
        return FC_OVERFLOW;
    const ptrdiff_t size[] = {g->N, g->C, g->in[0], g->in[1], g->in[2]};
    fc_conv limited = *g;
    fc_limit_strides(g->in, g->out, limited.stride);
    cols_job job = {.g = &limited, .x = x, .cols = cols, .t = fc_table(dtype)};
    fc_array_bounds(x, size, job.t->itemsize, &job.x_begin, &job.x_end);
    fc_parallel_for(fc_threads_for((double)(bytes / 8)), g->N * g->C, task, &job);
    return FC_OK;
}

fc_status fc_im2col(const fc_conv *g, fc_dtype dtype, const fc_array *x, void *cols) {
    return run(g, dtype, x, cols, im2col_task);
}

fc_status fc_col2im(const fc_conv *g, fc_dtype dtype, const void *cols, const fc_array *x) {
    return run(g, dtype, x, (void *)cols, col2im_task);
}
