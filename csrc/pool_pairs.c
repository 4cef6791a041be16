/* SPDX-License-Identifier: BSD-3-Clause
 * Max pooling, forward, with windows two columns wide that stand side by side, such as those of 2x2 with
 * stride 2: read where they lie (kernels/pool_pairs.inc). */
#include "pool.h"

/* Windows whose cells are found before they are stored: their numbers stay in the first-level cache. */
enum { BAND_WINDOWS = 1024 };

static int stays_inside(const fc_pool *g) {
    int inside = 1;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        inside &= g->pad[axis] == 0 &&
                  (g->out[axis] - 1) * g->stride[axis] + (g->kernel[axis] - 1) * g->dilation[axis] <
                      g->in[axis];
    return inside;
}

int fc_pool_suits_pairs(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    const int has_index = job->index_kind != FC_INDEX_NONE;
    const ptrdiff_t lanes = job->t->lanes;
    return job->is_max && !job->channels_last && g->kernel[0] == 1 && g->kernel[2] == 2 &&
           g->stride[2] == 2 && g->dilation[2] == 1 && stays_inside(g) &&
           (g->out[2] >= lanes || 2 * g->out[2] == lanes) && job->x.stride[4] == 1 &&
           fc_pool_is_plain(&job->y, g->out) &&
           (!has_index || fc_pool_is_plain(&job->index, g->out));
}

static ptrdiff_t band_rows(const fc_pool *g) {
    const ptrdiff_t rows = FC_MAX(1, BAND_WINDOWS / g->out[2]);
    return FC_MIN(g->out[1], rows);
}

/* Window rows [oh, oh + rows) of plane (n, c, od). */
static void pool_band(const fc_pool_job *job, ptrdiff_t n, ptrdiff_t c, ptrdiff_t od, ptrdiff_t oh,
                      ptrdiff_t rows, int32_t *arg) {
    const fc_pool *g = &job->g;
    const ptrdiff_t width = g->out[2], row = od * g->out[1] + oh;
    const int is_plane = job->index_kind == FC_INDEX_PLANE;
    const fc_pairs pairs = {
        .rows = rows,
        .n = width,
        .height = g->kernel[1],
        .x = fc_at(&job->x, job->t->itemsize, n, c) +
             (od * g->stride[0] * job->x.stride[2] + oh * g->stride[1] * job->x.stride[3]) *
                 job->itemsize,
        .x_row = g->stride[1] * job->x.stride[3],
        .x_cell = g->dilation[1] * job->x.stride[3],
        .id_row = (int32_t)(is_plane ? g->dilation[1] * g->in[2] : 2),
        .y = fc_at(&job->y, job->t->itemsize, n, c) + row * width * job->itemsize,
        .arg = job->index_kind == FC_INDEX_NONE ? NULL : arg};
    job->t->max_pairs(&pairs);
    if (!pairs.arg)
        return;
    const ptrdiff_t at = n * job->index.stride[0] + c * job->index.stride[1] + row * width;
    if (!is_plane) {
        job->t->store_index(job->index_kind, rows * width, arg, 0, 0, fc_pool_index_at(job, at), 1);
        return;
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        const int64_t origin =
            ((int64_t)od * g->stride[0] * g->in[1] + (oh + r) * g->stride[1]) * g->in[2];
        job->t->store_index(FC_INDEX_PLANE, width, arg + r * width, origin, 2,
                            fc_pool_index_at(job, at + r * width), 1);
    }
}

static void pairs_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    int32_t *arg = (int32_t *)(job->scratch + (size_t)slot * job->slot_bytes);
    const ptrdiff_t most = band_rows(g);
    for (ptrdiff_t od = 0; od < g->out[0]; od++)
        for (ptrdiff_t oh = 0; oh < g->out[1]; oh += most)
            pool_band(job, task / g->C, task % g->C, od, oh, FC_MIN(most, g->out[1] - oh), arg);
}

fc_status fc_pool_forward_pairs(fc_pool_job *job) {
    const fc_pool *g = &job->g;
    job->slot_bytes = fc_align((size_t)(band_rows(g) * g->out[2]) * sizeof(int32_t));
    return fc_pool_run(job, g->N * g->C, pairs_task);
}
