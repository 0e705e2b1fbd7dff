// SPDX-License-Identifier: Apache-2.0
// The host's side of the sum over rows: tensor map and launch, for one gathered side.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/sm90/launch_attributes.h"
#include "kernels/cuda/sm90/tensor_map.h"
#include "kernels/cuda/sm90/weight_gradient.cuh"
#include "kernels/cuda/sm90/weight_gradient.h"

namespace moesmith::kernels::sm90 {

template <bool kGatherLeft, int kCluster, bool kDeferred>
void launch_weight_gradient_tile(const WeightGradientArgs& args, cudaStream_t stream) {
  using Epilogue = WeightEpilogue<kDeferred>;
  const Rows& rows = args.rows;
  const void* contiguous = kGatherLeft ? args.right : args.left;
  const std::int64_t width = kGatherLeft ? args.n : args.m;
  const TileTable table = tile_table(rows);
  WeightGradientParams p{};
  p.contiguous = encode({.what = "rows of a weight's gradient",
                         .base = contiguous,
                         .dims = 3,
                         .size = {width, rows.max_rows, 1},
                         .stride = {1, width, width},
                         .box = {64, kBlockK, 1}});
  p.by_row = static_cast<const uint4*>(contiguous);
  p.by_token = static_cast<const uint4*>(kGatherLeft ? args.left : args.right);
  p.row_token = rows.row_token;
  p.offsets = rows.offsets;
  p.next_tile = table.counters;
  p.blocks_done = table.counters + 1;
  p.num_experts = static_cast<int>(rows.num_experts);
  p.m = static_cast<int>(args.m);
  p.n = static_cast<int>(args.n);
  constexpr int kClusterM = kGatherLeft ? kCluster : 1, kClusterN = kGatherLeft ? 1 : kCluster;
  p.m_units = static_cast<int>((args.m + kTileM * kClusterM - 1) / (kTileM * kClusterM));
  p.n_units = static_cast<int>((args.n + kTileN * kClusterN - 1) / (kTileN * kClusterN));
  p.band = std::max(1, args.tile.group / kClusterM);
  const typename Epilogue::Params epilogue{args.out,         p.m,          p.n,
                                           args.interleaved, args.out_f32, args.accumulate};
  LaunchSettings settings{.name = "weight_gradient"};
  settings.blocks = static_cast<int>(std::min<std::int64_t>(
                        multiprocessors() / kCluster, rows.num_experts * p.m_units * p.n_units)) *
                    kCluster;
  settings.threads = kSumThreads;
  settings.shared_bytes = kSumShared;
  settings.cluster = kCluster;
  launch(summed_product<kGatherLeft, kCluster, Epilogue>, settings, stream, p, epilogue);
}

template <bool kGatherLeft, int kCluster>
void launch_weight_gradient_side(const WeightGradientArgs& args, cudaStream_t stream) {
  if (args.out_f32 || args.accumulate) {
    launch_weight_gradient_tile<kGatherLeft, kCluster, false>(args, stream);
  } else {
    launch_weight_gradient_tile<kGatherLeft, kCluster, true>(args, stream);
  }
}

}  // namespace moesmith::kernels::sm90
