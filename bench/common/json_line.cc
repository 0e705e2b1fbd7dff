// SPDX-License-Identifier: Apache-2.0
#include "common/json_line.h"

#include <cmath>
#include <cstdio>
#include <fstream>

namespace moesmith::bench {
namespace {

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + "\"";
}

}  // namespace

JsonLine& JsonLine::raw(std::string_view key, std::string_view value) {
  if (!fields_.empty()) fields_ += ", ";
  fields_ += quoted(key);
  fields_ += ": ";
  fields_ += value;
  return *this;
}

JsonLine& JsonLine::text(std::string_view key, std::string_view value) {
  return raw(key, quoted(value));
}

JsonLine& JsonLine::number(std::string_view key, std::int64_t value) {
  return raw(key, std::to_string(value));
}

JsonLine& JsonLine::number(std::string_view key, double value, int digits) {
  if (!std::isfinite(value)) return raw(key, "null");
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return raw(key, buffer);
}

JsonLine& JsonLine::boolean(std::string_view key, bool value) {
  return raw(key, value ? "true" : "false");
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != line.npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace moesmith::bench
