/* SPDX-License-Identifier: BSD-3-Clause
 * The two roofs, measured: what FMA units and memory give on this machine now. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Every thread repeats `work` until the time is over; rates add up. */
typedef struct {
    const fc_kernels *t;
    double seconds;
    char *memory;
    size_t bytes; /* of each of the two buffers of a thread */
    double rates[256];
} measure_job;

static void peak_task(void *context, ptrdiff_t task, int slot) {
    measure_job *job = context;
    double operations = 0, start, end;
    (void)slot;
    job->t->fma_loop(1000000); /* let the clock settle */
    start = now();
    do
        operations += job->t->fma_loop(200000);
    while ((end = now()) - start < job->seconds);
    job->rates[task] = operations / (end - start);
}

static void copy_task(void *context, ptrdiff_t task, int slot) {
    measure_job *job = context;
    char *src = job->memory + (size_t)task * 2 * job->bytes, *dst = src + job->bytes;
    double moved = 0, start, end;
    (void)slot;
    memset(src, 1, 2 * job->bytes);
    start = now();
    do {
        memcpy(dst, src, job->bytes);
        __asm__ volatile("" : : "r"(dst) : "memory");
        moved += 2.0 * (double)job->bytes;
    } while ((end = now()) - start < job->seconds);
    job->rates[task] = moved / (end - start);
}

static double sum_rates(const measure_job *job, int threads) {
    double sum = 0;
    for (int i = 0; i < threads; i++)
        sum += job->rates[i];
    return sum;
}

double fc_measure_peak(fc_dtype dtype, int threads, double seconds) {
    measure_job job = {.t = fc_table(dtype), .seconds = seconds};
    threads = FC_MAX(1, FC_MIN(threads, 256));
    fc_parallel_for(threads, threads, peak_task, &job);
    return sum_rates(&job, threads);
}

double fc_measure_bandwidth(int threads, size_t bytes, double seconds) {
    measure_job job = {.seconds = seconds, .bytes = fc_align(bytes)};
    threads = FC_MAX(1, FC_MIN(threads, 256));
    job.memory = malloc((size_t)threads * 2 * job.bytes);
    if (!job.memory)
        return 0;
    fc_parallel_for(threads, threads, copy_task, &job);
    free(job.memory);
    return sum_rates(&job, threads);
}

/* The tile as the drivers call it: every weight panel against every image panel of a block that
 * fills half the second-level cache. */
double fc_measure_tile(fc_dtype dtype, double seconds) {
    const fc_kernels *t = fc_table(dtype);
    const ptrdiff_t k = 256, itemsize = (ptrdiff_t)t->itemsize, oc_panels = 8;
    const ptrdiff_t panels = FC_MAX(1, (ptrdiff_t)fc_cpu_caches()->l2 / 2 / (k * t->nr * itemsize));
    const size_t a_bytes = fc_align((size_t)(oc_panels * t->mr * k * itemsize));
    const size_t b_bytes = fc_align((size_t)(panels * t->nr * k * itemsize));
    _Alignas(64) char c[FC_MAX_MR * FC_MAX_NR * sizeof(double)];
    char *a = fc_workspace_acquire(a_bytes + b_bytes);
    if (!a)
        return 0;
    memset(a, 0, a_bytes + b_bytes);
    fc_tile tile = {.m = t->mr,
                    .vectors = 2,
                    .k_outer = 1,
                    .k_inner = k,
                    .a_row = 1,
                    .a_step = t->mr,
                    .b_step = t->nr,
                    .c = c,
                    .ldc = t->nr};
    double operations = 0, start = now(), end;
    do {
        for (ptrdiff_t i = 0; i < oc_panels; i++)
            for (ptrdiff_t p = 0; p < panels; p++) {
                tile.a = a + i * t->mr * k * itemsize;
                tile.b = a + a_bytes + (size_t)(p * t->nr * k * itemsize);
                t->gemm_tile(&tile);
            }
        operations += 2.0 * (double)(oc_panels * panels * t->mr * t->nr * k);
    } while ((end = now()) - start < seconds);
    fc_workspace_release(a);
    return operations / (end - start);
}
