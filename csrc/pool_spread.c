/* SPDX-License-Identifier: BSD-3-Clause
 * Average pooling, backward: each window spreads its share of the gradient over its cells. Here are
 * channels last and windows as large as the image; planes are in pool_spread_planes.c. With channels
 * last columns are vectors, and sums are taken down the columns first, then along the row: 2*K additions
 * for a kernel of K x K cells, not K*K, and a row of windows is all the scratch memory. */
#include <string.h>

#include "pool_spread.h"

enum { LEAST_CHANNELS = 8 }; /* as channels last; fewer are planes that lie apart */

ptrdiff_t fc_most_covering(const fc_pool *g, int axis, ptrdiff_t neighbours) {
    return FC_MIN(g->out[axis], fc_ceil_div(neighbours + (g->kernel[axis] - 1) * g->dilation[axis],
                                            g->stride[axis]));
}

void fc_covering_range(const fc_pool *g, int axis, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t *first,
                       ptrdiff_t *last) {
    const ptrdiff_t reach = (g->kernel[axis] - 1) * g->dilation[axis];
    const ptrdiff_t lowest = FC_MAX(0, begin + g->pad[axis] - reach);
    *first = FC_MIN(g->out[axis], fc_ceil_div(lowest, g->stride[axis]));
    *last = (end - 1 + g->pad[axis]) / g->stride[axis] + 1;
    *last = FC_MAX(*first, FC_MIN(*last, g->out[axis]));
}

size_t fc_covering_bytes(const fc_pool *g) {
    size_t count = 1;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        count *= (size_t)fc_most_covering(g, axis, 1);
    return fc_align(count * sizeof(void *));
}

void fc_load_scaled(const fc_pool_job *job, ptrdiff_t n, int axis, ptrdiff_t image,
                    ptrdiff_t channel, const ptrdiff_t out[FC_SPATIAL], char *dst) {
    const char *src = fc_at(&job->y, job->t->itemsize, image, channel);
    for (int i = 0; i < FC_SPATIAL; i++)
        src += out[i] * job->y.stride[i + 2] * job->itemsize;
    const fc_copy copy = {
        .rows = 1, .cols = n, .src = src, .src_col = job->y.stride[axis], .dst = dst, .dst_col = 1};
    if (job->sum_kind == FC_POOL_SUM)
        job->t->copy_2d(&copy);
    else
        job->t->scale_row(n, src, job->y.stride[axis],
                          job->scale[0][out[0]] * job->scale[1][out[1]], job->scale[2] + out[2],
                          axis == 4, dst);
}

/* ---- channels last -------------------------------------------------------------------------- */

/* Scratch: [window][channel], then one window's channels. */
static size_t columns_bytes(const fc_pool_job *job) {
    return fc_align((size_t)(fc_most_covering(&job->g, 2, job->band) * job->g.C * job->itemsize));
}

static size_t channels_bytes(const fc_pool_job *job) {
    return fc_align((size_t)(job->g.C * job->itemsize));
}

/* Columns of dx taken at a time. */
static ptrdiff_t choose_columns(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    const ptrdiff_t budget = (ptrdiff_t)fc_cpu_caches()->l1d / 2;
    const ptrdiff_t most = budget * g->stride[2] / (g->C * job->itemsize);
    return fc_even_part(g->in[2], FC_MAX(FC_MIN(g->in[2], 4), most));
}

/* sums = the windows (all od, all oh, ow) that cover row (id, ih) of image n. */
static void sum_column(const fc_pool_job *job, ptrdiff_t n, ptrdiff_t id, ptrdiff_t ih,
                       ptrdiff_t ow, char *scaled, char *sums) {
    const fc_pool *g = &job->g;
    const fc_pool_cover *c = job->cover;
    int is_first = 1;
    for (ptrdiff_t od = c[0].first[id]; od < c[0].last[id]; od += c[0].step)
        for (ptrdiff_t oh = c[1].first[ih]; oh < c[1].last[ih]; oh += c[1].step) {
            fc_load_scaled(job, g->C, 1, n, 0, (ptrdiff_t[]){od, oh, ow}, is_first ? sums : scaled);
            if (!is_first)
                job->t->add_row(g->C, scaled, sums, 1);
            is_first = 0;
        }
    if (is_first)
        memset(sums, 0, (size_t)(g->C * job->itemsize));
}

static void channels_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    const fc_pool_cover *c = &job->cover[2];
    const ptrdiff_t column_bands = fc_ceil_div(g->in[2], job->band);
    const ptrdiff_t row = task / column_bands, begin = task % column_bands * job->band;
    const ptrdiff_t ih = row % g->in[1], id = row / g->in[1] % g->in[0];
    const ptrdiff_t n = row / g->in[1] / g->in[0], end = FC_MIN(begin + job->band, g->in[2]);
    char *sums = job->scratch + (size_t)slot * job->slot_bytes;
    char *scaled = sums + columns_bytes(job);
    const void **covering = (const void **)(scaled + channels_bytes(job));
    char *dx = fc_at(&job->x, job->t->itemsize, n, 0) +
               (id * job->x.stride[2] + ih * job->x.stride[3]) * job->itemsize;
    ptrdiff_t first, last;
    fc_covering_range(g, 2, begin, end, &first, &last);
    for (ptrdiff_t ow = first; ow < last; ow++)
        sum_column(job, n, id, ih, ow, scaled, sums + (ow - first) * g->C * job->itemsize);
    for (ptrdiff_t iw = begin; iw < end; iw++) {
        ptrdiff_t count = 0;
        for (ptrdiff_t ow = c->first[iw]; ow < c->last[iw]; ow += c->step)
            covering[count++] = sums + (ow - first) * g->C * job->itemsize;
        job->t->sum_taps(g->C, count, covering, dx + iw * job->x.stride[4] * job->itemsize);
    }
}

/* ---- one window ----------------------------------------------------------------------------- */

/* A window that holds all of a dense plane: the plane is one number. */
static int suits_one(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    int suits = fc_volume(g->out) == 1 && fc_pool_is_plain(&job->x, g->in);
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        suits &= (g->dilation[axis] == 1 || g->kernel[axis] == 1) &&
                 g->kernel[axis] - g->pad[axis] >= g->in[axis];
    return suits;
}

static void one_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    const ptrdiff_t end = FC_MIN((task + 1) * job->planes, g->N * g->C);
    const double scale = job->scale[0][0] * job->scale[1][0] * job->scale[2][0];
    (void)slot;
    for (ptrdiff_t plane = task * job->planes; plane < end; plane++) {
        const ptrdiff_t n = plane / g->C, c = plane % g->C;
        const double share = scale * fc_value_at(job->t, fc_at(&job->y, job->t->itemsize, n, c));
        job->t->fill(fc_volume(g->in), share, fc_at(&job->x, job->t->itemsize, n, c), 1);
    }
}

/* ---- the call ------------------------------------------------------------------------------- */

fc_status fc_pool_spread(fc_pool_job *job) {
    const fc_pool *g = &job->g;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        if (g->out[axis] > INT32_MAX) /* windows have 32-bit numbers, too */
            return FC_OVERFLOW;
    job->spreads = 1;
    if (job->channels_last && g->C >= LEAST_CHANNELS) {
        job->band = choose_columns(job);
        job->slot_bytes = columns_bytes(job) + channels_bytes(job) + fc_covering_bytes(g);
        return fc_pool_run(job, g->N * g->in[0] * g->in[1] * fc_ceil_div(g->in[2], job->band),
                           channels_task);
    }
    if (!suits_one(job))
        return fc_pool_spread_planes(job);
    job->planes = FC_MAX(1, fc_ceil_div(g->N * g->C, fc_pool_threads(g)));
    return fc_pool_run(job, fc_ceil_div(g->N * g->C, job->planes), one_task);
}
