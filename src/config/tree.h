// SPDX-License-Identifier: Apache-2.0
// A YAML document as a plain tree that remembers where each value stands. The only view of YAML
// that the rest of config has; tree.cc is the only file that knows the parser.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moesmith/error.h"

namespace moesmith::config {

// Where a value was written: "run.yml:3:12", or "--learning-rate" for a value of the command line.
struct Location {
  std::shared_ptr<const std::string> source;
  int line = 0;  // 1-based; 0: the source alone says it all
  int column = 0;

  std::string str() const;
};

struct Node {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  std::string text;    // of a scalar
  bool plain = false;  // a scalar without quotes
  Location at;
  std::vector<Node> items;        // of a list, or the values of a map
  std::vector<std::string> keys;  // of a map, unique, one per item
  std::vector<Location> key_at;   // of a map, one per item

  const Node* find(std::string_view key) const;
  Node* find(std::string_view key);
  // Adds or replaces a map's entry.
  void set(std::string_view key, Node value);
};

// "run.yml:3:12: lora_r: got x, expected an integer >= 1"
[[noreturn]] void fail(const Location& at, std::string_view what);
// What stands there, for a message: "abc" in quotes, "a list", "a mapping", "nothing".
std::string describe(const Node& node);

// A scalar that is not subject to YAML's rules, as a flag's value.
Node scalar_node(std::string_view text, const Location& at);
// One document. Throws Error(kInvalidInput) with source:line:column for text that is not UTF-8 or
// not YAML, duplicate keys, tags, more than one document, and aliases that blow the tree up.
Node parse_yaml(std::string_view text, const std::string& source);
// As above for a flag's value such as `[q_proj, k_proj]`; all locations are `at`.
Node parse_yaml_value(std::string_view text, const Location& at);

}  // namespace moesmith::config
