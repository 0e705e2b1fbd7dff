// SPDX-License-Identifier: Apache-2.0
#define MOESMITH_ROWS_NAMESPACE portable
#include "kernels/rows/rows-inl.h"
