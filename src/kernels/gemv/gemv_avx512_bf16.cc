// SPDX-License-Identifier: Apache-2.0
// bf16 rows times bf16 along k by vdpbf16ps, 32 products an instruction; the rest as AVX-512.
#include <immintrin.h>

#define MOESMITH_GEMV_NAMESPACE avx512_bf16
#define MOESMITH_GEMV_LANES 16
#define MOESMITH_GEMV_ROWS 4
#define MOESMITH_GEMV_BLOCK 8
#define MOESMITH_GEMV_PAIRS 1
#include "kernels/gemv/gemv-inl.h"
