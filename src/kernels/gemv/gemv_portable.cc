// SPDX-License-Identifier: Apache-2.0
// 16 registers of 4 floats (SSE2); NEON has 32 of them.
#define MOESMITH_GEMV_NAMESPACE portable
#define MOESMITH_GEMV_LANES 4
#define MOESMITH_GEMV_ROWS 2
#define MOESMITH_GEMV_BLOCK 4
#include "kernels/gemv/gemv-inl.h"
