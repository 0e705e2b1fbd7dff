// SPDX-License-Identifier: Apache-2.0
#include "kernels/router/router.h"

#include <algorithm>
#include <vector>

#include "kernels/rows/rows.h"

namespace moesmith::kernels::router {
namespace {

constexpr std::int64_t kChunk = 32;

void softmax(const float* logits, std::int64_t n, float* p) {
  const auto& op = rows::ops<float>();
  const float sum = op.exp_shift(p, logits, 1.0f, op.max(logits, n), n);
  op.to_f32(p, p, 1.0f / sum, n);
}

// Slot s holds the s-th largest; a later index never displaces an equal earlier one.
void top_k(const float* p, std::int64_t n, std::int64_t k, std::int32_t* index, float* value) {
  std::int64_t filled = 0;
  for (std::int64_t e = 0; e < n; ++e) {
    if (filled == k && !(p[e] > value[k - 1])) continue;
    std::int64_t at = filled < k ? filled++ : k - 1;
    for (; at > 0 && p[e] > value[at - 1]; --at) {
      value[at] = value[at - 1];
      index[at] = index[at - 1];
    }
    value[at] = p[e];
    index[at] = static_cast<std::int32_t>(e);
  }
}

}  // namespace

void forward(const Problem& problem,
             const float* logits,
             std::int32_t* index,
             float* weights,
             ThreadPool& pool) {
  const std::int64_t n = problem.num_experts, k = problem.top_k;
  pool.for_chunks(problem.num_tokens, kChunk, [&](std::int64_t begin, std::int64_t end) {
    thread_local std::vector<float> p;
    p.resize(static_cast<std::size_t>(n));
    for (std::int64_t t = begin; t < end; ++t) {
      softmax(logits + t * n, n, p.data());
      float* w = weights + t * k;
      top_k(p.data(), n, k, index + t * k, w);
      if (problem.renormalise) {
        float sum = 0;
        for (std::int64_t s = 0; s < k; ++s) sum += w[s];
        for (std::int64_t s = 0; s < k; ++s) w[s] /= sum;
      }
    }
  });
}

void add_balance_statistics(const Problem& problem,
                            const float* logits,
                            const std::int32_t* index,
                            double* counts,
                            double* prob_sums) {
  const std::int64_t n = problem.num_experts;
  std::vector<float> p(static_cast<std::size_t>(n));
  for (std::int64_t t = 0; t < problem.num_tokens; ++t) {
    softmax(logits + t * n, n, p.data());
    for (std::int64_t e = 0; e < n; ++e) {
      prob_sums[e] += static_cast<double>(p[static_cast<std::size_t>(e)]);
    }
    for (std::int64_t s = 0; s < problem.top_k; ++s) counts[index[t * problem.top_k + s]] += 1;
  }
}

void backward(const Problem& problem,
              const float* logits,
              const std::int32_t* index,
              const float* d_weights,
              const float* d_prob,
              float* d_logits,
              ThreadPool& pool) {
  const std::int64_t n = problem.num_experts, k = problem.top_k;
  pool.for_chunks(problem.num_tokens, kChunk, [&](std::int64_t begin, std::int64_t end) {
    thread_local std::vector<float> p, dp;
    p.resize(static_cast<std::size_t>(n));
    dp.resize(static_cast<std::size_t>(n));
    for (std::int64_t t = begin; t < end; ++t) {
      softmax(logits + t * n, n, p.data());
      if (d_prob != nullptr) {
        std::copy(d_prob, d_prob + n, dp.begin());
      } else {
        std::fill(dp.begin(), dp.end(), 0.0f);
      }
      const std::int32_t* chosen = index + t * k;
      const float* dw = d_weights + t * k;
      float sum = 1.0f, inner = 0.0f;
      if (problem.renormalise) {
        // w_s = p_s / sum: dp_s = (dw_s - <dw, w>) / sum.
        sum = 0;
        for (std::int64_t s = 0; s < k; ++s) sum += p[static_cast<std::size_t>(chosen[s])];
        for (std::int64_t s = 0; s < k; ++s) {
          inner += dw[s] * p[static_cast<std::size_t>(chosen[s])] / sum;
        }
      }
      for (std::int64_t s = 0; s < k; ++s) {
        dp[static_cast<std::size_t>(chosen[s])] += (dw[s] - inner) / sum;
      }
      const float mean = rows::ops<float>().dot(p.data(), dp.data(), n);
      float* out = d_logits + t * n;
      for (std::int64_t e = 0; e < n; ++e) {
        const auto i = static_cast<std::size_t>(e);
        out[e] = p[i] * (dp[i] - mean);
      }
    }
  });
}

}  // namespace moesmith::kernels::router
