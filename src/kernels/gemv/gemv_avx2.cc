// SPDX-License-Identifier: Apache-2.0
// 16 registers of 8 floats: 8 sums and 4 vectors of w.
#define MOESMITH_GEMV_NAMESPACE avx2
#define MOESMITH_GEMV_LANES 8
#define MOESMITH_GEMV_ROWS 2
#define MOESMITH_GEMV_BLOCK 4
#include "kernels/gemv/gemv-inl.h"
