// SPDX-License-Identifier: Apache-2.0
// Whole LoRA training steps of a slice of Qwen3-30B-A3B: its layer sizes, few layers, a small
// vocabulary, bf16, drawn weights. One JSON line; its peer is bench/peers/hf_slice_step.py.
// Correctness is tests/model and tests/train.
//   train_step_bench [implementation] [tokens] [layers] [steps] [profile]
// The time of a layer alone (no embedding, head or loss) is that of `layers` + 1 layers less that
// of `layers`.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/peak.h"
#include "core/profile.h"
#include "core/rng.h"
#include "io/system_memory.h"
#include "model/causal_lm.h"
#include "train/optimizer.h"

namespace moesmith::bench {
namespace {

constexpr std::int64_t kVocab = 4096;

struct Settings {
  std::string implementation = "auto";
  std::int64_t tokens = 1024;
  std::int64_t layers = 1;
  int steps = 5;
  bool profile = false;
};

std::string write_config(std::int64_t layers) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("moesmith_slice_" + std::to_string(layers));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json")
      << R"({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": )"
      << kVocab << R"(, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": )"
      << layers
      << R"(, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "moe_intermediate_size": 768,
 "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "decoder_sparse_step": 1,
 "max_position_embeddings": 40960, "rope_theta": 1000000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": false, "initializer_range": 0.02, "dtype": "bfloat16"})";
  return folder.string();
}

model::Batch random_batch(std::int64_t tokens) {
  const Rng rng(1, 0);
  model::Batch batch;
  for (std::int64_t i = 0; i < tokens; ++i) {
    batch.input_ids.push_back(
        static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(i), kVocab)));
    batch.position_ids.push_back(static_cast<std::int32_t>(i));
  }
  batch.segment_offsets = {0, tokens};
  batch.labels.assign(batch.input_ids.begin() + 1, batch.input_ids.end());
  batch.labels.push_back(model::kIgnoreLabel);
  return batch;
}

struct Timing {
  double median_s = 0, best_s = 0;
  std::string plan;
};

Timing time_steps(const Settings& settings, std::int64_t layers, ThreadPool& pool) {
  model::LoadRequest request;
  request.folder = write_config(layers);
  request.model.compute_dtype = model::ComputeDType::kBF16;
  request.model.experts_implementation = settings.implementation;
  request.lora.enabled = true;
  request.lora.lora_r = 16;
  request.lora.lora_alpha = 32;
  request.lora.lora_target_modules = {"q_proj", "k_proj", "v_proj", "o_proj"};
  request.lora.lora_target_parameters = {"experts.gate_up_proj", "experts.down_proj"};
  request.mode = model::TrainMode::kAdapter;
  request.reinit = true;
  auto model = model::CausalLM::load(request, pool);
  train::TrainOptions options;
  options.max_grad_norm = 0;
  train::Optimizer optimizer(model.parameters(), options, pool);
  const model::Batch batch = random_batch(settings.tokens);

  std::vector<double> seconds;
  for (int step = 0; step <= settings.steps; ++step) {
    profile::enable(settings.profile && step > 0);
    const double start = now();
    optimizer.zero_grads();
    model.forward_backward(batch, 1.0f / static_cast<float>(settings.tokens - 1), 0.0f);
    {
      const profile::Scope scope("optimiser");
      optimizer.step(1e-4, step, 0.0);
      model.sync_values();
    }
    if (step > 0) seconds.push_back(now() - start);  // the first step warms caches and buffers
  }
  std::sort(seconds.begin(), seconds.end());
  std::string plan = model.experts_plan();
  std::replace(plan.begin(), plan.end(), '\n', ' ');
  return {seconds[seconds.size() / 2], seconds.front(), plan};
}

void run(const Settings& settings) {
  ThreadPool pool;
  const double peak_before = peak_gflops(active_isa(), DType::kBF16, pool);
  const Timing slice = time_steps(settings, settings.layers, pool);
  const double peak_mib = static_cast<double>(io::peak_rss()) / (1024.0 * 1024.0);
  const auto lines = profile::take();
  const Timing one_more = time_steps(settings, settings.layers + 1, pool);
  const double peak_after = peak_gflops(active_isa(), DType::kBF16, pool);
  const double layer_s = one_more.median_s - slice.median_s;
  const auto tokens = static_cast<double>(settings.tokens);
  std::printf(
      "{\"plan\": \"%s\", \"threads\": %d, \"tokens\": %lld, \"layers\": %lld, \"step_s\": %.3f, "
      "\"step_best_s\": %.3f, "
      "\"step_tokens_per_s\": %.1f, \"layer_s\": %.3f, \"layer_tokens_per_s\": %.1f, "
      "\"step_peak_mib\": %.0f, "
      "\"bf16_peak_gflops\": [%.0f, %.0f]}\n",
      slice.plan.c_str(), pool.num_threads(), static_cast<long long>(settings.tokens),
      static_cast<long long>(settings.layers), slice.median_s, slice.best_s,
      tokens / slice.median_s, layer_s, tokens / layer_s, peak_mib, peak_before, peak_after);
  for (const profile::Line& line : lines) {
    std::printf("%-24s %8.3f s  %6lld calls\n", line.name.c_str(), line.seconds,
                static_cast<long long>(line.calls));
  }
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) {
  moesmith::bench::Settings settings;
  if (argc > 1) settings.implementation = argv[1];
  if (argc > 2) settings.tokens = std::atoll(argv[2]);
  if (argc > 3) settings.layers = std::atoll(argv[3]);
  if (argc > 4) settings.steps = std::atoi(argv[4]);
  settings.profile = argc > 5;
  if (settings.tokens < 2 || settings.layers < 1 || settings.steps < 1) {
    std::fprintf(stderr,
                 "usage: train_step_bench [implementation] [tokens] [layers] [steps] [profile]\n");
    return 2;
  }
  try {
    moesmith::bench::run(settings);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_step_bench: error: %s\n", error.what());
    return 1;
  }
  return 0;
}
