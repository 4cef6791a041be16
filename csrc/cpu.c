/* SPDX-License-Identifier: BSD-3-Clause
 * What this processor can do: instruction sets, cache sizes, and the kernel tables they lead to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* ---- features ---------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <cpuid.h>

enum { SSE2, AVX2, FMA, AVX512F, AVX512DQ, AVX512BW, AVX512VL, FEATURES };
static fc_feature features[FEATURES] = {{"sse2", 1},    {"avx2", 0},     {"fma", 0},
                                        {"avx512f", 0}, {"avx512dq", 0}, {"avx512bw", 0},
                                        {"avx512vl", 0}};

/* The register states that the operating system saves: XCR0. */
static unsigned saved_state(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static void detect_features(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return;
    const int fma = (c & bit_FMA) != 0, avx = (c & bit_AVX) != 0;
    const unsigned state = saved_state();
    const int ymm = avx && (state & 0x06) == 0x06, zmm = ymm && (state & 0xe0) == 0xe0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return;
    features[FMA].available = ymm && fma;
    features[AVX2].available = ymm && (b & bit_AVX2);
    features[AVX512F].available = zmm && (b & bit_AVX512F);
    features[AVX512DQ].available = zmm && (b & bit_AVX512DQ);
    features[AVX512BW].available = zmm && (b & bit_AVX512BW);
    features[AVX512VL].available = zmm && (b & bit_AVX512VL);
}
#elif defined(__aarch64__)
enum { NEON, FEATURES };
static fc_feature features[FEATURES] = {{"neon", 1}};
static void detect_features(void) {
}
#else
enum { FEATURES };
static fc_feature features[1];
static void detect_features(void) {
}
#endif

const fc_feature *fc_cpu_features(ptrdiff_t *count) {
    *count = FEATURES;
    return features;
}

/* ---- kernel tables ----------------------------------------------------------------------- */

#define FC_TABLES(isa) extern const fc_kernels fc_table_f32_##isa, fc_table_f64_##isa;
FC_TABLES(scalar)
#if defined(__x86_64__)
FC_TABLES(sse2)
FC_TABLES(avx2)
FC_TABLES(avx512)
#elif defined(__aarch64__)
FC_TABLES(neon)
#endif

#define FC_ENTRY(isa) {&fc_table_f32_##isa, &fc_table_f64_##isa}
static const fc_kernels *const tables[][FC_DTYPE_COUNT] = {
    FC_ENTRY(scalar),
#if defined(__x86_64__)
    FC_ENTRY(sse2),
    FC_ENTRY(avx2),
    FC_ENTRY(avx512),
#elif defined(__aarch64__)
    FC_ENTRY(neon),
#endif
};
enum { ISAS = sizeof tables / sizeof *tables };

static ptrdiff_t current; /* scalar until the library is loaded */

const char *fc_compiler(void) {
#if defined(__clang__)
    return __VERSION__;
#else
    return "gcc " __VERSION__;
#endif
}

ptrdiff_t fc_isa_count(void) {
    return ISAS;
}

const char *fc_isa_name(ptrdiff_t i) {
    return tables[i][FC_F32]->isa;
}

int fc_isa_available(ptrdiff_t i) {
#if defined(__x86_64__)
    if (strcmp(fc_isa_name(i), "avx2") == 0)
        return features[AVX2].available && features[FMA].available;
    if (strcmp(fc_isa_name(i), "avx512") == 0)
        return features[AVX512F].available && features[AVX512DQ].available &&
               features[AVX512BW].available && features[AVX512VL].available &&
               features[FMA].available;
#endif
    (void)i;
    return 1;
}

const char *fc_isa(void) {
    return fc_isa_name(current);
}

fc_status fc_set_isa(const char *name) {
    for (ptrdiff_t i = 0; i < ISAS; i++)
        if (strcmp(fc_isa_name(i), name) == 0 && fc_isa_available(i)) {
            current = i;
            return FC_OK;
        }
    return FC_BAD_ISA;
}

const fc_kernels *fc_table_of(ptrdiff_t isa, fc_dtype dtype) {
    return tables[isa][dtype];
}

const fc_kernels *fc_table(fc_dtype dtype) {
    return tables[current][dtype];
}

/* ---- caches ------------------------------------------------------------------------------ */

/* Used where the system does not tell: sizes that no x86-64 or aarch64 server of the last ten
 * years falls short of by much. */
static fc_caches caches = {32 << 10, 256 << 10, 4 << 20};

static size_t read_cache_size(int index, int *level, char *type) {
    char path[96], text[32] = "";
    unsigned long size = 0;
    char unit = 0;
    const char *const keys[] = {"level", "type", "size"};
    for (int k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index,
                 keys[k]);
        FILE *file = fopen(path, "r");
        if (!file)
            return 0;
        const int ok = fscanf(file, "%31s", text) == 1;
        fclose(file);
        if (!ok)
            return 0;
        if (k == 0)
            *level = atoi(text);
        else if (k == 1)
            *type = text[0];
    }
    if (sscanf(text, "%lu%c", &size, &unit) < 1)
        return 0;
    return size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
}

static void detect_caches(void) {
    for (int index = 0; index < 8; index++) {
        int level = 0;
        char type = 0; /* Data, Instruction, Unified */
        const size_t size = read_cache_size(index, &level, &type);
        if (size == 0 || type == 'I')
            continue;
        if (level == 1)
            caches.l1d = size;
        else if (level == 2)
            caches.l2 = size;
        else if (level == 3)
            caches.l3 = size;
    }
}

const fc_caches *fc_cpu_caches(void) {
    return &caches;
}

void fc_set_cpu_caches(const fc_caches *sizes) {
    caches = *sizes;
}

__attribute__((constructor)) static void detect(void) {
    detect_features();
    detect_caches();
    for (ptrdiff_t i = 0; i < ISAS; i++)
        if (fc_isa_available(i))
            current = i;
}
