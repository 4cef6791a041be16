/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of a convolution with respect to its weights, as a GEMM whose summed axis is the
 * output pixels of all images:
 *
 *   dw[oc][k] = sum over pixels of cols[k][pixel] * dy[oc][pixel]       k = (c, kd, kh, kw)
 *
 * cols is what im2col would make. As in the forward pass only a piece of it exists at a time: a block
 * of k at a chunk of pixels, packed so that it stays in the second-level cache. Its rows are the tile's
 * broadcast side as they stand, for a row's steps are neighbours. dy is turned to [pixel][oc], in
 * panels as wide as the tile, the vector side:
 *
 *   cols[k][chunk]  x  dyt[oc panel][pixel][nr]  ->  acc[oc panel][k][nr]
 *
 * Threads share the work in one of two ways. Where dw is small each takes a part of the pixels and
 * sums it by itself, so that all it packs stays in its own caches; the parts are added at the end. Else
 * a band of dy is turned by all together, then they share out the blocks of k, and no two of them
 * add to the same element.
 *
 * Of a filter with one tap, cols are the images as they lie, and the tile reads them there. With more
 * output than input channels x and dy change places; then the sums have the order of dw, and are kept in
 * it. */
#include "weight_grad_gemm.h"

typedef fc_weight_grad_job grad_job;

/* ---- panels of output channels ------------------------------------------------------------- */

/* Width of a panel: whole vectors. */
static ptrdiff_t panel_width(const grad_job *job, ptrdiff_t panel) {
    return fc_round_up(FC_MIN(job->t->nr, job->ocs - panel * job->t->nr), job->t->lanes);
}

static char *acc_at(const grad_job *job, ptrdiff_t group, ptrdiff_t panel, ptrdiff_t row) {
    const ptrdiff_t ocs = fc_round_up(job->ocs, job->t->lanes);
    return job->acc +
           ((group * ocs + panel * job->t->nr) * job->sum + row * panel_width(job, panel)) *
               job->itemsize;
}

/* Where the sums of a panel are kept from such a row on. */
static char *sums_at(const grad_job *job, ptrdiff_t group, ptrdiff_t panel, ptrdiff_t row) {
    const ptrdiff_t oc = (job->first_group + group) * job->ocg + job->first_oc + panel * job->t->nr;
    return job->sums_in_dw ? fc_at(&job->dw, job->t->itemsize, oc, row)
                           : acc_at(job, group, panel, row);
}

static char *dyt_at(const grad_job *job, ptrdiff_t group, ptrdiff_t panel, ptrdiff_t pixel) {
    const ptrdiff_t ocs = fc_round_up(job->ocs, job->t->lanes);
    return job->dyt + ((group * ocs + panel * job->t->nr) * job->band_pixels +
                       pixel * panel_width(job, panel)) *
                          job->itemsize;
}

/* ---- packing of dy ------------------------------------------------------------------------- */

/* Turns dy's `length` pixels from `pixel` on, evenly spaced, into part of a panel. */
static void turn_run(const grad_job *job, ptrdiff_t channel, ptrdiff_t channels, ptrdiff_t pixel,
                     ptrdiff_t length, ptrdiff_t width, char *dst) {
    const ptrdiff_t *out = job->g.out, *stride = job->dy.stride;
    const ptrdiff_t ow = pixel % out[2], oh = pixel / out[2] % out[1];
    const ptrdiff_t od = pixel / out[2] / out[1] % out[0], n = pixel / fc_volume(out);
    const fc_copy copy = {
        .rows = channels,
        .cols = length,
        .src = fc_at(&job->dy, job->t->itemsize, n, channel) +
               (od * stride[2] + oh * stride[3] + ow * stride[4]) * job->itemsize,
        .src_row = stride[1],
        .src_col = stride[4],
        .dst = dst,
        .dst_row = 1,
        .dst_col = width,
    };
    job->t->copy_2d(&copy);
}

/* One chunk of one panel; lanes without a channel are zero. */
static void turn_task(void *context, ptrdiff_t task, int slot) {
    static const double zero = 0;
    const grad_job *job = context;
    const ptrdiff_t panel = task % job->panels, group = task / job->panels % job->groups;
    const ptrdiff_t first = task / job->panels / job->groups * job->chunk;
    const ptrdiff_t count = FC_MIN(job->chunk, job->band_pixels - first);
    const ptrdiff_t width = panel_width(job, panel), oc = panel * job->t->nr;
    const ptrdiff_t channels = FC_MIN(width, job->ocs - oc);
    const ptrdiff_t channel = (job->first_group + group) * job->ocg + job->first_oc + oc;
    const ptrdiff_t run = job->dy_dense ? fc_volume(job->g.out) : job->g.out[2];
    char *dst = dyt_at(job, group, panel, first);
    (void)slot;
    for (ptrdiff_t i = 0, length; i < count; i += length) {
        const ptrdiff_t pixel = job->first_pixel + first + i;
        length = FC_MIN(run - pixel % run, count - i);
        turn_run(job, channel, channels, pixel, length, width, dst + i * width * job->itemsize);
    }
    const fc_copy fill = {.rows = count,
                          .cols = width - channels,
                          .src = &zero,
                          .dst = dst + channels * job->itemsize,
                          .dst_row = width,
                          .dst_col = 1};
    if (channels < width)
        job->t->copy_2d(&fill);
}

/* ---- storing ------------------------------------------------------------------------------- */

static ptrdiff_t first_row_of(const grad_job *job, const fc_sum_block *b) {
    return b->channel * job->taps + b->tap * b->channels;
}

/* Rows of filters that are not one run of elements, or only some taps of each channel: by filter rows. */
static void store_rows(const grad_job *job, const fc_sum_block *b, fc_copy copy, char *dst) {
    const ptrdiff_t *kernel = job->g.kernel, *stride = job->dw.stride;
    for (ptrdiff_t c = 0; c < b->channels; c++)
        for (ptrdiff_t tap = b->tap; tap < b->tap + b->taps; tap += copy.cols) {
            const ptrdiff_t kw = tap % kernel[2], kh = tap / kernel[2] % kernel[1];
            const ptrdiff_t kd = tap / kernel[2] / kernel[1];
            copy.cols = FC_MIN(kernel[2] - kw, b->tap + b->taps - tap);
            copy.dst = dst + (c * stride[1] + kd * stride[2] + kh * stride[3] + kw * stride[4]) *
                                 job->itemsize;
            copy.dst_col = stride[4];
            job->t->copy_2d(&copy);
            copy.src = (const char *)copy.src + copy.cols * copy.src_col * job->itemsize;
        }
}

/* Adds the parts of a panel's block of k and stores it to dw. */
static void store_block(const grad_job *job, ptrdiff_t group, ptrdiff_t panel, ptrdiff_t block) {
    const fc_sum_block b = fc_sum_block_at(&job->g, &job->image.plan, block);
    const ptrdiff_t width = panel_width(job, panel), oc = panel * job->t->nr;
    const ptrdiff_t rows = b.channels * b.taps;
    char *acc = acc_at(job, group, panel, first_row_of(job, &b));
    for (int part = 1; part < job->parts; part++)
        job->t->add_row(rows * width, acc + (size_t)part * job->acc_bytes, acc, 1);
    fc_copy copy = {.rows = FC_MIN(width, job->ocs - oc),
                    .cols = rows,
                    .src = acc,
                    .src_row = 1,
                    .src_col = width,
                    .dst_row = job->dw.stride[0],
                    .dst_col = 1};
    char *dst = fc_at(&job->dw, job->t->itemsize,
                      (job->first_group + group) * job->ocg + job->first_oc + oc, b.channel);
    copy.dst = dst + b.tap * job->itemsize;
    if (job->dw_dense)
        job->t->copy_2d(&copy);
    else
        store_rows(job, &b, copy, dst);
}

static void store_task(void *context, ptrdiff_t task, int slot) {
    const grad_job *job = context;
    (void)slot;
    store_block(job, task / job->blocks / job->panels, task / job->blocks % job->panels,
                task % job->blocks);
}

/* ---- multiplication ------------------------------------------------------------------------ */

/* A block of k at a chunk of pixels, packed. */
typedef struct {
    ptrdiff_t group;
    fc_sum_block k;
    ptrdiff_t first, count; /* pixels, inside the band */
    const char *cols;
} packed_block;

/* Channels of x as they stand, from `channel` on: the rest of an image, whole images, the first pixels of
 * another one. */
static void multiply_images(const grad_job *job, const packed_block *p, fc_tile *tile,
                            ptrdiff_t channel) {
    const ptrdiff_t run = job->g.out[2];
    const char *const first_b = tile->b;
    const fc_init first_init = tile->init;
    for (ptrdiff_t i = 0; i < p->count; i += tile->k_outer * tile->k_inner) {
        const ptrdiff_t pixel = job->first_pixel + p->first + i, left = p->count - i;
        tile->k_outer = pixel % run ? 1 : FC_MAX(1, left / run);
        tile->k_inner = FC_MIN(left, run - pixel % run);
        tile->a = fc_at(&job->image.x, job->t->itemsize, pixel / run, channel) +
                  pixel % run * job->itemsize;
        tile->b = first_b + i * tile->b_step * job->itemsize;
        tile->b_row = tile->k_inner * tile->b_step;
        job->t->gemm_tile(tile);
        tile->init = FC_INIT_LOAD;
    }
    tile->b = first_b;
    tile->init = first_init;
}

static void multiply_cols(const grad_job *job, const packed_block *p) {
    const ptrdiff_t rows = p->k.channels * p->k.taps, m = fc_even_part(rows, job->t->mr);
    const fc_array *x = &job->image.x;
    const ptrdiff_t channel = (job->first_group + p->group) * (job->g.C / job->g.G) + p->k.channel;
    fc_tile tile = {.init = job->fresh && p->first == 0 ? FC_INIT_ZERO : FC_INIT_LOAD,
                    .k_outer = 1,
                    .k_inner = p->count,
                    .a_row = job->in_place ? x->stride[1] : job->image.plan.image_pitch,
                    .a_step = 1,
                    .a_skip = job->in_place ? x->stride[0] - job->g.out[2] : 0};
    for (ptrdiff_t panel = 0; panel < job->panels; panel++) {
        tile.b = dyt_at(job, p->group, panel, p->first);
        tile.b_step = panel_width(job, panel);
        tile.ldc = job->sums_in_dw ? job->dw.stride[1] : tile.b_step;
        tile.vectors = tile.b_step / job->t->lanes;
        for (ptrdiff_t row = 0; row < rows; row += m) {
            tile.m = FC_MIN(m, rows - row);
            tile.c = sums_at(job, p->group, panel, first_row_of(job, &p->k) + row);
            if (job->in_place) {
                multiply_images(job, p, &tile, channel + row);
            } else {
                tile.a = p->cols + row * tile.a_row * job->itemsize;
                job->t->gemm_tile(&tile);
            }
        }
    }
}

/* The packed rows of x, strip after strip, for one tap of some channels. A strip is what the chunk has
 * of one image. */
static void multiply_strips(const grad_job *job, const packed_block *p, fc_tile *tile,
                            const char *a) {
    const fc_conv *g = &job->g;
    const ptrdiff_t lines = p->count / g->out[2];
    const ptrdiff_t before = (job->first_pixel + p->first) / g->out[2] % g->out[1];
    const char *const first_b = tile->b;
    for (ptrdiff_t line = 0; line < lines; line += tile->k_outer) {
        tile->k_outer = FC_MIN(lines - line, line == 0 ? g->out[1] - before : g->out[1]);
        tile->init = job->fresh && p->first + line == 0 ? FC_INIT_ZERO : FC_INIT_LOAD;
        tile->a = a;
        tile->b = first_b + line * tile->b_row * job->itemsize;
        job->t->gemm_tile(tile);
        a += fc_rows_seen(g, tile->k_outer) * job->x_cols * job->itemsize;
    }
    tile->b = first_b;
}

/* Tap (kh, kw) is read kh rows and kw columns further on, in its phase of the stride. The tile's rows are
 * neighbouring channels or, where these are few, rows of the filter. */
static void multiply_tap(const grad_job *job, const packed_block *p, fc_tile *tile, char *sums,
                         ptrdiff_t tap) {
    const fc_conv *g = &job->g;
    const ptrdiff_t pitch = job->image.plan.image_pitch, phases = g->stride[2];
    const ptrdiff_t kh = tap / g->kernel[2], column = tap % g->kernel[2] * g->dilation[2];
    const ptrdiff_t at =
        column % phases * pitch + kh * g->dilation[1] * job->x_cols + column / phases;
    const ptrdiff_t step = job->by_channels ? fc_even_part(p->k.channels, job->t->mr) : 1;
    for (ptrdiff_t c = 0; c < p->k.channels; c += step) {
        if (job->by_channels)
            tile->m = FC_MIN(step, p->k.channels - c);
        tile->c = sums + (c * job->taps + tap) * tile->b_step * job->itemsize;
        multiply_strips(job, p, tile, p->cols + (c * phases * pitch + at) * job->itemsize);
    }
}

static void multiply_shifted(const grad_job *job, const packed_block *p) {
    const fc_conv *g = &job->g;
    const ptrdiff_t *kernel = g->kernel;
    const ptrdiff_t rows = fc_even_part(kernel[1], job->t->mr);
    fc_tile tile = {.k_inner = g->out[2],
                    .a_row = job->by_channels ? g->stride[2] * job->image.plan.image_pitch
                                              : g->dilation[1] * job->x_cols,
                    .a_step = 1,
                    .a_skip = g->stride[1] * job->x_cols - g->out[2]};
    for (ptrdiff_t panel = 0; panel < job->panels; panel++) {
        char *sums = acc_at(job, p->group, panel, first_row_of(job, &p->k));
        tile.b = dyt_at(job, p->group, panel, p->first);
        tile.b_step = panel_width(job, panel);
        tile.b_row = g->out[2] * tile.b_step;
        tile.ldc = (job->by_channels ? job->taps : kernel[2]) * tile.b_step;
        tile.vectors = tile.b_step / job->t->lanes;
        for (ptrdiff_t kh = 0; kh < kernel[1]; kh += job->by_channels ? 1 : rows) {
            tile.m = FC_MIN(rows, kernel[1] - kh);
            for (ptrdiff_t kw = 0; kw < kernel[2]; kw++)
                multiply_tap(job, p, &tile, sums, kh * kernel[2] + kw);
        }
    }
}

/* Whole rows of x with their padding, those that the windows of the chunk's pixels see. */
static ptrdiff_t find_rows(const grad_job *job, ptrdiff_t pixel, ptrdiff_t count,
                           fc_segment *segments) {
    const ptrdiff_t *out = job->g.out;
    ptrdiff_t used = 0, line = pixel / out[2], lines;
    for (const ptrdiff_t last = (pixel + count) / out[2]; line < last; line += lines) {
        lines = FC_MIN(last - line, out[1] - line % out[1]);
        const ptrdiff_t rows = fc_rows_seen(&job->g, lines);
        for (ptrdiff_t row = 0; row < rows; row++, used++)
            segments[used] = (fc_segment){
                .lane = used * job->x_cols,
                .length = job->x_cols,
                .n = line / out[1] / out[0],
                .out = {line / out[1] % out[0], line % out[1] * job->g.stride[1] + row, 0}};
    }
    return used;
}

/* One block of k at all pixels of the band. */
static void multiply_task(void *context, ptrdiff_t task, int slot) {
    const grad_job *job = context;
    packed_block p = {.group = task / job->blocks};
    p.k = fc_sum_block_at(&job->g, &job->image.plan, task % job->blocks);
    fc_segment *segments = (fc_segment *)(job->slots + (size_t)slot * job->slot_bytes);
    /* Shifted: all rows of some channels at a time, as many streams as the processor can foresee. */
    const ptrdiff_t most = job->shifted ? FC_PACK_CHANNELS : p.k.channels;
    const ptrdiff_t pitch = job->image.plan.image_pitch;
    char *cols = (char *)segments + job->segment_bytes;
    p.cols = cols;
    for (p.first = 0; p.first < job->band_pixels; p.first += p.count) {
        const ptrdiff_t pixel = job->first_pixel + p.first;
        p.count = FC_MIN(job->chunk, job->band_pixels - p.first);
        if (job->in_place) {
            multiply_cols(job, &p);
            continue;
        }
        const ptrdiff_t used = job->shifted ? find_rows(job, pixel, p.count, segments)
                                            : fc_find_segments(&job->g, pixel, p.count, segments);
        fc_sum_block some = {.tap = p.k.tap, .taps = job->shifted ? job->g.stride[2] : p.k.taps};
        for (ptrdiff_t c = 0; c < p.k.channels; c += most) {
            some.channel = p.k.channel + c;
            some.channels = FC_MIN(most, p.k.channels - c);
            fc_pack_panel(&job->image, job->first_group + p.group, &some, segments, used, pitch,
                          cols + c * some.taps * pitch * job->itemsize);
        }
        (job->shifted ? multiply_shifted : multiply_cols)(job, &p);
    }
    if (job->store_at_once && !job->sums_in_dw &&
        job->first_pixel + job->band_pixels == job->pixels)
        for (ptrdiff_t panel = 0; panel < job->panels; panel++)
            store_block(job, p.group, panel, task % job->blocks);
}

/* All pixels of one part, band after band. */
static void sum_part(void *context, ptrdiff_t part, int slot) {
    grad_job job = *(const grad_job *)context;
    const ptrdiff_t first = part * job.part, last = FC_MIN(first + job.part, job.pixels);
    (void)slot;
    job.acc += (size_t)part * job.acc_bytes;
    job.dyt += (size_t)part * job.dyt_bytes;
    job.slots += (size_t)part * job.slot_bytes;
    if (job.parts > 1)
        job.threads = 1;
    for (ptrdiff_t pixel = first; pixel < last; pixel += job.band) {
        job.first_pixel = pixel;
        job.band_pixels = FC_MIN(job.band, last - pixel);
        job.fresh = pixel == first;
        fc_parallel_for(job.threads,
                        job.groups * job.panels * fc_ceil_div(job.band_pixels, job.chunk),
                        turn_task, &job);
        fc_parallel_for(job.threads, job.groups * job.blocks, multiply_task, &job);
    }
}

/* ---- the call ------------------------------------------------------------------------------ */

static void run_chunk(grad_job *job) {
    job->panels = fc_ceil_div(job->ocs, job->t->nr);
    if (job->parts > 1)
        fc_parallel_for(job->threads, job->parts, sum_part, job);
    else
        sum_part(job, 0, 0);
    if (!job->store_at_once)
        fc_parallel_for(job->threads, job->groups * job->panels * job->blocks, store_task, job);
}

fc_status fc_gemm_weight_grad(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                              const fc_array *x, const fc_array *dw) {
    if (fc_is_pointwise(g) && g->G == 1 && g->OC > g->C) {
        fc_conv turned = *g;
        turned.C = g->OC;
        turned.OC = g->C;
        fc_array dw_turned = *dw;
        dw_turned.stride[0] = dw->stride[1];
        dw_turned.stride[1] = dw->stride[0];
        return fc_gemm_weight_grad(&turned, dtype, x, dy, &dw_turned);
    }
    grad_job job = {.g = *g,
                    .image = {.x = *x, .t = fc_table(dtype)},
                    .dy = *dy,
                    .dw = *dw,
                    .t = fc_table(dtype)};
    fc_plan_weight_grad(&job);
    const ptrdiff_t size[] = {g->N, g->C, g->in[0], g->in[1], g->in[2]};
    fc_array_bounds(x, size, job.t->itemsize, &job.image.x_begin, &job.image.x_end);
    const size_t slots = (size_t)FC_MAX(job.threads, job.parts) * job.slot_bytes;
    char *memory =
        fc_workspace_acquire((size_t)job.parts * (job.acc_bytes + job.dyt_bytes) + slots);
    if (!memory)
        return FC_NO_MEMORY;
    job.acc = memory;
    job.dyt = job.acc + (size_t)job.parts * job.acc_bytes;
    job.slots = job.dyt + (size_t)job.parts * job.dyt_bytes;
    for (job.first_group = 0; job.first_group < g->G; job.first_group += job.group_chunk) {
        job.groups = FC_MIN(job.group_chunk, g->G - job.first_group);
        for (job.first_oc = 0; job.first_oc < job.ocg; job.first_oc += job.oc_chunk) {
            job.ocs = FC_MIN(job.oc_chunk, job.ocg - job.first_oc);
            run_chunk(&job);
        }
    }
    fc_workspace_release(memory);
    return FC_OK;
}
