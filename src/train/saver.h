// SPDX-License-Identifier: Apache-2.0
// checkpoint-N folders and the artefacts in output_dir: written, read back, and only then named.
#pragma once

#include "core/thread_pool.h"
#include "model/causal_lm.h"
#include "train/optimizer.h"
#include "train/saved_model.h"
#include "train/train_log.h"
#include "train/trainer.h"
#include "train/trainer_state.h"

namespace moesmith::train {

// All references must outlive it.
class Saver {
 public:
  Saver(const TrainJob& job,
        const BaseModel& base,
        model::CausalLM& model,
        const Optimizer& optimizer,
        TrainLog& log,
        ThreadPool& pool)
      : job_(job), base_(base), model_(model), optimizer_(optimizer), log_(log), pool_(pool) {}

  // output_dir/checkpoint-<step>, complete or not there at all; then the oldest are removed.
  SaveReport checkpoint(TrainerState state);
  // Weights or adapter, trainer_state.json and the loss plot into output_dir itself.
  SaveReport artefacts(TrainerState state);
  // "" unless plot_loss.
  std::string write_plot(const TrainerState& state) const;

 private:
  const TrainJob& job_;
  const BaseModel& base_;
  model::CausalLM& model_;
  const Optimizer& optimizer_;
  TrainLog& log_;
  ThreadPool& pool_;
};

// Overwrites masters and moments with the checkpoint's, then asks the model for the probe batch's
// loss: another one than the checkpoint noted means another base model, Error(kInvalidInput).
void restore(const std::string& folder,
             const TrainerState& state,
             model::CausalLM& model,
             Optimizer& optimizer);

}  // namespace moesmith::train
