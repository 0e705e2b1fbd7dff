// SPDX-License-Identifier: Apache-2.0
#include "train/run_settings.h"

#include <algorithm>
#include <optional>

#include "core/cpu_features.h"
#include "core/text.h"
#include "io/json.h"
#include "moesmith/error.h"

namespace moesmith::train {
namespace {

// As JSON writes it: 0.0002, not its neighbour in six digits.
std::string number(double value) { return io::Json(value).dump(); }
std::string flag(bool value) { return value ? "true" : "false"; }

std::string names(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& name : list) text += (text.empty() ? "" : ", ") + name;
  return "[" + text + "]";
}

void add_lora(Settings& settings, const model::LoraOptions& lora) {
  const auto add = [&](const char* name, std::string value) {
    settings.emplace_back(name, std::move(value));
  };
  add("adapter", lora.enabled ? "lora" : "none");
  if (!lora.enabled) return;
  add("lora_r", std::to_string(lora.lora_r));
  add("lora_alpha", std::to_string(lora.lora_alpha));
  add("lora_dropout", number(lora.lora_dropout));
  add("peft_use_rslora", flag(lora.peft_use_rslora));
  add("lora_target_modules", lora.lora_target_modules_regex.empty()
                                 ? names(lora.lora_target_modules)
                                 : lora.lora_target_modules_regex);
  add("lora_target_linear", flag(lora.lora_target_linear));
  add("lora_target_parameters", names(lora.lora_target_parameters));
}

const char* dtype_name(model::ComputeDType dtype) {
  switch (dtype) {
    case model::ComputeDType::kF32:
      return "float32";
    case model::ComputeDType::kBF16:
      return "bfloat16";
    case model::ComputeDType::kAuto:
      break;
  }
  return "the checkpoint's";
}

}  // namespace

Settings run_settings(const TrainJob& job,
                      const std::string& model_config,
                      const std::string& data_fingerprint) {
  const TrainOptions& o = job.train;
  Settings settings;
  const auto add = [&](const char* name, std::string value) {
    settings.emplace_back(name, std::move(value));
  };
  add("base_model's config.json",
      str("hash ", content_hash(model_config.data(), model_config.size())));
  add("overrides_of_model_config", job.model.overrides_of_model_config);
  add("compute dtype", dtype_name(job.model.compute_dtype));
  add_lora(settings, job.lora);
  add("training data", "hash " + data_fingerprint);
  add("sequence_len", std::to_string(o.sequence_len));
  add("sample_packing", flag(o.sample_packing));
  add("micro_batch_size", std::to_string(o.micro_batch_size));
  add("gradient_accumulation_steps", std::to_string(o.gradient_accumulation_steps));
  add("seed", std::to_string(o.seed));
  add("learning_rate", number(o.learning_rate));
  add("lr_scheduler", std::to_string(static_cast<int>(o.lr_scheduler)));
  add("cosine_min_lr_ratio", number(o.cosine_min_lr_ratio));
  add("warmup_steps", o.warmup_steps ? std::to_string(*o.warmup_steps) : "unset");
  add("warmup_ratio", o.warmup_ratio ? number(*o.warmup_ratio) : "unset");
  add("weight_decay", number(o.weight_decay));
  add("adam_beta1", number(o.adam_beta1));
  add("adam_beta2", number(o.adam_beta2));
  add("adam_epsilon", number(o.adam_epsilon));
  add("max_grad_norm", number(o.max_grad_norm));
  return settings;
}

void check_settings(const std::string& folder, const Settings& checkpoint, const Settings& run) {
  const auto find = [](const Settings& settings, const std::string& name) {
    const auto at = std::find_if(settings.begin(), settings.end(),
                                 [&](const auto& item) { return item.first == name; });
    return at == settings.end() ? std::string("unset") : at->second;
  };
  std::string differences;
  const auto compare = [&](const std::string& name) {
    const std::string theirs = find(checkpoint, name), ours = find(run, name);
    if (theirs == ours) return;
    differences += str(differences.empty() ? "" : "; ", name, " was ", theirs, " there and is ",
                       ours, " here");
  };
  for (const auto& item : run) compare(item.first);
  for (const auto& item : checkpoint) {
    if (find(run, item.first) == "unset") compare(item.first);
  }
  if (differences.empty()) return;
  throw Error(ErrorCode::kInvalidInput,
              str(folder, ": this checkpoint is of another run: ", differences,
                  ". Resume it with its own configuration, or start anew in another output_dir"));
}

std::vector<std::string> resume_notes(const TrainerState& checkpoint, std::int64_t total_steps) {
  std::vector<std::string> notes;
  const std::string isa(isa_name(active_isa()));
  if (checkpoint.isa != isa) {
    notes.push_back(str("the checkpoint was made with ", checkpoint.isa,
                        " kernels, this machine runs ", isa,
                        ": the run goes on, but not bitwise as it would have there"));
  }
  if (checkpoint.total_steps != total_steps) {
    notes.push_back(str("the checkpoint was made for ", checkpoint.total_steps,
                        " steps, this run has ", total_steps,
                        ": the learning rate follows the new schedule from here on"));
  }
  return notes;
}

}  // namespace moesmith::train
