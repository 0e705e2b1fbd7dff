// SPDX-License-Identifier: Apache-2.0
// Where the time of a run's steps went, part by part.
#pragma once

#include <cstdint>
#include <vector>

#include "core/profile.h"
#include "train/trainer.h"

namespace moesmith::train {

// Shares and rates of what profile::take() gave for `steps` steps, in its order.
std::vector<ProfilePart> profile_parts(const std::vector<profile::Line>& lines, std::int64_t steps);

// Measures the steps of one run and nothing between them. Off, it does nothing.
class StepProfile {
 public:
  explicit StepProfile(bool on);
  ~StepProfile();
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;

  void begin_step() const;
  void end_step();
  // To be called once, after the last step.
  void finish(TrainResult& result);

 private:
  bool on_;
  std::int64_t steps_ = 0;
  std::vector<profile::Line> first_;
};

}  // namespace moesmith::train
