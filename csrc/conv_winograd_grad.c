/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of 3x3 and 5x5 convolutions with respect to their weights by Winograd's F(3x3, 4x4) and
 * F(5x5, 2x2): stride 1, no dilation.
 *
 * dw is a correlation of x with dy. dy is cut into tiles of m x m, each a filter of so many taps on its 6x6
 * pixels of x with r x r outputs, dw's taps; dw is the sum over the tiles. In the transformed space the
 * products are elementwise, so for each of the 36 positions p
 *
 *   M[p][oc][c] = sum over tiles of W[p][tile][oc] * V[p][tile][c]
 *
 * is a matrix product whose summed axis is the tiles of all images: 36 products where the direct sum
 * takes 144 (3x3) or 100 (5x5). As the output transform is linear it is done once for many tiles, not for each.
 *
 * Tiles are cut into strips, rectangles of one image's tiles. A strip's patch of x or dy, some channels of
 * it, is turned to channels last; transformed, it then lies as the GEMM tile wants it, in panels of its
 * width: V and W are [position][panel][tile][channel]. So many strips form a band:
 *
 *   many channels: the threads share a band. They transform it, a panel of a strip a task, and multiply, a
 *      block of input by a block of output channels a task, which also transforms its M to taps.
 *      These are summed over the bands in scratch memory; no two tasks add to the same.
 *   few channels, M fits the second-level cache: each thread has bands of its own, small enough to
 *      stay there, and an M of its own. In the end these are transformed and added. */
#include <string.h>

#include "winograd_grad.h"

enum { POSITIONS = FC_WINO_POSITIONS, EDGE = FC_WINO_EDGE };

/* Tiles summed in one call of the GEMM tile: two panels stay in the first-level cache. */
enum { TILE_STEPS = 192 };

typedef struct {
    char *v, *w;
    ptrdiff_t first, strips, tiles;
} band;

typedef struct {
    fc_conv g;
    fc_array dy, x, dw;
    const fc_kernels *t;
    fc_wino_grad_plan plan;
    ptrdiff_t itemsize, cg, ocg;
    char *memory, *acc, *slots;
    /* at work: */
    ptrdiff_t group, first_oc, ocs; /* oc inside the group */
    int asks_ahead;                 /* for x and dy */
    band shared;
} grad_job;

static char *slot_memory(const grad_job *job, int slot) {
    return job->slots + (size_t)slot * fc_slot_step(job->plan.slot_bytes);
}

/* ---- strips -------------------------------------------------------------------------------- */

typedef struct {
    ptrdiff_t n, row, col, rows, cols; /* first tile and extent */
    ptrdiff_t before;                  /* tiles in the strips before it */
} strip;

static strip strip_at(const fc_wino_grad_plan *plan, ptrdiff_t index) {
    strip s;
    s.col = index % plan->col_strips * plan->strip_cols;
    s.row = index / plan->col_strips % plan->row_strips * plan->strip_rows;
    s.n = index / plan->col_strips / plan->row_strips;
    s.rows = FC_MIN(plan->strip_rows, plan->tile_rows - s.row);
    s.cols = FC_MIN(plan->strip_cols, plan->tile_cols - s.col);
    s.before = (s.n * plan->tile_rows + s.row) * plan->tile_cols + s.rows * s.col;
    return s;
}

static void set_band(const grad_job *job, band *b, ptrdiff_t first, ptrdiff_t last) {
    const strip s = strip_at(&job->plan, last - 1);
    b->first = first;
    b->strips = last - first;
    b->tiles = s.before + s.rows * s.cols - strip_at(&job->plan, first).before;
}

/* Of V or W. */
static char *panel_at(const grad_job *job, char *transformed, ptrdiff_t panel, ptrdiff_t tile) {
    return transformed + (panel * job->plan.band_tiles + tile) * job->t->nr * job->itemsize;
}

/* ---- transforms of x and dy ---------------------------------------------------------------- */

/* Rows and columns of a plane from (ih, iw) on, zero outside it, for `channels` channels from `channel` on,
 * zeros behind them: dst[row][column][channel]. */
typedef struct {
    const fc_array *image;
    const ptrdiff_t *size;
    ptrdiff_t n, channel, channels;
    ptrdiff_t ih, iw, rows, cols;
    ptrdiff_t ahead; /* elements to the patch that comes next */
} patch;

static void pack_patch(const grad_job *job, const patch *p, char *dst) {
    const ptrdiff_t *stride = p->image->stride, width = job->t->nr;
    const size_t column_bytes = (size_t)(width * job->itemsize);
    const size_t row_bytes = (size_t)p->cols * column_bytes;
    ptrdiff_t first, last;
    fc_valid_range(p->iw, 1, p->cols, p->size[2], &first, &last);
    if (p->channels < width)
        memset(dst, 0, (size_t)p->rows * row_bytes);
    for (ptrdiff_t row = 0; row < p->rows; row++, dst += row_bytes) {
        const ptrdiff_t ih = p->ih + row;
        if (ih < 0 || ih >= p->size[1] || first == last) {
            memset(dst, 0, row_bytes);
            continue;
        }
        memset(dst, 0, (size_t)first * column_bytes);
        memset(dst + (size_t)last * column_bytes, 0, (size_t)(p->cols - last) * column_bytes);
        const fc_copy copy = {.rows = p->channels,
                              .cols = last - first,
                              .src = fc_at(p->image, job->t->itemsize, p->n, p->channel) +
                                     (ih * stride[3] + (p->iw + first) * stride[4]) * job->itemsize,
                              .src_row = stride[1],
                              .src_col = stride[4],
                              .dst = dst + (size_t)first * column_bytes,
                              .dst_row = 1,
                              .dst_col = width,
                              .src_ahead = p->ahead};
        job->t->copy_2d(&copy);
    }
}

/* One panel of a strip: the panels of x come first, then those of dy. */
static void transform(const grad_job *job, const band *b, ptrdiff_t index, ptrdiff_t panel,
                      char *scratch) {
    const fc_wino_grad_plan *plan = &job->plan;
    const strip s = strip_at(plan, index);
    const ptrdiff_t nr = job->t->nr, tile = s.before - strip_at(plan, b->first).before;
    const int image = panel < plan->c_panels;
    const ptrdiff_t c = (image ? panel : panel - plan->c_panels) * nr;
    patch p = {.rows = s.rows * plan->m, .cols = s.cols * plan->m, .n = s.n};
    p.ih = s.row * plan->m;
    p.iw = s.col * plan->m;
    if (image) {
        p.image = &job->x;
        p.size = job->g.in;
        p.channel = job->group * job->cg + c;
        p.channels = FC_MIN(nr, job->cg - c);
        p.ih -= job->g.pad[1];
        p.iw -= job->g.pad[2];
        p.rows += EDGE - plan->m;
        p.cols += EDGE - plan->m;
    } else {
        p.image = &job->dy;
        p.size = job->g.out;
        p.channel = job->group * job->ocg + job->first_oc + c;
        p.channels = FC_MIN(nr, job->ocs - c);
    }
    if (job->asks_ahead && index + 1 < b->first + b->strips) {
        const strip next = strip_at(plan, index + 1);
        const ptrdiff_t *stride = p.image->stride;
        p.ahead = (next.n - s.n) * stride[0] + (next.row - s.row) * plan->m * stride[3] +
                  (next.col - s.col) * plan->m * stride[4];
    }
    pack_patch(job, &p, scratch);
    const fc_wino_patch tiles = {.m = plan->m,
                                 .rows = s.rows,
                                 .cols = s.cols,
                                 .vectors = fc_ceil_div(p.channels, job->t->lanes),
                                 .pitch = nr,
                                 .src = scratch,
                                 .src_row = p.cols * nr,
                                 .dst = panel_at(job, image ? b->v : b->w, c / nr, tile),
                                 .dst_step = image ? plan->v_step : plan->w_step};
    (image ? job->t->wino_grad_image : job->t->wino_grad_dy)(&tiles);
}

static ptrdiff_t panels_of(const grad_job *job) {
    return job->plan.c_panels + fc_ceil_div(job->ocs, job->t->nr);
}

/* ---- products ------------------------------------------------------------------------------ */

/* Channels of M: c and oc, counted in the group and in the chunk, first and one past last. */
typedef struct {
    ptrdiff_t c, c_last, oc, oc_last;
} block;

static block block_at(const grad_job *job, ptrdiff_t index) {
    const ptrdiff_t oc_blocks = fc_ceil_div(job->ocs, job->plan.oc_block);
    block b = {.c = index / oc_blocks * job->plan.c_block,
               .oc = index % oc_blocks * job->plan.oc_block};
    b.c_last = FC_MIN(b.c + job->plan.c_block, job->cg);
    b.oc_last = FC_MIN(b.oc + job->plan.oc_block, job->ocs);
    return b;
}

static ptrdiff_t panels_in(const grad_job *job, ptrdiff_t first, ptrdiff_t last) {
    return fc_ceil_div(last - first, job->t->nr);
}

/* Panel number `i` of a block, those of dy first, at such a position, from a tile on; NULL where there is none. */
static const char *block_panel(const grad_job *job, const band *b, const block *channels,
                               ptrdiff_t position, ptrdiff_t i, ptrdiff_t tile) {
    const fc_wino_grad_plan *plan = &job->plan;
    const ptrdiff_t oc_panels = panels_in(job, channels->oc, channels->oc_last), nr = job->t->nr;
    if (position >= POSITIONS || i >= oc_panels + panels_in(job, channels->c, channels->c_last))
        return NULL;
    return i < oc_panels ? panel_at(job, b->w + position * plan->w_step * job->itemsize,
                                    channels->oc / nr + i, tile)
                         : panel_at(job, b->v + position * plan->v_step * job->itemsize,
                                    channels->c / nr + i - oc_panels, tile);
}

/* A panel of dy's channels by one of x's. The first has more channels than the tile has rows. Meanwhile the
 * panel at `next` is asked for, a part of it in each call. */
static void multiply_panels(const grad_job *job, fc_tile *tile, ptrdiff_t ocs, const char *next) {
    const char *a = tile->a;
    char *c = tile->c;
    const ptrdiff_t rows = fc_even_part(ocs, job->t->mr), calls = fc_ceil_div(ocs, rows);
    tile->ahead_step = job->t->nr * job->itemsize / calls;
    tile->ahead = next;
    for (ptrdiff_t oc = 0; oc < ocs; oc += rows) {
        tile->m = FC_MIN(rows, ocs - oc);
        tile->a = a + oc * job->itemsize;
        tile->c = c + oc * tile->ldc * job->itemsize;
        job->t->gemm_tile(tile);
        if (next)
            tile->ahead += tile->k_inner * tile->ahead_step;
    }
}

/* M of one position. Each product of two panels asks for one that those after these will read: of the next
 * tiles, or of the next position. */
static void multiply(const grad_job *job, const band *b, const block *channels, ptrdiff_t position,
                     int add, char *m) {
    const fc_wino_grad_plan *plan = &job->plan;
    const ptrdiff_t nr = job->t->nr, steps = fc_even_part(b->tiles, TILE_STEPS);
    const ptrdiff_t oc_panels = panels_in(job, channels->oc, channels->oc_last);
    const ptrdiff_t products = oc_panels * panels_in(job, channels->c, channels->c_last);
    m += position * plan->m_step * job->itemsize;
    fc_tile tile = {.k_outer = 1, .a_row = 1, .a_step = nr, .b_step = nr, .ldc = plan->c_block};
    for (ptrdiff_t k = 0; k < b->tiles; k += steps) {
        const int ends = k + steps >= b->tiles;
        tile.k_inner = FC_MIN(steps, b->tiles - k);
        tile.init = k || add ? FC_INIT_ADD : FC_INIT_ZERO;
        for (ptrdiff_t i = 0; i < products; i++) {
            const ptrdiff_t c = i / oc_panels * nr, oc = i % oc_panels * nr;
            tile.vectors =
                fc_ceil_div(FC_MIN(nr, channels->c_last - channels->c - c), job->t->lanes);
            tile.a = block_panel(job, b, channels, position, oc / nr, k);
            tile.b = block_panel(job, b, channels, position, oc_panels + c / nr, k);
            tile.c = m + (oc * plan->c_block + c) * job->itemsize;
            multiply_panels(
                job, &tile, FC_MIN(nr, channels->oc_last - channels->oc - oc),
                block_panel(job, b, channels, position + ends, i, ends ? 0 : k + steps));
        }
    }
}

/* ---- taps ---------------------------------------------------------------------------------- */

/* One output channel's taps, [tap][c], to dw[oc][c][kh][kw]. */
static void store_taps(const grad_job *job, const block *channels, ptrdiff_t oc, const char *taps,
                       ptrdiff_t pitch) {
    const ptrdiff_t *stride = job->dw.stride;
    const ptrdiff_t r = job->plan.r, rows = stride[3] == r * stride[4] ? r * r : r;
    const ptrdiff_t channel = job->group * job->ocg + job->first_oc + oc;
    for (ptrdiff_t tap = 0; tap < r * r; tap += rows) {
        const fc_copy copy = {.rows = rows,
                              .cols = channels->c_last - channels->c,
                              .src = taps + tap * pitch * job->itemsize,
                              .src_row = pitch,
                              .src_col = 1,
                              .dst = fc_at(&job->dw, job->t->itemsize, channel, channels->c) +
                                     tap / r * stride[3] * job->itemsize,
                              .dst_row = stride[4],
                              .dst_col = stride[1]};
        job->t->copy_2d(&copy);
    }
}

/* Taps of one output channel from M. */
static void transform_taps(const grad_job *job, const block *channels, ptrdiff_t oc, const char *m,
                           int add, char *taps, ptrdiff_t pitch) {
    const fc_wino_taps transform = {.r = job->plan.r,
                                    .channels = channels->c_last - channels->c,
                                    .src =
                                        m + (oc - channels->oc) * job->plan.c_block * job->itemsize,
                                    .src_step = job->plan.m_step,
                                    .dst = taps,
                                    .dst_step = pitch,
                                    .add = add};
    job->t->wino_grad_taps(&transform);
}

/* ---- threads share bands ------------------------------------------------------------------- */

static void transform_task(void *context, ptrdiff_t task, int slot) {
    const grad_job *job = context;
    const ptrdiff_t panels = panels_of(job);
    transform(job, &job->shared, job->shared.first + task / panels, task % panels,
              slot_memory(job, slot));
}

static void product_task(void *context, ptrdiff_t task, int slot) {
    const grad_job *job = context;
    const fc_wino_grad_plan *plan = &job->plan;
    const block channels = block_at(job, task);
    const int only = plan->bands == 1,
              last = job->shared.first + job->shared.strips == plan->strips;
    const ptrdiff_t pitch = only ? plan->c_block : plan->acc_pitch;
    char *m = slot_memory(job, slot);
    for (ptrdiff_t p = 0; p < POSITIONS; p++)
        multiply(job, &job->shared, &channels, p, 0, m);
    for (ptrdiff_t oc = channels.oc; oc < channels.oc_last; oc++) {
        char *sums =
            job->acc + (oc * plan->r * plan->r * plan->acc_pitch + channels.c) * job->itemsize;
        char *taps = only ? m + plan->m_bytes : sums;
        transform_taps(job, &channels, oc, m, job->shared.first > 0, taps, pitch);
        if (last)
            store_taps(job, &channels, oc, taps, pitch);
    }
}

static void run_shared(grad_job *job) {
    const fc_wino_grad_plan *plan = &job->plan;
    const ptrdiff_t blocks =
        fc_ceil_div(job->cg, plan->c_block) * fc_ceil_div(job->ocs, plan->oc_block);
    for (ptrdiff_t first = 0; first < plan->strips; first += plan->band_strips) {
        set_band(job, &job->shared, first, FC_MIN(first + plan->band_strips, plan->strips));
        fc_parallel_for(plan->threads, job->shared.strips * panels_of(job), transform_task, job);
        fc_parallel_for(plan->threads, blocks, product_task, job);
    }
}

/* ---- threads have bands of their own ------------------------------------------------------- */

static char *split_memory(const grad_job *job, ptrdiff_t split) {
    return job->memory + (size_t)split * job->plan.split_bytes;
}

static char *split_m(const grad_job *job, ptrdiff_t split) {
    return split_memory(job, split) + job->plan.v_bytes + job->plan.w_bytes;
}

static void split_task(void *context, ptrdiff_t split, int slot) {
    const grad_job *job = context;
    const fc_wino_grad_plan *plan = &job->plan;
    const ptrdiff_t begin = split * plan->strips / plan->splits;
    const ptrdiff_t end = (split + 1) * plan->strips / plan->splits;
    const block channels = block_at(job, 0);
    band b = {.v = split_memory(job, split), .w = split_memory(job, split) + plan->v_bytes};
    for (ptrdiff_t first = begin; first < end; first += plan->band_strips) {
        set_band(job, &b, first, FC_MIN(first + plan->band_strips, end));
        for (ptrdiff_t i = 0; i < b.strips * panels_of(job); i++)
            transform(job, &b, first + i / panels_of(job), i % panels_of(job),
                      slot_memory(job, slot));
        for (ptrdiff_t p = 0; p < POSITIONS; p++)
            multiply(job, &b, &channels, p, first > begin, split_m(job, split));
    }
}

static void sum_task(void *context, ptrdiff_t oc, int slot) {
    const grad_job *job = context;
    const block channels = block_at(job, 0);
    char *taps = slot_memory(job, slot);
    for (ptrdiff_t split = 0; split < job->plan.splits; split++)
        transform_taps(job, &channels, oc, split_m(job, split), split > 0, taps, job->plan.c_block);
    store_taps(job, &channels, oc, taps, job->plan.c_block);
}

/* ---- the call ------------------------------------------------------------------------------ */

fc_status fc_winograd_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                  const fc_array *x, const fc_array *dw) {
    grad_job job = {.g = *g, .dy = *dy, .x = *x, .dw = *dw, .t = fc_table(dtype)};
    const fc_status status = fc_plan_winograd_grad(g, dtype, &job.plan);
    if (status)
        return status;
    job.itemsize = (ptrdiff_t)job.t->itemsize;
    job.asks_ahead = fc_images_exceed_caches(g, job.t->itemsize, job.plan.threads);
    job.cg = g->C / g->G;
    job.ocg = g->OC / g->G;
    fc_tidy_width(&job.x, g->in);
    fc_tidy_width(&job.dy, g->out);
    job.memory = fc_workspace_acquire(job.plan.workspace_bytes);
    if (!job.memory)
        return FC_NO_MEMORY;
    job.slots = job.plan.splits ? split_memory(&job, job.plan.splits) : job.memory;
    job.shared.v = slot_memory(&job, job.plan.threads);
    job.shared.w = job.shared.v + job.plan.v_bytes;
    job.acc = job.shared.w + job.plan.w_bytes;
    for (job.group = 0; job.group < g->G; job.group++)
        for (job.first_oc = 0; job.first_oc < job.ocg; job.first_oc += job.plan.oc_chunk) {
            job.ocs = FC_MIN(job.plan.oc_chunk, job.ocg - job.first_oc);
            if (job.plan.splits) {
                fc_parallel_for(job.plan.threads, job.plan.splits, split_task, &job);
                fc_parallel_for(job.plan.threads, job.ocs, sum_task, &job);
            } else {
                run_shared(&job);
            }
        }
    fc_workspace_release(job.memory);
    return FC_OK;
}
