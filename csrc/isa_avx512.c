/* SPDX-License-Identifier: BSD-3-Clause
 * 64-byte vectors; flags -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma, those that cpu.c tests.
 * MR 14 x 2 vectors: 28 sums + 2 b + 1 a = 31 of 32 registers. */
#if defined(__x86_64__)
#define FC_ISA avx512
#define FC_VB 64
#define FC_MR 14
#include "kernels/all.inc"
#endif
