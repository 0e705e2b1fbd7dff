// SPDX-License-Identifier: Apache-2.0
// Cross entropy of rows of logits against labels, and its gradient in place of the logits.
#pragma once

#include <cstdint>

#include "core/thread_pool.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels::cross_entropy {

// losses[i] = log(sum(exp(logits[i]))) - logits[i][labels[i]].
// Where d_logits is given: d_logits[i] = grad_scale * (softmax(logits[i]) - onehot(labels[i])); it
// may be `logits` itself when T is float. Every label is in [0, vocab).
template <class T>
void forward(std::int64_t num_rows,
             std::int64_t vocab,
             const float* logits,
             const std::int32_t* labels,
             float grad_scale,
             double* losses,
             T* d_logits,
             ThreadPool& pool);

}  // namespace moesmith::kernels::cross_entropy
