/* SPDX-License-Identifier: BSD-3-Clause
 * 16-byte vectors with FMA, the aarch64 baseline.
 * MR 12 x 2 vectors: 24 sums + 2 b + 1 a = 27 of 32 registers. */
#if defined(__aarch64__)
#define FC_ISA neon
#define FC_VB 16
#define FC_MR 12
#include "kernels/all.inc"
#endif
