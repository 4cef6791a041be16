/* SPDX-License-Identifier: BSD-3-Clause
 * Pooling of maps so narrow that rows would not fill vectors: a plane to a lane.
 *
 * A task takes as many planes as a vector has lanes and a band of windows, interleaves what the band
 * sees of them to pixels of one vector each, [row][column][lane], reduces whole vectors, and turns
 * the results back to planes. Sums are taken along the rows first and then down the columns, so
 * that a kernel of K x K cells costs 2*K additions and not K*K. */
#include "pool.h"

typedef struct {
    char *pixels;       /* the band's image rows */
    char *row_sums;     /* the same, summed along the row: [row][window][lane] */
    char *result, *arg; /* [window][lane] */
    const void **rows;  /* what a row of windows sees */
    int32_t *ids;
} scratch;

/* A task's planes, and its windows along the band axis: [0] in windows, [1] in the image. */
typedef struct {
    ptrdiff_t image, plane, count;
    ptrdiff_t begin[2], end[2];
} block;

static ptrdiff_t pixel_bytes(const fc_pool_job *job) {
    return job->t->lanes * job->itemsize;
}

/* Rows of a step along the band axis. */
static ptrdiff_t image_rows(const fc_pool *g) {
    return fc_pool_band_axis(g) == 0 ? g->in[1] : 1;
}

static ptrdiff_t window_rows(const fc_pool *g) {
    return fc_pool_band_axis(g) == 0 ? g->out[1] : 1;
}

/* Steps of the image that so many windows see at most. */
static ptrdiff_t seen_by(const fc_pool *g, ptrdiff_t windows) {
    const int axis = fc_pool_band_axis(g);
    return FC_MIN(g->in[axis],
                  (windows - 1) * g->stride[axis] + (g->kernel[axis] - 1) * g->dilation[axis] + 1);
}

static ptrdiff_t band_bytes(const fc_pool_job *job, ptrdiff_t windows) {
    return seen_by(&job->g, windows) * image_rows(&job->g) * job->g.in[2] * pixel_bytes(job);
}

static ptrdiff_t choose_band(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    const ptrdiff_t budget = (ptrdiff_t)fc_cpu_caches()->l2 / 4,
                    windows = g->out[fc_pool_band_axis(g)];
    if (band_bytes(job, windows) <= budget)
        return windows;
    const ptrdiff_t step = band_bytes(job, 2) - band_bytes(job, 1);
    return fc_even_part(windows, 1 + FC_MAX(0, budget - band_bytes(job, 1)) / FC_MAX(1, step));
}

int fc_pool_suits_planes(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    const int has_index = job->index_kind != FC_INDEX_NONE;
    return job->t->lanes > 1 && !job->channels_last && fc_pool_is_plain(&job->x, g->in) &&
           fc_pool_is_plain(&job->y, g->out) &&
           (!has_index || fc_pool_is_plain(&job->index, g->out)) &&
           g->out[2] < 2 * job->t->lanes + 8 && g->N * g->C >= job->t->lanes / 2 &&
           band_bytes(job, 1) <= (ptrdiff_t)fc_cpu_caches()->l2;
}

static ptrdiff_t groups(const fc_pool_job *job) {
    return fc_ceil_div(job->g.C, job->t->lanes);
}

static ptrdiff_t bands(const fc_pool_job *job) {
    return fc_ceil_div(job->g.out[fc_pool_band_axis(&job->g)], job->band);
}

/* ---- scratch memory ------------------------------------------------------------------------ */

static size_t pixels_bytes(const fc_pool_job *job) {
    return fc_align((size_t)band_bytes(job, job->band));
}

static size_t row_sums_bytes(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    return job->is_max ? 0
                       : fc_align((size_t)(seen_by(g, job->band) * image_rows(g) * g->out[2] *
                                           pixel_bytes(job)));
}

static size_t result_bytes(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    return fc_align((size_t)(job->band * window_rows(g) * g->out[2] * pixel_bytes(job)));
}

static size_t rows_bytes(const fc_pool_job *job) {
    return fc_align((size_t)(job->g.kernel[0] * job->g.kernel[1]) * sizeof(void *));
}

static size_t scratch_bytes(const fc_pool_job *job) {
    return pixels_bytes(job) + row_sums_bytes(job) + 2 * result_bytes(job) + 2 * rows_bytes(job);
}

static scratch carve_scratch(const fc_pool_job *job, int slot) {
    scratch s;
    s.pixels = job->scratch + (size_t)slot * job->slot_bytes;
    s.row_sums = s.pixels + pixels_bytes(job);
    s.result = s.row_sums + row_sums_bytes(job);
    s.arg = s.result + result_bytes(job);
    s.rows = (const void **)(s.arg + result_bytes(job));
    s.ids = (int32_t *)((char *)s.rows + rows_bytes(job));
    return s;
}

/* ---- a task -------------------------------------------------------------------------------- */

static block block_at(const fc_pool_job *job, ptrdiff_t task) {
    const fc_pool *g = &job->g;
    const int axis = fc_pool_band_axis(g);
    const ptrdiff_t group = task / bands(job), band = task % bands(job);
    block b = {.image = group / groups(job), .plane = group % groups(job) * job->t->lanes};
    b.count = FC_MIN(g->C - b.plane, job->t->lanes);
    b.begin[0] = band * job->band;
    b.end[0] = FC_MIN(b.begin[0] + job->band, g->out[axis]);
    b.begin[1] = FC_MAX(0, b.begin[0] * g->stride[axis] - g->pad[axis]);
    b.end[1] = FC_MIN(g->in[axis], (b.end[0] - 1) * g->stride[axis] - g->pad[axis] +
                                       (g->kernel[axis] - 1) * g->dilation[axis] + 1);
    return b;
}

static void interleave(const fc_pool_job *job, const scratch *s, const block *b) {
    const ptrdiff_t row = image_rows(&job->g) * job->g.in[2];
    const fc_copy copy = {.rows = b->count,
                          .cols = (b->end[1] - b->begin[1]) * row,
                          .src = fc_at(&job->x, job->t->itemsize, b->image, b->plane) +
                                 b->begin[1] * row * job->itemsize,
                          .src_row = job->x.stride[1],
                          .src_col = 1,
                          .dst = s->pixels,
                          .dst_row = 1,
                          .dst_col = job->t->lanes};
    job->t->copy_2d(&copy);
}

static void sum_along_rows(const fc_pool_job *job, const scratch *s, const block *b,
                           fc_pixels pixels) {
    const fc_pool *g = &job->g;
    const ptrdiff_t rows = (b->end[1] - b->begin[1]) * image_rows(g);
    pixels.row = s->rows;
    for (ptrdiff_t row = 0; row < rows; row++) {
        s->rows[0] = s->pixels + row * g->in[2] * pixel_bytes(job);
        pixels.dst = s->row_sums + row * g->out[2] * pixel_bytes(job);
        job->t->sum_pixels(&pixels);
    }
}

/* Rows of the image, or of their sums, `row_bytes` apart, that window row (od, oh) sees, and what the
 * cell in column 0 of the windows' rows is called. */
static ptrdiff_t list_rows(const fc_pool_job *job, const scratch *s, const block *b, ptrdiff_t od,
                           ptrdiff_t oh, const char *source, ptrdiff_t row_bytes) {
    const fc_pool *g = &job->g;
    const ptrdiff_t out[2] = {od, oh};
    ptrdiff_t start[2], first[2], last[2], count = 0;
    for (int axis = 0; axis < 2; axis++) {
        start[axis] = out[axis] * g->stride[axis] - g->pad[axis];
        fc_valid_range(start[axis], g->dilation[axis], g->kernel[axis], g->in[axis], &first[axis],
                       &last[axis]);
    }
    for (ptrdiff_t kd = first[0]; kd < last[0]; kd++)
        for (ptrdiff_t kh = first[1]; kh < last[1]; kh++) {
            const ptrdiff_t row =
                (start[0] + kd * g->dilation[0]) * g->in[1] + start[1] + kh * g->dilation[1];
            s->rows[count] = source + (row - b->begin[1] * image_rows(g)) * row_bytes;
            s->ids[count++] = job->index_kind == FC_INDEX_PLANE
                                  ? (int32_t)(row * g->in[2] - g->pad[2])
                                  : fc_cell(g, kd, kh, 0);
        }
    return count;
}

static void reduce_row(const fc_pool_job *job, const scratch *s, const block *b, ptrdiff_t od,
                       ptrdiff_t oh, ptrdiff_t at, fc_pixels pixels) {
    const fc_pool *g = &job->g;
    pixels.dst = s->result + at;
    if (job->is_max) {
        pixels.row = s->rows;
        pixels.id = s->ids;
        pixels.arg = job->index_kind == FC_INDEX_NONE ? NULL : s->arg + at;
        pixels.rows = list_rows(job, s, b, od, oh, s->pixels, g->in[2] * pixel_bytes(job));
        job->t->max_pixels(&pixels);
        return;
    }
    const ptrdiff_t rows = list_rows(job, s, b, od, oh, s->row_sums, g->out[2] * pixel_bytes(job));
    job->t->sum_taps(g->out[2] * job->t->lanes, rows, s->rows, pixels.dst);
    if (job->sum_kind != FC_POOL_SUM)
        job->t->scale_pixels(g->out[2], job->scale[0][od] * job->scale[1][oh], job->scale[2],
                             pixels.dst);
}

static void put_results(const fc_pool_job *job, const scratch *s, const block *b) {
    const fc_pool *g = &job->g;
    const ptrdiff_t row = window_rows(g) * g->out[2];
    const ptrdiff_t n = (b->end[0] - b->begin[0]) * row, first = b->begin[0] * row;
    const fc_copy copy = {.rows = n,
                          .cols = b->count,
                          .src = s->result,
                          .src_row = job->t->lanes,
                          .src_col = 1,
                          .dst = fc_at(&job->y, job->t->itemsize, b->image, b->plane) +
                                 first * job->itemsize,
                          .dst_row = 1,
                          .dst_col = job->y.stride[1]};
    job->t->copy_2d(&copy);
    if (job->index_kind == FC_INDEX_NONE)
        return;
    const ptrdiff_t at = b->image * job->index.stride[0] + b->plane * job->index.stride[1] + first;
    job->t->put_pixel_ids(job->index_kind, n, b->count, s->arg, fc_pool_index_at(job, at),
                          job->index.stride[1]);
}

static void task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    const scratch s = carve_scratch(job, slot);
    const block b = block_at(job, task);
    const int axis = fc_pool_band_axis(g);
    const fc_pixels pixels = {.out = g->out[2],
                              .start = -g->pad[2],
                              .stride = g->stride[2],
                              .dilation = g->dilation[2],
                              .first = job->first,
                              .last = job->first + g->out[2],
                              .id_stride = job->index_kind == FC_INDEX_PLANE ? g->stride[2] : 0,
                              .id_dilation =
                                  job->index_kind == FC_INDEX_PLANE ? g->dilation[2] : 1};
    interleave(job, &s, &b);
    if (!job->is_max)
        sum_along_rows(job, &s, &b, pixels);
    ptrdiff_t at = 0;
    for (ptrdiff_t i = b.begin[0]; i < b.end[0]; i++)
        for (ptrdiff_t oh = axis == 0 ? 0 : i; oh < (axis == 0 ? g->out[1] : i + 1); oh++) {
            reduce_row(job, &s, &b, axis == 0 ? i : 0, oh, at, pixels);
            at += g->out[2] * pixel_bytes(job);
        }
    put_results(job, &s, &b);
}

fc_status fc_pool_forward_planes(fc_pool_job *job) {
    fc_pool_merge_images(job);
    job->band = choose_band(job);
    job->slot_bytes = scratch_bytes(job);
    return fc_pool_run(job, job->g.N * groups(job) * bands(job), task);
}
