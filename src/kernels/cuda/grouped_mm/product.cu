// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/grouped_mm/product.h"

#include <type_traits>

#include "cuda/launch.cuh"
#include "kernels/cuda/grouped_mm/problems.h"

namespace moesmith::kernels::gpu {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kAlignment = 16;

std::int64_t rounded(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The arrays of a table one after another; returns the bytes they take.
std::int64_t lay_out(ProblemTable& table, char* base, int count) {
  std::int64_t used = 0;
  const auto take = [&](auto& array, std::int64_t elements) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(base + used);
    used += rounded(elements * static_cast<std::int64_t>(sizeof(*array)));
  };
  take(table.sizes, std::int64_t{3} * count);
  take(table.a, count);
  take(table.b, count);
  take(table.out, count);
  take(table.a_stride, count);
  take(table.b_stride, count);
  take(table.out_stride, count);
  return used;
}

ProblemTable table_at(void* memory, int count) {
  ProblemTable table;
  lay_out(table, static_cast<char*>(memory), count);
  return table;
}

__device__ void put(
    const ProblemTable& t, int e, int m, int n, int k, const void* a, const void* b, void* out) {
  t.sizes[3 * e] = m, t.sizes[3 * e + 1] = n, t.sizes[3 * e + 2] = k;
  t.a[e] = a, t.b[e] = b, t.out[e] = out;
}

__global__ void __launch_bounds__(kThreads)
    make_by_matrix(Rows rows, GroupedByMatrix p, ProblemTable t, int size) {
  const int e = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (e >= rows.num_experts) return;
  const std::int64_t first = rows.offsets[e];
  const void* b = p.b.table != nullptr
                      ? p.b.table[e]
                      : static_cast<const char*>(p.b.data) + e * p.b.expert_stride * size;
  put(t, e, rows.offsets[e + 1] - rows.offsets[e], p.n, p.k,
      static_cast<const char*>(p.a) + first * p.a_stride * size, b, p.out + first * p.out_stride);
  t.a_stride[e] = p.a_stride, t.b_stride[e] = p.b.stride, t.out_stride[e] = p.out_stride;
}

__global__ void __launch_bounds__(kThreads)
    make_by_rows(Rows rows, GroupedByRows p, ProblemTable t, int size) {
  const int e = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (e >= rows.num_experts) return;
  const std::int64_t first = rows.offsets[e], all = std::int64_t{p.m} * p.n;
  const int num_rows = rows.offsets[e + 1] - rows.offsets[e];
  put(t, e, num_rows > 0 ? p.m : 0, p.n, num_rows,
      static_cast<const char*>(p.left) + first * p.m * size,
      static_cast<const char*>(p.right) + first * p.n * size,
      static_cast<char*>(p.out) + e * all * (p.out_is_f32 ? 4 : 2));
  t.a_stride[e] = p.m, t.b_stride[e] = p.n, t.out_stride[e] = p.n;
}

std::int64_t blocks_of(const Rows& rows) { return (rows.num_experts + kThreads - 1) / kThreads; }

}  // namespace

std::int64_t problem_table_bytes(int num_experts) {
  ProblemTable table;
  return lay_out(table, nullptr, num_experts);
}

void run_grouped(const Rows& rows, const GroupedByMatrix& p, bool f32, void* table, void* stream) {
  static cuda::Kernel<Rows, GroupedByMatrix, ProblemTable, int> make{"problems_by_matrix",
                                                                     make_by_matrix};
  if (rows.capacity == 0) return;
  const Problems problems{table_at(table, rows.num_experts), rows.num_experts, p.accumulate};
  make.launch(blocks_of(rows), kThreads, stream, rows, p, problems.table, f32 ? 4 : 2);
  if (p.b.k_major) {
    (f32 ? run_grouped_row_k_major_f32 : run_grouped_row_k_major)(problems, stream);
  } else {
    (f32 ? run_grouped_row_row_f32 : run_grouped_row_row)(problems, stream);
  }
}

void run_grouped(const Rows& rows, const GroupedByRows& p, bool f32, void* table, void* stream) {
  static cuda::Kernel<Rows, GroupedByRows, ProblemTable, int> make{"problems_by_rows",
                                                                   make_by_rows};
  if (rows.capacity == 0) return;
  const Problems problems{table_at(table, rows.num_experts), rows.num_experts, p.accumulate};
  make.launch(blocks_of(rows), kThreads, stream, rows, p, problems.table, f32 ? 4 : 2);
  if (f32) return run_grouped_column_row_f32(problems, stream);
  (p.out_is_f32 ? run_grouped_column_row : run_grouped_column_row_to_bf16)(problems, stream);
}

}  // namespace moesmith::kernels::gpu
