/* SPDX-License-Identifier: BSD-3-Clause
 * Convolution with filters that were packed once for many calls.
 *
 * The drivers take packed filters instead of packing their own; here is which form they want and how
 * it is made. A form does not depend on the image: another batch size or another height shares it, or
 * asks for one of the other forms. */
#include "plan.h"

fc_status fc_prepare(const fc_conv *g, fc_dtype dtype, fc_algo algo, int channels_last,
                     fc_preparation *p) {
    const fc_form form = fc_gemm_form(g, dtype, channels_last);
    const fc_status status = fc_plan_prepared(g, dtype, channels_last, form, &p->plan);
    if (status)
        return status;
    if (fc_is_winograd(algo) && !fc_winograd_suits(g))
        return FC_BAD_GEOMETRY;
    p->choice = fc_choose_algo(g, dtype, algo, 1);
    if (fc_is_winograd(p->choice.algo)) {
        const ptrdiff_t edge = fc_winograd_edge(p->choice.algo);
        p->form = edge == 4 ? FC_FORM_TRANSFORMED_4 : FC_FORM_TRANSFORMED;
        p->packed_bytes = fc_winograd_packed_bytes(g, dtype, edge);
    } else if (p->choice.depthwise) {
        p->form = FC_FORM_PLAIN;
        p->packed_bytes = 0;
    } else {
        p->form = form;
        p->packed_bytes = fc_gemm_packed_bytes(g, &p->plan, fc_table(dtype)->itemsize);
    }
    return FC_OK;
}

/* Of the tile whose U the form is; 0 for other forms. */
static ptrdiff_t edge_of(fc_form form) {
    return form == FC_FORM_TRANSFORMED_4 ? 4 : form == FC_FORM_TRANSFORMED ? 6 : 0;
}

fc_status fc_pack_filters(const fc_conv *g, fc_dtype dtype, fc_form form, const fc_array *w,
                          void *packed) {
    const fc_status status = fc_conv_check(g);
    if (status)
        return status;
    const fc_filters filters = {.plain = *w, .group = g->OC / g->G * w->stride[0]};
    if (edge_of(form))
        return fc_winograd_pack(g, dtype, edge_of(form), &filters, packed);
    return fc_gemm_pack(g, dtype, form, &filters, packed);
}

fc_status fc_conv_prepared(const fc_conv *g, fc_dtype dtype, fc_form form, const void *packed,
                           const fc_array *x, const fc_array *bias, const fc_array *y, int relu) {
    const fc_status status = fc_conv_check(g);
    const fc_filters filters = {.packed = packed, .form = form};
    fc_conv limited = *g;
    if (status || g->N == 0)
        return status;
    fc_limit_strides(g->in, g->out, limited.stride);
    if (edge_of(form))
        return fc_conv_winograd(&limited, dtype, edge_of(form), x, &filters, bias, y, relu, NULL);
    return fc_conv_gemm(&limited, dtype, x, &filters, bias, y, relu);
}
