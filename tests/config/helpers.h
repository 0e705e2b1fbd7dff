// SPDX-License-Identifier: Apache-2.0
// A small valid configuration to which tests add lines, and the message of the error it ends in.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "moesmith/error.h"

namespace moesmith::config {

// Four lines; what a test adds begins in line 5.
inline const std::string kBase =
    "base_model: m\n"
    "learning_rate: 1e-4\n"
    "datasets:\n"
    "  - {path: d.jsonl, type: alpaca}\n";

inline Config parse(const std::string& more,
                    const std::vector<Override>& overrides = {},
                    Purpose purpose = Purpose::kTrain) {
  return parse_config(kBase + more, "run.yml", overrides, purpose);
}

// The error's text; "" when there is none.
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline std::string parse_error(const std::string& more,
                               const std::vector<Override>& overrides = {}) {
  return error_of([&] { parse(more, overrides); });
}

}  // namespace moesmith::config
