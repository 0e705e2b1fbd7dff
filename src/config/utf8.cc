// SPDX-License-Identifier: Apache-2.0
// UTF-8 check by the table of well-formed sequences (Unicode 15, table 3-7).
#include "config/utf8.h"

namespace moesmith::config {
namespace {

bool continues(std::string_view text,
               std::size_t i,
               unsigned char low = 0x80,
               unsigned char high = 0xBF) {
  if (i >= text.size()) {
    return false;
  }
  const auto byte = static_cast<unsigned char>(text[i]);
  return byte >= low && byte <= high;
}

// Bytes of the character that starts at i; 0 when none does.
std::size_t length_at(std::string_view text, std::size_t i) {
  const auto byte = static_cast<unsigned char>(text[i]);
  if (byte < 0x80) {
    const bool control =
        (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7F;
    return control ? 0 : 1;
  }
  if (byte >= 0xC2 && byte <= 0xDF) {
    return continues(text, i + 1) ? 2 : 0;
  }
  if (byte >= 0xE0 && byte <= 0xEF) {
    const unsigned char low = byte == 0xE0 ? 0xA0 : 0x80;
    const unsigned char high = byte == 0xED ? 0x9F : 0xBF;
    return continues(text, i + 1, low, high) && continues(text, i + 2) ? 3 : 0;
  }
  if (byte >= 0xF0 && byte <= 0xF4) {
    const unsigned char low = byte == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = byte == 0xF4 ? 0x8F : 0xBF;
    return continues(text, i + 1, low, high) && continues(text, i + 2) && continues(text, i + 3)
               ? 4
               : 0;
  }
  return 0;
}

}  // namespace

std::size_t first_invalid_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = length_at(text, i);
    if (length == 0) {
      return i;
    }
    i += length;
  }
  return text.size();
}

}  // namespace moesmith::config
