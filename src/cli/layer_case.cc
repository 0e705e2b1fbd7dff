// SPDX-License-Identifier: Apache-2.0
#include "cli/layer_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/rng.h"

namespace moesmith::cli {

using experts::GradMode;
using experts::GradSpec;

std::int64_t random_period() { return (1 << 20) + 7; }

Tensor random_tensor(Shape shape, DType dtype, double scale, std::uint64_t stream) {
  Tensor tensor = Tensor::empty(std::move(shape), dtype);
  const std::int64_t drawn = std::min(tensor.numel(), random_period());
  const Rng rng(1, stream);
  for (std::int64_t i = 0; i < drawn; ++i) {
    const auto value = static_cast<float>(
        scale * (static_cast<double>(rng.uniform(static_cast<std::uint64_t>(i))) - 0.5));
    if (dtype == DType::kF32) {
      tensor.data<float>()[i] = value;
    } else {
      tensor.data<bf16>()[i] = bf16(value);
    }
  }
  auto* const bytes = static_cast<char*>(tensor.raw());
  const std::int64_t period = drawn * dtype_size(dtype);
  for (std::int64_t at = period; at < tensor.bytes(); at += period) {
    std::memcpy(bytes + at, bytes, static_cast<std::size_t>(std::min(period, tensor.bytes() - at)));
  }
  return tensor;
}

Tensor LayerCase::routing(std::uint64_t set) const {
  const std::int64_t count = shape.num_experts, k = shape.top_k;
  Tensor index = Tensor::empty({tokens, k}, DType::kI64);
  auto* at = index.data<std::int64_t>();
  const Rng rng(2, set);
  std::uint64_t draw = 0;
  for (std::int64_t t = 0; t < tokens; ++t, at += k) {
    for (std::int64_t chosen = 0; chosen < k;) {
      const double u = static_cast<double>(rng.uniform(draw++));
      const double n = static_cast<double>(count);
      const auto e =
          std::min(count - 1, static_cast<std::int64_t>(skewed ? std::pow(n + 1, u) - 1 : n * u));
      if (std::find(at, at + chosen, e) == at + chosen) at[chosen++] = e;
    }
  }
  return index;
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(
      std::lround(share * static_cast<double>(values.size() - 1)))];
}

const std::vector<LayerShape>& layer_shapes() {
  static const std::vector<LayerShape> shapes = {
      {"tiny", 8, 2, 64, 32},
      {"qwen3-30b-a3b", 128, 8, 2048, 768},
      {"olmoe-1b-7b", 64, 8, 2048, 1024},
      {"mixtral-8x7b", 8, 2, 4096, 14336},
      {"qwen3-next-80b", 512, 10, 2048, 512},
      {"gpt-oss-20b", 32, 4, 2880, 2880, true},
      {"deepseek-v3", 256, 8, 7168, 2048},
  };
  return shapes;
}

double LayerCase::flops() const {
  const double passes = mode == LayerMode::kForward ? 1 : mode == LayerMode::kLora ? 2 : 3;
  return passes * 6.0 * static_cast<double>(tokens * shape.top_k) *
         static_cast<double>(shape.hidden * shape.inter);
}

experts::ExpertsRequest LayerCase::request(const std::string& implementation) const {
  experts::ExpertsRequest r;
  r.implementation = implementation;
  r.device = device, r.cuda_device = cuda_device;
  r.num_experts = shape.num_experts, r.top_k = shape.top_k;
  r.hidden = shape.hidden, r.inter = shape.inter, r.max_tokens = tokens;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = dtype;
  r.aligned_weights = true;
  if (shape.gpt_oss) {
    r.gate_up_bias = r.down_bias = true;
    r.activation.gate_max = r.activation.up_limit = 7.0f;
    r.activation.alpha = 1.702f;
    r.activation.up_shift = 1.0f;
  }
  if (mode == LayerMode::kForward) return r;
  const GradSpec trained{GradMode::kOverwrite, trained_dtype()};
  r.wanted.hidden = {GradMode::kOverwrite, dtype};
  r.wanted.top_k_weights = {GradMode::kOverwrite, DType::kF32};
  if (mode == LayerMode::kFull) {
    r.wanted.gate_up = r.wanted.down = trained;
    return r;
  }
  r.gate_up_lora =
      r.down_lora = {.lora_rank = lora_rank, .lora_scale = 2.0f, .dtype = trained_dtype()};
  r.wanted.gate_up_a = r.wanted.gate_up_b = r.wanted.down_a = r.wanted.down_b = trained;
  return r;
}

}  // namespace moesmith::cli
