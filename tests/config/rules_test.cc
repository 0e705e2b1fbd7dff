// SPDX-License-Identifier: Apache-2.0
// Rules that join keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "helpers.h"

namespace moesmith::config {
namespace {

using model::ComputeDType;
using testing::HasSubstr;
using testing::StartsWith;

TEST(rules, training_needs_model_data_and_learning_rate) {
  const auto error = [](const std::string& text, Purpose purpose = Purpose::kTrain) {
    return error_of([&] { parse_config(text, "run.yml", {}, purpose); });
  };
  EXPECT_EQ(error("seed: 1\n"), "run.yml: the key base_model is required, as base_model: ./my-moe");
  EXPECT_THAT(error("base_model: m\n"), HasSubstr("datasets is required"));
  EXPECT_THAT(error("base_model: m\ndatasets: []\n"), HasSubstr("run.yml:2:1: datasets is empty"));
  EXPECT_THAT(error("base_model: m\ndatasets: {path: d, type: alpaca}\n"),
              HasSubstr("learning_rate is required"));
  EXPECT_THAT(error("base_model: m\ndatasets: {path: d, type: alpaca}\nlearning_rate:\n"),
              HasSubstr("learning_rate is required"));
  EXPECT_EQ(error("base_model: m\n", Purpose::kModel), "");
}

TEST(rules, warmup_is_given_once) {
  EXPECT_EQ(parse_error("warmup_ratio: 0.1\nwarmup_steps: 10\n"),
            "run.yml:6:1: warmup_steps and warmup_ratio exclude each other; give one");
  EXPECT_EQ(parse_error("warmup_ratio: 0.1\nwarmup_steps:\n"), "");
  EXPECT_EQ(parse("warmup_steps: 0\n").train.warmup_steps, 0);
}

TEST(rules, two_of_three_batch_keys_give_the_third) {
  EXPECT_EQ(parse("batch_size: 8\nmicro_batch_size: 2\n").train.gradient_accumulation_steps, 4);
  EXPECT_EQ(parse("batch_size: 8\ngradient_accumulation_steps: 8\n").train.micro_batch_size, 1);
  EXPECT_EQ(parse("batch_size: 8\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\n")
                .train.micro_batch_size,
            2);
  EXPECT_THAT(parse_error("batch_size: 8\n"), HasSubstr("run.yml:5:1: batch_size alone"));
  EXPECT_THAT(parse_error("batch_size: 8\nmicro_batch_size: 3\n"),
              HasSubstr("is not a multiple of micro_batch_size 3"));
  EXPECT_THAT(parse_error("batch_size: 8\nmicro_batch_size: 2\ngradient_accumulation_steps: 3\n"),
              HasSubstr("expected micro_batch_size * gradient_accumulation_steps = 2 * 3"));
  EXPECT_THAT(
      parse_error(
          "batch_size: 4\nmicro_batch_size: 9223372036854775807\ngradient_accumulation_steps: 2\n"),
      HasSubstr("batch_size is 4"));
}

TEST(rules, saving_is_said_once) {
  EXPECT_THAT(parse_error("save_steps: 10\nsaves_per_epoch: 2\n"),
              StartsWith("run.yml:6:1: saves_per_epoch and save_steps exclude each other"));
  EXPECT_THAT(parse_error("save_strategy: epoch\nsave_steps: 10\n"),
              HasSubstr("contradicts save_strategy"));
  EXPECT_THAT(parse_error("save_strategy: no\nsaves_per_epoch: 1\n"),
              HasSubstr("contradicts save_strategy"));
  EXPECT_THAT(parse_error("save_strategy: steps\n"),
              HasSubstr("needs save_steps or saves_per_epoch"));
  EXPECT_THAT(parse_error("save_steps: 2.5\n"),
              HasSubstr("expected a whole number of steps, or a share below 1"));
  EXPECT_EQ(parse("save_steps: 0.25\n").train.save_steps, 0.25);
  EXPECT_EQ(parse("save_steps: 1e2\n").train.save_steps, 100.0);
  EXPECT_EQ(parse("save_strategy: no\n").train.save_strategy, train::Interval::kNo);
}

TEST(rules, evaluation_needs_rows_from_one_place) {
  EXPECT_THAT(parse_error("evals_per_epoch: 4\n"),
              StartsWith("run.yml:5:1: evals_per_epoch needs rows to evaluate"));
  EXPECT_THAT(parse_error("eval_steps: 4\nval_set_size: 0\n"), HasSubstr("needs rows"));
  EXPECT_THAT(parse_error("eval_strategy: epoch\n"), HasSubstr("needs rows"));
  EXPECT_EQ(parse_error("eval_strategy: no\n"), "");
  EXPECT_EQ(parse_error("eval_steps: 4\nval_set_size: 0.1\n"), "");
  EXPECT_THAT(parse_error("val_set_size: 0.1\ntest_datasets: [{path: t, type: alpaca}]\n"),
              HasSubstr("val_set_size and test_datasets exclude each other"));
  EXPECT_EQ(
      parse_error(
          "val_set_size: 0.0\ntest_datasets: [{path: t, type: alpaca}]\nevals_per_epoch: 1\n"),
      "");
  EXPECT_THAT(parse_error("val_set_size: 1.5\n"),
              HasSubstr("expected a share below 1 or a whole number of rows"));
  EXPECT_EQ(parse("val_set_size: 100\n").train.val_set_size, 100.0);
}

TEST(rules, precision_is_said_once) {
  EXPECT_EQ(parse("").model.compute_dtype, ComputeDType::kAuto);
  EXPECT_EQ(parse("bf16: auto\n").model.compute_dtype, ComputeDType::kAuto);
  EXPECT_EQ(parse("bf16: \"true\"\n").model.compute_dtype, ComputeDType::kBF16);
  EXPECT_EQ(parse("bfloat16: true\n").model.compute_dtype, ComputeDType::kBF16);
  EXPECT_EQ(parse("bf16: false\nfp16: false\n").model.compute_dtype, ComputeDType::kF32);
  EXPECT_EQ(parse("float32: true\n").model.compute_dtype, ComputeDType::kF32);
  EXPECT_THAT(parse_error("bf16: true\nfloat32: true\n"), HasSubstr("exclude each other"));
  EXPECT_THAT(parse_error("bf16: false\nbfloat16: true\n"), HasSubstr("contradicts"));
  EXPECT_EQ(parse_error("fp16: true\n"),
            "run.yml:5:1: fp16: f16 is not computed in; use bf16: true or bf16: false");
}

TEST(rules, dropout_with_target_parameters_is_refused_as_peft_does) {
  EXPECT_THAT(
      parse_error(
          "adapter: lora\nlora_dropout: 0.05\nlora_target_parameters: [experts.down_proj]\n"),
      StartsWith("run.yml:6:1: lora_dropout must be 0 with lora_target_parameters, got 0.05"));
  EXPECT_EQ(
      parse_error("adapter: lora\nlora_dropout: 0\nlora_target_parameters: [experts.down_proj]\n"),
      "");
  EXPECT_EQ(parse_error("adapter: lora\nlora_dropout: 0.05\nlora_target_linear: true\n"), "");
}

TEST(rules, an_adapter_needs_a_target) {
  EXPECT_THAT(parse_error("adapter: lora\n"),
              StartsWith("run.yml:5:1: adapter: lora has nothing to adapt"));
  EXPECT_THAT(parse_error("adapter: lora\nlora_target_linear: false\nlora_target_modules: []\n"),
              HasSubstr("nothing to adapt"));
  EXPECT_EQ(parse_error("adapter: lora\nlora_model_dir: ./a\n"), "");
  EXPECT_THAT(parse_error("lora_model_dir: ./a\n"),
              HasSubstr("lora_model_dir needs adapter: lora"));
  EXPECT_TRUE(parse("adapter: lora\nlora_target_linear: true\n").lora.enabled);
}

TEST(rules, all_linear_is_lora_target_linear) {
  for (const char* value : {"all-linear", "[all-linear]"}) {
    const auto lora =
        parse(std::string("adapter: lora\nlora_target_modules: ") + value + "\n").lora;
    EXPECT_TRUE(lora.lora_target_linear);
    EXPECT_TRUE(lora.lora_target_modules.empty() && lora.lora_target_modules_regex.empty());
  }
}

TEST(rules, a_forgotten_adapter_is_said) {
  const Config config = parse("lora_r: 16\nlora_target_linear: true\n");
  EXPECT_FALSE(config.lora.enabled);
  ASSERT_EQ(config.notices.size(), 1u);
  EXPECT_EQ(config.notices[0],
            "no effect here: lora_r, lora_target_linear (adapter is not set, so all weights are "
            "trained)");
}

TEST(rules, reduced_optimizers_say_what_they_are) {
  EXPECT_THAT(parse("optimizer: adamw_bnb_8bit\n").notices.at(0),
              HasSubstr("runs as AdamW with f32 state"));
  EXPECT_TRUE(parse("optimizer: adamw_torch\n").notices.empty());
  EXPECT_THAT(parse_error("optimizer: muon\n"), HasSubstr("expected one of adamw_torch_fused"));
}

TEST(rules, special_tokens_other_than_padding_are_refused) {
  EXPECT_THAT(parse("special_tokens: {pad_token: <pad>, eos_token: }\n").notices.at(0),
              HasSubstr("pad_token"));
  EXPECT_THAT(parse_error("special_tokens: {eos_token: <end>}\n"),
              HasSubstr("special_tokens.eos_token"));
}

TEST(rules, resuming_may_be_a_boolean) {
  EXPECT_EQ(parse("resume_from_checkpoint: yes\n").train.resume_from_checkpoint, "true");
  EXPECT_EQ(parse("resume_from_checkpoint: false\n").train.resume_from_checkpoint, "");
  EXPECT_EQ(parse("resume_from_checkpoint: out/checkpoint-5\n").train.resume_from_checkpoint,
            "out/checkpoint-5");
}

TEST(rules, sampling_uses_the_seed) { EXPECT_EQ(parse("seed: 7\n").generation.seed, 7); }

}  // namespace
}  // namespace moesmith::config
