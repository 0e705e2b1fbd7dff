// SPDX-License-Identifier: Apache-2.0
#include "train/step_profile.h"

#include <algorithm>

namespace moesmith::train {

std::vector<ProfilePart> profile_parts(const std::vector<profile::Line>& lines,
                                       std::int64_t steps) {
  double total = 0.0;
  for (const profile::Line& line : lines) total += line.seconds;
  const auto count = static_cast<double>(std::max<std::int64_t>(steps, 1));
  std::vector<ProfilePart> parts;
  for (const profile::Line& line : lines) {
    ProfilePart part{line.name, line.seconds / count, 0.0, std::nullopt};
    if (total > 0) part.share = line.seconds / total;
    if (line.flops > 0 && line.seconds > 0) part.gflops = line.flops / line.seconds * 1e-9;
    parts.push_back(std::move(part));
  }
  return parts;
}

StepProfile::StepProfile(bool on) : on_(on) {
  if (on_) profile::take();  // what a run before this one may have left
}

StepProfile::~StepProfile() {
  if (on_) profile::enable(false);
}

void StepProfile::begin_step() const {
  if (on_) profile::enable(true);
}

void StepProfile::end_step() {
  if (!on_) return;
  profile::enable(false);
  if (++steps_ == 1) first_ = profile::take();
}

void StepProfile::finish(TrainResult& result) {
  if (!on_ || steps_ == 0) return;
  result.profiled_steps = std::max<std::int64_t>(1, steps_ - 1);
  result.profile = profile_parts(steps_ == 1 ? first_ : profile::take(), result.profiled_steps);
}

}  // namespace moesmith::train
