// SPDX-License-Identifier: Apache-2.0
// What a training run is asked to do: data, optimiser, schedule, evaluation, saving. Plain values
// with their defaults; config/ fills them from YAML and has checked ranges and rules that join
// keys. A member is named as its YAML key unless its comment says otherwise.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moesmith::train {

enum class DatasetFormat { kAuto, kJson, kText };  // kAuto: by the file's extension
enum class PromptType { kAlpaca, kChatTemplate, kCompletion };
// Which end-of-turn tokens have labels: of each trained turn, of all turns, of the last one, of
// none.
enum class EosTraining { kTurn, kAll, kLast, kNone };

struct DatasetOptions {
  std::string path;                     // file, folder with *.jsonl/*.json/*.txt, or hub id (error)
  std::vector<std::string> data_files;  // relative to `path` when that is a folder; else as given
  std::string name;                     // subset: folder `name` below `path`
  std::string split = "train";          // "train", "train[:10%]", "train[100:200]"
  DatasetFormat ds_type = DatasetFormat::kAuto;
  PromptType type = PromptType::kAlpaca;  // required in YAML: there is no default there
  std::string field = "text";             // completion: the column with the text
  // Everything below is for chat_template.
  std::string field_messages = "messages";
  std::string field_tools = "tools";
  // Template's name of a message property -> the row's name of it, as {"role": "from"}; a property
  // that is not named here is read under its own name.
  std::map<std::string, std::string> message_property_mappings;
  std::string message_field_training;  // bool per message that overrides roles_to_train; "" = none
  // Canonical role -> names that rows use for it. Added to: user <- human, assistant <- gpt, model.
  std::map<std::string, std::vector<std::string>> roles;
  std::vector<std::string> roles_to_train = {"assistant"};
  EosTraining train_on_eos = EosTraining::kTurn;
  std::optional<EosTraining> train_on_eot;  // of eot_tokens; unset: as train_on_eos
  bool drop_system_message = false;
  std::string chat_template;        // "" = TrainOptions::chat_template
  std::string chat_template_jinja;  // "" = TrainOptions::chat_template_jinja
};

enum class LrSchedule { kCosine, kLinear, kConstant, kConstantWithWarmup };
enum class Interval { kNo, kSteps, kEpoch };
// Rows longer than sequence_len.
enum class ExcessLength { kDrop, kTruncate, kRaise };

struct TrainOptions {
  // --- model and output
  std::string base_model;         // directory, or hub id resolved in the local cache
  std::string revision_of_model;  // of a hub id; "" = main
  std::string tokenizer_config;   // directory of the tokenizer; "" = base_model's
  bool reinit_weights = false;    // start from config.json alone, weights drawn from `seed`
  std::string output_dir = "./model-out";

  // --- data
  std::vector<DatasetOptions> datasets;
  std::vector<DatasetOptions> test_datasets;
  double val_set_size = 0.0;  // < 1: share of the rows; >= 1: number of rows; 0: none
  std::int64_t sequence_len = 512;
  bool sample_packing = false;  // one micro-batch = bins of micro_batch_size*sequence_len
  std::optional<bool> eval_sample_packing;  // unset: as sample_packing
  ExcessLength excess_length_strategy = ExcessLength::kDrop;
  std::int64_t min_sample_len = 2;      // shorter rows are dropped
  bool train_on_inputs = false;         // alpaca, chat_template: prompts have labels too
  bool shuffle_merged_datasets = true;  // rows, before packing, each epoch, from `seed`
  std::string chat_template = "tokenizer_default";  // or the name of one in tokenizer_config.json
  std::string chat_template_jinja;  // template text, or a path to it; wins over chat_template
  std::string chat_template_kwargs = "{}";  // JSON object: further variables of the template
  std::vector<std::string> eot_tokens;      // further end-of-turn tokens; each one token

  // --- how long, how much at once
  std::int64_t micro_batch_size = 1;  // samples (unpacked) or sequence_len units (packed)
  std::int64_t gradient_accumulation_steps = 1;
  std::optional<std::int64_t> batch_size;  // rules have turned it into the two above
  double num_epochs = 1.0;
  std::optional<std::int64_t> max_steps;  // wins over num_epochs
  std::int64_t seed = 42;

  // --- optimiser (AdamW, f32 state) and schedule
  double learning_rate = 0.0;  // required in YAML
  LrSchedule lr_scheduler = LrSchedule::kCosine;
  double cosine_min_lr_ratio = 0.0;          // the cosine ends at this share of learning_rate
  std::optional<std::int64_t> warmup_steps;  // both unset: min(3 % of all steps, 100)
  std::optional<double> warmup_ratio;        // share of all steps
  double weight_decay = 0.0;                 // decoupled; not on biases and norms
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;  // 0: no clipping

  // --- logging, evaluation, saving
  std::optional<std::int64_t> logging_steps;  // unset: max(min(0.5 % of all steps, 10), 1)
  // Unset: kSteps when evals_per_epoch or eval_steps is given, else kEpoch. Needs evaluation rows.
  std::optional<Interval> eval_strategy;
  std::optional<double> eval_steps;  // >= 1: steps; < 1: share of all steps
  std::optional<std::int64_t> evals_per_epoch;
  std::optional<std::int64_t> eval_batch_size;  // unset: micro_batch_size
  std::optional<Interval> save_strategy;        // unset: kSteps when a number is given, else kEpoch
  std::optional<double> save_steps;             // as eval_steps
  std::optional<std::int64_t> saves_per_epoch;
  std::int64_t save_total_limit = 4;  // newest checkpoint-N folders kept; 0: all
  bool save_first_step = false;
  bool save_only_model = false;        // no optimiser state: such a checkpoint cannot be resumed
  std::string resume_from_checkpoint;  // a checkpoint-N folder
  bool auto_resume_from_checkpoints = false;  // the newest one in output_dir, if any
  bool plot_loss = true;                      // output_dir/training_loss.svg
  bool profile = false;                       // measure where the time of a step goes
};

}  // namespace moesmith::train
