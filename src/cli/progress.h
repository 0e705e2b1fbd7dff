// SPDX-License-Identifier: Apache-2.0
// How a training run looks to a person: tables before the first step, a bar on a terminal and plain
// lines elsewhere, a summary at the end.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "train/trainer.h"

namespace moesmith::cli {

// "1:02:03", "4:05"; "-:--" for what is not known.
std::string duration_text(double seconds);
// "1,234,567"
std::string count_text(std::int64_t count);
// The status line: "step 12/400 [####------] loss 2.345  lr 1.9e-04  1,234 tok/s  ETA 1:02".
std::string status_text(const train::StepReport& report, int width);
// The plain line of a logged step.
std::string step_line(const train::StepReport& report);

class TrainProgress : public train::TrainObserver {
 public:
  void on_memory_plan(const train::MemoryPlan& plan) override;
  void on_start(const train::RunStart& start) override;
  void on_step(const train::StepReport& report) override;
  void on_evaluating(std::int64_t done, std::int64_t total) override;
  void on_evaluation(const train::EvalReport& report) override;
  void on_saved(const train::SaveReport& report) override;
  void on_sample(const train::SampleReport& report) override;
  void on_note(const std::string& note) override;

  // What came out of it, and what to do with it. `config_file` is for the command that is
  // suggested.
  void finish(const train::TrainResult& result, const std::string& run, bool adapter);

 private:
  std::optional<train::StepReport> last_;
  std::map<std::string, std::string> samples_before_;  // prompt -> text
  std::chrono::steady_clock::time_point drawn_{};
};

}  // namespace moesmith::cli
