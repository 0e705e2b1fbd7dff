// SPDX-License-Identifier: Apache-2.0
// Filling option structs from a tree by a table of keys, and sorting out the keys that are not
// honoured.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace moesmith::config {

// One mapping or a list of them. Keys without effect add to config.notices.
std::vector<train::DatasetOptions> read_datasets(Config& config, const Node& node);
// One data set as a YAML flow mapping of the values that differ from the defaults, path and type
// always.
std::string dataset_yaml(const train::DatasetOptions& dataset);
// Fills `config` from a mapping of keys. Null values leave the default.
void read_config(Config& config, const Node& root);
// Lays the flags over the tree before it is read.
void apply_overrides(Node& root, const std::vector<Override>& overrides);

}  // namespace moesmith::config
