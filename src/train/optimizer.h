// SPDX-License-Identifier: Apache-2.0
// AdamW over a model's trainable parameters: their moments, the global gradient norm, clipping.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "model/parameter.h"
#include "train/options.h"

namespace moesmith::train {

class Optimizer {
 public:
  // Keeps the trainable ones of `parameters`, which must outlive it, in their order. The moments
  // are f32, zero, two per element.
  Optimizer(const std::vector<model::Parameter*>& parameters,
            const TrainOptions& options,
            ThreadPool& pool);

  void zero_grads();
  // Euclidean norm over all gradients, summed in double in a fixed order.
  double grad_norm() const;
  // One step with the gradients as they stand, scaled by max_grad_norm / (grad_norm + 1e-6) where
  // that is below 1 (torch's clip_grad_norm_); max_grad_norm 0 clips nothing. `steps_done` counts
  // the steps before this one. The model's sync_values() is the caller's to call.
  void step(double lr, std::int64_t steps_done, double grad_norm);

  struct Slot {
    model::Parameter* parameter;
    Tensor exp_avg, exp_avg_sq;  // f32, the parameter's shape
    bool decays;                 // weight_decay applies: not to biases and norms
  };
  std::vector<Slot>& slots() noexcept { return slots_; }
  const std::vector<Slot>& slots() const noexcept { return slots_; }

 private:
  std::vector<Slot> slots_;
  double beta1_, beta2_, epsilon_, weight_decay_, max_grad_norm_;
  ThreadPool& pool_;
};

// False for biases and normalisation weights, as transformers groups parameters.
bool weight_decay_applies(const std::string& parameter_name);

}  // namespace moesmith::train
