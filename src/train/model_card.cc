// SPDX-License-Identifier: Apache-2.0
#include "train/model_card.h"

#include <filesystem>
#include <sstream>

namespace moesmith::train {
namespace {

const char* schedule_name(LrSchedule schedule) {
  switch (schedule) {
    case LrSchedule::kCosine:
      return "cosine";
    case LrSchedule::kLinear:
      return "linear";
    case LrSchedule::kConstant:
      return "constant";
    case LrSchedule::kConstantWithWarmup:
      break;
  }
  return "constant_with_warmup";
}

void write_settings(std::ostream& out, const TrainJob& job, const TrainerState& state) {
  const TrainOptions& o = job.train;
  out << "## Training procedure\n\n"
      << "- learning_rate: " << o.learning_rate
      << "\n- lr_scheduler: " << schedule_name(o.lr_scheduler)
      << "\n- micro_batch_size: " << o.micro_batch_size
      << "\n- gradient_accumulation_steps: " << o.gradient_accumulation_steps
      << "\n- sequence_len: " << o.sequence_len
      << "\n- sample_packing: " << (o.sample_packing ? "true" : "false")
      << "\n- optimizer: AdamW (betas " << o.adam_beta1 << ", " << o.adam_beta2 << ", epsilon "
      << o.adam_epsilon << ", weight_decay " << o.weight_decay << ")\n- seed: " << o.seed
      << "\n- steps: " << state.step << " of " << state.total_steps << " (" << state.epoch
      << " epochs)\n- tokens seen: " << state.total_tokens << "\n\n";
}

void write_results(std::ostream& out, const TrainerState& state) {
  if (state.log_history.empty()) return;
  out << "## Results\n\n| step | epoch | training loss | evaluation loss |\n|---|---|---|---|\n";
  const LogEntry* last_train = nullptr;
  std::int64_t last_written = -1;
  for (const LogEntry& entry : state.log_history) {
    if (!entry.evaluation) {
      last_train = &entry;
      continue;
    }
    out << "| " << entry.step << " | " << entry.epoch << " | ";
    if (last_train != nullptr) out << last_train->loss;
    out << " | " << entry.loss << " |\n";
    last_written = entry.step;
  }
  if (last_train != nullptr && last_train->step != last_written) {
    out << "| " << last_train->step << " | " << last_train->epoch << " | " << last_train->loss
        << " | |\n";
  }
  out << "\n";
}

// A fence longer than any run of backticks in the text.
std::string fence_for(const std::string& text) {
  std::size_t longest = 2, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return std::string(longest + 1, '`');
}

}  // namespace

std::vector<std::string> dataset_names(const TrainJob& job) {
  std::vector<std::string> names;
  for (const DatasetOptions& dataset : job.train.datasets) names.push_back(dataset.path);
  return names;
}

std::string model_card_body(const TrainJob& job, const TrainerState& state) {
  std::ostringstream out;
  const std::string folder =
      std::filesystem::path(job.train.output_dir).lexically_normal().filename().string();
  out << "# " << (folder.empty() ? "model" : folder) << "\n\n"
      << (job.lora.enabled ? "A LoRA adapter of " : "Weights trained from ") << job.train.base_model
      << ", made with moesmith.\n\n";
  write_settings(out, job, state);
  write_results(out, state);
  if (!job.config_text.empty()) {
    const std::string fence = fence_for(job.config_text);
    out << "<details><summary>Configuration</summary>\n\n" << fence << "yaml\n" << job.config_text;
    if (job.config_text.back() != '\n') out << "\n";
    out << fence << "\n\n</details>\n";
  }
  return std::move(out).str();
}

}  // namespace moesmith::train
