// SPDX-License-Identifier: Apache-2.0
// From router logits to experts and weights: p = softmax(logits); the top_k largest p, the lower
// index first on ties; optionally divided by their sum.
#pragma once

#include <cstdint>

#include "core/thread_pool.h"

namespace moesmith::kernels::router {

struct Problem {
  std::int64_t num_tokens = 0, num_experts = 0, top_k = 0;
  bool renormalise = false;
};

// index and weights [num_tokens, top_k], largest first.
void forward(const Problem& problem,
             const float* logits,  // [num_tokens, num_experts]
             std::int32_t* index,
             float* weights,
             ThreadPool& pool);

// Load-balancing statistics of one layer: counts[e] += slots routed to e, prob_sums[e] += sum over
// tokens of p[e]. Summed in token order.
void add_balance_statistics(const Problem& problem,
                            const float* logits,
                            const std::int32_t* index,
                            double* counts,
                            double* prob_sums);

// d_logits [num_tokens, num_experts], overwritten, from d_weights [num_tokens, top_k]. d_prob
// [num_experts] is added to the gradient of each token's p (load balancing); nullptr for none.
void backward(const Problem& problem,
              const float* logits,
              const std::int32_t* index,
              const float* d_weights,
              const float* d_prob,
              float* d_logits,
              ThreadPool& pool);

}  // namespace moesmith::kernels::router
