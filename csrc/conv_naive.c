/* SPDX-License-Identifier: BSD-3-Clause
 * algo="naive": what the other algorithms are measured from. */
#include "fastconv.h"

#define FC_REAL float
#define FC_(name) name##_f32
#include "kernels/naive.inc"
#undef FC_REAL
#undef FC_

#define FC_REAL double
#define FC_(name) name##_f64
#include "kernels/naive.inc"

fc_status fc_conv_forward_naive(const fc_conv *g, fc_dtype dtype, const fc_array *x,
                                const fc_array *w, const fc_array *bias, const fc_array *y,
                                int relu) {
    const fc_status status = fc_conv_check(g);
    if (status == FC_OK)
        (dtype == FC_F32 ? forward_f32 : forward_f64)(g, x, w, bias, y, relu);
    return status;
}

fc_status fc_conv_input_grad_naive(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                   const fc_array *w, const fc_array *bias, const fc_array *dx) {
    const fc_status status = fc_conv_check(g);
    if (status == FC_OK)
        (dtype == FC_F32 ? input_grad_f32 : input_grad_f64)(g, dy, w, bias, dx);
    return status;
}

fc_status fc_conv_weight_grad_naive(const fc_conv *g, fc_dtype dtype, const fc_array *dy,
                                    const fc_array *x, const fc_array *dw) {
    const fc_status status = fc_conv_check(g);
    if (status == FC_OK)
        (dtype == FC_F32 ? weight_grad_f32 : weight_grad_f64)(g, dy, x, dw);
    return status;
}
