// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moesmith::train {

std::int64_t warmup_steps(const TrainOptions& options, std::int64_t total_steps) {
  const double total = static_cast<double>(total_steps);
  std::int64_t steps;
  if (options.warmup_steps) {
    steps = *options.warmup_steps;
  } else if (options.warmup_ratio) {
    steps = static_cast<std::int64_t>(*options.warmup_ratio * total);
  } else {
    steps = std::min<std::int64_t>(static_cast<std::int64_t>(0.03 * total), 100);
  }
  return steps == 1 ? 2 : steps;
}

std::int64_t logging_steps(const TrainOptions& options, std::int64_t total_steps) {
  if (options.logging_steps) return *options.logging_steps;
  const auto share = static_cast<std::int64_t>(0.005 * static_cast<double>(total_steps));
  return std::clamp<std::int64_t>(share, 1, 10);
}

double learning_rate(const TrainOptions& options,
                     std::int64_t steps_done,
                     std::int64_t warmup_steps,
                     std::int64_t total_steps) {
  const double base = options.learning_rate;
  if (options.lr_scheduler == LrSchedule::kConstant) return base;
  const double done = static_cast<double>(steps_done);
  const double warmup = static_cast<double>(warmup_steps);
  if (steps_done < warmup_steps) return base * (done / std::max(1.0, warmup));
  const double decay_steps = std::max(1.0, static_cast<double>(total_steps - warmup_steps));
  switch (options.lr_scheduler) {
    case LrSchedule::kCosine: {
      const double progress = (done - warmup) / decay_steps;
      const double cosine = std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
      const double floor = options.cosine_min_lr_ratio;
      return base * ((1.0 - floor) * cosine + floor);
    }
    case LrSchedule::kLinear:
      return base * std::max(0.0, static_cast<double>(total_steps - steps_done) / decay_steps);
    case LrSchedule::kConstant:
    case LrSchedule::kConstantWithWarmup:
      break;
  }
  return base;
}

}  // namespace moesmith::train
