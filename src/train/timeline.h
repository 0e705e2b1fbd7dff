// SPDX-License-Identifier: Apache-2.0
// Which optimiser steps a run has, which epoch and micro-batches each is made of, and after which
// of them it logs, evaluates and saves. Pure arithmetic over the number of micro-batches.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "train/options.h"

namespace moesmith::train {

// Micro-batches [first_batch, first_batch + num_batches) of `epoch`; the last step of an epoch may
// have fewer than gradient_accumulation_steps of them.
struct StepSlice {
  std::int64_t epoch = 0;
  std::int64_t first_batch = 0;
  std::int64_t num_batches = 0;
  double epoch_after = 0.0;  // epochs done after this step, as transformers counts: 1.25
  bool ends_epoch = false;
};

class Timeline {
 public:
  // batches_in_epoch(e) is the number of micro-batches of epoch e (packing may make it vary). The
  // run has max_steps steps, else the whole epochs in num_epochs and that share of the next one,
  // rounded up. Throws Error(kInvalidInput) when an epoch has no batch.
  Timeline(const TrainOptions& options,
           const std::function<std::int64_t(std::int64_t epoch)>& batches_in_epoch);

  std::int64_t total_steps() const noexcept { return total_steps_; }
  double num_epochs() const noexcept { return num_epochs_; }
  // The step after `steps_done` others; steps_done < total_steps().
  StepSlice slice(std::int64_t steps_done) const;

 private:
  struct Epoch {
    std::int64_t first_step, num_batches, num_steps;
  };
  std::vector<Epoch> epochs_;
  std::int64_t accumulation_;
  std::int64_t total_steps_ = 0;
  double num_epochs_ = 0.0;
};

// What follows an optimiser step.
struct StepActions {
  bool log = false, evaluate = false, save = false;
};

class Cadence {
 public:
  // Intervals below 1 are shares of all steps, rounded up; *_per_epoch counts
  // epochs of the data, also where max_steps ends the run within one. has_eval: there are rows to
  // evaluate on.
  Cadence(const TrainOptions& options, const Timeline& timeline, bool has_eval);

  // After `steps_done` steps, the last of which was `slice`. The last step of the run is always
  // logged, evaluated (when anything is) and, unless save_strategy is "no", saved.
  StepActions after(std::int64_t steps_done, const StepSlice& slice) const;
  bool evaluates() const noexcept { return eval_ != Interval::kNo; }
  std::int64_t log_every() const noexcept { return log_every_; }
  // 0 unless the interval is counted in steps.
  std::int64_t eval_every() const noexcept { return eval_every_; }
  std::int64_t save_every() const noexcept { return save_every_; }

 private:
  std::int64_t total_steps_;
  std::int64_t log_every_, eval_every_ = 0, save_every_ = 0;
  Interval eval_, save_;
  bool save_first_step_;
};

}  // namespace moesmith::train
