// SPDX-License-Identifier: Apache-2.0
// Values into structs, and the three kinds of key.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "config/schema.h"
#include "helpers.h"

namespace moesmith::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

const std::string kData = MOESMITH_TEST_DATA "/config/";

TEST(read, types_values_before_any_rule) {
  const Config config = parse(
      "micro_batch_size: \"2\"\nlora_dropout: 0\nsample_packing: yes\ntrain_on_inputs: \"false\"\n"
      "adam_epsilon: \"1e-7\"\nmax_grad_norm: 1\nnum_epochs: 3\nwarmup_ratio: .1\n"
      "lora_target_modules: q_proj\nlora_target_parameters: experts.down_proj\n",
      {{"--learning-rate", "learning_rate", "3e-4"}});
  EXPECT_EQ(config.train.micro_batch_size, 2);
  EXPECT_TRUE(config.train.sample_packing);
  EXPECT_FALSE(config.train.train_on_inputs);
  EXPECT_EQ(config.train.learning_rate, 3e-4);
  EXPECT_EQ(config.train.adam_epsilon, 1e-7);
  EXPECT_EQ(config.train.warmup_ratio, 0.1);
  EXPECT_EQ(config.lora.lora_target_modules_regex, "q_proj");
  EXPECT_THAT(config.lora.lora_target_parameters, ElementsAre("experts.down_proj"));
}

TEST(read, empty_values_are_defaults) {
  const Config config =
      parse("sequence_len:\nlora_r: ~\nadapter:\nval_set_size: null\nmax_steps:\n");
  EXPECT_EQ(config.train.sequence_len, train::TrainOptions().sequence_len);
  EXPECT_EQ(config.train.max_steps, std::nullopt);
  EXPECT_FALSE(config.given.contains("lora_r"));
  EXPECT_TRUE(config.notices.empty());
}

TEST(read, says_place_and_expected_type) {
  EXPECT_EQ(parse_error("lora_r: abc\n"),
            "run.yml:5:9: lora_r: got \"abc\", expected an integer in [1, 65536]");
  EXPECT_EQ(parse_error("lora_r: true\n"),
            "run.yml:5:9: lora_r: got \"true\", expected an integer in [1, 65536]");
  EXPECT_EQ(parse_error("lora_r: 0\n"),
            "run.yml:5:9: lora_r: got \"0\", expected an integer in [1, 65536]");
  EXPECT_EQ(parse_error("lora_r: 1.5\n"),
            "run.yml:5:9: lora_r: got \"1.5\", expected an integer in [1, 65536]");
  EXPECT_EQ(parse_error("sample_packing: maybe\n"),
            "run.yml:5:17: sample_packing: got \"maybe\", expected true or false");
  EXPECT_EQ(parse_error("sample_packing: 2\n"),
            "run.yml:5:17: sample_packing: got \"2\", expected true or false");
  EXPECT_EQ(parse_error("adam_beta1: 1\n"),
            "run.yml:5:13: adam_beta1: got \"1\", expected a number in [0, 1)");
  EXPECT_EQ(parse_error("weight_decay: nan\n"),
            "run.yml:5:15: weight_decay: got \"nan\", expected a number >= 0");
  EXPECT_EQ(parse_error("lr_scheduler: cosin\n"),
            "run.yml:5:15: lr_scheduler: got \"cosin\", expected one of cosine, linear, constant, "
            "constant_with_warmup; did you mean cosine?");
  EXPECT_EQ(parse_error("output_dir: [a]\n"),
            "run.yml:5:13: output_dir: got a list, expected a string");
  EXPECT_EQ(parse_error("eot_tokens: [a, [b]]\n"),
            "run.yml:5:17: eot_tokens: got a list, expected a string or a list of strings");
  EXPECT_EQ(parse_error("lora_rank_pattern: {q_proj: x}\n"),
            "run.yml:5:29: lora_rank_pattern: got \"x\", expected an integer in [1, 65536]");
  EXPECT_EQ(parse_error("overrides_of_model_config: 3\n"),
            "run.yml:5:28: overrides_of_model_config: got \"3\", expected a mapping");
  EXPECT_EQ(parse_error("adapter: qlora\n"),
            "run.yml:5:10: adapter: got \"qlora\", expected one of lora; did you mean lora?");
}

TEST(read, an_unknown_key_is_an_error_with_the_nearest_name) {
  EXPECT_EQ(parse_error("lora_target_module: [q_proj]\n"),
            "run.yml:5:1: unknown key lora_target_module; did you mean lora_target_modules?");
  EXPECT_EQ(parse_error("zzz: 1\n"), "run.yml:5:1: unknown key zzz");
  EXPECT_EQ(parse_error("zzz:\n"), "run.yml:5:1: unknown key zzz");
  EXPECT_THAT(parse_error("<<: {seed: 1}\n"), HasSubstr("unknown key <<"));
}

TEST(read, keys_without_effect_are_said_once_by_name) {
  const Config config = parse("wandb_project: p\nwandb_name: n\ntf32: true\nwandb_entity:\n");
  ASSERT_EQ(config.notices.size(), 2u);
  EXPECT_EQ(config.notices[0],
            "no effect here: wandb_project, wandb_name (metrics go to trainer_log.jsonl and to no "
            "service)");
  EXPECT_THAT(config.notices[1], StartsWith("no effect here: tf32 ("));
}

TEST(read, keys_that_would_change_results_are_refused) {
  for (const char* line :
       {"load_in_4bit: true", "load_in_8bit: \"yes\"", "deepspeed: ds.json", "fsdp: [full_shard]",
        "rl: dpo", "peft_use_dora: true", "neftune_noise_alpha: 5", "loraplus_lr_ratio: 16",
        "lora_modules_to_save: [embed_tokens]", "tensor_parallel_size: \"2\"",
        "group_by_length: true", "peft_autocast_adapter_dtype: false", "rl: 0.5",
        "early_stopping_patience: 3", "adam_eps: 1e-6", "fsdp_config: {a: b}"}) {
    const std::string key = std::string(line).substr(0, std::string(line).find(':'));
    EXPECT_THAT(parse_error(std::string(line) + "\n"), StartsWith("run.yml:5:1: " + key + ": "))
        << line;
  }
}

TEST(read, refused_keys_that_ask_for_nothing_pass) {
  for (const char* line :
       {"load_in_4bit: false", "load_in_4bit: \"false\"", "deepspeed:", "fsdp: []", "rl: ~",
        "tensor_parallel_size: 1", "tensor_parallel_size: \"1\"", "context_parallel_size: 1.0",
        "neftune_noise_alpha: 0", "peft_autocast_adapter_dtype: true", "local_rank: -1",
        "fsdp_config: {}", "group_by_length: no", "early_stopping_patience: 0"}) {
    const Config config = parse(std::string(line) + "\n");
    EXPECT_TRUE(config.notices.empty()) << line;
  }
}

TEST(read, an_old_spelling_is_the_same_key) {
  EXPECT_EQ(
      parse("evaluation_strategy: steps\neval_steps: 5\nval_set_size: 1\n").train.eval_strategy,
      train::Interval::kSteps);
  EXPECT_EQ(parse("model_config: {output_router_logits: true, n: \"1\"}\n")
                .model.overrides_of_model_config,
            "{\"output_router_logits\": true, \"n\": \"1\"}");
  EXPECT_THAT(parse_error("eval_strategy: no\nevaluation_strategy: no\n"),
              HasSubstr("they are the same key"));
}

TEST(read, every_key_of_axolotl_is_classified_once) {
  std::multiset<std::string> known(all_names().begin(), all_names().end());
  for (const Alias& alias : aliases()) {
    known.emplace(alias.name);
  }
  std::ifstream in(kData + "axolotl_keys.txt");
  std::string key;
  int count = 0;
  while (std::getline(in, key)) {
    EXPECT_EQ(known.count(key), 1u) << key;
    ++count;
  }
  EXPECT_EQ(count, 443);
  for (const std::string& name : known) {
    EXPECT_EQ(known.count(name), 1u) << name;
  }
  for (const Alias& alias : aliases()) {
    EXPECT_NE(find_key(alias.key), nullptr) << alias.name;
  }
}

TEST(read, data_sets_are_read_and_checked) {
  const auto data = [](const std::string& entry) {
    return error_of([&] {
      parse_config("base_model: m\nlearning_rate: 1\ndatasets:\n  - " + entry + "\n", "run.yml", {},
                   Purpose::kTrain);
    });
  };
  EXPECT_EQ(data("{path: a, type: completion, field: body, data_files: x.jsonl}"), "");
  EXPECT_EQ(data("{path: a}"), "run.yml:4:5: this data set has no type");
  EXPECT_EQ(data("{type: alpaca}"), "run.yml:4:5: this data set has no path");
  EXPECT_THAT(data("{path: a, type: }"), HasSubstr("empty means tokens made beforehand"));
  EXPECT_THAT(data("{path: a, type: sharegpt}"), HasSubstr("field_messages: conversations"));
  EXPECT_THAT(data("{path: a, type: {format: x}}"), HasSubstr("own prompt formats"));
  EXPECT_THAT(data("{path: a, type: alpacca}"), HasSubstr("run.yml:4:21: type: got"));
  EXPECT_THAT(data("{path: a, typ: alpaca}"), HasSubstr("unknown key typ; did you mean type?"));
  EXPECT_THAT(data("{path: a, type: alpaca, shards: 4}"), HasSubstr("shards: use split"));
  EXPECT_EQ(data("{path: a, type: alpaca, shards: 1, trust_remote_code: false}"), "");
  EXPECT_THAT(data("rows.jsonl"), HasSubstr("expected a mapping with path and type"));
  EXPECT_THAT(parse_error("test_datasets: x\n"),
              HasSubstr("run.yml:5:16: test_datasets: got \"x\""));
}

TEST(read, reads_a_file_as_users_write_it) {
  const Config config = load_config(kData + "qwen3_moe_chat.yml", {}, Purpose::kTrain);
  EXPECT_EQ(config.model.experts_implementation, "scattermoe");
  EXPECT_EQ(config.train.datasets.at(0).type, train::PromptType::kChatTemplate);
  EXPECT_EQ(config.train.learning_rate, 2e-4);
  EXPECT_TRUE(config.model.gradient_checkpointing);
  EXPECT_THAT(config.lora.lora_target_parameters,
              ElementsAre("experts.gate_up_proj", "experts.down_proj"));
  std::string all;
  for (const std::string& notice : config.notices) {
    all += notice + "\n";
  }
  for (const char* key :
       {"LigerPlugin", "liger_rms_norm", "dataset_prepared_path", "pad_to_sequence_len",
        "adamw_bnb_8bit", "tf32", "gradient_checkpointing_kwargs", "flash_attention"}) {
    EXPECT_THAT(all, HasSubstr(key));
  }
  EXPECT_EQ(all.find("wandb"), std::string::npos);
}

TEST(read, reads_regex_targets_and_shares) {
  const Config config = load_config(kData + "alpaca_attention.yml", {}, Purpose::kTrain);
  EXPECT_EQ(config.lora.lora_target_modules_regex, ".*self_attn\\.(q|v)_proj");
  EXPECT_EQ(config.train.datasets.at(0).split, "train[:10%]");
  EXPECT_EQ(config.train.save_steps, 0.25);
  EXPECT_EQ(config.train.micro_batch_size, 2);
  EXPECT_EQ(config.model.compute_dtype, model::ComputeDType::kBF16);
}

TEST(read, reads_chat_rows_of_other_shapes) {
  const Config config = load_config(kData + "sharegpt_resume.yml", {}, Purpose::kTrain);
  EXPECT_THAT(config.train.datasets.at(0).message_property_mappings,
              ElementsAre(Pair("content", "value"), Pair("role", "from")));
  EXPECT_EQ(config.train.datasets.at(1).field, "text");
  EXPECT_EQ(config.train.gradient_accumulation_steps, 4);
  EXPECT_EQ(config.train.max_steps, 500);
}

TEST(read, patterns_keep_the_file_s_order) {
  const Config config = parse("lora_rank_pattern: {z: 1, a: \"2\", m: 3}\n");
  EXPECT_THAT(config.lora.lora_rank_pattern, ElementsAre(Pair("z", 1), Pair("a", 2), Pair("m", 3)));
}

TEST(read, missing_and_odd_files_are_one_clear_error) {
  EXPECT_THAT(error_of([] { load_config("/no/such.yml", {}, Purpose::kTrain); }),
              HasSubstr("/no/such.yml: no such configuration file"));
  EXPECT_THAT(error_of([] { load_config("/", {}, Purpose::kTrain); }), HasSubstr("/: "));
  EXPECT_EQ(error_of([] { parse_config("", "run.yml", {}, Purpose::kTrain); }),
            "run.yml: the file is empty, expected keys and values");
  EXPECT_THAT(error_of([] { parse_config("# only this\n", "run.yml", {}, Purpose::kTrain); }),
              HasSubstr("empty"));
  EXPECT_THAT(error_of([] { parse_config("- a\n", "run.yml", {}, Purpose::kTrain); }),
              HasSubstr("run.yml:1:1: got a list, expected keys and values"));
  EXPECT_THAT(error_of([] { parse_config("word\n", "run.yml", {}, Purpose::kTrain); }),
              HasSubstr("got \"word\""));
}

TEST(read, the_resolved_configuration_reads_back_to_itself) {
  for (const char* file : {"qwen3_moe_chat.yml", "alpaca_attention.yml", "sharegpt_resume.yml"}) {
    const std::string first = resolved_yaml(load_config(kData + file, {}, Purpose::kTrain));
    const std::string second =
        resolved_yaml(parse_config(first, "resolved.yml", {}, Purpose::kTrain));
    EXPECT_EQ(first, second);
  }
  const std::string odd = resolved_yaml(parse(
      "chat_template_jinja: \"{% if a: 'b' %}\\n# \\\"x\\\"\"\nlora_rank_pattern: {\"^a: b\": 3}\n"
      "eot_tokens: [\"no\", \"1\", \"~\", \"<|x|>\"]\n"));
  EXPECT_EQ(odd, resolved_yaml(parse_config(odd, "resolved.yml", {}, Purpose::kTrain)));
  EXPECT_THAT(odd, HasSubstr("eot_tokens: [\"no\", \"1\", \"~\", \"<|x|>\"]"));
}

}  // namespace
}  // namespace moesmith::config
