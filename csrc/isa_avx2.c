/* SPDX-License-Identifier: BSD-3-Clause
 * 32-byte vectors; flags -mavx2 -mfma, the two that cpu.c tests.
 * MR 6 x 2 vectors: 12 sums + 2 b + 1 a = 15 of 16 registers. */
#if defined(__x86_64__)
#define FC_ISA avx2
#define FC_VB 32
#define FC_MR 6
#include "kernels/all.inc"
#endif
