/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of a convolution with respect to its input (and transposed convolution).
 *
 *   dx[c][ih] = sum over oc, kh with ih = oh*SH - PH + kh*DH of w[oc][c][kh] * dy[oc][oh]
 *
 * (one axis shown). Rows ih = r + SH*i of one phase r meet only the taps kh with
 * kh*DH = r + PH (mod SH): every T-th tap, T = SH/gcd(SH, DH). For those, oh = i + q - t*DH/gcd, so
 * each phase is a stride-1 convolution of dy with flipped taps, written to every SH-th row of dx:
 * nothing is scattered, and the forward kernels do all the work through views. */
#include "internal.h"

/* One axis of one phase as a stride-1 convolution. */
typedef struct {
    ptrdiff_t first_tap, tap_step, taps; /* kh = first_tap + t*tap_step; no taps: zero gradient */
    ptrdiff_t dilation, pad;
    ptrdiff_t out; /* elements of dx in this phase */
} axis_phase;

static ptrdiff_t greatest_common_divisor(ptrdiff_t a, ptrdiff_t b) {
    while (b) {
        const ptrdiff_t r = a % b;
        a = b, b = r;
    }
    return a;
}

static axis_phase find_phase(const fc_conv *g, int axis, ptrdiff_t phase) {
    const ptrdiff_t stride = g->stride[axis], dilation = g->dilation[axis];
    const ptrdiff_t gcd = greatest_common_divisor(stride, dilation);
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

/* No tap reaches this phase: dx is the bias there, or zero. */
static void fill(const fc_conv *g, const fc_kernels *t, const fc_array *dx, const fc_array *bias) {
    static const double zero = 0;
    for (ptrdiff_t n = 0; n < g->N; n++)
        for (ptrdiff_t c = 0; c < g->OC; c++)
            for (ptrdiff_t d = 0; d < g->out[0]; d++) {
                const fc_copy copy = {
                    .rows = g->out[1],
                    .cols = g->out[2],
                    .src = bias ? bias->data + c * bias->stride[0] * (ptrdiff_t)t->itemsize
                                : (const char *)&zero,
                    .dst =
                        fc_at(dx, t->itemsize, n, c) + d * dx->stride[2] * (ptrdiff_t)t->itemsize,
                    .dst_row = dx->stride[3],
                    .dst_col = dx->stride[4],
                };
                t->copy_2d(&copy);
            }
}

static fc_status run_phase(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *dy,
                           const fc_array *w, const fc_array *bias, const fc_array *dx,
                           const ptrdiff_t phase[FC_SPATIAL]) {
    const ptrdiff_t itemsize = (ptrdiff_t)fc_table(dtype)->itemsize;
    fc_conv s = {.N = g->N, .C = g->OC, .OC = g->C, .G = g->G};
    fc_array flipped = *w, view = *dx;
    int reached = 1;
    flipped.stride[0] = w->stride[1];
    flipped.stride[1] = w->stride[0];
    for (int axis = 0; axis < FC_SPATIAL; axis++) {
        const axis_phase p = find_phase(g, axis, phase[axis]);
        reached = reached && p.taps > 0;
        s.in[axis] = g->out[axis];
        s.out[axis] = p.out;
        s.kernel[axis] = p.taps;
        s.stride[axis] = 1;
        s.dilation[axis] = p.dilation;
        s.pad[axis] = p.pad;
        /* steps that are never taken may be too long to compute with */
        if (p.taps > 0)
            flipped.data +=
                (p.first_tap + (p.taps - 1) * p.tap_step) * w->stride[axis + 2] * itemsize;
        if (p.taps > 1)
            flipped.stride[axis + 2] = -p.tap_step * w->stride[axis + 2];
        view.data += phase[axis] * dx->stride[axis + 2] * itemsize;
        if (p.out > 1)
            view.stride[axis + 2] *= g->stride[axis];
    }
    if (!reached) {
        fill(&s, fc_table(dtype), &view, bias);
        return FC_OK;
    }
    return fc_conv_core(&s, dtype, algo, dy, &flipped, g->OC / g->G * w->stride[0], bias, &view, 0);
}

fc_status fc_conv_input_grad(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *dy,
                             const fc_array *w, const fc_array *bias, const fc_array *dx) {
    fc_status status = fc_conv_check(g);
    ptrdiff_t phase[FC_SPATIAL], phases[FC_SPATIAL];
    for (int axis = 0; axis < FC_SPATIAL; axis++)
        phases[axis] = FC_MIN(g->stride[axis], g->in[axis]); /* the others have no element */
    for (phase[0] = 0; phase[0] < phases[0]; phase[0]++)
        for (phase[1] = 0; phase[1] < phases[1]; phase[1]++)
            for (phase[2] = 0; phase[2] < phases[2] && !status; phase[2]++)
                status = run_phase(g, dtype, algo, dy, w, bias, dx, phase);
    return status;
}
