// SPDX-License-Identifier: Apache-2.0
#define MOESMITH_ACTIVATION_NAMESPACE portable
#include "experts/activation/vector-inl.h"
