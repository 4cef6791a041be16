/* SPDX-License-Identifier: BSD-3-Clause
 * Plain C, one lane, for any machine; built with the vectoriser off so that it is what it says.
 * MR 4 x 2 numbers: 8 sums + 2 b + 1 a of 16 registers. */
#define FC_ISA scalar
#define FC_VB 0
#define FC_MR 4
#include "kernels/all.inc"
