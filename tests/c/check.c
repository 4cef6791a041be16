/* SPDX-License-Identifier: BSD-3-Clause
 * The C checks' program: every kernel and driver under every instruction set of this machine.
 * Prints "N checks passed" and returns 0, or says what failed and returns 1. Arguments choose
 * what to run: kernels, drivers, threads, fork; without one everything runs. FASTCONV_ISA limits
 * kernels and drivers to one instruction set. */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#endif

/* ---- memory -------------------------------------------------------------------------------- */

enum { BLOCKS = 64, CANARY_BYTES = 256, CANARY = 0xa5, POISON = 0xff }; /* all ones is a NaN */

typedef struct {
    char *memory, *first; /* of the whole block, of the part that was asked for */
    size_t total;
} block;

static block blocks[BLOCKS];
static int blocks_used;

#if defined(HAS_ASAN)
void *take(size_t bytes) {
    char *memory = malloc(bytes);
    blocks[blocks_used++] = (block){memory, memory, bytes};
    memset(memory, POISON, bytes);
    return memory;
}

void release(void) {
    while (blocks_used)
        free(blocks[--blocks_used].memory);
}
#else
void *take(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t usable = (bytes + CANARY_BYTES + page - 1) / page * page;
    char *memory =
        mmap(NULL, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + usable, page, PROT_NONE) ||
        blocks_used == BLOCKS) {
        fprintf(stderr, "no memory for the checks\n");
        exit(2);
    }
    char *first = memory + usable - bytes;
    memset(memory, CANARY, usable - bytes);
    memset(first, POISON, bytes);
    blocks[blocks_used++] = (block){memory, first, usable + page};
    return first;
}

void release(void) {
    while (blocks_used) {
        const block b = blocks[--blocks_used];
        int clean = 1;
        for (const char *p = b.memory; p < b.first; p++)
            clean = clean && *(const unsigned char *)p == CANARY;
        expect(clean, "memory before an array was written");
        munmap(b.memory, b.total);
    }
}
#endif

void *take_elements(const fc_kernels *t, ptrdiff_t count) {
    return take((size_t)count * t->itemsize);
}

void *take_random(const fc_kernels *t, ptrdiff_t count) {
    void *p = take_elements(t, count);
    for (ptrdiff_t i = 0; i < count; i++)
        put(t, p, i, uniform());
    return p;
}

/* ---- random numbers ------------------------------------------------------------------------ */

static uint64_t state;

void seed(uint64_t value) {
    state = value;
}

/* splitmix64 */
static uint64_t next(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double uniform(void) {
    return ((double)(next() >> 42) + 0.5) * 0x1p-21 - 1; /* 22 bits: exact in float, never 0 */
}

ptrdiff_t below(ptrdiff_t limit) {
    return (ptrdiff_t)(next() >> 1) % limit;
}

/* ---- counting ------------------------------------------------------------------------------ */

static long passed, failed;
static const char *where = "";

void expect_(int ok, const char *file, int line, const char *format, ...) {
    enum { MOST_MESSAGES = 20 };
    if (ok) {
        passed++;
        return;
    }
    if (failed++ >= MOST_MESSAGES)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: %s: ", file, line, where);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
}

/* Whether the part is to run. */
static int wanted(int argc, char **argv, const char *part) {
    int found = argc == 1;
    for (int i = 1; i < argc; i++)
        found = found || strcmp(argv[i], part) == 0;
    return found;
}

static void check_isa(ptrdiff_t isa, int kernels, int drivers) {
    for (int dtype = 0; dtype < FC_DTYPE_COUNT; dtype++) {
        static char place[64];
        const fc_kernels *t = fc_table_of(isa, (fc_dtype)dtype);
        const long before = passed;
        snprintf(place, sizeof place, "%s %s", t->isa, t->itemsize == 4 ? "f32" : "f64");
        where = place;
        seed(1);
        if (kernels)
            check_kernels(t);
        if (drivers)
            check_drivers((fc_dtype)dtype);
        printf("%s: %ld checks\n", place, passed - before);
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    const int kernels = wanted(argc, argv, "kernels"), drivers = wanted(argc, argv, "drivers");
    const char *isa_asked = getenv("FASTCONV_ISA");
    for (ptrdiff_t isa = 0; isa < fc_isa_count(); isa++) {
        if (isa_asked && *isa_asked && strcmp(isa_asked, fc_isa_name(isa)) != 0)
            continue;
        if (!fc_isa_available(isa)) {
            printf("%s: not available on this processor\n", fc_isa_name(isa));
            continue;
        }
        fc_set_isa(fc_isa_name(isa));
        if (kernels || drivers)
            check_isa(isa, kernels, drivers);
    }
    where = "threads";
    if (wanted(argc, argv, "threads"))
        check_threads();
    if (wanted(argc, argv, "fork"))
        check_fork();
    fc_release_memory();
    if (failed)
        printf("%ld checks failed, ", failed);
    printf("%ld checks passed\n", passed);
    return failed > 0;
}
