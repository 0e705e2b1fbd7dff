// SPDX-License-Identifier: Apache-2.0
// One experts layer at real models' sizes: forward, LoRA forward + backward (frozen base) and full
// forward + backward, in GFLOP/s, as a share of the peak measured before and after, and the bytes
// of saved state and scratch. FLOPs count the base products only: 6 T K H I forward, the same again
// backward with a frozen base, twice that with a trained one. Correctness is tests/experts.
//   experts_bench implementation [shape] [tokens] [mode] [dtype] [routing] [threads] [isa]
//   shape qwen3|olmoe|granite|mixtral, mode forward|lora|full, dtype bf16|f32,
//   routing uniform|zipf|one
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/peak.h"
#include "core/cpu_features.h"
#include "core/rng.h"
#include "core/thread_pool.h"
#include "moesmith/experts.h"
#include "moesmith/tensor.h"

namespace moesmith::bench {
namespace {

using namespace experts;

struct Shape {
  const char* name;
  std::int64_t num_experts, top_k, hidden, inter;
};

constexpr Shape kShapes[] = {{"qwen3", 128, 8, 2048, 768},
                             {"olmoe", 64, 8, 2048, 1024},
                             {"granite", 32, 8, 1024, 512},
                             {"mixtral", 8, 2, 4096, 14336}};

Tensor random_tensor(moesmith::Shape shape, DType dtype, std::uint64_t stream) {
  Tensor tensor = Tensor::empty(std::move(shape), dtype);
  std::uint64_t state = stream * 2654435769u + 1;
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const float value = static_cast<float>(static_cast<std::int32_t>(state >> 32)) * 0x1p-36f;
    if (dtype == DType::kF32) {
      tensor.data<float>()[i] = value;
    } else {
      tensor.data<bf16>()[i] = bf16(value);
    }
  }
  return tensor;
}

// Distinct experts per token; zipf: expert e with weight 1 / (e + 1); one: all first choices alike.
Tensor routing(const Shape& shape, std::int64_t tokens, const std::string& kind) {
  Tensor index = Tensor::empty({tokens, shape.top_k}, DType::kI64);
  const Rng rng(7, 0);
  std::uint64_t draw = 0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::vector<std::int64_t> chosen;
    while (static_cast<std::int64_t>(chosen.size()) < shape.top_k) {
      std::int64_t e;
      if (kind == "one") {
        e = static_cast<std::int64_t>(chosen.size());
      } else if (kind == "zipf") {
        const double u = rng.uniform(draw++);
        e = static_cast<std::int64_t>(std::pow(static_cast<double>(shape.num_experts), u)) - 1;
      } else {
        e = static_cast<std::int64_t>(
            rng.below(draw++, static_cast<std::uint64_t>(shape.num_experts)));
      }
      if (std::find(chosen.begin(), chosen.end(), e) == chosen.end()) chosen.push_back(e);
    }
    std::copy(chosen.begin(), chosen.end(), index.data<std::int64_t>() + t * shape.top_k);
  }
  return index;
}

struct Settings {
  std::string implementation = "scattermoe", mode = "lora", routing = "uniform";
  Shape shape = kShapes[0];
  std::int64_t tokens = 1024;
  DType dtype = DType::kBF16;
  int threads = 0;
};

ExpertsRequest request_of(const Settings& s) {
  ExpertsRequest r;
  r.implementation = s.implementation;
  r.num_experts = s.shape.num_experts;
  r.top_k = s.shape.top_k;
  r.hidden = s.shape.hidden;
  r.inter = s.shape.inter;
  r.max_tokens = s.tokens;
  r.compute_dtype = r.weight_dtype = r.d_output_dtype = s.dtype;
  if (s.mode == "forward") return r;
  const GradSpec overwrite{GradMode::kOverwrite, DType::kF32};
  r.wanted.hidden = {GradMode::kOverwrite, s.dtype};
  r.wanted.top_k_weights = overwrite;
  if (s.mode == "lora") {
    r.gate_up_lora = r.down_lora = {.lora_rank = 16, .lora_scale = 2.0f, .dtype = DType::kF32};
    r.wanted.gate_up_a = r.wanted.gate_up_b = r.wanted.down_a = r.wanted.down_b = overwrite;
  } else {
    r.wanted.gate_up = r.wanted.down = overwrite;
  }
  return r;
}

// All tensors of one call.
struct Layer {
  explicit Layer(const Settings& s, const ExpertsRequest& r, int threads) {
    const std::int64_t e = r.num_experts, h = r.hidden, i = r.inter, t = s.tokens;
    first = random_tensor({e, 2 * i, h}, s.dtype, 1);
    second = random_tensor({e, h, i}, s.dtype, 2);
    for (std::int64_t expert = 0; expert < e; ++expert) {
      first_base.push_back(static_cast<const char*>(first.raw()) +
                           expert * 2 * i * h * dtype_size(s.dtype));
      second_base.push_back(static_cast<const char*>(second.raw()) +
                            expert * i * h * dtype_size(s.dtype));
    }
    hidden = random_tensor({t, h}, s.dtype, 3);
    d_output = random_tensor({t, h}, s.dtype, 4);
    weights = random_tensor({t, r.top_k}, DType::kF32, 5);
    index = routing(s.shape, t, s.routing);
    output = Tensor::zeros({t, h}, s.dtype);
    const ExpertsSizes sizes = ExpertsPlan(plan_experts(r)).sizes(t, threads);
    saved.resize(static_cast<std::size_t>(sizes.saved_bytes));
    scratch.resize(static_cast<std::size_t>(
        std::max(sizes.forward_scratch_bytes, sizes.backward_scratch_bytes)));
    inputs.num_tokens = t;
    inputs.hidden = hidden.raw();
    inputs.top_k_index = index.raw();
    inputs.top_k_weights = weights.raw();
    inputs.weights.gate_up = {first_base, h};
    inputs.weights.down = {second_base, i};
    add_gradients(r);
  }

  void* target(moesmith::Shape shape, DType dtype = DType::kF32) {
    owned.push_back(Tensor::zeros(std::move(shape), dtype));
    return owned.back().raw();
  }

  void add_gradients(const ExpertsRequest& r) {
    const std::int64_t e = r.num_experts, h = r.hidden, i = r.inter;
    gradients.hidden = target({inputs.num_tokens, h}, r.compute_dtype);
    gradients.top_k_weights = target({inputs.num_tokens, r.top_k});
    if (r.wanted.gate_up.wanted()) {
      gradients.gate_up = target({e, 2 * i, h});
      gradients.down = target({e, h, i});
    }
    const std::int64_t rank = r.gate_up_lora.lora_rank;
    if (rank == 0) return;
    for (const auto& [factors, in, out, d_a, d_b] :
         {std::tuple{&inputs.gate_up_lora, h, 2 * i, &gradients.gate_up_a, &gradients.gate_up_b},
          std::tuple{&inputs.down_lora, i, h, &gradients.down_a, &gradients.down_b}}) {
      owned.push_back(random_tensor({rank * e, in}, DType::kF32, 6));
      factors->a = owned.back().raw();
      owned.push_back(random_tensor({out, rank * e}, DType::kF32, 7));
      factors->b = owned.back().raw();
      *d_a = target({rank * e, in});
      *d_b = target({out, rank * e});
    }
  }

  Tensor first, second, hidden, d_output, weights, index, output;
  std::vector<const void*> first_base, second_base;
  std::vector<std::byte> saved, scratch;
  std::vector<Tensor> owned;
  ExpertsInputs inputs;
  ExpertsGradients gradients;
};

void run_case(const Settings& s, ThreadPool& pool) {
  const ExpertsRequest request = request_of(s);
  const ExpertsPlan plan = plan_experts(request);
  Layer layer(s, request, pool.num_threads());
  const bool backward = request.wanted.any();
  const auto clock = pool.num_threads() == 1 ? thread_seconds : now;
  const auto run = [&] {
    plan.forward({layer.inputs, layer.output.raw(), layer.saved, layer.scratch}, pool);
    if (backward) {
      plan.backward(
          {layer.inputs, layer.d_output.raw(), layer.saved, layer.scratch, layer.gradients}, pool);
    }
  };
  run();
  const double before = peak_gflops(active_isa(), s.dtype, pool);
  double best = 1e9;
  std::vector<double> seconds;
  const double start = now();
  while (seconds.size() < 5 || (now() - start < 1 && seconds.size() < 200)) {
    const double begin = clock();
    run();
    seconds.push_back(clock() - begin);
    best = std::min(best, seconds.back());
  }
  const double after = peak_gflops(active_isa(), s.dtype, pool);
  std::sort(seconds.begin(), seconds.end());
  const double peak = std::max(before, after);
  const double factor = s.mode == "forward" ? 1 : s.mode == "lora" ? 2 : 3;
  const double flops = factor * 6 * static_cast<double>(s.tokens * request.top_k) *
                       static_cast<double>(request.hidden) * static_cast<double>(request.inter);
  const double gflops = flops / best * 1e-9;
  const double mib = 1.0 / (1 << 20);
  std::printf(
      "{\"bench\":\"experts\",\"implementation\":\"%s\",\"isa\":\"%s\",\"shape\":\"%s\","
      "\"dtype\":\"%s\",\"mode\":\"%s\",\"routing\":\"%s\",\"tokens\":%lld,\"threads\":%d,"
      "\"best_ms\":%.2f,\"median_ms\":%.2f,\"gflops\":%.1f,\"peak_before\":%.1f,"
      "\"peak_after\":%.1f,\"share_of_peak\":%.3f,\"saved_mib\":%.1f,\"scratch_mib\":%.1f}\n",
      std::string(plan.implementation()).c_str(), std::string(isa_name(active_isa())).c_str(),
      s.shape.name, s.dtype == DType::kBF16 ? "bf16" : "f32", s.mode.c_str(), s.routing.c_str(),
      static_cast<long long>(s.tokens), pool.num_threads(), best * 1e3,
      seconds[seconds.size() / 2] * 1e3, gflops, before, after, gflops / peak,
      static_cast<double>(layer.saved.size()) * mib,
      static_cast<double>(layer.scratch.size()) * mib);
}

int run_main(int argc, char** argv) {
  const auto argument = [&](int i, const char* fallback) {
    return std::string(argc > i ? argv[i] : fallback);
  };
  Settings s;
  s.implementation = argument(1, "scattermoe");
  for (const Shape& shape : kShapes) {
    if (argument(2, "qwen3") == shape.name) s.shape = shape;
  }
  s.tokens = std::atoll(argument(3, "1024").c_str());
  s.mode = argument(4, "lora");
  s.dtype = argument(5, "bf16") == "f32" ? DType::kF32 : DType::kBF16;
  s.routing = argument(6, "uniform");
  for (int i = 0; i <= static_cast<int>(detected_isa()); ++i) {
    if (isa_name(static_cast<IsaLevel>(i)) == argument(8, "")) set_isa(static_cast<IsaLevel>(i));
  }
  ThreadPool pool(std::atoi(argument(7, "0").c_str()));
  run_case(s, pool);
  return 0;
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) { return moesmith::bench::run_main(argc, argv); }
