// SPDX-License-Identifier: Apache-2.0
// A model of a few thousand weights, a tokenizer and a text in a folder of the test's own, and runs
// on them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "temp_folder.h"
#include "train/trainer.h"

namespace moesmith::train {

class TinyRun {
 public:
  TinyRun();

  // Completion rows of 8 to 40 tokens, full-weight training from config.json alone, f32.
  TrainJob full_job(const std::string& output) const;
  // LoRA with dropout on attention, on weights that make_base() wrote.
  TrainJob lora_job(const std::string& output) const;
  // LoRA on attention and on both expert projections.
  TrainJob expert_lora_job(const std::string& output) const;
  // Trains the base model that the LoRA jobs start from, a few steps.
  void make_base();

  std::string output(const std::string& name) const { return folder_ / name; }
  const TempFolder& folder() const { return folder_; }

 private:
  TempFolder folder_;
};

// Keeps what was reported; stops the run after step `stop_after`.
class Recorder : public TrainObserver {
 public:
  explicit Recorder(std::int64_t stop_after = -1) : stop_after_(stop_after) {}
  void on_memory_plan(const MemoryPlan& value) override { plans.push_back(value); }
  void on_start(const RunStart& value) override { starts.push_back(value); }
  void on_step(const StepReport& value) override {
    steps.push_back(value);
    if (value.step == stop_after_) stop.store(true);
  }
  void on_evaluation(const EvalReport& value) override { evals.push_back(value); }
  void on_saved(const SaveReport& value) override { saves.push_back(value); }
  void on_sample(const SampleReport& value) override { samples.push_back(value); }
  void on_note(const std::string& value) override { notes.push_back(value); }

  StopToken stop{false};
  std::vector<MemoryPlan> plans;
  std::vector<RunStart> starts;
  std::vector<StepReport> steps;
  std::vector<EvalReport> evals;
  std::vector<SaveReport> saves;
  std::vector<SampleReport> samples;
  std::vector<std::string> notes;

 private:
  std::int64_t stop_after_;
};

TrainResult run(const TrainJob& job, Recorder& recorder, int threads = 2);
TrainResult run(const TrainJob& job, int threads = 2);

// trainer_log.jsonl without the fields that tell of time and memory.
std::vector<std::string> timeless_log(const std::string& output);
// The bytes of every weight file of a folder, one after the other.
std::string weight_bytes(const std::string& folder);

}  // namespace moesmith::train
