// SPDX-License-Identifier: Apache-2.0
// One line of a result file: a JSON object in the order in which it was filled.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moesmith::bench {

class JsonLine {
 public:
  JsonLine& text(std::string_view key, std::string_view value);
  JsonLine& number(std::string_view key, std::int64_t value);
  // Rounded to `digits` after the point.
  JsonLine& number(std::string_view key, double value, int digits);
  JsonLine& boolean(std::string_view key, bool value);
  std::string finish() const { return "{" + fields_ + "}"; }

 private:
  JsonLine& raw(std::string_view key, std::string_view value);

  std::string fields_;
};

// "model name" of the first processor.
std::string processor_name();

}  // namespace moesmith::bench
