/* SPDX-License-Identifier: BSD-3-Clause
 * Packing for the implicit GEMM. It knows padding, stride, dilation and layout; nothing behind it
 * does. */
#include "conv_job.h"

/* ---- packing of weights -------------------------------------------------------------------- */

char *fc_weight_panel(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                      ptrdiff_t oc) {
    const ptrdiff_t taps = fc_volume(job->g.kernel), sum = job->g.C / job->g.G * taps;
    const ptrdiff_t before = b->channel * taps + b->tap * b->channels;
    const ptrdiff_t ocs = fc_packed_channels(&job->plan, job->ocs);
    const ptrdiff_t offset = ((group - job->first_group) * sum + before) * ocs +
                             (oc - job->first_oc) * b->channels * b->taps;
    return job->weights + offset * (ptrdiff_t)job->t->itemsize;
}

int fc_weights_are_dense(const fc_conv *g, const fc_array *w) {
    const ptrdiff_t *s = w->stride, *k = g->kernel;
    return (g->C == g->G || s[1] == fc_volume(k)) && (k[2] == 1 || s[4] == 1) &&
           (k[1] == 1 || s[3] == k[2]) && (k[0] == 1 || s[2] == k[1] * k[2]);
}

static void zero_lanes(const fc_kernels *t, char *dst, ptrdiff_t rows, ptrdiff_t row_step,
                       ptrdiff_t lanes) {
    static const double zero = 0;
    if (lanes == 0)
        return;
    const fc_copy copy = {
        .rows = rows, .cols = lanes, .src = &zero, .dst = dst, .dst_row = row_step, .dst_col = 1};
    t->copy_2d(&copy);
}

void fc_pack_weight_panel(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                          ptrdiff_t oc, ptrdiff_t m, char *dst) {
    const ptrdiff_t *s = job->w.stride, *kernel = job->g.kernel;
    const size_t itemsize = job->t->itemsize;
    const ptrdiff_t pitch = job->plan.swapped ? job->plan.oc_panel : m;
    const char *src =
        fc_at(&job->w, itemsize, oc, b->channel) + group * job->w_group * (ptrdiff_t)itemsize;
    fc_copy copy = {.rows = m, .src_row = s[0], .dst_row = 1, .dst_col = pitch};
    if (m < pitch)
        zero_lanes(job->t, dst + m * (ptrdiff_t)itemsize, b->channels * b->taps, pitch, pitch - m);
    const int one_tap = fc_volume(kernel) == 1;
    if (one_tap || fc_weights_are_dense(&job->g, &job->w)) {
        copy.cols = b->channels * b->taps;
        copy.src = src + b->tap * (ptrdiff_t)itemsize;
        copy.src_col = one_tap ? s[1] : 1;
        copy.dst = dst;
        job->t->copy_2d(&copy);
        return;
    }
    for (ptrdiff_t c = 0; c < b->channels; c++) {
        for (ptrdiff_t tap = b->tap; tap < b->tap + b->taps;) {
            const ptrdiff_t kw = tap % kernel[2], kh = tap / kernel[2] % kernel[1];
            const ptrdiff_t kd = tap / kernel[2] / kernel[1];
            copy.cols = FC_MIN(kernel[2] - kw, b->tap + b->taps - tap);
            copy.src = src + (c * s[1] + kd * s[2] + kh * s[3] + kw * s[4]) * (ptrdiff_t)itemsize;
            copy.src_col = s[4];
            copy.dst = dst;
            job->t->copy_2d(&copy);
            dst += copy.cols * pitch * (ptrdiff_t)itemsize;
            tap += copy.cols;
        }
    }
}

/* Panels that a task packs. Where channels are neighbours in memory, as in a gradient's or a transposed
 * convolution's filters, a panel alone would read a piece of a cache line from each row. */
static ptrdiff_t panels_at_once(const fc_conv_job *job) {
    return job->w.stride[0] == 1 && job->w.stride[1] != 1 ? 8 : 1;
}

ptrdiff_t fc_pack_weights_tasks(const fc_conv_job *job) {
    return job->groups * fc_sum_blocks(&job->g, &job->plan) *
           fc_ceil_div(job->ocs, job->plan.oc_panel * panels_at_once(job));
}

void fc_pack_weights(void *context, ptrdiff_t task, int slot) {
    const fc_conv_job *job = context;
    const ptrdiff_t oc_panel = job->plan.oc_panel, some = oc_panel * panels_at_once(job);
    const ptrdiff_t parts = fc_ceil_div(job->ocs, some);
    const ptrdiff_t blocks = fc_sum_blocks(&job->g, &job->plan);
    const ptrdiff_t group = job->first_group + task / parts / blocks;
    const fc_sum_block b = fc_sum_block_at(&job->g, &job->plan, task / parts % blocks);
    const ptrdiff_t start = task % parts * some, end = FC_MIN(start + some, job->ocs);
    const ptrdiff_t channels = some > oc_panel ? FC_PACK_CHANNELS : b.channels;
    fc_sum_block few = b;
    (void)slot;
    for (ptrdiff_t c = 0; c < b.channels; c += channels) {
        few.channel = b.channel + c;
        few.channels = FC_MIN(channels, b.channels - c);
        for (ptrdiff_t oc = start; oc < end; oc += oc_panel) {
            const ptrdiff_t ocs = FC_MIN(oc_panel, end - oc);
            const ptrdiff_t before = c * b.taps * (job->plan.swapped ? oc_panel : ocs);
            fc_pack_weight_panel(job, group, &few, job->first_oc + oc, ocs,
                                 fc_weight_panel(job, group, &b, job->first_oc + oc) +
                                     before * (ptrdiff_t)job->t->itemsize);
        }
    }
}

void fc_pack_bias(const fc_conv_job *job) {
    const fc_copy copy = {.rows = 1,
                          .cols = job->g.OC,
                          .src = job->bias->data,
                          .src_col = job->bias->stride[0],
                          .dst = job->packed_bias,
                          .dst_col = 1};
    job->t->copy_2d(&copy);
    job->t->fill(FC_MAX_NR, 0, job->packed_bias + job->g.OC * (ptrdiff_t)job->t->itemsize, 1);
}

/* ---- packing of the image ------------------------------------------------------------------ */

ptrdiff_t fc_find_segments(const fc_conv *g, ptrdiff_t pixel, ptrdiff_t count,
                           fc_segment *segments) {
    ptrdiff_t used = 0;
    for (ptrdiff_t lane = 0; lane < count;) {
        fc_segment *s = &segments[used++];
        const ptrdiff_t p = pixel + lane, row = p / g->out[2];
        s->out[2] = p % g->out[2];
        s->out[1] = row % g->out[1];
        s->out[0] = row / g->out[1] % g->out[0];
        s->n = row / g->out[1] / g->out[0];
        s->lane = lane;
        s->length = FC_MIN(g->out[2] - s->out[2], count - lane);
        lane += s->length;
    }
    return used;
}

/* Where a segment and the first of some neighbouring filter taps meet the image. */
typedef struct {
    ptrdiff_t channel, taps; /* first channel, neighbouring taps along the filter's row */
    ptrdiff_t at[FC_SPATIAL];
    int inside; /* the image's depth and height */
} meeting;

static meeting find_meeting(const fc_conv *g, const fc_segment *s,
                            const ptrdiff_t tap[FC_SPATIAL]) {
    meeting m;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        m.at[axis] = s->out[axis] * g->stride[axis] - g->pad[axis] + tap[axis] * g->dilation[axis];
    m.inside = m.at[0] >= 0 && m.at[0] < g->in[0] && m.at[1] >= 0 && m.at[1] < g->in[1];
    return m;
}

/* Rows of the image whose elements are neighbours. */
static void pack_rows(const fc_conv_job *job, const fc_sum_block *b, const meeting *m,
                      const fc_segment *s, ptrdiff_t pitch, char *dst) {
    const fc_conv *g = &job->g;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *stride = job->x.stride;
    const ptrdiff_t row = m->inside ? m->at[0] * stride[2] + m->at[1] * stride[3] : 0;
    const fc_pack pack = {
        .rows = b->channels,
        .taps = m->taps,
        .length = s->length,
        .src = fc_at(&job->x, job->t->itemsize, s->n, m->channel) + row * itemsize,
        .src_row = stride[1],
        .start = m->inside ? m->at[2] : 0,
        .stride = g->stride[2],
        .dilation = m->inside ? g->dilation[2] : 0,
        .width = m->inside ? g->in[2] : 0, /* nothing but padding */
        .dst = dst + s->lane * itemsize,
        .dst_row = b->taps * pitch,
        .dst_tap = pitch,
        .readable_begin = job->x_begin,
        .readable_end = job->x_end,
        .spill = pitch - s->lane - s->length,
        .ahead = b->taps == 1 ? FC_PACK_CHANNELS * stride[1] : 0,
    };
    job->t->pack_taps(&pack);
}

/* Whether a tap moves all pixels of a panel alike; worth it where a panel spans short rows. */
static int is_plane(const fc_conv_job *job, const fc_sum_block *b, const fc_segment *segments,
                    ptrdiff_t count, ptrdiff_t pitch) {
    const fc_conv *g = &job->g;
    return count > 1 && segments[count - 1].n == segments[0].n && pitch <= FC_PLANE_PIXELS &&
           b->taps > 1 && b->taps <= FC_PLANE_TAPS && g->kernel[0] * g->in[0] * g->out[0] == 1 &&
           g->out[2] == g->in[2] && g->stride[1] * g->stride[2] == 1 && job->x.stride[4] == 1 &&
           job->x.stride[3] == g->in[2];
}

/* Bits of the segment's pixels that a tap finds inside the image. */
static uint32_t pixels_inside(const fc_conv *g, const fc_segment *s, const ptrdiff_t *tap) {
    const meeting m = find_meeting(g, s, tap);
    ptrdiff_t first, last;
    if (!m.inside)
        return 0;
    fc_valid_range(m.at[2], 1, s->length, g->in[2], &first, &last);
    return (uint32_t)((((uint64_t)1 << last) - ((uint64_t)1 << first)) << s->lane);
}

static void pack_plane(const fc_conv_job *job, const fc_sum_block *b, ptrdiff_t channel,
                       const fc_segment *segments, ptrdiff_t count, ptrdiff_t pitch, char *dst) {
    const fc_conv *g = &job->g;
    const fc_segment *s = segments;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, W = g->in[2];
    fc_pack_plane pack = {
        .channels = b->channels,
        .taps = b->taps,
        .pitch = pitch,
        .src = fc_at(&job->x, job->t->itemsize, s->n, channel) +
               (s->out[1] * W + s->out[2]) * itemsize,
        .src_channel = job->x.stride[1],
        .dst = dst,
        .readable_begin = job->x_begin,
        .readable_end = job->x_end,
    };
    for (ptrdiff_t k = 0; k < b->taps; k++) {
        const ptrdiff_t flat = b->tap + k, KW = g->kernel[2];
        const ptrdiff_t tap[FC_SPATIAL] = {0, flat / KW, flat % KW};
        pack.shift[k] =
            (tap[1] * g->dilation[1] - g->pad[1]) * W + tap[2] * g->dilation[2] - g->pad[2];
        for (ptrdiff_t i = 0; i < count; i++)
            pack.inside[k] |= pixels_inside(g, &segments[i], tap);
    }
    job->t->pack_plane(&pack);
}

/* Any strides, channels last for one: tap by tap. */
static void pack_strided(const fc_conv_job *job, const fc_sum_block *b, const meeting *m,
                         const fc_segment *s, ptrdiff_t pitch, char *dst) {
    const fc_conv *g = &job->g;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *stride = job->x.stride;
    dst += s->lane * itemsize;
    for (ptrdiff_t k = 0; k < m->taps; k++, dst += pitch * itemsize) {
        const ptrdiff_t start = m->at[2] + k * g->dilation[2];
        ptrdiff_t first = 0, last = 0;
        if (m->inside)
            fc_valid_range(start, g->stride[2], s->length, g->in[2], &first, &last);
        const ptrdiff_t column = start + first * g->stride[2];
        const fc_copy copy = {
            .rows = b->channels,
            .cols = last - first,
            .src = fc_at(&job->x, job->t->itemsize, s->n, m->channel) +
                   (m->at[0] * stride[2] + m->at[1] * stride[3] + column * stride[4]) * itemsize,
            .src_row = stride[1],
            .src_col = stride[4] * g->stride[2],
            .dst = dst + first * itemsize,
            .dst_row = b->taps * pitch,
            .dst_col = 1,
            .readable_end = job->x_end,
        };
        if (first < last)
            job->t->copy_2d(&copy);
        else
            first = last = 0;
        zero_lanes(job->t, dst, b->channels, b->taps * pitch, first);
        zero_lanes(job->t, dst + last * itemsize, b->channels, b->taps * pitch, s->length - last);
    }
}

void fc_pack_panel(const fc_conv_job *job, ptrdiff_t group, const fc_sum_block *b,
                   const fc_segment *segments, ptrdiff_t count, ptrdiff_t pitch, char *dst) {
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *kernel = job->g.kernel;
    const ptrdiff_t pixels = segments[count - 1].lane + segments[count - 1].length;
    const int unit = job->x.stride[4] == 1;
    const ptrdiff_t channel = group * (job->g.C / job->g.G) + b->channel;
    if (is_plane(job, b, segments, count, pitch)) {
        pack_plane(job, b, channel, segments, count, pitch, dst);
        return;
    }
    for (ptrdiff_t i = 0, taps; i < b->taps; i += taps) {
        const ptrdiff_t flat = b->tap + i;
        const ptrdiff_t tap[FC_SPATIAL] = {flat / kernel[2] / kernel[1],
                                           flat / kernel[2] % kernel[1], flat % kernel[2]};
        taps = FC_MIN(kernel[2] - tap[2], b->taps - i);
        for (ptrdiff_t s = 0; s < count; s++) {
            meeting m = find_meeting(&job->g, &segments[s], tap);
            m.channel = channel;
            m.taps = taps;
            (unit ? pack_rows : pack_strided)(job, b, &m, &segments[s], pitch,
                                              dst + i * pitch * itemsize);
        }
    }
    if (pixels < pitch) /* read, though not used */
        zero_lanes(job->t, dst + pixels * itemsize, b->channels * b->taps, pitch, pitch - pixels);
}
