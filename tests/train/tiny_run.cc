// SPDX-License-Identifier: Apache-2.0
#include "tiny_run.h"

#include <algorithm>
#include <sstream>

#include "core/rng.h"
#include "io/json.h"
#include "text/tokenizer/trainer.h"

namespace moesmith::train {
namespace {

constexpr const char* kConfig = R"({
  "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "attention_bias": false,
  "decoder_sparse_step": 1, "head_dim": 8, "hidden_act": "silu", "hidden_size": 32,
  "initializer_range": 0.05, "intermediate_size": 32, "max_position_embeddings": 128,
  "mlp_only_layers": [], "moe_intermediate_size": 16, "norm_topk_prob": true,
  "num_attention_heads": 4, "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2,
  "num_key_value_heads": 2, "output_router_logits": true, "router_aux_loss_coef": 0.01,
  "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "tie_word_embeddings": false,
  "torch_dtype": "float32", "vocab_size": 272})";

constexpr const char* kWords[] = {"the ", "cat ", "sat ", "on ", "a ", "mat ", "and ", "saw "};

std::string sentence(std::uint64_t row) {
  const Rng rng(5, row);
  std::string text;
  const std::uint64_t words = 3 + rng.below(1000, 6);
  for (std::uint64_t i = 0; i < words; ++i) text += kWords[rng.below(2 * i, std::size(kWords))];
  return text + std::to_string(row);
}

}  // namespace

TinyRun::TinyRun() {
  const std::string model = folder_ / "model";
  text::BpeTrainer trainer(
      {.vocab_size = 264, .special_tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}});
  std::string rows, eval_rows;
  for (std::uint64_t row = 0; row < 24; ++row) {
    trainer.add(sentence(row));
    (row < 20 ? rows : eval_rows) += "{\"text\": \"" + sentence(row) + "\"}\n";
  }
  text::write_tokenizer(model, trainer.train(), {});
  spill(model + "/config.json", kConfig);
  spill(folder_ / "train.jsonl", rows);
  spill(folder_ / "eval.jsonl", eval_rows);
}

TrainJob TinyRun::full_job(const std::string& output) const {
  TrainJob job;
  TrainOptions& o = job.train;
  o.base_model = folder_ / "model";
  o.reinit_weights = true;
  o.output_dir = folder_ / output;
  DatasetOptions rows;
  rows.path = folder_ / "train.jsonl";
  rows.type = PromptType::kCompletion;
  o.datasets = {rows};
  rows.path = folder_ / "eval.jsonl";
  o.test_datasets = {rows};
  o.sequence_len = 64;
  o.micro_batch_size = 2;
  o.gradient_accumulation_steps = 2;
  o.learning_rate = 1e-2;
  o.warmup_steps = 0;
  o.logging_steps = 3;
  o.num_epochs = 2;  // 20 rows, 4 a step: 10 steps
  o.save_steps = 4;
  o.eval_steps = 5;
  job.model.compute_dtype = model::ComputeDType::kF32;
  return job;
}

TrainJob TinyRun::lora_job(const std::string& output) const {
  TrainJob job = full_job(output);
  job.train.base_model = folder_ / "base";
  job.train.reinit_weights = false;
  job.lora.enabled = true;
  job.lora.lora_r = 4;
  job.lora.lora_alpha = 8;
  job.lora.lora_dropout = 0.2;
  job.lora.lora_target_modules = {"q_proj", "v_proj"};
  return job;
}

TrainJob TinyRun::expert_lora_job(const std::string& output) const {
  TrainJob job = lora_job(output);
  job.lora.lora_dropout = 0.0;
  job.lora.lora_target_parameters = {"experts.gate_up_proj", "experts.down_proj"};
  return job;
}

void TinyRun::make_base() {
  TrainJob job = full_job("base");
  job.train.save_strategy = Interval::kNo;
  job.train.save_steps.reset();
  run(job);
}

TrainResult run(const TrainJob& job, Recorder& recorder, int threads) {
  ThreadPool pool(threads);
  return train(job, recorder, pool, recorder.stop);
}

TrainResult run(const TrainJob& job, int threads) {
  Recorder recorder;
  return run(job, recorder, threads);
}

std::vector<std::string> timeless_log(const std::string& output) {
  std::vector<std::string> lines;
  std::istringstream in(slurp(output + "/trainer_log.jsonl"));
  for (std::string line; std::getline(in, line);) {
    io::Json json = io::Json::parse(line, output);
    for (const char* key : {"elapsed_time", "remaining_time", "throughput", "peak_memory"}) {
      json.as_object().erase(key);
    }
    lines.push_back(json.dump());
  }
  return lines;
}

std::string weight_bytes(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  std::string bytes;
  for (const std::string& name : names) bytes += name + "\n" + slurp(folder + "/" + name);
  return bytes;
}

}  // namespace moesmith::train
