// SPDX-License-Identifier: Apache-2.0
#define MOESMITH_ACTIVATION_NAMESPACE avx512_bf16
#include "experts/activation/vector-inl.h"
