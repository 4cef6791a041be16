/* SPDX-License-Identifier: BSD-3-Clause
 * Average pooling, backward: each window spreads its share of the gradient over its cells. Seen from
 * dx nothing is written twice: a row of windows becomes a row as wide as the image,
 *
 *     spread[iw] = sum of the windows that cover column iw
 *
 * and a row of dx is the sum of the spread rows that cover it: 2*K additions for a kernel of K x K
 * cells, not K*K. Rows too narrow to fill vectors are spread a plane to a lane, as pool_planes.c does
 * it; wider ones through one phase for each stride (see pool.inc). With channels last, where columns
 * are vectors already, sums are taken down the columns first: a row of them is all the scratch memory. */
#include <string.h>

#include "pool_spread.h"

/* Scratch of one thread: rows of windows, scaled; the same, spread; rows of dx; a row by its phases;
 * what covers a row, or a pixel, of dx. */
typedef struct {
    char *windows, *spread, *result, *phases;
    const void **covering;
} scratch;

/* A task's planes, and its rows along the band axis: [0] of windows, [1] of the image. */
typedef struct {
    ptrdiff_t image, plane, count;
    ptrdiff_t begin[2], end[2];
} block;

static ptrdiff_t pixel_bytes(const fc_pool_job *job) {
    return job->planes * job->itemsize;
}

/* Rows of a step along the band axis. */
static ptrdiff_t image_rows(const fc_pool *g) {
    return fc_pool_band_axis(g) == 0 ? g->in[1] : 1;
}

static ptrdiff_t window_rows(const fc_pool *g) {
    return fc_pool_band_axis(g) == 0 ? g->out[1] : 1;
}

/* ---- blocking and scratch memory ------------------------------------------------------------ */

static ptrdiff_t band_bytes(const fc_pool_job *job, ptrdiff_t rows) {
    const fc_pool *g = &job->g;
    return (fc_most_covering(g, fc_pool_band_axis(g), rows) * window_rows(g) +
            rows * image_rows(g)) *
           g->in[2] * pixel_bytes(job);
}

static ptrdiff_t choose_band(const fc_pool_job *job) {
    const ptrdiff_t budget = (ptrdiff_t)fc_cpu_caches()->l2 / 16;
    const ptrdiff_t rows = job->g.in[fc_pool_band_axis(&job->g)];
    ptrdiff_t most = rows;
    while (most > 1 && band_bytes(job, most) > budget)
        most /= 2;
    return fc_even_part(rows, most);
}

static int in_lanes(const fc_pool_job *job) {
    return job->planes > 1;
}

static size_t windows_bytes(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    const ptrdiff_t rows =
        in_lanes(job) ? fc_most_covering(g, fc_pool_band_axis(g), job->band) * window_rows(g) : 1;
    return fc_align((size_t)(rows * g->out[2] * pixel_bytes(job)));
}

static size_t spread_bytes(const fc_pool_job *job) {
    const fc_pool *g = &job->g;
    return fc_align((size_t)(fc_most_covering(g, fc_pool_band_axis(g), job->band) * window_rows(g) *
                             g->in[2] * pixel_bytes(job)));
}

static size_t result_bytes(const fc_pool_job *job) {
    const ptrdiff_t rows = in_lanes(job) ? job->band * image_rows(&job->g) : 1;
    return fc_align((size_t)(rows * job->g.in[2] * pixel_bytes(job)));
}

static size_t phases_bytes(const fc_pool_job *job) {
    return in_lanes(job)
               ? 0
               : fc_align((size_t)(job->w.phase_stride * job->g.stride[2] * job->itemsize));
}

static size_t scratch_bytes(const fc_pool_job *job) {
    return windows_bytes(job) + spread_bytes(job) + result_bytes(job) + phases_bytes(job) +
           fc_covering_bytes(&job->g);
}

static scratch carve_scratch(const fc_pool_job *job, int slot) {
    scratch s;
    s.windows = job->scratch + (size_t)slot * job->slot_bytes;
    s.spread = s.windows + windows_bytes(job);
    s.result = s.spread + spread_bytes(job);
    s.phases = s.result + result_bytes(job);
    s.covering = (const void **)(s.phases + phases_bytes(job));
    return s;
}

static ptrdiff_t groups(const fc_pool_job *job) {
    return fc_ceil_div(job->g.C, job->planes);
}

static ptrdiff_t bands(const fc_pool_job *job) {
    return fc_ceil_div(job->g.in[fc_pool_band_axis(&job->g)], job->band);
}

static block block_at(const fc_pool_job *job, ptrdiff_t task) {
    const fc_pool *g = &job->g;
    const int axis = fc_pool_band_axis(g);
    const ptrdiff_t group = task / bands(job), band = task % bands(job);
    block b = {.image = group / groups(job), .plane = group % groups(job) * job->planes};
    b.count = FC_MIN(g->C - b.plane, job->planes);
    b.begin[1] = band * job->band;
    b.end[1] = FC_MIN(b.begin[1] + job->band, g->in[axis]);
    fc_covering_range(g, axis, b.begin[1], b.end[1], &b.begin[0], &b.end[0]);
    return b;
}

/* ---- rows of windows spread ----------------------------------------------------------------- */

/* A row of one plane. Where windows stand side by side, every phase is the windows themselves. */
static void spread_wide(const fc_pool_job *job, const scratch *s, const block *b, ptrdiff_t od,
                        ptrdiff_t oh, char *dst) {
    const fc_pool *g = &job->g;
    const int side_by_side = g->kernel[2] == g->stride[2] && g->dilation[2] == 1;
    const ptrdiff_t phase = side_by_side ? 0 : job->w.phase_stride;
    const char *source = side_by_side ? s->windows : s->phases;
    fc_load_scaled(job, g->out[2], 4, b->image, b->plane, (ptrdiff_t[]){od, oh, 0}, s->windows);
    if (!side_by_side) {
        memset(s->phases, 0, phases_bytes(job));
        for (ptrdiff_t kw = 0; kw < g->kernel[2]; kw++) {
            const ptrdiff_t at = kw * g->dilation[2];
            job->t->add_row(
                g->out[2], s->windows,
                s->phases + (at % g->stride[2] * phase + at / g->stride[2]) * job->itemsize, 1);
        }
    }
    const ptrdiff_t covered = FC_MAX(0, FC_MIN(g->in[2], job->w.extent - g->pad[2]));
    job->t->merge_row(covered, g->stride[2], g->pad[2], source, phase, dst, 1);
    job->t->fill(g->in[2] - covered, 0, dst + covered * job->itemsize, 1);
}

/* A row of as many planes as a vector has lanes, whose windows begin at `windows`. */
static void spread_narrow(const fc_pool_job *job, ptrdiff_t od, ptrdiff_t oh, char *windows,
                          char *dst) {
    const fc_pool *g = &job->g;
    const void *row = windows;
    const fc_pixels pixels = {.out = g->in[2],
                              .dilation = 1,
                              .first = job->cover[2].first,
                              .last = job->cover[2].last,
                              .row = &row,
                              .dst = dst};
    if (job->sum_kind != FC_POOL_SUM)
        job->t->scale_pixels(g->out[2], job->scale[0][od] * job->scale[1][oh], job->scale[2],
                             windows);
    job->t->sum_pixels(&pixels);
}

static void interleave(const fc_pool_job *job, const scratch *s, const block *b) {
    const ptrdiff_t row = window_rows(&job->g) * job->g.out[2];
    const fc_copy copy = {.rows = b->count,
                          .cols = (b->end[0] - b->begin[0]) * row,
                          .src = fc_at(&job->y, job->t->itemsize, b->image, b->plane) +
                                 b->begin[0] * row * job->itemsize,
                          .src_row = job->y.stride[1],
                          .src_col = 1,
                          .dst = s->windows,
                          .dst_row = 1,
                          .dst_col = job->planes};
    job->t->copy_2d(&copy);
}

static void spread_rows(const fc_pool_job *job, const scratch *s, const block *b) {
    const fc_pool *g = &job->g;
    const ptrdiff_t first = b->begin[0] * window_rows(g);
    const ptrdiff_t count = (b->end[0] - b->begin[0]) * window_rows(g);
    ptrdiff_t od = first / g->out[1], oh = first % g->out[1];
    if (in_lanes(job))
        interleave(job, s, b);
    for (ptrdiff_t row = 0; row < count; row++) {
        char *dst = s->spread + row * g->in[2] * pixel_bytes(job);
        if (in_lanes(job))
            spread_narrow(job, od, oh, s->windows + row * g->out[2] * pixel_bytes(job), dst);
        else
            spread_wide(job, s, b, od, oh, dst);
        if (++oh == g->out[1])
            oh = 0, od++;
    }
}

/* ---- rows of dx summed ---------------------------------------------------------------------- */

/* Lists the spread rows that cover row (id, ih). */
static ptrdiff_t list_rows(const fc_pool_job *job, const scratch *s, const block *b, ptrdiff_t id,
                           ptrdiff_t ih) {
    const fc_pool *g = &job->g;
    const fc_pool_cover *c = job->cover;
    const ptrdiff_t row_bytes = g->in[2] * pixel_bytes(job);
    const ptrdiff_t begin = b->begin[0] * window_rows(g);
    ptrdiff_t count = 0;
    for (ptrdiff_t od = c[0].first[id]; od < c[0].last[id]; od += c[0].step)
        for (ptrdiff_t oh = c[1].first[ih]; oh < c[1].last[ih]; oh += c[1].step)
            s->covering[count++] = s->spread + (od * g->out[1] + oh - begin) * row_bytes;
    return count;
}

static char *row_of_dx(const fc_pool_job *job, const block *b, ptrdiff_t id, ptrdiff_t ih) {
    return fc_at(&job->x, job->t->itemsize, b->image, b->plane) +
           (id * job->x.stride[2] + ih * job->x.stride[3]) * job->itemsize;
}

static void sum_wide(const fc_pool_job *job, const scratch *s, const block *b, ptrdiff_t id,
                     ptrdiff_t ih) {
    const ptrdiff_t width = job->g.in[2];
    const ptrdiff_t rows = list_rows(job, s, b, id, ih);
    const int is_contiguous = job->x.stride[4] == 1;
    char *dx = row_of_dx(job, b, id, ih);
    job->t->sum_taps(width, rows, s->covering, is_contiguous ? dx : s->result);
    const fc_copy copy = {.rows = 1,
                          .cols = width,
                          .src = s->result,
                          .src_col = 1,
                          .dst = dx,
                          .dst_col = job->x.stride[4]};
    if (!is_contiguous)
        job->t->copy_2d(&copy);
}

static void put_planes(const fc_pool_job *job, const scratch *s, const block *b) {
    const ptrdiff_t row = image_rows(&job->g) * job->g.in[2];
    const fc_copy copy = {.rows = (b->end[1] - b->begin[1]) * row,
                          .cols = b->count,
                          .src = s->result,
                          .src_row = job->planes,
                          .src_col = 1,
                          .dst = fc_at(&job->x, job->t->itemsize, b->image, b->plane) +
                                 b->begin[1] * row * job->itemsize,
                          .dst_row = 1,
                          .dst_col = job->x.stride[1]};
    job->t->copy_2d(&copy);
}

static void planes_task(void *context, ptrdiff_t task, int slot) {
    const fc_pool_job *job = context;
    const fc_pool *g = &job->g;
    const scratch s = carve_scratch(job, slot);
    const block b = block_at(job, task);
    const ptrdiff_t first = b.begin[1] * image_rows(g), width = g->in[2] * job->planes;
    const ptrdiff_t count = (b.end[1] - b.begin[1]) * image_rows(g);
    ptrdiff_t id = first / g->in[1], ih = first % g->in[1];
    spread_rows(job, &s, &b);
    for (ptrdiff_t row = 0; row < count; row++) {
        if (in_lanes(job))
            job->t->sum_taps(width, list_rows(job, &s, &b, id, ih), s.covering,
                             s.result + row * width * job->itemsize);
        else
            sum_wide(job, &s, &b, id, ih);
        if (++ih == g->in[1])
            ih = 0, id++;
    }
    if (in_lanes(job))
        put_planes(job, &s, &b);
}

/* ---- the call ------------------------------------------------------------------------------- */

static int suits_lanes(fc_pool_job *job) {
    const fc_pool *g = &job->g;
    if (job->t->lanes == 1 || !fc_pool_is_plain(&job->x, g->in) ||
        !fc_pool_is_plain(&job->y, g->out) || g->dilation[2] != 1 ||
        g->in[2] > 2 * job->t->lanes + 16 || g->N * g->C < job->t->lanes / 2)
        return 0;
    job->planes = job->t->lanes;
    return band_bytes(job, 1) <= (ptrdiff_t)fc_cpu_caches()->l2;
}

fc_status fc_pool_spread_planes(fc_pool_job *job) {
    if (suits_lanes(job))
        fc_pool_merge_images(job);
    else
        job->planes = 1;
    job->band = choose_band(job);
    job->slot_bytes = scratch_bytes(job);
    return fc_pool_run(job, job->g.N * groups(job) * bands(job), planes_task);
}
