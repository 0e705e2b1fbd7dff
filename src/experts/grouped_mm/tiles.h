// SPDX-License-Identifier: Apache-2.0
// The steps on a tile of one expert's rows that forward and backward share. A tile has kTileRows
// rows at most; products run on its row count rounded up to kRowStep, so that few shapes are
// compiled. Rows past the count hold nothing of use.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/thread_pool.h"
#include "experts/grouped_mm/product.h"
#include "experts/lora.h"
#include "experts/routing.h"
#include "experts/weights.h"
#include "moesmith/experts.h"

namespace moesmith::experts::grouped_mm {

inline constexpr std::int64_t kTileRows = 256;
inline constexpr std::int64_t kRowStep = 16;

// Rows of the largest tile that a call with this many rows has.
inline std::int64_t tile_rows(std::int64_t num_rows) {
  return std::min(kTileRows, round_up(num_rows, kRowStep));
}

// Rows [begin, begin + count) of one expert.
struct RowTile {
  std::int64_t expert = 0, begin = 0, count = 0;

  std::int64_t padded() const { return round_up(count, kRowStep); }
};

// All tiles, by expert and row.
std::vector<RowTile> row_tiles(const RoutingIndex& index);

template <class T>
struct TileOps {
  const ExpertsRequest& request;
  const ExpertsInputs& inputs;
  const RoutingIndex& index;
  const PackedLora<T>& lora_1;
  const PackedLora<T>& lora_2;

  std::int64_t token_of(std::int64_t row) const { return index.slot_of[row] / request.top_k; }
  float weight_of(std::int64_t row) const {
    return static_cast<float>(
        route_weight(inputs, request.route_weights_dtype, index.slot_of[row]));
  }

  // x [count, H] of the tile's tokens.
  void gather_x(const RowTile& tile, T* x) const;
  // u [padded, r16] = scale * in A^T, through sums [padded, r16].
  void lora_in(const RowTile& tile,
               const PackedLora<T>& lora,
               float scale,
               const T* in,
               float* sums,
               T* u) const;
  // sums [padded, 2I] = x W1^T + u B1^T + bias; h [count, 2I] rounded.
  void pre_activation(const RowTile& tile, const T* x, const T* u, float* sums, T* h) const;
};

// c [rows, n] = (c +) a [rows, k] times b.
template <class T>
void multiply_tile(std::int64_t rows,
                   std::int64_t n,
                   std::int64_t k,
                   const T* a,
                   const kernels::gemm::Operand& b,
                   float* c,
                   std::int64_t ldc,
                   bool accumulate);

// row [n] += bias [n]
void add_bias(float* row, const void* bias, DType dtype, std::int64_t n);

// to [n] = scale * from [n]
template <class T>
void convert_scaled(T* to, const void* from, DType dtype, float scale, std::int64_t n);

// sums [H] = sum over k of weight * row, in slot order; weight 1 when not `weighted`.
template <class T>
void combine_token(const ExpertsRequest& request,
                   const ExpertsInputs& inputs,
                   const RoutingIndex& index,
                   std::int64_t token,
                   const T* rows,
                   bool weighted,
                   float* sums);

}  // namespace moesmith::experts::grouped_mm
