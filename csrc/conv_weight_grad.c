/* SPDX-License-Identifier: BSD-3-Clause
 * The gradient of a convolution with respect to its weights: which of the forms computes it. */
#include "weight_grad_gemm.h"
#include "winograd_grad.h"

/* No image, no gradient: dw is zero. */
static void fill_zero(const fc_conv *g, fc_dtype dtype, const fc_array *dw) {
    static const double zero = 0;
    const fc_kernels *t = fc_table(dtype);
    const ptrdiff_t *kernel = g->kernel, *stride = dw->stride;
    for (ptrdiff_t oc = 0; oc < g->OC; oc++)
        for (ptrdiff_t c = 0; c < g->C / g->G; c++)
            for (ptrdiff_t kd = 0; kd < kernel[0]; kd++) {
                const fc_copy copy = {.rows = kernel[1],
                                      .cols = kernel[2],
                                      .src = &zero,
                                      .dst = fc_at(dw, t->itemsize, oc, c) +
                                             kd * stride[2] * (ptrdiff_t)t->itemsize,
                                      .dst_row = stride[3],
                                      .dst_col = stride[4]};
                t->copy_2d(&copy);
            }
}

/* Whether Winograd's algorithm is to be taken, where it can be. */
static int takes_winograd(const fc_conv *g, fc_dtype dtype, fc_algo algo) {
    if (g->N == 0 || algo == FC_GEMM)
        return 0;
    return fc_is_winograd(algo) ? fc_winograd_grad_suits(g) : fc_winograd_grad_pays(g, dtype);
}

fc_status fc_conv_weight_grad(const fc_conv *g, fc_dtype dtype, fc_algo algo, const fc_array *dy,
                              const fc_array *x, const fc_array *dw) {
    fc_status status = fc_conv_check(g);
    if (status)
        return status;
    if (takes_winograd(g, dtype, algo))
        return fc_winograd_weight_grad(g, dtype, dy, x, dw);
    fc_conv simple = *g;
    fc_array flat_x = *x, flat_dy = *dy;
    fc_limit_strides(g->in, g->out, simple.stride);
    if (fc_is_depthwise(g))
        return fc_depthwise_weight_grad(&simple, dtype, dy, x, dw);
    fc_flatten_pointwise(&simple, &flat_x, &flat_dy);
    if (g->N == 0) {
        fill_zero(g, dtype, dw);
        return FC_OK;
    }
    if (fc_filters_are_few(g, fc_table(dtype))) {
        status = fc_few_weight_grad(&simple, dtype, &flat_dy, &flat_x, dw);
        /* a padded image may be too large to turn; the product never holds all of it */
        if (status != FC_NO_MEMORY && status != FC_OVERFLOW)
            return status;
    }
    return fc_gemm_weight_grad(&simple, dtype, &flat_dy, &flat_x, dw);
}
