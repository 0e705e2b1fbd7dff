// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/grouped_mm/cutlass_grouped.cuh"

namespace moesmith::kernels::gpu {

MOESMITH_GROUPED_INSTANCE(run_grouped_column_row, GroupedBf16<ColumnMajor, RowMajor, float>)
}  // namespace moesmith::kernels::gpu
