// SPDX-License-Identifier: Apache-2.0
// 32 registers of 16 floats: 16 sums and 4 vectors of w.
#define MOESMITH_GEMV_NAMESPACE avx512
#define MOESMITH_GEMV_LANES 16
#define MOESMITH_GEMV_ROWS 4
#define MOESMITH_GEMV_BLOCK 8
#include "kernels/gemv/gemv-inl.h"
