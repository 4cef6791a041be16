/* SPDX-License-Identifier: BSD-3-Clause
 * Max pooling, backward: each window adds its gradient to the one cell it came from, given as plane
 * index (fc_unpool) or as kernel cell. A task takes its planes a few at a time, so that the zeros it
 * writes first are still near when the gradients come. */
#include <string.h>

#include "pool.h"

/* Planes of a task: one run of them for each thread, for what a thread wrote in the last call is
 * still in its caches. */
static ptrdiff_t planes_of_task(const fc_pool *g, int threads) {
    return FC_MAX(1, fc_ceil_div(g->N * g->C, threads));
}

/* Planes handled at a time: as many as fit so many bytes, but four, which the kernels take together,
 * where that is still within the second-level cache. */
static ptrdiff_t planes_at_once(const fc_pool *g, size_t itemsize, size_t bytes) {
    const ptrdiff_t plane_bytes = fc_volume(g->in) * (ptrdiff_t)itemsize;
    const ptrdiff_t most = (ptrdiff_t)bytes / plane_bytes;
    if (most >= 4)
        return most & -4;
    return 4 * plane_bytes <= (ptrdiff_t)fc_cpu_caches()->l2 / 4 ? 4 : 1;
}

static void clear_planes(const fc_kernels *t, const fc_array *dx, ptrdiff_t volume, ptrdiff_t n,
                         ptrdiff_t c, ptrdiff_t count) {
    if (dx->stride[4] == 1 && dx->stride[1] == volume)
        memset(fc_at(dx, t->itemsize, n, c), 0, (size_t)(count * volume) * t->itemsize);
    else
        for (ptrdiff_t i = 0; i < count; i++)
            t->fill(volume, 0, fc_at(dx, t->itemsize, n, c + i), dx->stride[4]);
}

/* ---- kernel cells -------------------------------------------------------------------------- */

/* Scratch of one thread: where the cells of a row of windows are, behind the plane's element under
 * the row's first cell of all; outside the image rows, nowhere. */
typedef struct {
    ptrdiff_t *at;
    int32_t *column;
} cell_table;

static ptrdiff_t table_cells(const fc_pool *g) {
    return FC_MAX(256, fc_volume(g->kernel)); /* every byte has an entry */
}

static cell_table carve_table(const fc_pool_job *job, int slot) {
    cell_table table;
    char *memory = job->scratch + (size_t)slot * job->slot_bytes;
    const ptrdiff_t cells = table_cells(&job->g);
    table.at = (ptrdiff_t *)memory;
    table.column = (int32_t *)(memory + fc_align((size_t)cells * sizeof(ptrdiff_t)));
    for (ptrdiff_t i = 0; i < cells; i++)
        table.at[i] = FC_NOWHERE;
    return table;
}

/* The table for window row (od, oh). */
static void set_table(const fc_pool *g, ptrdiff_t od, ptrdiff_t oh, cell_table *table) {
    const ptrdiff_t out[2] = {od, oh};
    ptrdiff_t start[2], first[2], last[2], cell = 0;
    for (int axis = 0; axis < 2; axis++) {
        start[axis] = out[axis] * g->stride[axis] - g->pad[axis];
        fc_valid_range(start[axis], g->dilation[axis], g->kernel[axis], g->in[axis], &first[axis],
                       &last[axis]);
    }
    for (ptrdiff_t kd = 0; kd < g->kernel[0]; kd++)
        for (ptrdiff_t kh = 0; kh < g->kernel[1]; kh++) {
            const int inside = kd >= first[0] && kd < last[0] && kh >= first[1] && kh < last[1];
            const ptrdiff_t row =
                (start[0] + kd * g->dilation[0]) * g->in[1] + start[1] + kh * g->dilation[1];
            for (ptrdiff_t kw = 0; kw < g->kernel[2]; kw++, cell++) {
                table->column[cell] = (int32_t)(kw * g->dilation[2] - g->pad[2]);
                table->at[cell] = inside ? row * g->in[2] + table->column[cell] : FC_NOWHERE;
            }
        }
}

/* Whether some window has columns outside the image. */
static int leaves_image(const fc_pool *g) {
    return g->pad[2] != 0 ||
           (g->out[2] - 1) * g->stride[2] + (g->kernel[2] - 1) * g->dilation[2] >= g->in[2];
}

/* Neighbouring planes of one image. */
static void scatter_planes(const fc_pool_job *job, cell_table *table, ptrdiff_t n, ptrdiff_t c,
                           ptrdiff_t count) {
    const fc_pool *g = &job->g;
    fc_cells s = {.planes = count,
                  .n = g->out[2],
                  .kind = job->index_kind,
                  .cells = fc_volume(g->kernel),
                  .at = table->at,
                  .column = leaves_image(g) ? table->column : NULL,
                  .stride = g->stride[2],
                  .width = g->in[2],
                  .dy_plane = job->y.stride[1],
                  .index_plane = job->index.stride[1],
                  .dx = fc_at(&job->x, job->t->itemsize, n, c),
                  .dx_plane = job->x.stride[1]};
    clear_planes(job->t, &job->x, fc_volume(g->in), n, c, count);
    for (ptrdiff_t od = 0; od < g->out[0]; od++)
        for (ptrdiff_t oh = 0; oh < g->out[1]; oh++) {
            set_table(g, od, oh, table);
            s.dy = fc_at(&job->y, job->t->itemsize, n, c) +
                   (od * job->y.stride[2] + oh * job->y.stride[3]) * job->itemsize;
            s.index =
                fc_pool_index_at(job, n * job->index.stride[0] + c * job->index.stride[1] +
                                          od * job->index.stride[2] + oh * job->index.stride[3]);
            job->t->scatter_cells(&s);
        }
}

static void scatter_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    cell_table table = carve_table(job, slot);
    const ptrdiff_t most = planes_at_once(g, job->t->itemsize, fc_cpu_caches()->l2 / 8);
    const ptrdiff_t end = FC_MIN((task + 1) * job->planes, g->N * g->C);
    for (ptrdiff_t plane = task * job->planes, count; plane < end; plane += count) {
        const ptrdiff_t n = plane / g->C, c = plane % g->C;
        count = FC_MIN(FC_MIN(most, end - plane), g->C - c);
        scatter_planes(job, &table, n, c, count);
    }
}

/* ---- windows that neither overlap nor leave gaps -------------------------------------------- */

/* For windows two wide and rows that fill vectors, or half of one: others are scattered faster. */
static int suits_cover(const fc_pool *g, ptrdiff_t lanes) {
    int tile = g->kernel[2] == 2 && (g->out[2] >= lanes || 2 * g->out[2] == lanes);
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        tile &= g->stride[axis] == g->kernel[axis] && g->pad[axis] == 0 &&
                (g->dilation[axis] == 1 || g->kernel[axis] == 1) &&
                g->out[axis] * g->stride[axis] <= g->in[axis];
    return tile;
}

/* What lies behind the last windows of a slab [H][W] gets no gradient. */
static void clear_margins(const fc_pool *g, size_t itemsize, char *slab) {
    const size_t covered = (size_t)(g->out[2] * g->kernel[2]) * itemsize;
    const size_t row = (size_t)g->in[2] * itemsize;
    const size_t rows = (size_t)(g->out[1] * g->kernel[1]);
    for (size_t ih = 0; covered < row && ih < rows; ih++)
        memset(slab + ih * row + covered, 0, row - covered);
    memset(slab + rows * row, 0, ((size_t)g->in[1] - rows) * row);
}

static void cover_plane(const fc_pool_job *job, ptrdiff_t n, ptrdiff_t c) {
    const fc_pool *g = &job->g;
    const ptrdiff_t slab = g->in[1] * g->in[2] * job->itemsize;
    char *dx = fc_at(&job->x, job->t->itemsize, n, c);
    fc_cover s = {.rows = g->out[1],
                  .n = g->out[2],
                  .kernel = {g->kernel[1], g->kernel[2]},
                  .kind = job->index_kind,
                  .dy_row = job->y.stride[3],
                  .index_row = job->index.stride[3],
                  .dx_row = g->in[2]};
    for (ptrdiff_t id = 0; id < g->out[0] * g->kernel[0]; id++, dx += slab) {
        const ptrdiff_t od = id / g->kernel[0];
        s.cell = fc_cell(g, id % g->kernel[0], 0, 0);
        s.dy = fc_at(&job->y, job->t->itemsize, n, c) + od * job->y.stride[2] * job->itemsize;
        s.index = fc_pool_index_at(job, n * job->index.stride[0] + c * job->index.stride[1] +
                                            od * job->index.stride[2]);
        s.dx = dx;
        job->t->cover_cells(&s);
        clear_margins(g, job->t->itemsize, dx);
    }
    memset(dx, 0, (size_t)((g->in[0] - g->out[0] * g->kernel[0]) * slab));
}

static void cover_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    (void)slot;
    for (ptrdiff_t plane = task * job->planes;
         plane < FC_MIN((task + 1) * job->planes, g->N * g->C); plane++)
        cover_plane(job, plane / g->C, plane % g->C);
}

/* ---- the calls ----------------------------------------------------------------------------- */

static int has_unit_rows(const fc_array *a) {
    return a->stride[4] == 1;
}

int fc_pool_suits_scatter(const fc_pool_job *job) {
    return job->is_max && !job->channels_last && has_unit_rows(&job->x) &&
           fc_is_dense(&job->x, job->g.in) && has_unit_rows(&job->y) && has_unit_rows(&job->index);
}

fc_status fc_pool_scatter(fc_pool_job *job) {
    const fc_pool *g = &job->g;
    job->planes = planes_of_task(g, fc_pool_threads(g));
    if (suits_cover(g, job->t->lanes))
        return fc_pool_run(job, fc_ceil_div(g->N * g->C, job->planes), cover_task);
    job->slot_bytes = fc_align((size_t)table_cells(g) * sizeof(ptrdiff_t)) +
                      fc_align((size_t)table_cells(g) * sizeof(int32_t));
    return fc_pool_run(job, fc_ceil_div(g->N * g->C, job->planes), scatter_task);
}

/* ---- plane indices ------------------------------------------------------------------------- */

/* ---- unpooling ----------------------------------------------------------------------------- */

typedef struct {
    const fc_pool *g;
    fc_array dy, index, dx;
    const fc_kernels *t;
    int zeroed;       /* dx holds zeros */
    ptrdiff_t planes; /* planes of a task */
    int bad;
} unpool_job;

/* Neighbouring planes of one image. */
static ptrdiff_t unpool_planes(const unpool_job *job, ptrdiff_t n, ptrdiff_t c, ptrdiff_t count) {
    const fc_pool *g = job->g;
    char *dx = fc_at(&job->dx, job->t->itemsize, n, c);
    const char *dy = fc_at(&job->dy, job->t->itemsize, n, c);
    const char *index = fc_at(&job->index, sizeof(int64_t), n, c);
    fc_scatter s = {.rows = count,
                    .n = fc_volume(g->out),
                    .plane = fc_volume(g->in),
                    .dy = dy,
                    .dy_row = job->dy.stride[1],
                    .dy_step = job->dy.stride[4],
                    .index = (const int64_t *)index,
                    .index_row = job->index.stride[1],
                    .index_step = job->index.stride[4],
                    .dx = dx,
                    .dx_row = job->dx.stride[1],
                    .dx_step = job->dx.stride[4]};
    if (!job->zeroed)
        clear_planes(job->t, &job->dx, fc_volume(g->in), n, c, count);
    if (fc_is_dense(&job->dy, g->out) && fc_is_dense(&job->index, g->out))
        return job->t->scatter(&s);
    ptrdiff_t bad = 0;
    s.n = g->out[2];
    for (ptrdiff_t row = 0; row < g->out[0] * g->out[1]; row++) {
        const ptrdiff_t od = row / g->out[1], oh = row % g->out[1];
        s.dy = dy + (od * job->dy.stride[2] + oh * job->dy.stride[3]) * (ptrdiff_t)job->t->itemsize;
        s.index = (const int64_t *)index + od * job->index.stride[2] + oh * job->index.stride[3];
        bad += job->t->scatter(&s);
    }
    return bad;
}

static void unpool_task(void *context, ptrdiff_t task, int slot) {
    unpool_job *job = context;
    const fc_pool *g = job->g;
    const ptrdiff_t most = planes_at_once(g, job->t->itemsize, fc_cpu_caches()->l1d / 2);
    const ptrdiff_t end = FC_MIN((task + 1) * job->planes, g->N * g->C);
    ptrdiff_t bad = 0;
    (void)slot;
    for (ptrdiff_t plane = task * job->planes, count; plane < end; plane += count) {
        const ptrdiff_t n = plane / g->C, c = plane % g->C;
        count = FC_MIN(FC_MIN(most, end - plane), g->C - c);
        bad += unpool_planes(job, n, c, count);
    }
    if (bad)
        __atomic_store_n(&job->bad, 1, __ATOMIC_RELAXED);
}

fc_status fc_unpool(const fc_pool *g, fc_dtype dtype, const fc_array *dy, const fc_array *index,
                    const fc_array *dx, int zeroed) {
    const fc_status status = fc_pool_check(g);
    if (status)
        return status;
    unpool_job job = {
        .g = g, .dy = *dy, .index = *index, .dx = *dx, .t = fc_table(dtype), .zeroed = zeroed};
    fc_tidy_width(&job.dx, g->in);
    fc_tidy_width(&job.dy, g->out);
    fc_tidy_width(&job.index, g->out);
    if (!fc_is_dense(&job.dx, g->in))
        return FC_BAD_GEOMETRY;
    const int threads = fc_pool_threads(g);
    job.planes = planes_of_task(g, threads);
    fc_parallel_for(threads, fc_ceil_div(g->N * g->C, job.planes), unpool_task, &job);
    return job.bad ? FC_BAD_INDEX : FC_OK;
}
