// SPDX-License-Identifier: Apache-2.0
// A fixed batch of random tokens that a model is recognised by: equal weights give equal logits.
#pragma once

#include <cstdint>
#include <string>

#include "model/batch.h"
#include "model/causal_lm.h"
#include "moesmith/tensor.h"

namespace moesmith::train {

// Two samples of 16 tokens, labelled; a function of vocab_size alone.
model::Batch probe_batch(std::int64_t vocab_size);

// Mean cross entropy per token of the probe batch.
double probe_loss(model::CausalLM& model);

struct LogitsDifference {
  double worst = 0.0;    // max |a - b|
  double largest = 0.0;  // max |b|
  bool bitwise = false;
};
// a and b f32, of one shape; NaN anywhere makes `worst` infinite.
LogitsDifference compare_logits(const Tensor& a, const Tensor& b);

// What may lie between a model and its copy read from disk: 0 is expected; kernels may sum in
// another order where memory is aligned otherwise. A share of the largest logit.
double logits_tolerance(DType compute_dtype);

// "logits bitwise equal", or "logits equal to 3.1e-07 of the largest". Throws Error(kIo) beyond
// the tolerance: what was saved at `folder` is not what was trained.
std::string check_logits(const LogitsDifference& difference,
                         DType compute_dtype,
                         const std::string& folder);

}  // namespace moesmith::train
