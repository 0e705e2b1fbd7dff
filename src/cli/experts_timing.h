// SPDX-License-Identifier: Apache-2.0
// Times one experts layer on the CPU against dense products of the same FLOPs, by turns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "moesmith/experts.h"

namespace moesmith::cli {

struct LayerShape {
  std::string name;
  std::int64_t num_experts, top_k, hidden, inter;
};
const std::vector<LayerShape>& layer_shapes();

// kLora: forward and backward, weights frozen, both factors of both projections trained; kFull:
// weights trained, f32 gradients.
enum class LayerMode { kForward, kLora, kFull };

struct LayerCase {
  LayerShape shape;
  std::int64_t tokens = 1;
  LayerMode mode = LayerMode::kForward;
  bool skewed = false;  // expert e with weight about 1 / (e + 1) instead of uniform
  std::int64_t lora_rank = 16;
  DType dtype = DType::kBF16;

  // 6 T K H I forward, twice that with frozen weights, three times with trained ones.
  double flops() const;
  experts::ExpertsRequest request(const std::string& implementation) const;
};

struct LayerTiming {
  double ms = 0, ms_p10 = 0, ms_p90 = 0;  // median and quantiles
  double share_of_dense = 0;              // median of the ratios of neighbouring turns
  std::int64_t saved_bytes = 0, scratch_bytes = 0;
  int repeats = 0;
};

// At least three turns and `seconds`. Weights lie there as often as it takes to exceed twice the
// last cache, at most 16 times, and take turns, as do the routings.
LayerTiming time_layer(const LayerCase& c,
                       const experts::ExpertsPlan& plan,
                       double seconds,
                       ThreadPool& pool);

}  // namespace moesmith::cli
