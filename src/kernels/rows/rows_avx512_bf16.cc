// SPDX-License-Identifier: Apache-2.0
#define MOESMITH_ROWS_NAMESPACE avx512_bf16
#include "kernels/rows/rows-inl.h"
