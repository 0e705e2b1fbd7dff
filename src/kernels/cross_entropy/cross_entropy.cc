// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/rows/rows.h"

namespace moesmith::kernels::cross_entropy {

template <class T>
void forward(std::int64_t num_rows,
             std::int64_t vocab,
             const float* logits,
             const std::int32_t* labels,
             float grad_scale,
             double* losses,
             T* d_logits,
             ThreadPool& pool) {
  const auto& op = rows::ops<float>();
  pool.for_chunks(num_rows, 1, [&](std::int64_t begin, std::int64_t end) {
    // Exponentials go through blocks, so that neither the sum nor the gradient needs a second row.
    constexpr std::int64_t kBlock = 1024;
    float block[kBlock];
    for (std::int64_t i = begin; i < end; ++i) {
      const float* x = logits + i * vocab;
      const float max = op.max(x, vocab);
      double sum = 0;
      for (std::int64_t at = 0; at < vocab; at += kBlock) {
        sum += static_cast<double>(
            op.exp_shift(block, x + at, 1.0f, max, std::min(kBlock, vocab - at)));
      }
      const double log_sum = static_cast<double>(max) + std::log(sum);
      const float target = x[labels[i]];
      losses[i] = log_sum - static_cast<double>(target);
      if (d_logits == nullptr) continue;
      T* out = d_logits + i * vocab;
      const float scale = static_cast<float>(static_cast<double>(grad_scale) / sum);
      // softmax - 1 at the label, from the target's own value: out may be x.
      const double p = std::exp(static_cast<double>(target) - log_sum);
      for (std::int64_t at = 0; at < vocab; at += kBlock) {
        const std::int64_t n = std::min(kBlock, vocab - at);
        op.exp_shift(block, x + at, 1.0f, max, n);
        rows::ops<T>().from_f32(out + at, block, scale, n);
      }
      out[labels[i]] = T(static_cast<float>(static_cast<double>(grad_scale) * (p - 1.0)));
    }
  });
}

template void forward<float>(std::int64_t,
                             std::int64_t,
                             const float*,
                             const std::int32_t*,
                             float,
                             double*,
                             float*,
                             ThreadPool&);
template void forward<bf16>(std::int64_t,
                            std::int64_t,
                            const float*,
                            const std::int32_t*,
                            float,
                            double*,
                            bf16*,
                            ThreadPool&);

}  // namespace moesmith::kernels::cross_entropy
