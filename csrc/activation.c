/* SPDX-License-Identifier: BSD-3-Clause
 * Activation functions on contiguous arrays: nothing but memory traffic, which all threads share. */
#include "internal.h"

/* Elements a task takes. */
enum { BLOCK = 1 << 14 };

typedef struct {
    const fc_kernels *t;
    ptrdiff_t n;
    const char *x, *dy; /* dy is NULL for the function itself */
    const char *other;  /* added to x, or NULL */
    int relu;           /* what becomes of x or the sum */
    char *result;
} activation_job;

static void block_task(void *context, ptrdiff_t task, int slot) {
    const activation_job *job = context;
    const ptrdiff_t first = task * BLOCK, n = FC_MIN(BLOCK, job->n - first);
    const ptrdiff_t at = first * (ptrdiff_t)job->t->itemsize;
    (void)slot;
    if (job->other)
        job->t->add(n, job->x + at, job->other + at, job->relu, job->result + at);
    else if (job->dy)
        job->t->relu_grad(n, job->dy + at, job->x + at, job->result + at);
    else
        job->t->relu(n, job->x + at, job->relu, job->result + at);
}

static void run(activation_job *job) {
    fc_parallel_for(fc_threads_for((double)job->n), fc_ceil_div(job->n, BLOCK), block_task, job);
}

void fc_relu(fc_dtype dtype, ptrdiff_t n, const void *x, int relu, void *y) {
    activation_job job = {.t = fc_table(dtype), .n = n, .x = x, .relu = relu, .result = y};
    run(&job);
}

void fc_add(fc_dtype dtype, ptrdiff_t n, const void *a, const void *b, int relu, void *y) {
    activation_job job = {
        .t = fc_table(dtype), .n = n, .x = a, .other = b, .relu = relu, .result = y};
    run(&job);
}

void fc_relu_grad(fc_dtype dtype, ptrdiff_t n, const void *dy, const void *x, void *dx) {
    activation_job job = {.t = fc_table(dtype), .n = n, .x = x, .dy = dy, .result = dx};
    run(&job);
}
