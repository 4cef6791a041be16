/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of a convolution with respect to few filters: a GEMM with x's channels along the vectors,
 * whose summed axis is the output pixels:
 *
 *   dw[oc][c][kh][kw] = sum over n, oh, ow of dy[n][oc][oh][ow] * x[n][c][oh*SH - PH + kh*DH][...]
 *
 * x is turned to channels last once, with its padding, in blocks of channels as wide as the tile
 * (or all channels, where they are fewer): xt[block][row][column][c]. For filter row kh the factors of
 * pixel (oh, ow) are then KW*width neighbours, xt[oh*SH + kh*DH][ow*SW ...], and the next pixel's
 * are SW*width elements further: the tile reads b through shifted pointers, at stride 1 one vector
 * after the other, and no im2col is made. dy is packed into panels [pixel][mr].
 *
 * The output is cut into units, rectangles of one image's pixels. As many units as fit the caches
 * form a band; for each band the threads first pack it together, then share out the columns
 * (block, kd, kh, kw*width) and rows (oc) of dw, so that no two of them add to the same element and no
 * reduction is needed. Sums live in `acc`, [column matrix][oc][columns], until the last band. */
#include <string.h>

#include "weight_grad_gemm.h"

/* Pixels summed in one call of the tile, about: from 256 to 1024 it hardly matters, fewer read and
 * write the sums too often (docs/performance.md). */
enum { TILE_STEPS = 256 };

typedef struct {
    fc_conv g;
    fc_array dy, x, dw;
    const fc_kernels *t;
    int threads;
    ptrdiff_t itemsize, cg, ocg, mr;
    ptrdiff_t width, blocks;     /* channels in a block, the last one filled up, and blocks */
    ptrdiff_t runs, run, acc_ld; /* columns of one (kd, kh): runs x run, kw outer, c inner */
    /* units: blocks of rows x columns, in every (image, depth) */
    ptrdiff_t unit_rows, unit_cols, row_blocks, col_blocks, units, band_units;
    ptrdiff_t x_rows, x_cols;  /* of a unit, for each kd */
    ptrdiff_t x_unit, dy_unit; /* elements */
    ptrdiff_t group_chunk, oc_chunk;
    /* at work: */
    ptrdiff_t first_group, groups, first_oc, ocs;
    ptrdiff_t first_unit, unit_count;
    ptrdiff_t oc_blocks, oc_block;
    char *xt, *dyt, *acc;
} grad_job;

typedef struct {
    ptrdiff_t n, od, oh, ow, rows, cols; /* first output pixel and extent */
} unit;

static unit unit_at(const grad_job *job, ptrdiff_t index) {
    unit u;
    const ptrdiff_t col_block = index % job->col_blocks;
    const ptrdiff_t row_block = index / job->col_blocks % job->row_blocks;
    const ptrdiff_t plane = index / job->col_blocks / job->row_blocks;
    u.n = plane / job->g.out[0];
    u.od = plane % job->g.out[0];
    u.oh = row_block * job->unit_rows;
    u.ow = col_block * job->unit_cols;
    u.rows = FC_MIN(job->unit_rows, job->g.out[1] - u.oh);
    u.cols = FC_MIN(job->unit_cols, job->g.out[2] - u.ow);
    return u;
}

/* ---- packing ------------------------------------------------------------------------------- */

/* A run of columns of xt: the channels of one block, zeros behind the last one. */
static void pack_x_block(const grad_job *job, const fc_copy *all, ptrdiff_t block, char *dst) {
    fc_copy copy = *all;
    copy.rows = FC_MIN(job->width, job->cg - block * job->width);
    copy.src = (const char *)all->src + block * job->width * all->src_row * job->itemsize;
    copy.dst = dst;
    job->t->copy_2d(&copy);
    if (copy.rows == job->width)
        return;
    static const double zero = 0;
    const fc_copy fill = {.rows = all->cols,
                          .cols = job->width - copy.rows,
                          .src = &zero,
                          .dst = dst + copy.rows * job->itemsize,
                          .dst_row = job->width,
                          .dst_col = 1};
    job->t->copy_2d(&fill);
}

/* xt of one unit: [group][block][kd][row][column][c] */
static void pack_x_row(const grad_job *job, ptrdiff_t unit_index, ptrdiff_t kd, ptrdiff_t row) {
    const fc_conv *g = &job->g;
    const unit u = unit_at(job, job->first_unit + unit_index);
    const ptrdiff_t id = u.od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
    const ptrdiff_t ih = u.oh * g->stride[1] - g->pad[1] + row;
    const ptrdiff_t iw = u.ow * g->stride[2] - g->pad[2];
    const size_t column_bytes = (size_t)(job->width * job->itemsize);
    ptrdiff_t first = 0, last = 0;
    if (id >= 0 && id < g->in[0] && ih >= 0 && ih < g->in[1])
        fc_valid_range(iw, 1, job->x_cols, g->in[2], &first, &last);
    for (ptrdiff_t slab = 0; slab < job->groups * job->blocks; slab++) {
        const ptrdiff_t group = slab / job->blocks;
        const ptrdiff_t at = ((slab * g->kernel[0] + kd) * job->x_rows + row) * job->x_cols;
        char *dst = job->xt + (unit_index * job->x_unit + at * job->width) * job->itemsize;
        if (last == 0) {
            memset(dst, 0, (size_t)job->x_cols * column_bytes);
            continue;
        }
        memset(dst, 0, (size_t)first * column_bytes);
        memset(dst + (size_t)last * column_bytes, 0, (size_t)(job->x_cols - last) * column_bytes);
        const fc_copy copy = {
            .cols = last - first,
            .src =
                fc_at(&job->x, job->t->itemsize, u.n, (job->first_group + group) * job->cg) +
                (id * job->x.stride[2] + ih * job->x.stride[3] + (iw + first) * job->x.stride[4]) *
                    job->itemsize,
            .src_row = job->x.stride[1],
            .src_col = job->x.stride[4],
            .dst_row = 1,
            .dst_col = job->width,
        };
        pack_x_block(job, &copy, slab % job->blocks, dst + (size_t)first * column_bytes);
    }
}

/* dyt of one unit: [group][oc panel][pixel][m] */
static void pack_dy_row(const grad_job *job, ptrdiff_t unit_index, ptrdiff_t row) {
    const unit u = unit_at(job, job->first_unit + unit_index);
    if (row >= u.rows)
        return;
    for (ptrdiff_t group = 0; group < job->groups; group++)
        for (ptrdiff_t oc = 0; oc < job->ocs; oc += job->mr) {
            const ptrdiff_t m = FC_MIN(job->mr, job->ocs - oc);
            const ptrdiff_t channel = (job->first_group + group) * job->ocg + job->first_oc + oc;
            const ptrdiff_t at = (group * job->ocs + oc) * u.rows * u.cols + row * u.cols * m;
            const fc_copy copy = {
                .rows = m,
                .cols = u.cols,
                .src = fc_at(&job->dy, job->t->itemsize, u.n, channel) +
                       (u.od * job->dy.stride[2] + (u.oh + row) * job->dy.stride[3] +
                        u.ow * job->dy.stride[4]) *
                           job->itemsize,
                .src_row = job->dy.stride[1],
                .src_col = job->dy.stride[4],
                .dst = job->dyt + (unit_index * job->dy_unit + at) * job->itemsize,
                .dst_row = 1,
                .dst_col = m,
            };
            job->t->copy_2d(&copy);
        }
}

static void pack_task(void *context, ptrdiff_t task, int slot) {
    const grad_job *job = context;
    const ptrdiff_t x_rows = job->g.kernel[0] * job->x_rows;
    const ptrdiff_t rows = x_rows + job->unit_rows, row = task % rows;
    (void)slot;
    if (row < x_rows)
        pack_x_row(job, task / rows, row / job->x_rows, row % job->x_rows);
    else
        pack_dy_row(job, task / rows, row - x_rows);
}

/* ---- multiplication ------------------------------------------------------------------------ */

/* One panel of columns: where it starts in xt and in acc. */
typedef struct {
    ptrdiff_t slab, kd, kh, run, column, vectors; /* slab: a block of a group */
} column_panel;

static ptrdiff_t panels_of_run(const grad_job *job) {
    return fc_ceil_div(job->run, job->t->nr);
}

static column_panel column_panel_at(const grad_job *job, ptrdiff_t index) {
    const ptrdiff_t panels = panels_of_run(job);
    column_panel p;
    p.column = index % panels * job->t->nr;
    p.run = index / panels % job->runs;
    p.kh = index / panels / job->runs % job->g.kernel[1];
    p.kd = index / panels / job->runs / job->g.kernel[1] % job->g.kernel[0];
    p.slab = index / panels / job->runs / job->g.kernel[1] / job->g.kernel[0];
    p.vectors = fc_ceil_div(FC_MIN(job->t->nr, job->run - p.column), job->t->lanes);
    return p;
}

static char *acc_at(const grad_job *job, ptrdiff_t slab, ptrdiff_t kd, ptrdiff_t kh, ptrdiff_t run,
                    ptrdiff_t oc) {
    const ptrdiff_t matrix =
        ((slab * job->g.kernel[0] + kd) * job->g.kernel[1] + kh) * job->runs + run;
    return job->acc + (matrix * job->ocs + oc) * job->acc_ld * job->itemsize;
}

/* Adds one unit's pixels to the panel, some rows at a time so that b stays in the first cache. */
static void multiply_unit(const grad_job *job, const column_panel *p, ptrdiff_t unit_index,
                          ptrdiff_t oc_first, ptrdiff_t oc_last) {
    const fc_conv *g = &job->g;
    const unit u = unit_at(job, job->first_unit + unit_index);
    const ptrdiff_t x_row = job->x_cols * job->width, group = p->slab / job->blocks;
    const ptrdiff_t xt_at =
        unit_index * job->x_unit +
        ((p->slab * g->kernel[0] + p->kd) * job->x_rows + p->kh * g->dilation[1]) * x_row +
        p->run * g->dilation[2] * job->width + p->column;
    const ptrdiff_t rows_at_once = FC_MAX(1, TILE_STEPS / u.cols);
    fc_tile tile = {.k_inner = u.cols,
                    .vectors = p->vectors,
                    .a_row = 1,
                    .b_step = g->stride[2] * job->width,
                    .b_row = g->stride[1] * x_row,
                    .ldc = job->acc_ld};
    for (ptrdiff_t row = 0; row < u.rows; row += rows_at_once) {
        tile.k_outer = FC_MIN(rows_at_once, u.rows - row);
        tile.b = job->xt + (xt_at + row * tile.b_row) * job->itemsize;
        tile.init = job->first_unit + unit_index + row > 0 ? FC_INIT_LOAD : FC_INIT_ZERO;
        for (ptrdiff_t oc = oc_first; oc < oc_last; oc += job->mr) {
            tile.m = tile.a_step = FC_MIN(job->mr, job->ocs - oc);
            tile.a =
                job->dyt + (unit_index * job->dy_unit + (group * job->ocs + oc) * u.rows * u.cols +
                            row * u.cols * tile.m) *
                               job->itemsize;
            tile.c = acc_at(job, p->slab, p->kd, p->kh, p->run, oc) + p->column * job->itemsize;
            job->t->gemm_tile(&tile);
        }
    }
}

static void multiply_task(void *context, ptrdiff_t task, int slot) {
    const grad_job *job = context;
    const column_panel p = column_panel_at(job, task / job->oc_blocks);
    const ptrdiff_t first = task % job->oc_blocks * job->oc_block;
    const ptrdiff_t last = FC_MIN(first + job->oc_block, job->ocs);
    (void)slot;
    for (ptrdiff_t u = 0; u < job->unit_count; u++)
        multiply_unit(job, &p, u, first, last);
}

/* dw[oc][c][kd][kh][kw] from acc, one output channel a task */
static void store_task(void *context, ptrdiff_t task, int slot) {
    const grad_job *job = context;
    const ptrdiff_t group = task / job->ocs, oc = task % job->ocs;
    const ptrdiff_t *stride = job->dw.stride;
    const ptrdiff_t channel = (job->first_group + group) * job->ocg + job->first_oc + oc;
    (void)slot;
    for (ptrdiff_t i = 0; i < job->blocks * job->g.kernel[0] * job->g.kernel[1]; i++) {
        const ptrdiff_t kh = i % job->g.kernel[1], kd = i / job->g.kernel[1] % job->g.kernel[0];
        const ptrdiff_t block = i / job->g.kernel[1] / job->g.kernel[0];
        const ptrdiff_t c = block * job->width;
        const fc_copy copy = {
            .rows = job->g.kernel[2],
            .cols = FC_MIN(job->width, job->cg - c),
            .src = acc_at(job, group * job->blocks + block, kd, kh, 0, oc),
            .src_row = job->runs == 1 ? job->width : job->ocs * job->acc_ld,
            .src_col = 1,
            .dst = fc_at(&job->dw, job->t->itemsize, channel, c) +
                   (kd * stride[2] + kh * stride[3]) * job->itemsize,
            .dst_row = stride[4],
            .dst_col = stride[1],
        };
        job->t->copy_2d(&copy);
    }
}

/* ---- planning and the call ----------------------------------------------------------------- */

/* Sizes of a unit; 0 when they overflow. */
static int count_unit_elements(grad_job *job) {
    const fc_conv *g = &job->g;
    job->x_rows = (job->unit_rows - 1) * g->stride[1] + fc_reach(g, 1) + 1;
    job->x_cols = (job->unit_cols - 1) * g->stride[2] + fc_reach(g, 2) + 1;
    job->dy_unit = job->oc_chunk * job->group_chunk * job->unit_rows * job->unit_cols;
    job->x_unit = job->width * job->blocks * job->group_chunk * g->kernel[0];
    return fc_multiply(&job->x_unit, job->x_rows) && fc_multiply(&job->x_unit, job->x_cols) &&
           job->x_unit < PTRDIFF_MAX / 16;
}

/* Dilated taps far outside the image make even the smallest unit too large. */
static fc_status plan_units(grad_job *job) {
    const fc_conv *g = &job->g;
    const fc_caches *caches = fc_cpu_caches();
    const ptrdiff_t budget =
        (ptrdiff_t)FC_MIN(FC_MAX(caches->l2, caches->l3 / 4), (size_t)8 << 20) / job->itemsize;
    job->unit_cols = g->out[2];
    job->unit_rows = g->out[1];
    for (;;) {
        const int counted = count_unit_elements(job);
        const int smallest = job->unit_rows * job->unit_cols == 1;
        if (counted && (smallest || job->x_unit + job->dy_unit <= budget))
            break;
        if (smallest)
            return FC_OVERFLOW;
        if (job->unit_rows > 1)
            job->unit_rows = (job->unit_rows + 1) / 2;
        else
            job->unit_cols = (job->unit_cols + 1) / 2;
    }
    job->row_blocks = fc_ceil_div(g->out[1], job->unit_rows);
    job->col_blocks = fc_ceil_div(g->out[2], job->unit_cols);
    job->units = g->N * g->out[0] * job->row_blocks * job->col_blocks;
    job->band_units = FC_MAX(1, FC_MIN(job->units, budget / (job->x_unit + job->dy_unit)));
    return FC_OK;
}

/* Blocks as wide as the tile, if filling the last one up does not cost more than they save. */
static void plan_blocks(grad_job *job) {
    const ptrdiff_t blocks = fc_ceil_div(job->cg, job->t->nr);
    const ptrdiff_t width = fc_round_up(fc_ceil_div(job->cg, blocks), job->t->lanes);
    const int pays = blocks > 1 && 8 * blocks * width <= 9 * job->cg;
    job->blocks = pays ? blocks : 1;
    job->width = pays ? width : job->cg;
}

static fc_status plan_job(grad_job *job) {
    const fc_conv *g = &job->g;
    const ptrdiff_t matrices = g->kernel[0] * g->kernel[1];
    job->itemsize = (ptrdiff_t)job->t->itemsize;
    job->cg = g->C / g->G;
    job->ocg = g->OC / g->G;
    job->mr = fc_even_part(job->ocg, job->t->mr);
    job->runs = g->dilation[2] == 1 ? 1 : g->kernel[2];
    plan_blocks(job);
    job->run = job->width * g->kernel[2] / job->runs;
    job->acc_ld = fc_round_up(job->run, job->t->lanes);
    job->threads = fc_threads_for(fc_multiply_adds(g));
    fc_chunk_channels(g->G, job->ocg, job->blocks * matrices * job->runs * job->acc_ld,
                      (ptrdiff_t)fc_chunk_bytes() / job->itemsize, job->mr, &job->group_chunk,
                      &job->oc_chunk);
    return plan_units(job);
}

static void run_chunk(grad_job *job) {
    const ptrdiff_t columns = job->groups * job->blocks * job->g.kernel[0] * job->g.kernel[1] *
                              job->runs * panels_of_run(job);
    const ptrdiff_t panels = fc_ceil_div(job->ocs, job->mr);
    /* few columns: cut the output channels too, to have some eight tasks a thread */
    job->oc_blocks = FC_MIN(panels, fc_ceil_div(8 * job->threads, columns));
    job->oc_block = fc_ceil_div(panels, job->oc_blocks) * job->mr;
    job->oc_blocks = fc_ceil_div(job->ocs, job->oc_block);
    for (ptrdiff_t u = 0; u < job->units; u += job->band_units) {
        job->first_unit = u;
        job->unit_count = FC_MIN(job->band_units, job->units - u);
        fc_parallel_for(job->threads,
                        job->unit_count * (job->g.kernel[0] * job->x_rows + job->unit_rows),
                        pack_task, job);
        fc_parallel_for(job->threads, columns * job->oc_blocks, multiply_task, job);
    }
    fc_parallel_for(job->threads, job->groups * job->ocs, store_task, job);
}

static size_t acc_bytes(const grad_job *job) {
    return fc_align((size_t)(job->group_chunk * job->blocks * job->oc_chunk * job->g.kernel[0] *
                             job->g.kernel[1] * job->runs * job->acc_ld * job->itemsize));
}

fc_status fc_few_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                             const fc_array *x, const fc_array *dw) {
    grad_job job = {.g = *g, .dy = *dy, .x = *x, .dw = *dw, .t = fc_table(dtype)};
    const fc_status status = plan_job(&job);
    if (status)
        return status;
    /* a panel of columns may be read past the last unit's end */
    const size_t slack = (size_t)(job.t->nr * job.itemsize);
    const size_t xt = fc_align((size_t)(job.band_units * job.x_unit * job.itemsize) + slack);
    const size_t dyt = fc_align((size_t)(job.band_units * job.dy_unit * job.itemsize));
    job.xt = fc_workspace_acquire(xt + dyt + acc_bytes(&job));
    if (!job.xt)
        return FC_NO_MEMORY;
    memset(job.xt + xt - slack - 64, 0, slack + 64);
    job.dyt = job.xt + xt;
    job.acc = job.dyt + dyt;
    for (job.first_group = 0; job.first_group < g->G; job.first_group += job.group_chunk) {
        job.groups = FC_MIN(job.group_chunk, g->G - job.first_group);
        for (job.first_oc = 0; job.first_oc < job.ocg; job.first_oc += job.oc_chunk) {
            job.ocs = FC_MIN(job.oc_chunk, job.ocg - job.first_oc);
            run_chunk(&job);
        }
    }
    fc_workspace_release(job.xt);
    return FC_OK;
}
