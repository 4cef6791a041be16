/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of a convolution with respect to its input (and transposed convolution).
 *
 *   dx[c][ih] = sum over oc, kh with ih = oh*SH - PH + kh*DH of w[oc][c][kh] * dy[oc][oh]
 *
 * (one axis shown). Rows ih = r + SH*i of one phase r meet only the taps kh with
 * kh*DH = r + PH (mod SH): every T-th tap, T = SH/gcd(SH, DH). For those, oh = i + q - t*DH/gcd, so
 * each phase is a stride-1 convolution of dy with flipped taps, written to every SH-th row of dx:
 * nothing is scattered, and the forward kernels do all the work through views. */
#include <string.h>

#include "plan.h"

/* One axis of one phase as a stride-1 convolution. */
typedef struct {
    ptrdiff_t first_tap, tap_step, taps; /* kh = first_tap + t*tap_step; no taps: zero gradient */
    ptrdiff_t dilation, pad;
    ptrdiff_t out; /* elements of dx in this phase */
} axis_phase;

static axis_phase find_phase(const fc_conv *g, int axis, ptrdiff_t phase) {
    const ptrdiff_t stride = g->stride[axis], dilation = g->dilation[axis];
    const ptrdiff_t gcd = fc_gcd(stride, dilation);
    axis_phase p = {.tap_step = stride / gcd, .dilation = dilation / gcd};
    p.out = fc_ceil_div(g->in[axis] - phase, stride);
    for (p.first_tap = 0; p.first_tap < p.tap_step && p.first_tap < g->kernel[axis];
         p.first_tap++) {
        const ptrdiff_t distance = phase + g->pad[axis] - p.first_tap * dilation;
        if (distance % stride != 0)
            continue;
        p.taps = fc_ceil_div(g->kernel[axis] - p.first_tap, p.tap_step);
        p.pad = (p.taps - 1) * p.dilation - distance / stride;
        break;
    }
    return p;
}

/* The phase's taps along an axis of w, last one first. */
static void flip_axis(const axis_phase *p, int axis, ptrdiff_t itemsize, fc_array *w) {
    ptrdiff_t *stride = &w->stride[axis + 2];
    /* steps that are never taken may be too long to compute with */
    if (p->taps > 0)
        w->data += (p->first_tap + (p->taps - 1) * p->tap_step) * *stride * itemsize;
    if (p->taps > 1)
        *stride *= -p->tap_step;
}

/* A phase that no tap reaches: dx is the bias there, or zero. */
typedef struct {
    const fc_conv *g;
    const fc_kernels *t;
    const fc_array *dx, *bias;
} fill_job;

static void fill_plane(void *context, ptrdiff_t task, int slot) {
    static const double zero = 0;
    const fill_job *job = context;
    const fc_array *dx = job->dx, *bias = job->bias;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, c = task % job->g->OC;
    (void)slot;
    for (ptrdiff_t d = 0; d < job->g->out[0]; d++) {
        const fc_copy copy = {
            .rows = job->g->out[1],
            .cols = job->g->out[2],
            .src = bias ? bias->data + c * bias->stride[0] * itemsize : (const char *)&zero,
            .dst = fc_at(dx, job->t->itemsize, task / job->g->OC, c) + d * dx->stride[2] * itemsize,
            .dst_row = dx->stride[3],
            .dst_col = dx->stride[4],
        };
        job->t->copy_2d(&copy);
    }
}

/* Channels last: a row of pixels. */
static void fill_pixels(void *context, ptrdiff_t task, int slot) {
    const fill_job *job = context;
    const fc_array *dx = job->dx, *bias = job->bias;
    const ptrdiff_t itemsize = (ptrdiff_t)job->t->itemsize, *out = job->g->out;
    char *dst = fc_at(dx, job->t->itemsize, task / out[1] / out[0], 0) +
                (task / out[1] % out[0] * dx->stride[2] + task % out[1] * dx->stride[3]) * itemsize;
    (void)slot;
    if (bias) {
        const fc_copy copy = {.rows = out[2],
                              .cols = job->g->OC,
                              .src = bias->data,
                              .src_col = bias->stride[0],
                              .dst = dst,
                              .dst_row = dx->stride[4],
                              .dst_col = 1};
        job->t->copy_2d(&copy);
        return;
    }
    for (ptrdiff_t i = 0; i < out[2]; i++, dst += dx->stride[4] * itemsize)
        memset(dst, 0, (size_t)(job->g->OC * itemsize));
}

static void fill(const fc_conv *g, const fc_kernels *t, const fc_array *dx, const fc_array *bias) {
    fill_job job = {.g = g, .t = t, .dx = dx, .bias = bias};
    const int threads = fc_threads_for((double)g->N * (double)g->OC * (double)fc_volume(g->out));
    if (dx->stride[1] == 1 && g->OC > 1)
        fc_parallel_for(threads, g->N * g->out[0] * g->out[1], fill_pixels, &job);
    else
        fc_parallel_for(threads, g->N * g->OC, fill_plane, &job);
}

/* One phase as a convolution of dy. */
static fc_conv phase_conv(const fc_conv *g, const ptrdiff_t phase[FC_SPATIAL]) {
    fc_conv s = {.N = g->N, .C = g->OC, .OC = g->C, .G = g->G};
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        const axis_phase p = find_phase(g, axis, phase[axis]);
        s.in[axis] = g->out[axis];
        s.out[axis] = p.out;
        s.kernel[axis] = p.taps;
        s.stride[axis] = 1;
        s.dilation[axis] = p.dilation;
        s.pad[axis] = p.pad;
    }
    return s;
}

static fc_status run_phase(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *dy,
                           const fc_array *w, const fc_array *bias, const fc_array *dx,
                           const char *gate, const ptrdiff_t phase[FC_SPATIAL]) {
    const ptrdiff_t itemsize = (ptrdiff_t)fc_table(dtype)->itemsize;
    const fc_conv s = phase_conv(g, phase);
    fc_array flipped = *w, view = *dx;
    flipped.stride[0] = w->stride[1];
    flipped.stride[1] = w->stride[0];
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        const axis_phase p = find_phase(g, axis, phase[axis]);
        flip_axis(&p, axis, itemsize, &flipped);
        view.data += phase[axis] * dx->stride[axis + 2] * itemsize;
        if (p.out > 1)
            view.stride[axis + 2] *= g->stride[axis];
    }
    if (s.kernel[0] == 0 || s.kernel[1] == 0 || s.kernel[2] == 0) {
        fill(&s, fc_table(dtype), &view, bias);
        return FC_OK;
    }
    return fc_conv_core(&s, dtype, algo, dy, &flipped, g->OC / g->G * w->stride[0], bias, &view, 0,
                        gate);
}

/* ---- all phases at once -------------------------------------------------------------------- */

/* The phases as output channels of one stride-1 convolution, whose filters have a tap where any phase
 * has one, zero in the others: full tiles where there are few channels, and dy is read once. Zero times
 * infinity is NaN, though: results that are not finite are made again, phase by phase. */
typedef struct {
    fc_conv g;
    ptrdiff_t taps[FC_SPATIAL], phases[FC_SPATIAL]; /* of all phases together; their number */
    int plane;                                      /* one plane, taps side by side */
} merged_phases;

/* Where tap 0 of a phase stands among the merged taps of an axis. */
static ptrdiff_t merged_place(const fc_conv *g, const merged_phases *m, int axis, ptrdiff_t phase) {
    return m->g.pad[axis] - find_phase(g, axis, phase).pad;
}

/* Whether they can be merged; fills m and finds out how many taps they have if they are not. */
static int find_merged(const fc_conv *g, merged_phases *m) {
    m->g = (fc_conv){.N = g->N, .C = g->OC, .G = g->G};
    ptrdiff_t phases = 1;
    m->plane = g->stride[0] == 1;
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        m->phases[axis] = g->stride[axis];
        if (g->stride[axis] > FC_MOST_PHASES || g->stride[axis] > g->in[axis])
            return 0;
        m->plane = m->plane && g->dilation[axis] == 1;
        phases *= g->stride[axis];
        ptrdiff_t last = PTRDIFF_MAX; /* pad - taps: the less, the further the last tap */
        m->g.pad[axis] = PTRDIFF_MIN;
        m->taps[axis] = 0;
        for (ptrdiff_t phase = 0; phase < g->stride[axis]; phase++) {
            const axis_phase p = find_phase(g, axis, phase);
            m->taps[axis] += p.taps;
            if (p.taps == 0)
                continue;
            m->g.pad[axis] = FC_MAX(m->g.pad[axis], p.pad);
            last = FC_MIN(last, p.pad - (p.taps - 1) * p.dilation - 1);
        }
        m->g.in[axis] = g->out[axis];
        m->g.out[axis] = fc_ceil_div(g->in[axis], g->stride[axis]);
        m->g.kernel[axis] = m->g.pad[axis] - last;
        m->g.stride[axis] = m->g.dilation[axis] = 1;
    }
    m->g.OC = g->C * phases;
    return phases > 1 && phases <= FC_MOST_PHASES * FC_MOST_PHASES;
}

/* Tiles for each pixel of dy: merged they are fuller, but multiply zeros. */
static int merging_pays(const fc_conv *g, const fc_kernels *t, const merged_phases *m) {
    const ptrdiff_t channels = g->C / g->G, rows = m->g.OC / g->G;
    const double merged =
        fc_tile_cost(t, rows, fc_even_part(rows, t->mr)) * (double)fc_volume(m->g.kernel);
    const double apart =
        fc_tile_cost(t, channels, fc_even_part(channels, t->mr)) * (double)fc_volume(m->taps) +
        4 * (double)(m->phases[1] * m->phases[2]);
    const double weights =
        (double)m->g.OC * (double)(g->OC / g->G) * (double)fc_volume(m->g.kernel);
    return merged < apart && weights * (double)t->itemsize <= (double)((ptrdiff_t)1 << 20);
}

/* The filters of all phases, [OC][C/G][KH][KW] of the merged convolution. */
static void merge_weights(const fc_conv *g, const fc_kernels *t, const merged_phases *m,
                          const fc_array *w, char *dst) {
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize, taps = fc_volume(m->g.kernel);
    const ptrdiff_t channels = g->C / g->G, filters = g->OC / g->G;
    for (ptrdiff_t oc = 0; oc < m->g.OC; oc++, dst += filters * taps * itemsize) {
        const ptrdiff_t c = oc / m->phases[2] % channels;
        const ptrdiff_t ph = oc / m->phases[2] / channels % m->phases[1];
        const ptrdiff_t group = oc / (m->phases[1] * channels * m->phases[2]);
        const ptrdiff_t pw = oc % m->phases[2];
        const axis_phase h = find_phase(g, 1, ph), v = find_phase(g, 2, pw);
        for (ptrdiff_t i = 0; i < h.taps && v.taps > 0; i++) {
            const ptrdiff_t kh = h.first_tap + (h.taps - 1 - i) * h.tap_step;
            const ptrdiff_t kw = v.first_tap + (v.taps - 1) * v.tap_step;
            const ptrdiff_t place =
                (merged_place(g, m, 1, ph) + i) * m->g.kernel[2] + merged_place(g, m, 2, pw);
            const fc_copy copy = {
                .rows = filters,
                .cols = v.taps,
                .src = fc_at(w, t->itemsize, group * filters, c) +
                       (kh * w->stride[3] + kw * w->stride[4]) * itemsize,
                .src_row = w->stride[0],
                .src_col = -v.tap_step * w->stride[4],
                .dst = dst + place * itemsize,
                .dst_row = taps,
                .dst_col = 1,
            };
            t->copy_2d(&copy);
        }
    }
}

/* Each phase with the taps that meet it. */
static void list_phases(const fc_conv *g, const merged_phases *m, const fc_array *w,
                        ptrdiff_t itemsize, fc_phase_list *list) {
    list->count = fc_volume(m->phases);
    list->taps = 0;
    for (ptrdiff_t i = 0; i < list->count; i++) {
        const ptrdiff_t phase[] = {i / m->phases[2] / m->phases[1], i / m->phases[2] % m->phases[1],
                                   i % m->phases[2]};
        fc_phase *p = &list->phase[i];
        *p = (fc_phase){.w = *w, .number = list->taps};
        p->w.stride[0] = w->stride[1];
        p->w.stride[1] = w->stride[0];
        for (int axis = 0; axis < FC_SPATIAL; axis++) {
            const axis_phase a = find_phase(g, axis, phase[axis]);
            p->taps[axis] = a.taps;
            p->step[axis] = a.dilation;
            p->first[axis] = a.taps > 0 ? merged_place(g, m, axis, phase[axis]) : 0;
            flip_axis(&a, axis, itemsize, &p->w);
            list->stride[axis] = m->phases[axis];
            list->size[axis] = g->in[axis];
        }
        list->taps += fc_volume(p->taps);
    }
}

static fc_status run_merged(const fc_conv *g, fc_dtype dtype, const merged_phases *m,
                            const fc_array *dy, const fc_array *w, const fc_array *bias,
                            const fc_merge *merge, int *finite) {
    const fc_kernels *t = fc_table(dtype);
    const ptrdiff_t itemsize = (ptrdiff_t)t->itemsize, taps = fc_volume(m->g.kernel);
    const ptrdiff_t channels = g->C / g->G, row = g->OC / g->G * taps;
    const ptrdiff_t phases = m->phases[1] * m->phases[2];
    const size_t bytes = fc_align((size_t)(m->g.OC * row * itemsize));
    char *memory = fc_workspace_acquire(bytes + (size_t)(m->g.OC * itemsize));
    if (!memory)
        return FC_NO_MEMORY;
    t->fill(m->g.OC * row, 0, memory, 1);
    merge_weights(g, t, m, w, memory);
    const fc_array weights = {.data = memory, .stride = {row, taps, taps, m->g.kernel[2], 1}};
    const fc_array biases = {.data = memory + bytes, .stride = {1}};
    for (ptrdiff_t oc = 0; bias && oc < m->g.OC; oc++) {
        const ptrdiff_t c = oc / (phases * channels) * channels + oc / m->phases[2] % channels;
        t->fill(1, fc_bias_at(t, bias, c), biases.data + oc * itemsize, 1);
    }
    const fc_status status = fc_conv_merged(&m->g, dtype, dy, &weights, phases * channels * row,
                                            bias ? &biases : NULL, merge, finite);
    fc_workspace_release(memory);
    return status;
}

/* Whether "auto" has Winograd's algorithm for phases with most of the taps. */
static int takes_winograd(const fc_conv *g, fc_dtype dtype, const merged_phases *m,
                          const fc_phase_list *list) {
    ptrdiff_t taps = 0;
    for (ptrdiff_t i = 0; i < list->count; i++) {
        const ptrdiff_t phase[] = {i / m->phases[2] / m->phases[1], i / m->phases[2] % m->phases[1],
                                   i % m->phases[2]};
        const fc_conv s = phase_conv(g, phase);
        if (fc_volume(s.kernel) > 0 && fc_winograd_suits(&s) &&
            fc_is_winograd(fc_auto_algo(&s, dtype)))
            taps += fc_volume(s.kernel);
    }
    return 2 * taps > list->taps;
}

/* Whether dy is better packed once for the taps of all phases: where no more places have to be packed
 * than there are taps. Channels last are written in whole vectors anyhow. */
static int sharing_pays(const fc_conv *g, fc_dtype dtype, fc_algo algo, const merged_phases *m,
                        const fc_phase_list *list, const fc_array *dx) {
    double box = 1;
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        box *= (double)m->g.kernel[axis];
    return box <= (double)list->taps && (dx->stride[4] == 1 || g->in[2] == 1) &&
           !(algo == FC_AUTO && takes_winograd(g, dtype, m, list));
}

/* FC_BAD_GEOMETRY where phases are computed one by one. */
static fc_status try_together(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *dy,
                              const fc_array *w, const fc_array *bias, const fc_array *dx) {
    merged_phases m;
    fc_phase_list list;
    int finite = 1;
    if (g->N == 0 || !find_merged(g, &m))
        return FC_BAD_GEOMETRY;
    const fc_merge merge = {.y = *dx,
                            .channels = g->C / g->G,
                            .stride = {m.phases[1], m.phases[2]},
                            .size = {g->in[1], g->in[2]}};
    fc_conv one = m.g; /* phase */
    one.OC = g->C;
    list_phases(g, &m, w, (ptrdiff_t)fc_table(dtype)->itemsize, &list);
    if (fc_is_depthwise(&one))
        return m.plane ? fc_depthwise_merged(&one, dtype, dy, list.phase,
                                             g->OC / g->G * w->stride[0], bias, &merge)
                       : FC_BAD_GEOMETRY;
    if (fc_is_depthwise(g))
        return FC_BAD_GEOMETRY;
    if (m.plane && merging_pays(g, fc_table(dtype), &m)) {
        const fc_status status = run_merged(g, dtype, &m, dy, w, bias, &merge, &finite);
        if (finite && status != FC_BAD_GEOMETRY)
            return status;
    }
    if (!sharing_pays(g, dtype, algo, &m, &list, dx))
        return FC_BAD_GEOMETRY;
    return fc_conv_phases(&one, dtype, dy, &list, g->OC / g->G * w->stride[0], bias, dx);
}

fc_status fc_conv_input_grad(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *dy,
                             const fc_array *w, const fc_array *bias, const fc_array *dx) {
    fc_status status = fc_conv_check(g);
    ptrdiff_t phase[FC_SPATIAL], phases[FC_SPATIAL];
    if (!status && !fc_is_winograd(algo)) {
        const fc_status together = try_together(g, dtype, algo, dy, w, bias, dx);
        if (together != FC_BAD_GEOMETRY)
            return together;
    }
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        phases[axis] = FC_MIN(g->stride[axis], g->in[axis]); /* the others have no element */
    for (phase[0] = 0; phase[0] < phases[0]; phase[0]++)
        for (phase[1] = 0; phase[1] < phases[1]; phase[1]++)
            for (phase[2] = 0; phase[2] < phases[2] && !status; phase[2]++)
                status = run_phase(g, dtype, algo, dy, w, bias, dx, NULL, phase);
    return status;
}

fc_status fc_conv_input_grad_relu(const fc_conv *g, fc_dtype dtype, fc_algo algo,
                                  const fc_array *dy, const fc_array *w, const void *x,
                                  const fc_array *dx) {
    const ptrdiff_t phase[FC_SPATIAL] = {0};
    fc_status status = fc_conv_check(g);
    if (status)
        return status;
    if (fc_volume(g->stride) == 1 && g->N > 0)
        return run_phase(g, dtype, algo, dy, w, NULL, dx, x, phase);
    status = fc_conv_input_grad(g, dtype, algo, dy, w, NULL, dx);
    if (!status)
        fc_relu_grad(dtype, g->N * g->C * fc_volume(g->in), dx->data, x, dx->data);
    return status;
}
