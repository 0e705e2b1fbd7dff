// SPDX-License-Identifier: Apache-2.0
// Whole runs of a tiny model.
#include "train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "io/safetensors.h"
#include "moesmith/error.h"
#include "tiny_run.h"
#include "train/memory.h"

namespace moesmith::train {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

std::string message_of(const TrainJob& job, ErrorCode code) {
  try {
    run(job);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "nothing was thrown";
}

TEST(trainer, overfits_one_batch) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  job.train.micro_batch_size = 20;
  job.train.gradient_accumulation_steps = 1;
  job.train.max_steps = 80;
  job.train.lr_scheduler = LrSchedule::kConstant;
  Recorder recorder;
  run(job, recorder);
  EXPECT_GT(recorder.steps.front().loss, 5.0);  // ln 272 = 5.6
  EXPECT_LT(recorder.steps.back().loss, 0.35);
}

TEST(trainer, leaves_an_adapter_with_all_its_files) {
  TinyRun tiny;
  tiny.make_base();
  TrainJob job = tiny.expert_lora_job("out");
  job.config_text = "base_model: tiny\n";
  Recorder recorder;
  const TrainResult result = run(job, recorder);
  EXPECT_EQ(result.outcome, TrainOutcome::kFinished);
  EXPECT_EQ(result.steps, 10);
  for (const char* name :
       {"adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json",
        "tokenizer_config.json", "config.json", "trainer_log.jsonl", "trainer_state.json",
        "training_loss.svg", "checkpoint-4", "checkpoint-8", "checkpoint-10"}) {
    EXPECT_TRUE(fs::exists(tiny.output("out") + "/" + name)) << name;
  }
  EXPECT_THAT(slurp(tiny.output("out") + "/README.md"), HasSubstr("base_model: tiny"));
  for (const SaveReport& save : recorder.saves) {
    EXPECT_EQ(save.verification, "logits bitwise equal") << save.path;
  }
  ASSERT_EQ(recorder.starts.size(), 1u);
  EXPECT_EQ(recorder.starts[0].trained.size(), 2u * 2u * (2u + 2u));  // layers, A and B, targets
  EXPECT_LT(result.last_eval->loss, result.first_eval->loss);
  EXPECT_NEAR(result.last_eval->perplexity, std::exp(result.last_eval->loss), 1e-9);
  // Evaluated before the first step, after the fifth and the last; logged each third and last.
  EXPECT_EQ(recorder.evals.size(), 3u);
  EXPECT_EQ(timeless_log(tiny.output("out")).size(), 3u + 4u);
}

TEST(trainer, full_weights_in_bf16_keep_f32_masters) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  job.model.compute_dtype = model::ComputeDType::kBF16;
  job.train.learning_rate = 1e-4;  // far below what bf16 could add to a weight
  job.train.lr_scheduler = LrSchedule::kConstant;
  job.train.num_epochs = 20;
  Recorder recorder;
  run(job, recorder);
  EXPECT_EQ(recorder.saves.back().verification, "logits bitwise equal");
  EXPECT_LT(recorder.evals.back().loss, recorder.evals.front().loss - 0.05);
  const auto file = io::SafetensorsFile::open(tiny.output("out") + "/model.safetensors");
  EXPECT_EQ(file.tensors().front().dtype, DType::kBF16);
  EXPECT_THAT(slurp(tiny.output("out") + "/config.json"), HasSubstr("\"bfloat16\""));
}

// One step over the same 20 samples, cut into 1, 2 or 10 micro-batches; rows have lengths of their
// own, so a mean of means would differ.
TEST(trainer, accumulation_equals_one_large_batch) {
  TinyRun tiny;
  std::vector<StepReport> reports;
  std::vector<Tensor> weights;
  for (const std::int64_t parts : {1, 2, 10}) {
    const std::string out = "out" + std::to_string(parts);
    TrainJob job = tiny.full_job(out);
    job.train.micro_batch_size = 20 / parts;
    job.train.gradient_accumulation_steps = parts;
    job.train.max_steps = 1;
    // The load-balancing loss is a mean over micro-batches, so it does depend on the cut.
    job.model.overrides_of_model_config = "{\"output_router_logits\": false}";
    Recorder recorder;
    run(job, recorder);
    reports.push_back(recorder.steps.at(0));
    const auto file =
        io::SafetensorsFile::open(tiny.output(out) + "/checkpoint-1/optimizer.safetensors");
    weights.push_back(file.tensor("exp_avg.lm_head.weight"));
  }
  for (std::size_t i = 1; i < reports.size(); ++i) {
    EXPECT_NEAR(reports[i].loss, reports[0].loss, 1e-6 * reports[0].loss);
    EXPECT_NEAR(reports[i].grad_norm, reports[0].grad_norm, 1e-5 * reports[0].grad_norm);
    for (std::int64_t j = 0; j < weights[0].numel(); ++j) {
      ASSERT_NEAR(weights[i].data<float>()[j], weights[0].data<float>()[j], 1e-7);
    }
  }
}

TEST(trainer, same_bits_for_any_thread_count) {
  TinyRun tiny;
  TrainJob one = tiny.full_job("one"), three = tiny.full_job("three");
  run(one, 1);
  run(three, 3);
  EXPECT_EQ(timeless_log(tiny.output("one")), timeless_log(tiny.output("three")));
  EXPECT_EQ(weight_bytes(tiny.output("one")), weight_bytes(tiny.output("three")));
}

TEST(trainer, keeps_the_newest_checkpoints) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  job.train.save_steps = 2;
  job.train.save_total_limit = 2;
  run(job);
  EXPECT_FALSE(fs::exists(tiny.output("out/checkpoint-6")));
  EXPECT_TRUE(fs::exists(tiny.output("out/checkpoint-8")));
  EXPECT_TRUE(fs::exists(tiny.output("out/checkpoint-10")));
}

TEST(trainer, shows_samples_before_and_after) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  job.sample_prompts = {"the cat"};
  job.generation.max_new_tokens = 8;
  Recorder recorder;
  run(job, recorder);
  ASSERT_EQ(recorder.samples.size(), 2u);
  EXPECT_FALSE(recorder.samples[0].trained);
  EXPECT_TRUE(recorder.samples[1].trained);
  EXPECT_NE(recorder.samples[0].text, recorder.samples[1].text);
}

TEST(trainer, plans_memory_and_refuses_what_does_not_fit) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  Recorder recorder;
  run(job, recorder);
  ASSERT_EQ(recorder.plans.size(), 1u);
  EXPECT_GT(recorder.plans[0].peak_bytes, 0);
  job = tiny.full_job("huge");
  job.train.sample_packing = true;
  job.train.micro_batch_size = 4'000'000'000;
  const std::string message = message_of(job, ErrorCode::kOutOfMemory);
  EXPECT_THAT(message, HasSubstr("the run needs"));
  EXPECT_THAT(message, HasSubstr("are available"));
  EXPECT_FALSE(fs::exists(tiny.output("huge/checkpoint-4")));
}

TEST(trainer, packing_frozen_experts_changes_no_bit) {
  TinyRun tiny;
  tiny.make_base();
  TrainJob job = tiny.expert_lora_job("plain");
  job.model.pack_experts = model::PackExperts::kNever;
  Recorder plain;
  run(job, plain);
  job = tiny.expert_lora_job("packed");
  job.model.pack_experts = model::PackExperts::kAlways;
  Recorder packed;
  run(job, packed);
  EXPECT_EQ(weight_bytes(tiny.output("packed")), weight_bytes(tiny.output("plain")));
  EXPECT_EQ(timeless_log(tiny.output("packed")), timeless_log(tiny.output("plain")));
  const MemoryPlan &with = packed.plans.at(0), &without = plain.plans.at(0);
  EXPECT_TRUE(with.pack_experts);
  EXPECT_FALSE(without.pack_experts);
  EXPECT_GT(with.packed_experts, 0);
  EXPECT_EQ(with.peak_bytes, without.peak_bytes + with.packed_experts);
}

TEST(trainer, packs_by_itself_only_where_half_of_the_memory_is_enough) {
  model::MemoryEstimate estimate;
  estimate.activations = 1 << 20;
  estimate.packed_experts = 1 << 20;
  const MemoryPlan small = plan_memory(estimate, model::PackExperts::kAuto);
  EXPECT_TRUE(small.pack_experts);
  EXPECT_EQ(small.peak_bytes, 2 << 20);
  EXPECT_THAT(packing_text(small), HasSubstr("pack_experts: false"));
  estimate.packed_experts = small.available_bytes;
  const MemoryPlan large = plan_memory(estimate, model::PackExperts::kAuto);
  EXPECT_FALSE(large.pack_experts);
  EXPECT_EQ(large.peak_bytes, 1 << 20);
  EXPECT_THAT(packing_text(large), HasSubstr("pack_experts: true"));
  const MemoryPlan forced = plan_memory(estimate, model::PackExperts::kAlways);
  EXPECT_TRUE(forced.pack_experts);
  EXPECT_FALSE(plan_memory(estimate, model::PackExperts::kNever).pack_experts);
  EXPECT_EQ(packing_text(plan_memory({}, model::PackExperts::kAuto)), "");
}

TEST(trainer, refuses_a_folder_with_another_run) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  run(job);
  const std::string before = weight_bytes(tiny.output("out"));
  EXPECT_THAT(message_of(job, ErrorCode::kInvalidInput), HasSubstr("overwrite_output_dir"));
  EXPECT_EQ(weight_bytes(tiny.output("out")), before);
  spill(tiny.output("out/notes.txt"), "mine");
  job.train.max_steps = 3;
  job.overwrite_output_dir = true;
  run(job);
  EXPECT_TRUE(fs::exists(tiny.output("out/notes.txt")));
  EXPECT_FALSE(fs::exists(tiny.output("out/checkpoint-10")));
  EXPECT_TRUE(fs::exists(tiny.output("out/checkpoint-3")));
}

TEST(trainer, says_when_the_loss_is_not_finite) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  job.train.learning_rate = 1e30;
  job.train.max_grad_norm = 0.0;
  EXPECT_THAT(message_of(job, ErrorCode::kInvalidInput), HasSubstr("lower learning_rate"));
}

TEST(trainer, refuses_an_output_dir_that_cannot_be_written) {
  TinyRun tiny;
  spill(tiny.output("file"), "in the way");
  const std::string message = message_of(tiny.full_job("file/out"), ErrorCode::kIo);
  EXPECT_THAT(message, HasSubstr("file/out"));
}

}  // namespace
}  // namespace moesmith::train
