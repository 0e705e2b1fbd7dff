// SPDX-License-Identifier: Apache-2.0
// Rows of a routed batch, from inside a kernel.
#pragma once

#include "kernels/cuda/common/rows.h"

namespace moesmith::kernels::gpu {

__device__ inline int expert_of_row(const Rows& rows, int row) {
  int low = 0, high = rows.num_experts;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (rows.offsets[middle] <= row ? low : high) = middle;
  }
  return low;
}

}  // namespace moesmith::kernels::gpu
