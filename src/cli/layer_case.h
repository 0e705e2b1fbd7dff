// SPDX-License-Identifier: Apache-2.0
// What `moesmith bench experts` times: a layer of a model's size, how it is trained and routed, and
// random data for it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moesmith/experts.h"
#include "moesmith/tensor.h"

namespace moesmith::cli {

struct LayerShape {
  std::string name;
  std::int64_t num_experts, top_k, hidden, inter;
  bool gpt_oss = false;  // biases, and gpt-oss's clamped activation
};
const std::vector<LayerShape>& layer_shapes();

// kLora: forward and backward, weights frozen, both factors of both projections trained; kFull:
// weights trained.
enum class LayerMode { kForward, kLora, kFull };

struct LayerCase {
  LayerShape shape;
  std::int64_t tokens = 1;
  LayerMode mode = LayerMode::kForward;
  bool skewed = false;  // expert e with weight about 1 / (e + 1) instead of uniform
  std::int64_t lora_rank = 16;
  DType dtype = DType::kBF16;
  experts::Device device = experts::Device::kCpu;
  int cuda_device = 0;

  // Of factors, and of the gradients of factors and weights: f32 on the CPU, `dtype` on a GPU.
  DType trained_dtype() const { return device == experts::Device::kCpu ? DType::kF32 : dtype; }
  // 6 T K H I forward, twice that with frozen weights, three times with trained ones.
  double flops() const;
  experts::ExpertsRequest request(const std::string& implementation) const;
  // [T,K] i64, distinct experts for each token; other ones for another `set`.
  Tensor routing(std::uint64_t set) const;
};

struct LayerTiming {
  double ms = 0, ms_p10 = 0, ms_p90 = 0;    // median and quantiles
  double share_of_dense = 0, dense_ms = 0;  // medians; the share's of neighbouring turns
  std::int64_t saved_bytes = 0, scratch_bytes = 0;
  int repeats = 0;
  bool as_graph = false;  // a CUDA graph, replayed
};

// Uniform in [-scale / 2, scale / 2], f32 or bf16. Repeats after random_period() numbers: drawing
// billions takes longer than what is timed.
Tensor random_tensor(Shape shape, DType dtype, double scale, std::uint64_t stream);
std::int64_t random_period();

double quantile(std::vector<double> values, double share);

}  // namespace moesmith::cli
