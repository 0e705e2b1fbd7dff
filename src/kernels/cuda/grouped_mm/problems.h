// SPDX-License-Identifier: Apache-2.0
// What a launch of one of CUTLASS's grouped kernels takes, without CUTLASS's headers. An instance
// is compiled in a file of its own.
#pragma once

#include <cstdint>

namespace moesmith::kernels::gpu {

// Arrays [num_problems] on the device.
struct ProblemTable {
  int* sizes = nullptr;  // [num_problems, 3]: m, n, k; m is 0 where there is nothing to do
  const void** a = nullptr;
  const void** b = nullptr;
  void** out = nullptr;
  std::int64_t* a_stride = nullptr;
  std::int64_t* b_stride = nullptr;
  std::int64_t* out_stride = nullptr;
};

// out = a b, or out + a b.
struct Problems {
  ProblemTable table;
  int count = 0;
  bool accumulate = false;
};

// a [m, k] row after row, b as [n, k].
void run_grouped_row_k_major(const Problems& problems, void* stream);
void run_grouped_row_k_major_f32(const Problems& problems, void* stream);
// b as [k, n].
void run_grouped_row_row(const Problems& problems, void* stream);
void run_grouped_row_row_f32(const Problems& problems, void* stream);
// a as [k, m], b as [k, n].
void run_grouped_column_row(const Problems& problems, void* stream);
void run_grouped_column_row_to_bf16(const Problems& problems, void* stream);
void run_grouped_column_row_f32(const Problems& problems, void* stream);

}  // namespace moesmith::kernels::gpu
