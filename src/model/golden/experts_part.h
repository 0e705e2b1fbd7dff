// SPDX-License-Identifier: Apache-2.0
// The experts layer alone against golden data: output and gradients by hidden states and weights.
#pragma once

#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "model/causal_lm.h"
#include "moesmith/tensor.h"

namespace moesmith::model {

struct ExpertsError {
  std::string tensor;
  double error;
};
// Runs the experts of the module that experts.safetensors names.
std::vector<ExpertsError> experts_errors(const LoadRequest& request,
                                         const std::string& folder,
                                         ThreadPool& pool);

void check_same_shape(const Tensor& got, const Tensor& want);
// max |got - want| / max |want|, over f32 tensors with as many elements; NaN when either has one.
double relative_max_error(const Tensor& got, const Tensor& want);

}  // namespace moesmith::model
