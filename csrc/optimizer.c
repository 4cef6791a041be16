/* SPDX-License-Identifier: BSD-3-Clause
 * Optimizers on contiguous arrays: nothing but memory traffic, which all threads share. */
#include "internal.h"

/* Elements a task takes. */
enum { BLOCK = 1 << 14 };

typedef struct {
    const fc_kernels *t;
    const fc_sgd *rule;
    ptrdiff_t n;
    const char *g;
    char *v, *p;
} sgd_job;

static void sgd_task(void *context, ptrdiff_t task, int slot) {
    const sgd_job *job = context;
    const ptrdiff_t first = task * BLOCK, at = first * (ptrdiff_t)job->t->itemsize;
    (void)slot;
    job->t->sgd_step(job->rule, FC_MIN(BLOCK, job->n - first), job->g + at,
                     job->v ? job->v + at : NULL, job->p + at);
}

void fc_sgd_step(fc_dtype dtype, const fc_sgd *rule, ptrdiff_t n, const void *g, void *v, void *p) {
    sgd_job job = {.t = fc_table(dtype), .rule = rule, .n = n, .g = g, .v = v, .p = p};
    fc_parallel_for(fc_threads_for((double)n), fc_ceil_div(n, BLOCK), sgd_task, &job);
}
