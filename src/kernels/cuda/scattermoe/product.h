// SPDX-License-Identifier: Apache-2.0
// The two products of the experts layer on the device, as parameters of a kernel.
//   RowProduct  out[row, n] = sum over segments and k of a[row, k] * b_e[n, k], then an epilogue
//   RowSum      out_t[m, n] = sum over the rows of t of left[row, m] * right[row, n]
// Rows are those of `Rows`; an operand may be gathered by the row's token. LoRA is one more
// segment.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/activation.h"
#include "kernels/cuda/common/rows.h"

namespace moesmith::kernels::gpu {

// [*, stride] by row, or by the row's token.
struct RowOperand {
  const void* data = nullptr;
  std::int64_t stride = 0;  // elements, as every stride here
  bool by_token = false;
  bool is_f32 = false;
};

// A matrix per expert: element (n, k) at n * stride + k (k_major) or k * stride + n.
struct ExpertOperand {
  const void* const* table = nullptr;  // [E] on the device; null: data + e * expert_stride
  const void* data = nullptr;
  std::int64_t expert_stride = 0;
  std::int64_t stride = 0;
  bool k_major = true;
  bool is_f32 = false;
  // Pairs (gate, up), when column n is pair n: gate at row n * row_step, up at the same place of
  // the matrix `up_offset` elements on, or of a matrix of its own.
  const void* const* up_table = nullptr;
  std::int64_t up_offset = 0;
  int row_step = 1;
};

struct RowSegment {
  RowOperand a;
  ExpertOperand b;
  int k = 0;
};

enum class Pairing {
  kNone,
  kHalves,    // a tile's columns are gates, then as many ups
  kAdjacent,  // column 2 n is a gate, 2 n + 1 its up: interleaved weights that are not k_major
};

enum class EpilogueKind { kStore, kActivation, kActivationBackward };

// T is the compute dtype. Pointers that are null are not written.
struct Epilogue {
  EpilogueKind kind = EpilogueKind::kStore;
  const float* weight_of = nullptr;  // [rows]

  // kStore: out[row, n] = T(scale * sum + bias[e, n]); weighted = T(weight * out)
  float scale = 1;
  void* out = nullptr;  // [rows, ld]
  std::int64_t ld = 0;
  void* weighted = nullptr;    // [rows, ld]
  const void* bias = nullptr;  // [E, n], kActivation: [E, width] in the order of h
  bool bias_is_f32 = false;

  // kActivation: h = T(sum + bias), a = T(act(h))
  // kActivationBackward, sum = dA': d_h = T(act'(h) weight dA'), a, weighted_a = T(weight a),
  // d_weight_parts[row, tile of n] = sum over the tile of dA' a
  Activation activation;
  std::int64_t width = 0;  // of h
  void* h = nullptr;       // [rows, width]; read in backward
  void* a = nullptr;       // [rows, n]
  void* d_h = nullptr;     // [rows, width]
  void* weighted_a = nullptr;
  float* d_weight_parts = nullptr;  // [rows, row_product_column_tiles()]
};

struct RowProduct {
  RowSegment segment[3];
  int num_segments = 0;
  int n = 0;  // columns, or pairs
  Pairing pairing = Pairing::kNone;
  const int* token_of = nullptr;
  RowTiles tiles;
  Epilogue epilogue;
};

struct RowSum {
  RowOperand left, right;
  int m = 0, n = 0;
  const int* token_of = nullptr;
  RowTiles tiles;                // by tiles, or where there are none, by expert:
  const int* offsets = nullptr;  // [E+1]
  int num_experts = 0;
  void* out = nullptr;  // [tile or expert, m, n]
  bool out_is_f32 = true, accumulate = false;
};

// A kernel instance; chosen on the host from sizes alone.
struct TileShape {
  TileKind rows = kLargeTiles;
  int columns = 0;
  bool tensor_cores = false;
};

// `tensor_cores`: every operand is bf16. `rows`: of a call, at most.
TileShape row_product_shape(bool tensor_cores, int columns, std::int64_t rows, int num_experts);
// Tiles of columns that such a kernel cuts n columns (or pairs) into.
int row_product_column_tiles(const TileShape& shape, int n, Pairing pairing);

// The dtype of what is stored is f32 or bf16; `tiles` must have shape.rows' granule.
void run_row_product(const RowProduct& product, const TileShape& shape, bool f32, void* stream);
void run_row_sum(const RowSum& sum, void* stream);

}  // namespace moesmith::kernels::gpu
