// SPDX-License-Identifier: Apache-2.0
// The host's side of a product: tensor maps, tile choice, launch. Used by one source file per
// product, so that each compiles in seconds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/cuda/sm90/consume.cuh"
#include "kernels/cuda/sm90/launch_attributes.h"
#include "kernels/cuda/sm90/sm90.h"
#include "kernels/cuda/sm90/tensor_map.h"
#include "moesmith/error.h"

namespace moesmith::kernels::sm90 {

// B as one product sees it.
struct OperandB {
  const char* what;
  Weights weights;
  std::int64_t rows, cols;  // of one pair's matrix as it lies in memory
  int pairs = 1;
  std::int64_t num_experts = 1;
};

// Elements from the base to the last matrix.
inline std::int64_t last_place(const OperandB& b) {
  const std::int64_t in_pair =
      b.weights.pair_table == nullptr ? (b.pairs - 1) * b.weights.pair_stride : 0;
  if (b.weights.table != nullptr) return b.weights.span + in_pair;
  return (b.num_experts - 1) * b.weights.expert_stride + in_pair;
}

template <int kN, Major kMajor, int kCluster>
CUtensorMap map_b(const OperandB& b) {
  const std::uint32_t outer = kMajor == Major::kK ? kN / 2 : kBlockK / kCluster;
  return encode({.what = b.what,
                 .base = b.weights.base,
                 .dims = 3,
                 .size = {b.cols, b.rows, last_place(b) / 8 + 1},
                 .stride = {1, b.weights.row_stride, 8},
                 .box = {64, outer, 1}});
}

inline OperandPlace place_of(const OperandB& b) {
  const bool two_tables = b.weights.pair_table != nullptr;
  return {{b.weights.table, two_tables ? b.weights.pair_table : b.weights.table},
          b.weights.base,
          static_cast<int>(b.weights.expert_stride / 8),
          two_tables ? 0 : static_cast<int>(b.weights.pair_stride / 8)};
}

inline CUtensorMap map_rows(
    const char* what, const void* base, std::int64_t cols, std::int64_t rows, std::int64_t pairs) {
  TensorMapSpec spec{.what = what, .base = base, .dims = 3};
  const std::int64_t size[3] = {cols, rows, pairs}, stride[3] = {1, cols * pairs, cols};
  const std::uint32_t box[3] = {kBlockK, kTileRows, 1};
  for (int i = 0; i < 3; ++i)
    spec.size[i] = size[i], spec.stride[i] = stride[i], spec.box[i] = box[i];
  return encode(spec);
}

// What the launchers fill before the maps of B, which depend on the tile.
struct Product {
  const char* name;
  const Rows* rows;
  OperandB b, factor_b;
  LowRank low_rank;
  std::int64_t cols;  // of one pair, when n_pairs is 2
  int n_pairs = 1;
  std::int64_t depth;
  int k_pairs = 1;
  const void* gathered = nullptr;    // [T, depth]
  const void* contiguous = nullptr;  // [R, k_pairs, depth]
  TileChoice tile;
};

template <int kN, Major kMajor, bool kGather, int kCluster, class Epilogue>
void launch_product(const Product& product,
                    const typename Epilogue::Params& epilogue,
                    cudaStream_t stream) {
  const Rows& rows = *product.rows;
  if (rows.max_rows == 0) return;
  GemmParams p{};
  p.b = map_b<kN, kMajor, kCluster>(product.b);
  if (!kGather) {
    p.a = map_rows("rows", product.contiguous, product.depth, rows.max_rows, product.k_pairs);
  }
  p.place_b = place_of(product.b);
  p.rank = static_cast<int>(product.low_rank.rank);
  if (p.rank > 0) {
    p.place_factor = place_of(product.factor_b);
    p.factor_a = map_rows("rank-r rows", product.low_rank.u, p.rank, rows.max_rows, 1);
    p.factor_b = map_b<kN, kMajor, kCluster>(product.factor_b);
  }
  const TileTable table = tile_table(rows);
  p.tiles = kCluster == 2 ? table.chunks : table.tiles;
  p.num_tiles = kCluster == 2 ? table.num_chunks : table.num_tiles;
  p.next_tile = table.counters;
  p.blocks_done = table.counters + 1;
  p.row_token = rows.row_token;
  p.x = static_cast<const __nv_bfloat16*>(product.gathered);
  p.x_stride_16 = static_cast<std::uint32_t>(product.depth / 8);
  p.k = static_cast<int>(product.depth);
  p.k_pairs = product.k_pairs;
  p.n_pairs = product.n_pairs;
  const std::int64_t per_tile = kN / product.n_pairs;
  p.n_tiles = static_cast<int>((product.cols + per_tile - 1) / per_tile);
  p.group = product.tile.group / kCluster;
  if (p.group < 1) p.group = 1;

  const std::int64_t row_tiles = kCluster == 2 ? max_chunks(rows.max_rows, rows.num_experts)
                                               : max_tiles(rows.max_rows, rows.num_experts);
  LaunchSettings settings;
  settings.blocks = static_cast<int>(std::min<std::int64_t>(multiprocessors() / kCluster,
                                                            row_tiles * p.n_tiles)) *
                    kCluster;
  settings.threads = kThreads;
  settings.shared_bytes = kSharedBytes<kN>;
  settings.cluster = kCluster;
  settings.name = product.name;
  launch(grouped_product<kN, kMajor, kGather, kCluster, Epilogue>, settings, stream, p, epilogue);
}

template <int kN, Major kMajor, bool kGather, class Epilogue>
void launch_product(const Product& product,
                    const typename Epilogue::Params& epilogue,
                    cudaStream_t stream) {
  if (product.tile.cluster == 2) {
    launch_product<kN, kMajor, kGather, 2, Epilogue>(product, epilogue, stream);
  } else {
    launch_product<kN, kMajor, kGather, 1, Epilogue>(product, epilogue, stream);
  }
}

inline TileChoice chosen(const TileChoice& wanted, const Product& product, bool gathered) {
  const Rows& rows = *product.rows;
  TileChoice choice = choose_tile(rows.max_rows, rows.num_experts, product.cols * product.n_pairs,
                                  product.depth * product.k_pairs, gathered);
  if (wanted.cols != 0) choice.cols = wanted.cols;
  if (wanted.cluster != 0) choice.cluster = wanted.cluster;
  if (wanted.group != 0) choice.group = wanted.group;
  return choice;
}

}  // namespace moesmith::kernels::sm90
