// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw/adamw.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/check.h"
#include "core/checked.h"

namespace moesmith::kernels::adamw {
namespace {

// 256 KiB of parameters: large enough to hide the hand-over, small enough to share evenly.
constexpr std::int64_t kUpdateChunk = 65536;
constexpr int kPartialSums = 16;

void update_portable(const Args& a, const Coefficients& c) {
  for (std::int64_t i = 0; i < a.count; ++i) {
    const float g = a.grad[i] * c.grad_scale;
    const float m = a.exp_avg[i] + c.one_minus_beta1 * (g - a.exp_avg[i]);
    const float v = a.exp_avg_sq[i] * c.beta2 + (c.one_minus_beta2 * g) * g;
    const float denominator = std::sqrt(v) / c.bias_sqrt + c.epsilon;
    a.exp_avg[i] = m;
    a.exp_avg_sq[i] = v;
    a.param[i] = a.param[i] * c.decay - (c.step_size * m) / denominator;
  }
}

double sum_of_squares_portable(const float* values, std::int64_t count) {
  double sums[kPartialSums] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    const double value = values[i];
    sums[i % kPartialSums] += value * value;
  }
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

constexpr Impl kImpls[] = {
#if defined(__x86_64__)
    {"avx512", IsaLevel::kAvx512, avx512::update, avx512::sum_of_squares},
    {"avx2", IsaLevel::kAvx2, avx2::update, avx2::sum_of_squares},
#endif
    {"portable", IsaLevel::kPortable, update_portable, sum_of_squares_portable},
};

}  // namespace

Coefficients coefficients(const Hyper& hyper, std::int64_t step, double grad_scale) {
  MOESMITH_ASSERT(step >= 1, "the bias correction divides by 0 at step 0");
  const double t = static_cast<double>(step);
  return {.grad_scale = static_cast<float>(grad_scale),
          .decay = static_cast<float>(1.0 - hyper.lr * hyper.weight_decay),
          .one_minus_beta1 = static_cast<float>(1.0 - hyper.beta1),
          .beta2 = static_cast<float>(hyper.beta2),
          .one_minus_beta2 = static_cast<float>(1.0 - hyper.beta2),
          .step_size = static_cast<float>(hyper.lr / (1.0 - std::pow(hyper.beta1, t))),
          .bias_sqrt = static_cast<float>(std::sqrt(1.0 - std::pow(hyper.beta2, t))),
          .epsilon = static_cast<float>(hyper.epsilon)};
}

std::span<const Impl> impls() { return kImpls; }

const Impl& select() {
  const IsaLevel isa = active_isa();
  return *std::find_if(std::begin(kImpls), std::end(kImpls),
                       [&](const Impl& impl) { return impl.needs <= isa; });
}

void run(const Args& args, const Coefficients& coefficients, ThreadPool& pool) {
  const Impl& impl = select();
  pool.for_chunks(args.count, kUpdateChunk, [&](std::int64_t begin, std::int64_t end) {
    impl.update({args.param + begin, args.exp_avg + begin, args.exp_avg_sq + begin,
                 args.grad + begin, end - begin},
                coefficients);
  });
}

double sum_of_squares(const float* values, std::int64_t count, ThreadPool& pool) {
  const Impl& impl = select();
  std::vector<double> sums(static_cast<std::size_t>(ceil_div(count, kNormChunk)));
  pool.run(static_cast<std::int64_t>(sums.size()), [&](std::int64_t chunk, int) {
    const std::int64_t begin = chunk * kNormChunk;
    sums[static_cast<std::size_t>(chunk)] =
        impl.sum_of_squares(values + begin, std::min(kNormChunk, count - begin));
  });
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace moesmith::kernels::adamw
