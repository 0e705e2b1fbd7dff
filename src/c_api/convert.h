// SPDX-License-Identifier: Apache-2.0
// The C structs as those of moesmith/experts.h. Throws Error(kInvalidInput) for a struct of another
// size, a number that is no enumerator, or a negative byte count.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "moesmith/c_api.h"
#include "moesmith/experts.h"

namespace moesmith::c_api {

void check_struct(const char* name, std::uint32_t given, std::size_t expected);

experts::ExpertsRequest to_request(const moesmith_request& request);

using BasePointers = std::array<std::vector<const void*>, 3>;  // of gate_up, up and down

// The weights to pack, and the tables of base pointers that they refer to.
struct PackCall {
  PackCall(const experts::ExpertsRequest& request, const moesmith_pack_args& given);
  PackCall(const PackCall&) = delete;
  PackCall& operator=(const PackCall&) = delete;

  BasePointers bases;
  experts::ExpertsWeights weights;
  std::span<std::byte> packed;
};

// One call's arguments, and the tables of base pointers that they refer to.
struct ForwardCall {
  ForwardCall(const experts::ExpertsRequest& request, const moesmith_forward_args& given);
  ForwardCall(const ForwardCall&) = delete;
  ForwardCall& operator=(const ForwardCall&) = delete;

  BasePointers bases;
  experts::ForwardArgs args;
};

struct BackwardCall {
  BackwardCall(const experts::ExpertsRequest& request, const moesmith_backward_args& given);
  BackwardCall(const BackwardCall&) = delete;
  BackwardCall& operator=(const BackwardCall&) = delete;

  BasePointers bases;
  experts::BackwardArgs args;
};

}  // namespace moesmith::c_api
