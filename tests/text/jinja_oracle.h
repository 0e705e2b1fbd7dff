// SPDX-License-Identifier: Apache-2.0
// Python's jinja2 as an oracle, where it can be imported.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"

namespace moesmith::text {

struct OracleRequest {
  std::string source;
  io::Json variables;  // object
};

// What tests/data/jinja/oracle.py answers to each request: an object with "text" or "error".
// Empty when no Python here can import jinja2.
std::vector<io::Json> ask_oracle(const std::vector<OracleRequest>& requests);

}  // namespace moesmith::text
