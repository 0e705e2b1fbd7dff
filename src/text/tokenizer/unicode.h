// SPDX-License-Identifier: Apache-2.0
// UTF-8 in and out, the character classes that tokenizers ask for, and the Unicode normal forms.
// Everything but to_valid_utf8 and append_lossy takes valid UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace moesmith::text::unicode {

// `text` with each maximal invalid sequence replaced by U+FFFD (Unicode 3.9, "substitution of
// maximal subparts").
std::string to_valid_utf8(std::string_view text);
bool is_valid_utf8(std::string_view text);

// The character that starts at `text[at]`; `at` moves behind it. at < text.size().
inline char32_t next(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) {
    ++at;
    return lead;
  }
  char32_t c;
  if (lead < 0xe0) {
    c = static_cast<char32_t>((lead & 0x1f) << 6 | (byte(at + 1) & 0x3f));
    at += 2;
  } else if (lead < 0xf0) {
    c = static_cast<char32_t>((lead & 0x0f) << 12 | (byte(at + 1) & 0x3f) << 6 |
                              (byte(at + 2) & 0x3f));
    at += 3;
  } else {
    c = static_cast<char32_t>((lead & 0x07) << 18 | (byte(at + 1) & 0x3f) << 12 |
                              (byte(at + 2) & 0x3f) << 6 | (byte(at + 3) & 0x3f));
    at += 4;
  }
  return c;
}

// Position where the character before `at` starts. at > 0.
inline std::size_t previous(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
  return at;
}

void append(std::string& out, char32_t c);

bool is_whitespace(char32_t c);      // White_Space
bool is_numeric(char32_t c);         // Nd, Nl, No
bool is_punctuation(char32_t c);     // P*, and ASCII's symbols
bool is_combining_mark(char32_t c);  // Mn, Mc, Me
bool is_word(char32_t c);            // Alphabetic, M*, Nd, Pc, Join_Control

enum class Form { kNfc, kNfd, kNfkc, kNfkd };
std::string normalize(std::string_view text, Form form);
std::string lowercase(std::string_view text);

}  // namespace moesmith::text::unicode
