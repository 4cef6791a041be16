/* SPDX-License-Identifier: BSD-3-Clause
 * 16-byte vectors, the x86-64 baseline. No FMA: a product needs a register of its own.
 * MR 4 x 2 vectors: 8 sums + 2 b + 1 a + 2 products = 13 of 16 registers. */
#if defined(__x86_64__)
#define FC_ISA sse2
#define FC_VB 16
#define FC_MR 4
#include "kernels/all.inc"
#endif
