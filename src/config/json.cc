// SPDX-License-Identifier: Apache-2.0
// YAML tree to JSON text, in one line.
#include "config/json.h"

#include "config/scalar.h"

namespace moesmith::config {

std::string to_json(const Node& node) {
  std::string out;
  switch (node.kind) {
    case Node::Kind::kNull:
      return "null";
    case Node::Kind::kScalar:
      if (node.plain && (node.text == "true" || node.text == "True" || node.text == "TRUE")) {
        return "true";
      }
      if (node.plain && (node.text == "false" || node.text == "False" || node.text == "FALSE")) {
        return "false";
      }
      if (const auto number = node.plain ? parse_number(node.text) : std::nullopt) {
        const auto integer = parse_integer(node.text);
        const bool real = node.text.find_first_of(".eE") != std::string::npos;
        if (integer && !real) {
          return std::to_string(*integer);
        }
        // 10000.0 stays a real number for readers that tell 1 from 1.0.
        const std::string shown = number_text(*number);
        return shown.find_first_of(".e") == std::string::npos ? shown + ".0" : shown;
      }
      return json_text(node.text);
    case Node::Kind::kList:
      for (const Node& item : node.items) {
        out += (out.empty() ? "" : ", ") + to_json(item);
      }
      return "[" + out + "]";
    case Node::Kind::kMap:
      for (std::size_t i = 0; i < node.items.size(); ++i) {
        out += (out.empty() ? "" : ", ") + json_text(node.keys[i]) + ": " + to_json(node.items[i]);
      }
      return "{" + out + "}";
  }
  return out;
}

}  // namespace moesmith::config
