// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/common/elementwise.h"

#include <algorithm>

#include "cuda/launch.cuh"
#include "kernels/cuda/common/activation.cuh"
#include "kernels/cuda/common/rows.cuh"
#include "kernels/cuda/common/values.cuh"

namespace moesmith::kernels::gpu {
namespace {

constexpr int kThreads = 256;

// Two sizes: what a small model passes, and what still fits the 32 KB of a kernel's parameters.
template <int kMost>
struct PointerList {
  const void* at[kMost];
};

template <int kMost>
__global__ void __launch_bounds__(kThreads)
    write_list(const __grid_constant__ PointerList<kMost> list, int count, const void** table) {
  for (int i = threadIdx.x; i < count; i += kThreads) table[i] = list.at[i];
}

template <int kMost>
void write_some(std::span<const void* const> pointers, const void** table, void* stream) {
  static cuda::Kernel<PointerList<kMost>, int, const void**> kernel{"write_pointers",
                                                                    write_list<kMost>};
  PointerList<kMost> list;
  for (std::size_t begin = 0; begin < pointers.size(); begin += kMost) {
    const std::size_t count = std::min<std::size_t>(kMost, pointers.size() - begin);
    std::copy_n(pointers.data() + begin, count, list.at);
    kernel.launch(1, kThreads, stream, list, static_cast<int>(count), table + begin);
  }
}

// Threads of one row of `width`: groups of eight columns.
__device__ std::int64_t groups_of(std::int64_t width) { return (width + 7) / 8; }

template <class T>
__global__ void __launch_bounds__(kThreads) combine_rows(Rows rows, Combine c) {
  const std::int64_t groups = groups_of(c.width);
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t token = at / groups, first = at % groups * 8;
  if (token >= c.num_tokens) return;
  const int n = static_cast<int>(min(c.width - first, std::int64_t{8}));
  float sum[8] = {};
  for (int k = 0; k < rows.top_k; ++k) {
    const int row = rows.row_of[token * rows.top_k + k];
    if (row < 0) continue;
    const float weight = c.weighted ? rows.weight_of[row] : 1.0f;
    float x[8];
    load8(static_cast<const T*>(c.rows_data) + row * c.width + first, n, x);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] = fmaf(weight, x[i], sum[i]);
  }
  if (*rows.overflow != 0) {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] = __int_as_float(0x7fffffff);
  }
  const auto put = [&](auto* target) {
    if (c.target.accumulate) {
      float before[8];
      load8(target, n, before);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += before[i];
    }
    store8(target, n, sum);
  };
  const std::int64_t to = token * c.width + first;
  if (c.target.is_f32) {
    put(static_cast<float*>(c.target.data) + to);
  } else {
    put(static_cast<bf16_t*>(c.target.data) + to);
  }
}

// A warp a slot.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_route_gradient(Rows rows, RouteGradient g) {
  const std::int64_t slot = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  if (slot >= rows.num_slots) return;
  const int row = rows.row_of[slot];
  float sum = 0;
  if (row >= 0 && g.bias != nullptr) {
    const std::int64_t bias = expert_of_row(rows, row) * g.hidden;
    const T* dy = static_cast<const T*>(g.dy) + rows.token_of[row] * g.hidden;
    for (std::int64_t i = lane; i < g.hidden; i += 32) {
      sum = fmaf(to_float(dy[i]), load(g.bias, g.bias_is_f32, bias + i), sum);
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  }
  if (lane != 0) return;
  if (row >= 0) {
    for (int i = 0; i < g.num_parts; ++i) {
      sum += g.parts[static_cast<std::int64_t>(row) * g.num_parts + i];
    }
  }
  store_sum(g.target.data, g.target.is_f32, g.target.accumulate, slot, sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_columns(Rows rows, ColumnSums c, int column_blocks) {
  const int tile_number = static_cast<int>(blockIdx.x / column_blocks);
  const RowTiles& tiles = rows.tiles[kSumTiles];
  if (tile_number >= *tiles.count) return;
  const RowTile tile = tiles.tiles[tile_number];
  const std::int64_t column =
      static_cast<std::int64_t>(blockIdx.x % column_blocks) * kThreads + threadIdx.x;
  if (column >= c.width) return;
  float sum = 0;
#pragma unroll 8
  for (int row = tile.begin; row < tile.end; ++row) {
    const std::int64_t from = c.by_token ? rows.token_of[row] : row;
    const float weight = c.weighted ? rows.weight_of[row] : 1.0f;
    sum = fmaf(weight, to_float(static_cast<const T*>(c.data)[from * c.width + column]), sum);
  }
  c.parts[tile_number * c.width + column] = sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    weigh(Rows rows, const T* from, T* to, std::int64_t width) {
  const std::int64_t groups = groups_of(width);
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t row = at / groups, first = at % groups * 8;
  if (row >= rows.offsets[rows.num_experts]) return;
  const int n = static_cast<int>(min(width - first, std::int64_t{8}));
  float x[8];
  load8(from + row * width + first, n, x);
  const float weight = rows.weight_of[row];
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] *= weight;
  store8(to + row * width + first, n, x);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    activate(Rows rows, Activation act, const T* h, T* a, T* weighted_a, std::int64_t inter) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t row = at / inter, i = at % inter;
  if (row >= rows.offsets[rows.num_experts]) return;
  const T* from = h + row * (act.gated ? 2 * inter : inter);
  const bool pairs = act.gated && act.interleaved;
  const float gate[1] = {to_float(from[pairs ? 2 * i : i])};
  const float up[1] = {act.gated ? to_float(from[pairs ? 2 * i + 1 : inter + i]) : 0.0f};
  const T value = from_float<T>(activation_points(act, gate, up).value[0]);
  if (a != nullptr) a[at] = value;
  if (weighted_a != nullptr) {
    weighted_a[at] = from_float<T>(rows.weight_of[row] * to_float(value));
  }
}

__global__ void __launch_bounds__(kThreads)
    round_values(const float* from, bf16_t* to, std::int64_t count) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * 8;
  if (first >= count) return;
  const int n = static_cast<int>(min(count - first, std::int64_t{8}));
  float x[8];
  load8(from + first, n, x);
  store8(to + first, n, x);
}

std::int64_t blocks_for(std::int64_t threads) { return (threads + kThreads - 1) / kThreads; }
std::int64_t blocks_for_rows(std::int64_t rows, std::int64_t width) {
  return blocks_for(rows * ((width + 7) / 8));
}

}  // namespace

Activation Activation::of(const experts::ExpertsRequest& request) {
  const experts::ActivationSpec& spec = request.activation;
  constexpr float kNone = __builtin_huge_valf();
  return {spec.kind,
          spec.gated,
          spec.gated && request.gate_up_layout == experts::GateUpLayout::kInterleaved,
          spec.gate_max.value_or(kNone),
          spec.up_limit.value_or(kNone),
          spec.alpha,
          spec.up_shift};
}

void write_pointers(std::span<const void* const> pointers, const void** table, void* stream) {
  if (pointers.size() <= 448) return write_some<448>(pointers, table, stream);
  write_some<3584>(pointers, table, stream);
}

void combine(const Rows& rows, const Combine& c, bool f32, void* stream) {
  static cuda::Kernel<Rows, Combine> in_f32{"combine<f32>", combine_rows<float>};
  static cuda::Kernel<Rows, Combine> in_bf16{"combine<bf16>", combine_rows<bf16_t>};
  (f32 ? in_f32 : in_bf16)
      .launch(blocks_for_rows(c.num_tokens, c.width), kThreads, stream, rows, c);
}

void route_gradient(const Rows& rows, const RouteGradient& g, bool f32, void* stream) {
  static cuda::Kernel<Rows, RouteGradient> in_f32{"route_gradient<f32>", sum_route_gradient<float>};
  static cuda::Kernel<Rows, RouteGradient> in_bf16{"route_gradient<bf16>",
                                                   sum_route_gradient<bf16_t>};
  (f32 ? in_f32 : in_bf16)
      .launch(blocks_for(std::int64_t{rows.num_slots} * 32), kThreads, stream, rows, g);
}

void column_sums(const Rows& rows, const ColumnSums& c, bool f32, void* stream) {
  static cuda::Kernel<Rows, ColumnSums, int> in_f32{"column_sums<f32>", sum_columns<float>};
  static cuda::Kernel<Rows, ColumnSums, int> in_bf16{"column_sums<bf16>", sum_columns<bf16_t>};
  const int column_blocks = static_cast<int>(blocks_for(c.width));
  (f32 ? in_f32 : in_bf16)
      .launch(std::int64_t{rows.tiles[kSumTiles].max_tiles} * column_blocks, kThreads, stream, rows,
              c, column_blocks);
}

void weigh_rows(
    const Rows& rows, const void* from, void* to, std::int64_t width, bool f32, void* stream) {
  static cuda::Kernel<Rows, const float*, float*, std::int64_t> in_f32{"weigh_rows<f32>",
                                                                       weigh<float>};
  static cuda::Kernel<Rows, const bf16_t*, bf16_t*, std::int64_t> in_bf16{"weigh_rows<bf16>",
                                                                          weigh<bf16_t>};
  const std::int64_t blocks = blocks_for_rows(rows.capacity, width);
  if (f32) {
    in_f32.launch(blocks, kThreads, stream, rows, static_cast<const float*>(from),
                  static_cast<float*>(to), width);
  } else {
    in_bf16.launch(blocks, kThreads, stream, rows, static_cast<const bf16_t*>(from),
                   static_cast<bf16_t*>(to), width);
  }
}

void activate_rows(const Rows& rows,
                   const Activation& activation,
                   const void* h,
                   void* a,
                   void* weighted_a,
                   std::int64_t inter,
                   bool f32,
                   void* stream) {
  static cuda::Kernel<Rows, Activation, const float*, float*, float*, std::int64_t> in_f32{
      "activate_rows<f32>", activate<float>};
  static cuda::Kernel<Rows, Activation, const bf16_t*, bf16_t*, bf16_t*, std::int64_t> in_bf16{
      "activate_rows<bf16>", activate<bf16_t>};
  const std::int64_t blocks = blocks_for(rows.capacity * inter);
  if (f32) {
    in_f32.launch(blocks, kThreads, stream, rows, activation, static_cast<const float*>(h),
                  static_cast<float*>(a), static_cast<float*>(weighted_a), inter);
  } else {
    in_bf16.launch(blocks, kThreads, stream, rows, activation, static_cast<const bf16_t*>(h),
                   static_cast<bf16_t*>(a), static_cast<bf16_t*>(weighted_a), inter);
  }
}

void round_to_bf16(const void* from, void* to, std::int64_t count, void* stream) {
  static cuda::Kernel<const float*, bf16_t*, std::int64_t> kernel{"round_to_bf16", round_values};
  kernel.launch(blocks_for((count + 7) / 8), kThreads, stream, static_cast<const float*>(from),
                static_cast<bf16_t*>(to), count);
}

}  // namespace moesmith::kernels::gpu
