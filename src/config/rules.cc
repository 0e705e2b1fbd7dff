// SPDX-License-Identifier: Apache-2.0
// Rules of the run: what must be there, what excludes what, batch arithmetic, precision.
#include "config/rules.h"

#include <algorithm>

#include "config/scalar.h"
#include "core/text.h"

namespace moesmith::config {
namespace {

void exclusive(const Config& config, const std::string& a, const std::string& b) {
  if (is_given(config, a) && is_given(config, b)) {
    fail(place(config, b), str(b, " and ", a, " exclude each other; give one"));
  }
}

void require(const Config& config, const std::string& key, std::string_view example) {
  if (!is_given(config, key)) {
    fail(place(config, key), str("the key ", key, " is required, as ", example));
  }
}

// batch_size = micro_batch_size * gradient_accumulation_steps, any two of them given.
void batch_rule(Config& config) {
  train::TrainOptions& train = config.train;
  if (!train.batch_size) {
    return;
  }
  const bool micro = is_given(config, "micro_batch_size");
  const bool steps = is_given(config, "gradient_accumulation_steps");
  const std::int64_t batch = *train.batch_size;
  if (!micro && !steps) {
    fail(place(config, "batch_size"),
         "batch_size alone does not say how much is computed at once; give micro_batch_size or "
         "gradient_accumulation_steps with it");
  }
  if (micro && steps) {
    // Division, so that no product can overflow.
    if (batch % train.micro_batch_size != 0 ||
        batch / train.micro_batch_size != train.gradient_accumulation_steps) {
      fail(place(config, "batch_size"),
           str("batch_size is ", batch,
               ", expected micro_batch_size * gradient_accumulation_steps = ",
               train.micro_batch_size, " * ", train.gradient_accumulation_steps));
    }
    return;
  }
  const std::int64_t known = micro ? train.micro_batch_size : train.gradient_accumulation_steps;
  if (batch % known != 0) {
    fail(place(config, "batch_size"),
         str("batch_size ", batch, " is not a multiple of ",
             micro ? "micro_batch_size " : "gradient_accumulation_steps ", known));
  }
  (micro ? train.gradient_accumulation_steps : train.micro_batch_size) = batch / known;
}

// A number of steps goes with strategy "steps" only, and a fraction of a step means nothing.
void interval_rule(const Config& config,
                   const std::string& strategy_key,
                   const std::optional<train::Interval>& strategy,
                   const std::string& steps_key,
                   const std::optional<double>& steps,
                   const std::string& per_epoch_key) {
  exclusive(config, steps_key, per_epoch_key);
  const std::string& number_key = is_given(config, steps_key) ? steps_key : per_epoch_key;
  if (strategy && *strategy != train::Interval::kSteps && is_given(config, number_key)) {
    fail(place(config, number_key), str(number_key, " contradicts ", strategy_key,
                                        "; remove one, or set ", strategy_key, ": steps"));
  }
  if (strategy == train::Interval::kSteps && !is_given(config, number_key)) {
    fail(place(config, strategy_key),
         str(strategy_key, ": steps needs ", steps_key, " or ", per_epoch_key));
  }
  if (steps && *steps >= 1 &&
      *steps != static_cast<double>(static_cast<std::int64_t>(std::min(*steps, 1e15)))) {
    fail(place(config, steps_key), str(steps_key, ": got ", *steps,
                                       ", expected a whole number of steps, or a share below 1"));
  }
}

void eval_rule(const Config& config) {
  const train::TrainOptions& train = config.train;
  const bool has_rows = train.val_set_size > 0 || !train.test_datasets.empty();
  if (train.val_set_size > 0 && !train.test_datasets.empty()) {
    fail(place(config, "val_set_size"),
         "val_set_size and test_datasets exclude each other; give one");
  }
  if (train.val_set_size >= 1 &&
      train.val_set_size !=
          static_cast<double>(static_cast<std::int64_t>(std::min(train.val_set_size, 1e15)))) {
    fail(place(config, "val_set_size"),
         str("val_set_size: got ", train.val_set_size,
             ", expected a share below 1 or a whole number of rows"));
  }
  const bool wants_eval = train.eval_strategy && *train.eval_strategy != train::Interval::kNo;
  for (const char* key : {"eval_steps", "evals_per_epoch", "eval_strategy"}) {
    if (!has_rows && is_given(config, key) && (std::string(key) != "eval_strategy" || wants_eval)) {
      fail(place(config, key),
           str(key, " needs rows to evaluate; give val_set_size or test_datasets"));
    }
  }
}

void precision_rule(Config& config) {
  const SurfaceKeys& keys = config.surface;
  const bool wants_bf16 = keys.bf16 == Toggle::kTrue || keys.bfloat16.value_or(false);
  const bool wants_f32 = keys.float32.value_or(false);
  if (wants_bf16 && wants_f32) {
    fail(place(config, "float32"), "float32 and bf16 exclude each other; give one");
  }
  if (keys.bf16 == Toggle::kFalse && keys.bfloat16.value_or(false)) {
    fail(place(config, "bfloat16"), "bfloat16: true contradicts bf16: false");
  }
  using model::ComputeDType;
  if (wants_bf16) {
    config.model.compute_dtype = ComputeDType::kBF16;
  } else if (wants_f32 || keys.bf16 == Toggle::kFalse) {
    config.model.compute_dtype = ComputeDType::kF32;
  } else {
    config.model.compute_dtype = ComputeDType::kAuto;
  }
}

void optimizer_rule(Config& config) {
  const std::string& name = config.surface.optimizer;
  for (const char* reduced : {"8bit", "4bit", "fp8", "paged", "anyprecision"}) {
    if (name.find(reduced) != std::string::npos) {
      config.notices.push_back(str("optimizer ", name, ": runs as AdamW with f32 state"));
      return;
    }
  }
}

void special_tokens_rule(Config& config) {
  for (const auto& [name, token] : config.surface.special_tokens) {
    if (name != "pad_token") {
      fail(place(config, "special_tokens"),
           str("special_tokens.", name,
               ": the tokenizer's own tokens cannot be changed; remove it"));
    }
    config.notices.push_back("no effect here: special_tokens.pad_token (nothing is ever padded)");
  }
}

// true means the newest checkpoint, false none; written as YAML's booleans they are text so far.
void resume_rule(Config& config) {
  std::string& from = config.train.resume_from_checkpoint;
  if (const auto boolean = parse_bool(from)) {
    from = *boolean ? "true" : "";
  }
}

}  // namespace

Location place(const Config& config, const std::string& key) {
  const auto found = config.given.find(key);
  return found != config.given.end()
             ? found->second
             : Location{std::make_shared<const std::string>(config.file), 0, 0};
}

bool is_given(const Config& config, const std::string& key) { return config.given.contains(key); }

void apply_rules(Config& config, Purpose purpose) {
  require(config, "base_model", "base_model: ./my-moe");
  if (purpose == Purpose::kTrain) {
    require(config, "datasets", "datasets: [{path: train.jsonl, type: alpaca}]");
    if (config.train.datasets.empty()) {
      fail(place(config, "datasets"), "datasets is empty, expected at least one data set");
    }
    require(config, "learning_rate", "learning_rate: 2e-4");
  }
  exclusive(config, "warmup_ratio", "warmup_steps");
  batch_rule(config);
  interval_rule(config, "save_strategy", config.train.save_strategy, "save_steps",
                config.train.save_steps, "saves_per_epoch");
  interval_rule(config, "eval_strategy", config.train.eval_strategy, "eval_steps",
                config.train.eval_steps, "evals_per_epoch");
  eval_rule(config);
  precision_rule(config);
  optimizer_rule(config);
  special_tokens_rule(config);
  resume_rule(config);
  config.generation.seed = config.train.seed;
  apply_lora_rules(config, purpose);
  apply_experts_rules(config);
}

}  // namespace moesmith::config
