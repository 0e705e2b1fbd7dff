// SPDX-License-Identifier: Apache-2.0
// Whole LoRA training steps of a checkpoint in bf16, from embedding to optimiser. Adapters of rank
// 16 on attention and experts. One JSON line; the peer is bench/peers/hf_train_step.py. Correctness
// is tests/model and tests/train.
//   train_step_bench --model build/bench/slice4 --layers 4 --implementation scattermoe,grouped_mm
//   writes a slice of Qwen3-30B-A3B of 4 layers there first, if nothing is          (--help)
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "common/json_line.h"
#include "common/memory.h"
#include "common/options.h"
#include "common/peak.h"
#include "core/profile.h"
#include "core/rng.h"
#include "core/text.h"
#include "model/causal_lm.h"
#include "moesmith/error.h"
#include "train/optimizer.h"
#include "train/slice.h"

namespace moesmith::bench {
namespace {

Options step_options() {
  return Options(
      {{"model", "examples/austen/model", "a checkpoint's folder"},
       {"layers", "0", "above 0: write a slice of Qwen3-30B-A3B there, if nothing is"},
       {"implementation", "auto", "of the experts; a list, as in scattermoe,scattermoe+packed"},
       {"tokens", "1024", "of a step"},
       {"segments", "1", "sequences that they belong to, of one length"},
       {"steps", "5", "timed, after one that is not"},
       {"checkpointing", "0", "1: gradient_checkpointing"}});
}

model::LoadRequest load_request(const Options& options, const std::string& implementation) {
  model::LoadRequest request;
  request.folder = options.text("model");
  request.model.compute_dtype = model::ComputeDType::kBF16;
  // "+packed": frozen experts packed once.
  const std::size_t suffix = implementation.find("+packed");
  request.model.experts_implementation = implementation.substr(0, suffix);
  request.model.pack_experts =
      suffix == std::string::npos ? model::PackExperts::kNever : model::PackExperts::kAlways;
  request.model.gradient_checkpointing = options.number("checkpointing", 0) != 0;
  request.lora.enabled = true;
  request.lora.lora_r = 16;
  request.lora.lora_alpha = 32;
  request.lora.lora_target_modules = {"q_proj", "k_proj", "v_proj", "o_proj"};
  request.lora.lora_target_parameters = {"experts.gate_up_proj", "experts.down_proj"};
  request.mode = model::TrainMode::kAdapter;
  return request;
}

model::Batch random_batch(std::int64_t tokens, std::int64_t segments, std::int64_t vocab) {
  const Rng rng(1, 0);
  const std::int64_t length = tokens / segments;
  model::Batch batch;
  for (std::int64_t i = 0; i < length * segments; ++i) {
    batch.input_ids.push_back(static_cast<std::int32_t>(
        rng.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocab))));
    batch.position_ids.push_back(static_cast<std::int32_t>(i % length));
  }
  for (std::int64_t s = 0; s <= segments; ++s) batch.segment_offsets.push_back(s * length);
  batch.labels.assign(batch.input_ids.begin() + 1, batch.input_ids.end());
  batch.labels.push_back(model::kIgnoreLabel);
  for (std::int64_t s = 1; s <= segments; ++s) {
    batch.labels[static_cast<std::size_t>(s * length - 1)] = model::kIgnoreLabel;
  }
  return batch;
}

// Seconds of each step, sorted; the first step of all warms caches and buffers and does not count.
std::vector<double> time_steps(model::CausalLM& model,
                               const model::Batch& batch,
                               std::int64_t steps,
                               ThreadPool& pool) {
  train::TrainOptions options;
  options.max_grad_norm = 0;
  train::Optimizer optimizer(model.parameters(), options, pool);
  std::vector<double> seconds;
  for (std::int64_t step = 0; step <= steps; ++step) {
    profile::enable(step > 0);
    const double start = now();
    optimizer.zero_grads();
    model.forward_backward(batch, 1.0f / static_cast<float>(batch.input_ids.size()), 0.0f);
    {
      const profile::Scope scope("optimiser");
      optimizer.step(1e-4, step, 0.0);
      model.sync_values();
    }
    if (step > 0) seconds.push_back(now() - start);
  }
  profile::enable(false);
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

// The parts of the step with their share of the time and, where they count it, their GFLOP/s.
std::string parts_of(double total_seconds) {
  std::string result;
  for (const profile::Line& line : profile::take()) {
    char text[160];
    std::snprintf(text, sizeof text, "%s%s %.1f %%", result.empty() ? "" : ", ", line.name.c_str(),
                  100 * line.seconds / total_seconds);
    result += text;
    if (line.flops > 0) {
      std::snprintf(text, sizeof text, " (%.0f GF)", line.flops / line.seconds * 1e-9);
      result += text;
    }
  }
  return result;
}

void run(const Options& options, const std::string& implementation, ThreadPool& pool) {
  constexpr double kMib = 1.0 / (1 << 20);
  reset_peak();
  auto model = model::CausalLM::load(load_request(options, implementation), pool);
  const model::Batch batch =
      random_batch(options.number("tokens", 2), options.number("segments", 1), model.vocab_size());
  const double peak_before = peak_gflops(active_isa(), DType::kBF16, pool);
  const auto seconds = time_steps(model, batch, options.number("steps", 1), pool);
  const double peak_after = peak_gflops(active_isa(), DType::kBF16, pool);
  double total = 0;
  for (const double each : seconds) total += each;
  const double median = seconds[seconds.size() / 2];
  const auto tokens = static_cast<double>(batch.input_ids.size());
  JsonLine line;
  line.text("bench", "train_step")
      .text("implementation", implementation)
      .text("model", std::filesystem::path(options.text("model")).filename().string())
      .number("layers", options.number("layers", 0))
      .number("tokens", static_cast<std::int64_t>(batch.input_ids.size()))
      .number("segments", options.number("segments", 1))
      .number("checkpointing", options.number("checkpointing", 0))
      .number("threads", static_cast<std::int64_t>(pool.num_threads()))
      .number("repeats", static_cast<std::int64_t>(seconds.size()))
      .number("median_s", median, 4)
      .number("best_s", seconds.front(), 4)
      .number("tokens_per_s", tokens / median, 1)
      .number("tokens_per_s_best", tokens / seconds.front(), 1)
      .number("peak_rss_mib", static_cast<double>(peak_resident_bytes()) * kMib, 0)
      .number("peak_before", peak_before, 1)
      .number("peak_after", peak_after, 1)
      .text("parts", parts_of(total))
      .text("plan", model.experts_plan())
      .text("cpu", processor_name());
  std::printf("%s\n", line.finish().c_str());
  std::fflush(stdout);
}

int run_main(const std::vector<std::string>& words) {
  Options options = step_options();
  if (words == std::vector<std::string>{"--help"}) {
    std::printf("usage: train_step_bench [--option value]...\n%s", options.help().c_str());
    return 0;
  }
  options.read(words);
  if (options.number("layers", 0) > 0) {
    write_slice(options.text("model"), options.number("layers", 0));
  }
  ThreadPool pool;
  for (const std::string& implementation : options.list("implementation")) {
    run(options, implementation, pool);
  }
  return 0;
}

}  // namespace
}  // namespace moesmith::bench

int main(int argc, char** argv) {
  try {
    return moesmith::bench::run_main({argv + 1, argv + argc});
  } catch (const moesmith::Error& error) {
    std::fprintf(stderr, "train_step_bench: error: %s\n", error.what());
    return 2;
  }
}
