// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/grouped_mm/cutlass_grouped.cuh"

namespace moesmith::kernels::gpu {

MOESMITH_GROUPED_INSTANCE(run_grouped_column_row_to_bf16,
                          GroupedBf16<ColumnMajor, RowMajor, cutlass::bfloat16_t>)
}  // namespace moesmith::kernels::gpu
