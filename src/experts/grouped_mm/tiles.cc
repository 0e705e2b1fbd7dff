// SPDX-License-Identifier: Apache-2.0
#include "experts/grouped_mm/tiles.h"

#include <cstring>
#include <type_traits>

#include "kernels/rows/rows.h"

namespace moesmith::experts::grouped_mm {

using kernels::gemm::Operand;

std::vector<RowTile> row_tiles(const RoutingIndex& index) {
  std::vector<RowTile> tiles;
  for (std::int64_t e = 0; e < index.num_experts; ++e) {
    for (std::int64_t row = index.offsets[e]; row < index.offsets[e + 1]; row += kTileRows) {
      tiles.push_back({e, row, std::min(kTileRows, index.offsets[e + 1] - row)});
    }
  }
  return tiles;
}

template <class T>
void TileOps<T>::gather_x(const RowTile& tile, T* x) const {
  const std::int64_t hidden = request.hidden;
  for (std::int64_t i = 0; i < tile.count; ++i) {
    std::memcpy(x + i * hidden,
                static_cast<const T*>(inputs.hidden) + token_of(tile.begin + i) * hidden,
                static_cast<std::size_t>(hidden) * sizeof(T));
  }
}

template <class T>
void TileOps<T>::lora_in(const RowTile& tile,
                         const PackedLora<T>& lora,
                         float scale,
                         const T* in,
                         float* sums,
                         T* u) const {
  const std::int64_t rank = lora.lora_rank;
  const Operand a_transposed =
      kernels::gemm::transposed(lora.a_of(tile.expert), DTypeOf<T>::value, lora.in);
  multiply_tile(tile.padded(), rank, lora.in, in, a_transposed, sums, rank, false);
  kernels::rows::ops<T>().from_f32(u, sums, scale, tile.padded() * rank);
}

template <class T>
void TileOps<T>::pre_activation(
    const RowTile& tile, const T* x, const T* u, float* sums, T* h) const {
  const std::int64_t width = request.gate_up_width();
  for (const WeightPart& part : gate_up_parts(request, inputs.weights, tile.expert)) {
    multiply_tile(tile.padded(), part.rows, request.hidden, x,
                  forward_operand(part, request.weight_dtype), sums + part.first, width, false);
  }
  if (lora_1.lora_rank > 0) {
    const Operand b_transposed =
        kernels::gemm::transposed(lora_1.b_of(tile.expert), DTypeOf<T>::value, lora_1.lora_rank);
    multiply_tile(tile.padded(), width, lora_1.lora_rank, u, b_transposed, sums, width, true);
  }
  const void* bias = request.gate_up_bias ? advance(inputs.weights.gate_up_bias,
                                                    request.weight_dtype, tile.expert * width)
                                          : nullptr;
  for (std::int64_t i = 0; i < tile.count; ++i) {
    if (bias != nullptr) add_bias(sums + i * width, bias, request.weight_dtype, width);
    kernels::rows::ops<T>().from_f32(h + i * width, sums + i * width, 1.0f, width);
  }
}

template <class T>
void multiply_tile(std::int64_t rows,
                   std::int64_t n,
                   std::int64_t k,
                   const T* a,
                   const Operand& b,
                   float* c,
                   std::int64_t ldc,
                   bool accumulate) {
  kernels::gemm::Args args;
  args.m = rows;
  args.n = n;
  args.k = k;
  args.a = kernels::gemm::row_major(a, DTypeOf<T>::value, k);
  args.b = b;
  args.c = c;
  args.ldc = ldc;
  args.accumulate = accumulate;
  multiply(args);
}

void add_bias(float* row, const void* bias, DType dtype, std::int64_t n) {
  if (dtype == DType::kBF16) {
    kernels::rows::ops<bf16>().axpy(row, static_cast<const bf16*>(bias), 1.0f, n);
  } else {
    kernels::rows::ops<float>().axpy(row, static_cast<const float*>(bias), 1.0f, n);
  }
}

template <class T>
void convert_scaled(T* to, const void* from, DType dtype, float scale, std::int64_t n) {
  if (dtype == DTypeOf<T>::value && scale == 1.0f) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else if (dtype == DType::kF32) {
    kernels::rows::ops<T>().from_f32(to, static_cast<const float*>(from), scale, n);
  } else if constexpr (std::is_same_v<T, float>) {
    kernels::rows::ops<bf16>().to_f32(to, static_cast<const bf16*>(from), scale, n);
  } else {
    constexpr std::int64_t kBlock = 256;
    float block[kBlock];
    for (std::int64_t i = 0; i < n; i += kBlock) {
      const std::int64_t count = std::min(kBlock, n - i);
      kernels::rows::ops<T>().to_f32(block, static_cast<const T*>(from) + i, scale, count);
      kernels::rows::ops<T>().from_f32(to + i, block, 1.0f, count);
    }
  }
}

template <class T>
void combine_token(const ExpertsRequest& request,
                   const ExpertsInputs& inputs,
                   const RoutingIndex& index,
                   std::int64_t token,
                   const T* rows,
                   bool weighted,
                   float* sums) {
  std::fill(sums, sums + request.hidden, 0.0f);
  for (std::int64_t k = 0; k < request.top_k; ++k) {
    const std::int64_t slot = token * request.top_k + k;
    const std::int64_t row = index.row_of[slot];
    if (row < 0) continue;
    const float weight =
        weighted ? static_cast<float>(route_weight(inputs, request.route_weights_dtype, slot))
                 : 1.0f;
    kernels::rows::ops<T>().axpy(sums, rows + row * request.hidden, weight, request.hidden);
  }
}

#define MOESMITH_INSTANTIATE(T)                                                                   \
  template struct TileOps<T>;                                                                     \
  template void multiply_tile(std::int64_t, std::int64_t, std::int64_t, const T*, const Operand&, \
                              float*, std::int64_t, bool);                                        \
  template void convert_scaled(T*, const void*, DType, float, std::int64_t);                      \
  template void combine_token(const ExpertsRequest&, const ExpertsInputs&, const RoutingIndex&,   \
                              std::int64_t, const T*, bool, float*);
MOESMITH_INSTANTIATE(float)
MOESMITH_INSTANTIATE(bf16)
#undef MOESMITH_INSTANTIATE

}  // namespace moesmith::experts::grouped_mm
