// SPDX-License-Identifier: Apache-2.0
// The activation as a kernel parameter: ActivationSpec of moesmith/experts.h with absent limits as
// infinity.
#pragma once

#include "moesmith/experts.h"

namespace moesmith::kernels::gpu {

struct Activation {
  experts::ActivationKind kind = experts::ActivationKind::kSilu;
  bool gated = true;
  bool interleaved = false;  // h is g0, u0, g1, u1, ...; else gates first
  float gate_max = 0, up_limit = 0, alpha = 1, up_shift = 0;

  static Activation of(const experts::ExpertsRequest& request);
};

}  // namespace moesmith::kernels::gpu
