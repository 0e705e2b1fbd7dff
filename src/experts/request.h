// SPDX-License-Identifier: Apache-2.0
// What any implementation may take for granted: a request that does not contradict itself and
// arguments that belong to it.
#pragma once

#include <string>

#include "moesmith/experts.h"

namespace moesmith::experts {

// Throws Error(kInvalidInput) naming the member, its value and what was expected.
void check_request(const ExpertsRequest& request);

// The same for the arguments of one call. `num_threads` is the pool's.
void check_forward(const ExpertsPlan& plan, const ForwardArgs& args, int num_threads);
void check_pack(const ExpertsPlan& plan, const ExpertsWeights& weights, std::size_t packed_bytes);
void check_backward(const ExpertsPlan& plan, const BackwardArgs& args, int num_threads);

const char* to_string(ActivationKind kind);
// "silu gated", "silu gated gate<=7 |up|<=7 alpha=1.702 up+1"
std::string to_string(const ActivationSpec& activation);

}  // namespace moesmith::experts
