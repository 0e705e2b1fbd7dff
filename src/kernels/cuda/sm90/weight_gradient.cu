// SPDX-License-Identifier: Apache-2.0
// dW1 = dh^T x[token] and dW2 = dy[token]^T (w a): which kernel, and the case without rows.
#include "kernels/cuda/sm90/weight_gradient.h"

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/sm90/launch_attributes.h"
#include "kernels/cuda/sm90/weight_gradient.cuh"

namespace moesmith::kernels::sm90 {

TileChoice choose_weight_gradient_tile(std::int64_t m, std::int64_t n, bool left_gathered) {
  TileChoice choice;
  choice.cols = kTileN;
  // Two blocks share the contiguous side: 10 to 20 % faster, unless an odd number of tiles leaves
  // the second one of a pair idle too often.
  const std::int64_t tiles = left_gathered ? (m + kTileM - 1) / kTileM : (n + kTileN - 1) / kTileN;
  choice.cluster = tiles % 2 == 0 || tiles > 8 ? 2 : 1;
  choice.group = left_gathered ? 16 : 4;
  return choice;
}

void weight_gradient(const WeightGradientArgs& args, cudaStream_t stream) {
  if (args.rows.max_rows == 0) {
    if (args.accumulate) return;
    const std::int64_t bytes = args.rows.num_experts * args.m * args.n * (args.out_f32 ? 4 : 2);
    const cudaError_t error = cudaMemsetAsync(args.out, 0, static_cast<std::size_t>(bytes), stream);
    if (error != cudaSuccess) launch_failed({.name = "weight_gradient (zeros)"}, error);
    return;
  }
  WeightGradientArgs with = args;
  const TileChoice choice = choose_weight_gradient_tile(args.m, args.n, args.left_gathered);
  if (with.tile.cluster == 0) with.tile.cluster = choice.cluster;
  if (with.tile.group == 0) with.tile.group = choice.group;
  if (args.left_gathered) {
    launch_weight_gradient<true>(with, stream);
  } else {
    launch_weight_gradient<false>(with, stream);
  }
}

}  // namespace moesmith::kernels::sm90
