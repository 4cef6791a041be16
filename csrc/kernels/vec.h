/* SPDX-License-Identifier: BSD-3-Clause
 * The only SIMD vocabulary of the project: GCC/Clang vector extensions, one width per inclusion.
 *
 * all.inc includes this once per element type, with FC_REAL, FC_INT (the integer of the same
 * size), FC_LANES and FC_(name), which appends the type's and the instruction set's suffix.
 * With FC_LANES 1 a vector is a plain number: one-lane vector types compile, but spill. */

#if FC_LANES > 1
typedef FC_REAL FC_(vec) __attribute__((vector_size(FC_LANES * sizeof(FC_REAL))));
typedef FC_INT FC_(ivec) __attribute__((vector_size(FC_LANES * sizeof(FC_REAL))));
typedef int32_t FC_(i32vec) __attribute__((vector_size(FC_LANES * sizeof(int32_t))));
typedef uint8_t FC_(u8vec) __attribute__((vector_size(FC_LANES)));
/* The same at any address an element may have; may_alias because memory holds elements. */
typedef FC_REAL FC_(vec_mem)
    __attribute__((vector_size(FC_LANES * sizeof(FC_REAL)), aligned(sizeof(FC_REAL)), may_alias));
typedef int32_t FC_(i32vec_mem)
    __attribute__((vector_size(FC_LANES * sizeof(int32_t)), aligned(sizeof(int32_t)), may_alias));
#else
typedef FC_REAL FC_(vec);
typedef FC_INT FC_(ivec);
typedef int32_t FC_(i32vec);
typedef FC_REAL FC_(vec_mem);
typedef int32_t FC_(i32vec_mem);
#endif

#define VEC FC_(vec)
#define IVEC FC_(ivec)

static inline FC_INLINE VEC FC_(load)(const FC_REAL *p) {
    return *(const FC_(vec_mem) *)p;
}

static inline FC_INLINE void FC_(store)(FC_REAL *p, VEC v) {
    *(FC_(vec_mem) *)p = v;
}

/* The first n lanes alone, 0 < n <= LANES: no byte behind them is touched. AVX-512 has masks for
 * this; elsewhere masked stores are missing or slow, and a loop is as good. */
static inline FC_INLINE void FC_(store_part)(FC_REAL *p, VEC v, ptrdiff_t n) {
#if FC_LANES > 1 && defined(__AVX512F__)
    const unsigned mask = (1u << n) - 1;
    if (sizeof(FC_REAL) == 4)
        _mm512_mask_storeu_ps(p, (__mmask16)mask, (__m512)v);
    else
        _mm512_mask_storeu_pd(p, (__mmask8)mask, (__m512d)v);
#elif FC_LANES > 1
    for (ptrdiff_t i = 0; i < n; i++)
        p[i] = v[i];
#else
    (void)n;
    *p = v;
#endif
}

static inline FC_INLINE void FC_(istore)(FC_INT *p, IVEC v) {
    __builtin_memcpy(p, &v, sizeof v);
}

/* All of v, or its first n elements where there is room for no more. */
static inline FC_INLINE void FC_(store_some)(FC_REAL *p, VEC v, ptrdiff_t n) {
    if (n >= FC_LANES)
        FC_(store)(p, v);
    else
        FC_(store_part)(p, v, n);
}

static inline FC_INLINE VEC FC_(load_part)(const FC_REAL *p, ptrdiff_t n) {
#if FC_LANES > 1 && defined(__AVX512F__)
    const unsigned mask = (1u << n) - 1;
    return sizeof(FC_REAL) == 4 ? (VEC)_mm512_maskz_loadu_ps((__mmask16)mask, p)
                                : (VEC)_mm512_maskz_loadu_pd((__mmask8)mask, p);
#elif FC_LANES > 1
    VEC v = {0};
    for (ptrdiff_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
#else
    (void)n;
    return *p;
#endif
}

/* All of a vector, or its first n elements where there are no more. */
static inline FC_INLINE VEC FC_(load_some)(const FC_REAL *p, ptrdiff_t n) {
    return n >= FC_LANES ? FC_(load)(p) : FC_(load_part)(p, n);
}

/* x - 0 keeps every x, NaN and -0 included, and compiles to one broadcast. */
static inline FC_INLINE VEC FC_(splat)(FC_REAL x) {
#if FC_LANES > 1
    return x - (VEC){0};
#else
    return x;
#endif
}

/* mask ? a : b in every lane. Comparing vectors gives all-ones or zero lanes, numbers give 1 or 0. */
static inline FC_INLINE VEC FC_(select)(IVEC mask, VEC a, VEC b) {
#if FC_LANES > 1
    return (VEC)((mask & (IVEC)a) | (~mask & (IVEC)b));
#else
    return mask ? a : b;
#endif
}

static inline FC_INLINE IVEC FC_(iselect)(IVEC mask, IVEC a, IVEC b) {
#if FC_LANES > 1
    return (mask & a) | (~mask & b);
#else
    return mask ? a : b;
#endif
}

static inline FC_INLINE IVEC FC_(isplat)(FC_INT x) {
#if FC_LANES > 1
    return x - (IVEC){0};
#else
    return x;
#endif
}

/* 0, 1, 2, ... */
static inline FC_INLINE IVEC FC_(lane_numbers)(void) {
#if FC_LANES == 16
    return (IVEC){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif FC_LANES == 8
    return (IVEC){0, 1, 2, 3, 4, 5, 6, 7};
#elif FC_LANES == 4
    return (IVEC){0, 1, 2, 3};
#elif FC_LANES == 2
    return (IVEC){0, 1};
#else
    return 0;
#endif
}

static inline FC_INLINE IVEC FC_(load_i32)(const int32_t *p) {
#if FC_LANES > 1
    return __builtin_convertvector(*(const FC_(i32vec_mem) *)p, IVEC);
#else
    return *p;
#endif
}

static inline FC_INLINE IVEC FC_(load_u8)(const uint8_t *p) {
#if FC_LANES > 1
    FC_(u8vec) v;
    __builtin_memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, IVEC);
#else
    return *p;
#endif
}

static inline FC_INLINE void FC_(store_i32)(int32_t *p, IVEC v) {
#if FC_LANES > 1
    *(FC_(i32vec_mem) *)p = __builtin_convertvector(v, FC_(i32vec));
#else
    *p = (int32_t)v;
#endif
}

static inline FC_INLINE void FC_(store_i32_part)(int32_t *p, IVEC v, ptrdiff_t n) {
#if FC_LANES > 1
    for (ptrdiff_t i = 0; i < n; i++)
        p[i] = (int32_t)v[i];
#else
    (void)n;
    *p = (int32_t)v;
#endif
}

/* v and its id become the best where v is larger, or NaN. AVX-512 compares into masks, of which one
 * is the other's condition: best waits for one comparison and one move. */
static inline FC_INLINE void FC_(take_larger)(VEC v, IVEC id, VEC *best, IVEC *best_id) {
#if FC_LANES == 16 && defined(__AVX512F__)
    const __mmask16 number = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_ORD_Q);
    const __mmask16 keep = _mm512_mask_cmp_ps_mask(number, (__m512)v, (__m512)*best, _CMP_NGT_UQ);
    *best = (VEC)_mm512_mask_mov_ps((__m512)v, keep, (__m512)*best);
    *best_id = (IVEC)_mm512_mask_mov_epi32((__m512i)id, keep, (__m512i)*best_id);
#elif FC_LANES == 8 && defined(__AVX512F__)
    const __mmask8 number = _mm512_cmp_pd_mask((__m512d)v, (__m512d)v, _CMP_ORD_Q);
    const __mmask8 keep = _mm512_mask_cmp_pd_mask(number, (__m512d)v, (__m512d)*best, _CMP_NGT_UQ);
    *best = (VEC)_mm512_mask_mov_pd((__m512d)v, keep, (__m512d)*best);
    *best_id = (IVEC)_mm512_mask_mov_epi64((__m512i)id, keep, (__m512i)*best_id);
#else
    const IVEC larger = (v > *best) | (v != v);
    *best = FC_(select)(larger, v, *best);
    *best_id = FC_(iselect)(larger, id, *best_id);
#endif
}

/* max(v, 0) that keeps NaN. */
static inline FC_INLINE VEC FC_(relu_vec)(VEC v) {
    return FC_(select)(v < FC_(splat)(0), FC_(splat)(0), v);
}

/* The activation after a sum: nothing, max(v, 0), or min(max(v, 0), 6), that keep NaN. */
static inline FC_INLINE VEC FC_(activate)(VEC v, int relu) {
    if (relu)
        v = FC_(relu_vec)(v);
    if (relu == FC_RELU6)
        v = FC_(select)(v > FC_(splat)(6), FC_(splat)(6), v);
    return v;
}

static inline FC_INLINE FC_REAL FC_(lane)(VEC v, ptrdiff_t i) {
#if FC_LANES > 1
    return v[i];
#else
    (void)i;
    return v;
#endif
}

static inline FC_INLINE FC_REAL FC_(add_lanes)(VEC v) {
#if FC_LANES > 1
    FC_REAL sum = 0;
    for (int i = 0; i < FC_LANES; i++)
        sum += v[i];
    return sum;
#else
    return v;
#endif
}

/* Shuffles, as lists of lane numbers over the pair (a, b).
 * EVEN/ODD split 2*LANES neighbours into every other one; ZIP_LO/ZIP_HI are their inverse.
 * SWAP<s>_LO/HI exchange blocks of s lanes between a and b: a transpose is these for
 * s = LANES/2, ..., 2, 1. */
#if FC_LANES > 1
#define FC_SHUFFLE(a, b, lanes) FC_SHUFFLE_(a, b, lanes)
#define FC_SHUFFLE_(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif

#undef FC_EVEN
#undef FC_ODD
#undef FC_ZIP_LO
#undef FC_ZIP_HI
#undef FC_SWAP1_LO
#undef FC_SWAP1_HI
#undef FC_SWAP2_LO
#undef FC_SWAP2_HI
#undef FC_SWAP4_LO
#undef FC_SWAP4_HI
#undef FC_SWAP8_LO
#undef FC_SWAP8_HI
#undef FC_SWAP_HALF_LO
#if FC_LANES == 2
#define FC_EVEN 0, 2
#define FC_ODD 1, 3
#define FC_ZIP_LO 0, 2
#define FC_ZIP_HI 1, 3
#define FC_SWAP1_LO 0, 2
#define FC_SWAP1_HI 1, 3
#elif FC_LANES == 4
#define FC_EVEN 0, 2, 4, 6
#define FC_ODD 1, 3, 5, 7
#define FC_ZIP_LO 0, 4, 1, 5
#define FC_ZIP_HI 2, 6, 3, 7
#define FC_SWAP1_LO 0, 4, 2, 6
#define FC_SWAP1_HI 1, 5, 3, 7
#define FC_SWAP2_LO 0, 1, 4, 5
#define FC_SWAP2_HI 2, 3, 6, 7
#elif FC_LANES == 8
#define FC_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define FC_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define FC_ZIP_LO 0, 8, 1, 9, 2, 10, 3, 11
#define FC_ZIP_HI 4, 12, 5, 13, 6, 14, 7, 15
#define FC_SWAP1_LO 0, 8, 2, 10, 4, 12, 6, 14
#define FC_SWAP1_HI 1, 9, 3, 11, 5, 13, 7, 15
#define FC_SWAP2_LO 0, 1, 8, 9, 4, 5, 12, 13
#define FC_SWAP2_HI 2, 3, 10, 11, 6, 7, 14, 15
#define FC_SWAP4_LO 0, 1, 2, 3, 8, 9, 10, 11
#define FC_SWAP4_HI 4, 5, 6, 7, 12, 13, 14, 15
#define FC_SWAP_HALF_LO FC_SWAP4_LO
#elif FC_LANES == 16
#define FC_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define FC_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FC_ZIP_LO 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FC_ZIP_HI 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define FC_SWAP1_LO 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define FC_SWAP1_HI 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define FC_SWAP2_LO 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define FC_SWAP2_HI 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define FC_SWAP4_LO 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define FC_SWAP4_HI 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define FC_SWAP8_LO 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define FC_SWAP8_HI 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define FC_SWAP_HALF_LO FC_SWAP8_LO
#endif
