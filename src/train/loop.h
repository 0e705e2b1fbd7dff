// SPDX-License-Identifier: Apache-2.0
// The loop: accumulated micro-batches to optimiser steps, with logging, evaluation and saving
// between them.
#pragma once

#include <functional>

#include "model/causal_lm.h"
#include "train/batch_source.h"
#include "train/optimizer.h"
#include "train/saver.h"
#include "train/timeline.h"
#include "train/train_log.h"
#include "train/trainer.h"
#include "train/trainer_state.h"

namespace moesmith::train {

// What the loop works on; all references outlive it.
struct LoopParts {
  const TrainJob& job;
  model::CausalLM& model;
  Optimizer& optimizer;
  BatchSource& train_data;
  BatchSource* eval_data;  // nullptr: nothing to evaluate on
  const Timeline& timeline;
  const Cadence& cadence;
  TrainLog& log;
  Saver& saver;
  TrainObserver& observer;
  const StopToken& stop;
};

// From `state` (zero, or a checkpoint's) to the end or to `stop`. Logs, evaluates and saves
// checkpoints on the way; the artefacts in output_dir are the caller's. `state` is left as of the
// last whole step.
TrainResult run_loop(const LoopParts& parts, TrainerState& state);

// Mean cross entropy per trained token over the whole source. Nothing when `stop` was set.
std::optional<EvalReport> evaluate(model::CausalLM& model,
                                   BatchSource& data,
                                   const std::function<void(std::int64_t, std::int64_t)>& progress,
                                   const StopToken& stop);

}  // namespace moesmith::train
