// SPDX-License-Identifier: Apache-2.0
// Which implementation `auto` prefers for a problem: a checked-in table, measured once, and a pure
// function of the request. What an implementation refuses it still refuses: `auto` takes the first
// of the order that accepts.
#pragma once

#include <span>
#include <string>

#include "moesmith/experts.h"

namespace moesmith::experts {

struct AutoChoice {
  std::span<const char* const> order;  // names of the table, the preferred one first
  std::string why;                     // "decoding: max_tokens 1 <= 16", "max_tokens 1024 > 16"
};

AutoChoice auto_choice(const ExpertsRequest& request);

}  // namespace moesmith::experts
