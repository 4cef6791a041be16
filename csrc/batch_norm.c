/* SPDX-License-Identifier: BSD-3-Clause
 * Batch normalization and its gradient: each sums over the numbers of a channel, then gives every
 * number a scale and a shift.
 *
 * Memory traffic is all that it costs, so arrays should be read from memory once. Channels first, a
 * task takes one channel through both steps, which the second-level cache holds between them. Where
 * channels are too few for the threads, and channels last, where they interleave, tasks are parts of
 * the images or pixels, with sums of their own, and the second step is a pass of its own.
 *
 * A variance as the mean of squares less the square of the mean would lose its digits where the mean
 * is large. Instead distances are taken from a pivot near the mean, block by block, and blocks merged
 * exactly (Chan, Golub and LeVeque 1979). A block whose pivot was not near is read again, from a cache. */
#include "internal.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK = 1 << 13, /* elements */
    TASKS = 4        /* for each thread, so that one that is late leaves some to others */
};

/* Running sums of one channel: forward the mean of `count` numbers and their squared distances from
 * it, backward the sums of dy and of dy * (x - mean). */
typedef struct {
    double first, second;
} pair;

typedef struct {
    const fc_norm *g;
    const fc_kernels *t;
    const char *x, *dy, *weight, *bias; /* dy is NULL forward */
    char *mean, *var, *y;               /* y is dx backward, and may be NULL */
    char *dweight, *dbias;
    int training, relu;
    ptrdiff_t parts; /* tasks that share a channel */
    pair *found;     /* [part][C] */
    char *scratch;   /* [slot]: see slot_bytes */
} norm_job;

/* What a thread has of its own: sums and products, and a pivot, shift, scale, dy_scale and bias, for
 * as many channels as a block has. */
typedef struct {
    double *sums, *products;
    char *pivot, *scale, *dy_scale, *bias;
} scratch;

static ptrdiff_t block_channels(const norm_job *job) {
    return job->g->channels_last ? job->g->C : 1;
}

static size_t slot_bytes(const norm_job *job) {
    return 6 * fc_align((size_t)block_channels(job) * sizeof(double));
}

static scratch scratch_of(const norm_job *job, int slot) {
    const size_t step = slot_bytes(job) / 6;
    char *at = job->scratch + (size_t)slot * slot_bytes(job);
    return (scratch){.sums = (double *)(void *)at,
                     .products = (double *)(void *)(at + step),
                     .pivot = at + 2 * step,
                     .scale = at + 3 * step,
                     .dy_scale = at + 4 * step,
                     .bias = at + 5 * step};
}

static double value_at(const fc_kernels *t, const void *p, ptrdiff_t i) {
    return t->itemsize == 4 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

static void set_at(const fc_kernels *t, void *p, ptrdiff_t i, double value) {
    if (t->itemsize == 4)
        ((float *)p)[i] = (float)value;
    else
        ((double *)p)[i] = value;
}

/* ---- blocks ------------------------------------------------------------------------------- */

/* Part `part` of the numbers of a channel (channels first) or of all (channels last): rows of
 * `cols` neighbours, `row` apart, from element `origin` on. Channels first rows are images, or
 * pieces of them. */
typedef struct {
    ptrdiff_t origin, rows, cols, row;
} region;

static ptrdiff_t part_begin(ptrdiff_t size, ptrdiff_t parts, ptrdiff_t part) {
    return size / parts * part + FC_MIN(part, size % parts);
}

static region region_of(const norm_job *job, ptrdiff_t channel, ptrdiff_t part) {
    const fc_norm *g = job->g;
    if (g->channels_last) {
        const ptrdiff_t begin = part_begin(g->N * g->pixels, job->parts, part);
        const ptrdiff_t end = part_begin(g->N * g->pixels, job->parts, part + 1);
        return (region){begin * g->C, end - begin, g->C, g->C};
    }
    const ptrdiff_t row = g->C * g->pixels;
    if (job->parts > g->N) { /* of few images a part is some pixels each */
        const ptrdiff_t begin = part_begin(g->pixels, job->parts, part);
        const ptrdiff_t end = part_begin(g->pixels, job->parts, part + 1);
        return (region){channel * g->pixels + begin, g->N, end - begin, row};
    }
    const ptrdiff_t begin = part_begin(g->N, job->parts, part);
    const ptrdiff_t end = part_begin(g->N, job->parts, part + 1);
    return (region){begin * row + channel * g->pixels, end - begin, g->pixels, row};
}

/* Calls `use` for each block of a region. */
typedef void (*block_use)(const norm_job *job, const fc_norm_block *block, const scratch *s,
                          pair *found, double *count);

static void each_block(const norm_job *job, const region *r, fc_norm_block block, const scratch *s,
                       block_use use, pair *found, double *count) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize;
    const ptrdiff_t cols = block.per_column ? r->cols : FC_MIN(r->cols, (ptrdiff_t)BLOCK);
    /* Many columns: rows enough that their sums are worth being merged. */
    const ptrdiff_t least = block.per_column ? 32 : 1;
    const ptrdiff_t rows = FC_MAX(least, BLOCK / FC_MAX(1, cols));
    for (ptrdiff_t top = 0; top < r->rows; top += rows)
        for (ptrdiff_t left = 0; left < r->cols; left += cols) {
            const ptrdiff_t at = (r->origin + top * r->row + left) * itemsize;
            block.rows = FC_MIN(rows, r->rows - top);
            block.cols = FC_MIN(cols, r->cols - left);
            block.row = r->row;
            block.x = job->x + at;
            block.dy = job->dy ? job->dy + at : NULL;
            block.y = job->y ? job->y + at : NULL;
            use(job, &block, s, found, count);
        }
}

/* ---- sums --------------------------------------------------------------------------------- */

/* Adds the mean and squared distances of m numbers to those of n. */
static void merge(pair *into, double n, double mean, double squares, double m) {
    const double distance = mean - into->first;
    into->first += distance * (m / (n + m));
    into->second += squares + distance * distance * (n * m / (n + m));
}

static void sum_block(const norm_job *job, fc_norm_block *block, const scratch *s) {
    const size_t bytes = (size_t)(block->per_column ? block->cols : 1) * sizeof(double);
    block->sums = memset(s->sums, 0, bytes);
    block->products = memset(s->products, 0, bytes);
    job->t->norm_sums(block);
}

/* Sums about a pivot near the mean lose no digits; at the mean of the blocks before, they nearly
 * always are. Whether they did is seen from the sums. */
static int lost_digits(const scratch *s, ptrdiff_t channels, double m) {
    for (ptrdiff_t c = 0; c < channels; c++)
        if (4 * s->sums[c] * s->sums[c] > 3 * s->products[c] * m)
            return 1;
    return 0;
}

static void moments_of_block(const norm_job *job, const fc_norm_block *block, const scratch *s,
                             pair *found, double *count) {
    const ptrdiff_t channels = block->per_column ? block->cols : 1;
    const double m = (double)block->rows * (double)(block->per_column ? 1 : block->cols);
    fc_norm_block b = *block;
    b.shift = s->pivot;
    if (*count > 0)
        for (ptrdiff_t c = 0; c < channels; c++)
            set_at(job->t, s->pivot, c, found[c].first);
    else
        memcpy(s->pivot, b.x, (size_t)channels * job->t->itemsize);
    sum_block(job, &b, s);
    if (lost_digits(s, channels, m)) {
        for (ptrdiff_t c = 0; c < channels; c++)
            set_at(job->t, s->pivot, c, value_at(job->t, s->pivot, c) + s->sums[c] / m);
        sum_block(job, &b, s);
    }
    for (ptrdiff_t c = 0; c < channels; c++) {
        const double off = s->sums[c] / m;
        merge(&found[c], *count, value_at(job->t, s->pivot, c) + off,
              s->products[c] - s->sums[c] * off, m);
    }
    *count += m;
}

static void gradient_of_block(const norm_job *job, const fc_norm_block *block, const scratch *s,
                              pair *found, double *count) {
    (void)count;
    fc_norm_block b = *block;
    sum_block(job, &b, s);
    for (ptrdiff_t c = 0; c < (b.per_column ? b.cols : 1); c++) {
        found[c].first += s->sums[c];
        found[c].second += s->products[c];
    }
}

/* The numbers of one channel, or all, in a part. */
static double part_count(const norm_job *job, ptrdiff_t part) {
    const region r = region_of(job, 0, part);
    return (double)r.rows * (double)(job->g->channels_last ? 1 : r.cols);
}

static void sum_part(const norm_job *job, ptrdiff_t channel, ptrdiff_t part, const scratch *s) {
    const region r = region_of(job, channel, part);
    const fc_norm_block block = {.per_column = job->g->channels_last,
                                 .shift = job->mean + channel * (ptrdiff_t)job->t->itemsize};
    pair *found = job->found + part * job->g->C + channel;
    double count = 0;
    memset(found, 0, (size_t)block_channels(job) * sizeof *found);
    each_block(job, &r, block, s, job->dy ? gradient_of_block : moments_of_block, found, &count);
}

/* From the parts' sums to the results of one channel. */
static void finish_channel(const norm_job *job, ptrdiff_t c) {
    const fc_norm *g = job->g;
    pair all = {0, 0};
    double count = 0;
    for (ptrdiff_t part = 0; part < job->parts; part++) {
        const pair *found = &job->found[part * g->C + c];
        const double m = part_count(job, part);
        if (job->dy) {
            all.first += found->first;
            all.second += found->second;
        } else if (m > 0) {
            merge(&all, count, found->first, found->second, m);
            count += m;
        }
    }
    job->found[c] = all;
    if (job->dy) {
        const double deviation = sqrt(value_at(job->t, job->var, c) + g->eps);
        set_at(job->t, job->dbias, c, all.first);
        set_at(job->t, job->dweight, c, all.second / deviation);
    } else {
        set_at(job->t, job->mean, c, all.first);
        set_at(job->t, job->var, c, count > 0 ? all.second / count : 0);
    }
}

/* ---- scale and shift ---------------------------------------------------------------------- */

static void set_parameters(const norm_job *job, ptrdiff_t first, const scratch *s) {
    const fc_norm *g = job->g;
    const fc_kernels *t = job->t;
    const double count = (double)g->N * (double)g->pixels;
    for (ptrdiff_t i = 0; i < block_channels(job); i++) {
        const ptrdiff_t c = first + i;
        const double inverse = 1 / sqrt(value_at(t, job->var, c) + g->eps);
        const double scale = job->weight ? value_at(t, job->weight, c) * inverse : inverse;
        if (!job->dy) {
            set_at(t, s->scale, i, scale);
            set_at(t, s->bias, i, job->bias ? value_at(t, job->bias, c) : 0);
            continue;
        }
        const pair sums = job->training ? job->found[c] : (pair){0, 0};
        set_at(t, s->dy_scale, i, scale);
        set_at(t, s->scale, i, -scale * inverse * inverse * sums.second / count);
        set_at(t, s->bias, i, -scale * sums.first / count);
    }
}

static void apply_block(const norm_job *job, const fc_norm_block *block, const scratch *s,
                        pair *found, double *count) {
    (void)s;
    (void)found;
    (void)count;
    job->t->norm_apply(block);
}

static void apply_part(const norm_job *job, ptrdiff_t channel, ptrdiff_t part, const scratch *s) {
    const region r = region_of(job, channel, part);
    const fc_norm_block block = {.per_column = job->g->channels_last,
                                 .shift = job->mean + channel * (ptrdiff_t)job->t->itemsize,
                                 .scale = s->scale,
                                 .dy_scale = s->dy_scale,
                                 .bias = s->bias,
                                 .relu = job->relu};
    set_parameters(job, channel, s);
    each_block(job, &r, block, s, apply_block, NULL, NULL);
}

/* ---- tasks -------------------------------------------------------------------------------- */

static int needs_sums(const norm_job *job) {
    return job->dy || job->training;
}

/* A whole channel, both steps. */
static void channel_task(void *context, ptrdiff_t task, int slot) {
    const norm_job *job = context;
    const scratch s = scratch_of(job, slot);
    if (needs_sums(job)) {
        sum_part(job, task, 0, &s);
        finish_channel(job, task);
    }
    if (job->y)
        apply_part(job, task, 0, &s);
}

/* One step of a part, of one channel or of all. */
static void sum_task(void *context, ptrdiff_t task, int slot) {
    const norm_job *job = context;
    const scratch s = scratch_of(job, slot);
    sum_part(job, task / job->parts, task % job->parts, &s);
}

static void apply_task(void *context, ptrdiff_t task, int slot) {
    const norm_job *job = context;
    const scratch s = scratch_of(job, slot);
    apply_part(job, task / job->parts, task % job->parts, &s);
}

static fc_status run(norm_job *job) {
    const fc_norm *g = job->g;
    const int threads = fc_threads_for((double)g->N * (double)g->C * (double)g->pixels);
    const ptrdiff_t groups = g->channels_last ? 1 : g->C;
    job->parts = 1;
    if (threads > 1 && groups < TASKS * threads) /* then there are groups */
        job->parts = fc_ceil_div(TASKS * threads, groups);
    const size_t found = fc_align((size_t)(job->parts * g->C) * sizeof *job->found);
    char *memory = fc_workspace_acquire(found + (size_t)threads * slot_bytes(job) + 64);
    if (!memory)
        return FC_NO_MEMORY;
    job->found = (pair *)(void *)memory;
    job->scratch = memory + found;
    if (job->parts == 1 && !g->channels_last) {
        fc_parallel_for(threads, groups, channel_task, job);
    } else {
        if (needs_sums(job)) {
            fc_parallel_for(threads, groups * job->parts, sum_task, job);
            for (ptrdiff_t c = 0; c < g->C; c++)
                finish_channel(job, c);
        }
        if (job->y)
            fc_parallel_for(threads, groups * job->parts, apply_task, job);
    }
    fc_workspace_release(memory);
    return FC_OK;
}

fc_status fc_batch_norm(const fc_norm *g, fc_dtype dtype, const void *x, const void *weight,
                        const void *bias, void *mean, void *var, int training, int relu, void *y) {
    norm_job job = {.g = g,
                    .t = fc_table(dtype),
                    .x = x,
                    .weight = weight,
                    .bias = bias,
                    .mean = mean,
                    .var = var,
                    .training = training,
                    .relu = relu,
                    .y = y};
    return run(&job);
}

fc_status fc_batch_norm_grad(const fc_norm *g, fc_dtype dtype, const void *dy, const void *x,
                             const void *weight, const void *mean, const void *var, int training,
                             void *dx, void *dweight, void *dbias) {
    norm_job job = {.g = g,
                    .t = fc_table(dtype),
                    .x = x,
                    .dy = dy,
                    .weight = weight,
                    .mean = (char *)mean,
                    .var = (char *)var,
                    .training = training,
                    .y = dx,
                    .dweight = dweight,
                    .dbias = dbias};
    return run(&job);
}
