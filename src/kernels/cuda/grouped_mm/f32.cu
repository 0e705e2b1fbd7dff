// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/grouped_mm/cutlass_grouped.cuh"

namespace moesmith::kernels::gpu {

MOESMITH_GROUPED_INSTANCE(run_grouped_row_k_major_f32, GroupedF32<RowMajor, ColumnMajor>)
MOESMITH_GROUPED_INSTANCE(run_grouped_row_row_f32, GroupedF32<RowMajor, RowMajor>)
MOESMITH_GROUPED_INSTANCE(run_grouped_column_row_f32, GroupedF32<ColumnMajor, RowMajor>)
}  // namespace moesmith::kernels::gpu
