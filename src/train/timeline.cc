// SPDX-License-Identifier: Apache-2.0
#include "train/timeline.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/check.h"
#include "core/checked.h"
#include "core/text.h"
#include "train/schedule.h"

namespace moesmith::train {
namespace {

// ceil() that forgives the rounding of a product such as 0.1 * 30.
std::int64_t ceil_steps(double steps) {
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(steps - 1e-9)));
}

Interval interval(const std::optional<Interval>& strategy, bool counted) {
  if (strategy) return *strategy;
  return counted ? Interval::kSteps : Interval::kEpoch;
}

std::int64_t every(const std::optional<double>& steps,
                   const std::optional<std::int64_t>& per_epoch,
                   std::int64_t fallback,
                   const Timeline& timeline) {
  const double total = static_cast<double>(timeline.total_steps());
  if (per_epoch) {
    return ceil_steps(total / (static_cast<double>(*per_epoch) * timeline.num_epochs()));
  }
  if (!steps) return fallback;
  return ceil_steps(*steps < 1.0 ? total * *steps : *steps);
}

// transformers' save_steps and eval_steps under `*_strategy: steps` alone.
constexpr std::int64_t kDefaultInterval = 500;

}  // namespace

Timeline::Timeline(const TrainOptions& options,
                   const std::function<std::int64_t(std::int64_t)>& batches_in_epoch)
    : accumulation_(options.gradient_accumulation_steps) {
  const double epochs = options.num_epochs;
  for (std::int64_t e = 0;; ++e) {
    if (options.max_steps ? total_steps_ >= *options.max_steps
                          : static_cast<double>(e) >= epochs - 1e-9) {
      break;
    }
    const std::int64_t batches = batches_in_epoch(e);
    if (batches < 1) {
      throw Error(ErrorCode::kInvalidInput,
                  str("train: epoch ", e,
                      " has no batch, expected at least one: no row is left "
                      "after filtering, or fewer than one packed batch"));
    }
    const std::int64_t steps = ceil_div(batches, accumulation_);
    epochs_.push_back({total_steps_, batches, steps});
    const double share = std::min(1.0, epochs - static_cast<double>(e));
    const bool whole = options.max_steps.has_value() || share > 1.0 - 1e-9;
    total_steps_ += whole ? steps : ceil_steps(static_cast<double>(steps) * share);
  }
  if (options.max_steps) total_steps_ = *options.max_steps;
  if (total_steps_ < 1) {
    throw Error(ErrorCode::kInvalidInput, "train: no step to make, got num_epochs or max_steps 0");
  }
  num_epochs_ = slice(total_steps_ - 1).epoch_after;
}

StepSlice Timeline::slice(std::int64_t steps_done) const {
  MOESMITH_ASSERT(steps_done >= 0 && steps_done < total_steps_, "a step beyond the last");
  const auto next = std::upper_bound(
      epochs_.begin(), epochs_.end(), steps_done,
      [](std::int64_t step, const Epoch& epoch) { return step < epoch.first_step; });
  const Epoch& epoch = *(next - 1);
  const std::int64_t index = next - 1 - epochs_.begin();
  const std::int64_t step = steps_done - epoch.first_step;
  StepSlice slice;
  slice.epoch = index;
  slice.first_batch = step * accumulation_;
  slice.num_batches = std::min(accumulation_, epoch.num_batches - slice.first_batch);
  slice.epoch_after = static_cast<double>(index) +
                      static_cast<double>(step + 1) / static_cast<double>(epoch.num_steps);
  slice.ends_epoch = step + 1 == epoch.num_steps;
  return slice;
}

Cadence::Cadence(const TrainOptions& options, const Timeline& timeline, bool has_eval)
    : total_steps_(timeline.total_steps()),
      log_every_(logging_steps(options, timeline.total_steps())),
      eval_(has_eval
                ? interval(options.eval_strategy, options.eval_steps || options.evals_per_epoch)
                : Interval::kNo),
      save_(interval(options.save_strategy, options.save_steps || options.saves_per_epoch)),
      save_first_step_(options.save_first_step) {
  if (eval_ == Interval::kSteps) {
    eval_every_ = every(options.eval_steps, options.evals_per_epoch, log_every_, timeline);
  }
  if (save_ == Interval::kSteps) {
    save_every_ = every(options.save_steps, options.saves_per_epoch, kDefaultInterval, timeline);
  }
}

StepActions Cadence::after(std::int64_t steps_done, const StepSlice& slice) const {
  const bool last = steps_done == total_steps_;
  const auto due = [&](Interval interval, std::int64_t every) {
    if (interval == Interval::kNo) return false;
    if (last) return true;
    return interval == Interval::kEpoch ? slice.ends_epoch : steps_done % every == 0;
  };
  StepActions actions;
  actions.log = last || steps_done % log_every_ == 0;
  actions.evaluate = due(eval_, eval_every_);
  actions.save = due(save_, save_every_) || (save_first_step_ && steps_done == 1);
  return actions;
}

}  // namespace moesmith::train
