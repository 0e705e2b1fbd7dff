// SPDX-License-Identifier: Apache-2.0
// A run that was stopped and resumed is bitwise the run that never was.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "moesmith/error.h"
#include "tiny_run.h"
#include "train/run_folder.h"
#include "train/trainer.h"

namespace moesmith::train {
namespace {

using testing::Contains;
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

TrainJob resumed(TrainJob job) {
  job.train.auto_resume_from_checkpoints = true;
  return job;
}

void expect_same_run(const std::string& a, const std::string& b) {
  EXPECT_EQ(timeless_log(a), timeless_log(b));
  EXPECT_EQ(weight_bytes(a), weight_bytes(b));
  EXPECT_EQ(weight_bytes(a + "/checkpoint-10"), weight_bytes(b + "/checkpoint-10"));
}

// Stops between logs, before an evaluation, and at a checkpoint.
void stop_and_resume(const TrainJob& whole,
                     const std::function<TrainJob(const std::string&)>& part,
                     const TinyRun& tiny) {
  run(whole);
  for (const std::int64_t step : {1, 5, 8}) {
    const std::string name = "part" + std::to_string(step);
    Recorder first(step);
    EXPECT_EQ(run(part(name), first).outcome, TrainOutcome::kInterrupted);
    EXPECT_TRUE(fs::exists(tiny.output(name) + "/checkpoint-" + std::to_string(step)));
    Recorder second;
    const TrainResult result = run(resumed(part(name)), second, 1);
    EXPECT_EQ(result.outcome, TrainOutcome::kFinished);
    EXPECT_EQ(second.steps.front().step, step + 1);
    expect_same_run(whole.train.output_dir, tiny.output(name));
  }
}

TEST(resume, continues_full_weights_in_f32) {
  TinyRun tiny;
  stop_and_resume(
      tiny.full_job("whole"), [&](const std::string& name) { return tiny.full_job(name); }, tiny);
}

TEST(resume, continues_packed_full_weights_in_bf16) {
  TinyRun tiny;
  const auto make = [&](const std::string& name) {
    TrainJob job = tiny.full_job(name);
    job.model.compute_dtype = model::ComputeDType::kBF16;
    job.train.sample_packing = true;
    job.train.micro_batch_size = 1;
    job.train.gradient_accumulation_steps = 2;
    job.train.max_steps = 10;
    return job;
  };
  stop_and_resume(make("whole"), make, tiny);
}

TEST(resume, continues_lora_with_dropout) {
  TinyRun tiny;
  tiny.make_base();
  stop_and_resume(
      tiny.lora_job("whole"), [&](const std::string& name) { return tiny.lora_job(name); }, tiny);
}

TEST(resume, continues_lora_on_experts) {
  TinyRun tiny;
  tiny.make_base();
  stop_and_resume(
      tiny.expert_lora_job("whole"),
      [&](const std::string& name) { return tiny.expert_lora_job(name); }, tiny);
}

TEST(resume, dropout_is_not_the_same_in_every_step) {
  TinyRun tiny;
  tiny.make_base();
  TrainJob job = tiny.lora_job("a");
  job.train.seed = 43;
  run(job);
  job = tiny.lora_job("b");
  job.train.seed = 43;
  job.lora.lora_dropout = 0.0;
  run(job);
  EXPECT_NE(timeless_log(tiny.output("a")), timeless_log(tiny.output("b")));
}

TEST(resume, from_a_named_checkpoint_cuts_the_log) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  run(job);
  const auto log = timeless_log(tiny.output("out"));
  const std::string weights = weight_bytes(tiny.output("out"));
  job.train.resume_from_checkpoint = tiny.output("out/checkpoint-4");
  run(job);
  EXPECT_EQ(timeless_log(tiny.output("out")), log);
  EXPECT_EQ(weight_bytes(tiny.output("out")), weights);
}

TEST(resume, of_a_finished_run_only_writes_its_artefacts_again) {
  TinyRun tiny;
  run(tiny.full_job("out"));
  const auto log = timeless_log(tiny.output("out"));
  const std::string weights = weight_bytes(tiny.output("out"));
  fs::remove(tiny.output("out/model.safetensors"));
  Recorder recorder;
  run(resumed(tiny.full_job("out")), recorder);
  EXPECT_TRUE(recorder.steps.empty());
  EXPECT_EQ(timeless_log(tiny.output("out")), log);
  EXPECT_EQ(weight_bytes(tiny.output("out")), weights);
}

TEST(resume, passes_over_what_is_not_whole) {
  TinyRun tiny;
  run(tiny.full_job("whole"));
  Recorder first(9);
  run(tiny.full_job("out"), first);  // checkpoint-4, -8, -9
  fs::resize_file(tiny.output("out/checkpoint-9/optimizer.safetensors"), 1000);
  std::string state = slurp(tiny.output("out/checkpoint-8/model.safetensors"));
  state[state.size() - 5] ^= 1;
  spill(tiny.output("out/checkpoint-8/model.safetensors"), state);
  fs::create_directory(tiny.output("out/checkpoint-12"));  // nothing in it
  fs::create_directory(tiny.output("out/checkpoint-11.moesmith-tmp"));
  Recorder second;
  run(resumed(tiny.full_job("out")), second);
  EXPECT_EQ(second.steps.front().step, 5);
  EXPECT_THAT(second.notes, Contains(HasSubstr("checkpoint-9/optimizer.safetensors: got 1000")));
  EXPECT_THAT(second.notes, Contains(HasSubstr("checkpoint-8/model.safetensors: its content")));
  EXPECT_THAT(second.notes, Contains(HasSubstr("checkpoint-12")));
  EXPECT_FALSE(fs::exists(tiny.output("out/checkpoint-11.moesmith-tmp")));
  expect_same_run(tiny.output("whole"), tiny.output("out"));
}

TEST(resume, refuses_a_checkpoint_of_another_run) {
  TinyRun tiny;
  Recorder first(5);
  run(tiny.full_job("out"), first);
  TrainJob job = resumed(tiny.full_job("out"));
  job.train.learning_rate = 2e-2;
  EXPECT_THAT(message_of(job, ErrorCode::kInvalidInput),
              HasSubstr("learning_rate was 0.01 there and is 0.02 here"));
  job = resumed(tiny.full_job("out"));
  spill(tiny.output("train.jsonl"), "{\"text\": \"another text, quite another\"}\n");
  EXPECT_THAT(message_of(job, ErrorCode::kInvalidInput), HasSubstr("training data"));
}

TEST(resume, refuses_other_base_weights) {
  TinyRun tiny;
  tiny.make_base();
  Recorder first(5);
  run(tiny.lora_job("out"), first);
  TrainJob other = tiny.full_job("base");
  other.overwrite_output_dir = true;
  other.train.learning_rate = 3e-2;
  run(other);
  EXPECT_THAT(message_of(resumed(tiny.lora_job("out")), ErrorCode::kInvalidInput),
              HasSubstr("base_model has other weights"));
}

TEST(resume, allows_more_steps_with_a_note) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  job.train.max_steps = 6;
  run(job);
  job = resumed(job);
  job.train.max_steps = 8;
  Recorder second;
  run(job, second);
  EXPECT_EQ(second.steps.front().step, 7);
  EXPECT_THAT(second.notes, Contains(HasSubstr("this run has 8")));
  job.train.max_steps = 5;
  EXPECT_THAT(message_of(job, ErrorCode::kInvalidInput),
              HasSubstr("raise num_epochs or max_steps"));
}

TEST(resume, needs_a_checkpoint_with_the_optimiser) {
  TinyRun tiny;
  TrainJob job = tiny.full_job("out");
  job.train.save_only_model = true;
  run(job);
  job.train.resume_from_checkpoint = tiny.output("out/checkpoint-4");
  EXPECT_THAT(message_of(job, ErrorCode::kInvalidInput), HasSubstr("save_only_model"));
  job.train.resume_from_checkpoint = tiny.output("out/checkpoint-5");
  EXPECT_THAT(message_of(job, ErrorCode::kNotFound), HasSubstr("checkpoint-5"));
  job = tiny.full_job("none");
  job.train.resume_from_checkpoint = "true";
  EXPECT_THAT(message_of(job, ErrorCode::kNotFound), HasSubstr("has no checkpoint"));
}

TEST(resume, stopped_before_the_first_step_leaves_nothing_in_the_way) {
  TinyRun tiny;
  Recorder recorder;
  recorder.stop.store(true);
  EXPECT_EQ(run(tiny.full_job("out"), recorder).outcome, TrainOutcome::kInterrupted);
  EXPECT_TRUE(recorder.saves.empty());
  EXPECT_EQ(run(tiny.full_job("out")).outcome, TrainOutcome::kFinished);
}

TEST(resume, two_runs_do_not_share_a_folder) {
  TinyRun tiny;
  const FolderLock lock(tiny.output("out"));
  EXPECT_THAT(message_of(tiny.full_job("out"), ErrorCode::kInvalidInput), HasSubstr("another run"));
}

// A limit on file sizes stands for a full disk: write() fails in the same way.
TEST(resume, survives_a_disk_that_fills_up) {
  TinyRun tiny;
  run(tiny.full_job("whole"));
  TrainJob job = tiny.full_job("out");
  Recorder first(5);
  run(job, first);
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto adapter = fs::file_size(tiny.output("out/checkpoint-5/optimizer.safetensors"));
  rlimit limit = before;
  limit.rlim_cur = adapter - 1;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const std::string message = message_of(resumed(job), ErrorCode::kIo);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(message, HasSubstr("optimizer.safetensors"));
  for (const auto& entry : fs::directory_iterator(tiny.output("out"))) {
    EXPECT_THAT(entry.path().string(), testing::Not(HasSubstr("moesmith-tmp")));
  }
  Recorder second;
  run(resumed(job), second);
  EXPECT_EQ(second.steps.front().step, 6);
  expect_same_run(tiny.output("whole"), tiny.output("out"));
}

}  // namespace
}  // namespace moesmith::train
