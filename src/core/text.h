// SPDX-License-Identifier: Apache-2.0
// str(a, b, ...): the parts written one after the other. GCC 12 has no std::format.
// nearest(): the known name that a misspelt one most likely meant.
#pragma once

#include <span>
#include <sstream>
#include <string>
#include <string_view>

namespace moesmith {

template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

// The name with the least edit distance, or "" when none is within a third of the word's length.
std::string nearest(std::string_view word, std::span<const std::string> known);
// "1.5 GiB", "12 MiB", "900 B": the largest unit that keeps the number at 1 or more.
std::string human_bytes(double bytes);

}  // namespace moesmith
