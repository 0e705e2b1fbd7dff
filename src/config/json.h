// SPDX-License-Identifier: Apache-2.0
// A YAML tree as JSON text.
#pragma once

#include <string>

#include "config/tree.h"

namespace moesmith::config {

// Plain scalars become numbers, booleans and null as YAML 1.2 reads them; quoted ones are strings.
std::string to_json(const Node& node);

}  // namespace moesmith::config
