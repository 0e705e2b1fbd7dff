// SPDX-License-Identifier: Apache-2.0
// The compact form of the tables of keys that are not honoured: one reason, many names.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "config/schema.h"

namespace moesmith::config {

struct KnownGroup {
  std::string_view why;
  std::string_view names;  // separated by blanks
  std::string_view inert = "";
};

std::vector<KnownKey> flatten(std::span<const KnownGroup> groups);

}  // namespace moesmith::config
