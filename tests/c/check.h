/* SPDX-License-Identifier: BSD-3-Clause
 * Tools of the C checks: memory that ends where it says, numbers that can be repeated, elements
 * whose type is known at run time only, and a count of what was checked. */
#ifndef FASTCONV_CHECK_H
#define FASTCONV_CHECK_H

#include <math.h>

#include "internal.h"

/* ---- memory -------------------------------------------------------------------------------- */

/* `bytes` bytes filled with NaN. Nothing may be read or written outside: AddressSanitizer sees it,
 * and without it the last byte is followed by a page that cannot be touched and the first one
 * comes behind a pattern that release() looks at. */
void *take(size_t bytes);
void release(void); /* everything that was taken */

/* ---- elements ------------------------------------------------------------------------------ */

static inline double get(const fc_kernels *t, const void *p, ptrdiff_t i) {
    return t->itemsize == 4 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

static inline void put(const fc_kernels *t, void *p, ptrdiff_t i, double value) {
    if (t->itemsize == 4)
        ((float *)p)[i] = (float)value;
    else
        ((double *)p)[i] = value;
}

static inline double epsilon(const fc_kernels *t) {
    return t->itemsize == 4 ? 0x1p-23 : 0x1p-52;
}

static inline void *at(const fc_kernels *t, void *p, ptrdiff_t i) {
    return (char *)p + i * (ptrdiff_t)t->itemsize;
}

/* `count` elements with the address of the first one. */
void *take_elements(const fc_kernels *t, ptrdiff_t count);
void *take_random(const fc_kernels *t, ptrdiff_t count); /* from -1 to 1, never 0 */

/* ---- random numbers ------------------------------------------------------------------------ */

void seed(uint64_t value);
double uniform(void);             /* from -1 to 1 */
ptrdiff_t below(ptrdiff_t limit); /* from 0 to limit - 1 */

/* ---- counting ------------------------------------------------------------------------------ */

/* One check: `ok`, or a message on stderr, printf style. */
#define expect(ok, ...) expect_(!!(ok), __FILE__, __LINE__, __VA_ARGS__)
void expect_(int ok, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Whether two numbers are equal, or both NaN. */
static inline int same(double a, double b) {
    return a == b || (a != a && b != b);
}

/* One function for every line of kernels.inc: a kernel without a check does not link. */
#define FC_KERNEL(result, name, arguments) void check_##name(const fc_kernels *t);
#include "kernels.inc"
#undef FC_KERNEL

/* All of these for one table; the drivers, with the instruction set in use; the thread pool, and
 * what becomes of it in a child process. */
void check_kernels(const fc_kernels *t);
void check_drivers(fc_dtype dtype);
void check_threads(void);
void check_fork(void);

#endif
