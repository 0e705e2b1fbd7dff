// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/lexer_literals.h"

#include <cstdio>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/semantics.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text::jinja {
namespace {

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

// (\d+_)*\d+ at `at`; the position behind it.
std::size_t digits(std::string_view text, std::size_t at) {
  const std::size_t begin = at;
  while (at < text.size() &&
         (is_ascii_digit(text[at]) || (text[at] == '_' && at > begin && text[at - 1] != '_' &&
                                       at + 1 < text.size() && is_ascii_digit(text[at + 1])))) {
    ++at;
  }
  return at;
}

std::size_t float_length(std::string_view text) {
  const std::size_t whole = digits(text, 0);
  if (whole == 0) return 0;
  std::size_t end = whole;
  if (end < text.size() && text[end] == '.') {
    const std::size_t fraction = digits(text, end + 1);
    if (fraction > end + 1) end = fraction;
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    std::size_t exponent = end + 1;
    if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
    const std::size_t exponent_end = digits(text, exponent);
    if (exponent_end > exponent) return exponent_end;
  }
  return end > whole ? end : 0;
}

std::size_t prefixed_length(std::string_view text, std::string_view allowed) {
  std::size_t at = 2;
  while (at < text.size()) {
    const std::size_t digit = text[at] == '_' ? at + 1 : at;
    if (digit >= text.size() || allowed.find(text[digit]) == allowed.npos) break;
    at = digit + 1;
  }
  return at > 2 ? at : 0;
}

std::size_t integer_length(std::string_view text) {
  if (text.size() > 2 && text[0] == '0') {
    const char kind = static_cast<char>(text[1] | 0x20);
    const std::string_view allowed = kind == 'b'   ? "01"
                                     : kind == 'o' ? "01234567"
                                     : kind == 'x' ? "0123456789abcdefABCDEF"
                                                   : "";
    if (const std::size_t length = prefixed_length(text, allowed); !allowed.empty() && length > 0) {
      return length;
    }
  }
  if (text[0] != '0') return digits(text, 0);
  std::size_t at = 1;  // zero may be written with more zeros, but no other digit follows it
  while (at < text.size() &&
         (text[at] == '0' || (text[at] == '_' && at + 1 < text.size() && text[at + 1] == '0'))) {
    ++at;
  }
  return at;
}

int hex_digit(char c) {
  if (is_ascii_digit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// `count` hexadecimal digits at `at`.
char32_t hex(std::string_view text, std::size_t at, std::size_t count) {
  char32_t value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const int digit = at + i < text.size() ? hex_digit(text[at + i]) : -1;
    if (digit < 0)
      fail("the escape \\", text.substr(at - 1, count + 1), " in a string is truncated");
    value = value * 16 + static_cast<char32_t>(digit);
  }
  return value;
}

// What Python makes of a backslash before a character outside of ASCII: the escape itself, as text.
void append_backslash_replacement(std::string& out, char32_t c) {
  char text[16];
  std::snprintf(text, sizeof text,
                c < 0x100     ? "x%02x"
                : c < 0x10000 ? "u%04x"
                              : "U%08x",
                static_cast<unsigned>(c));
  out += '\\';
  out += text;
}

void append_code_point(std::string& out, char32_t c) {
  if (c > 0x10ffff) fail("an escape in a string is beyond U+10FFFF");
  if (c >= 0xd800 && c <= 0xdfff) unsupported("a surrogate in a string");
  unicode::append(out, c);
}

// The escape whose letter is at `at`; returns the position behind it.
std::size_t escape(std::string_view text, std::size_t at, std::string& out) {
  const char c = text[at];
  switch (c) {
    case '\n':
      return at + 1;
    case '\\':
    case '\'':
    case '"':
      out += c;
      return at + 1;
    case 'a':
      out += '\a';
      return at + 1;
    case 'b':
      out += '\b';
      return at + 1;
    case 'f':
      out += '\f';
      return at + 1;
    case 'n':
      out += '\n';
      return at + 1;
    case 'r':
      out += '\r';
      return at + 1;
    case 't':
      out += '\t';
      return at + 1;
    case 'v':
      out += '\v';
      return at + 1;
    case 'x':
      append_code_point(out, hex(text, at + 1, 2));
      return at + 3;
    case 'u':
      append_code_point(out, hex(text, at + 1, 4));
      return at + 5;
    case 'U':
      append_code_point(out, hex(text, at + 1, 8));
      return at + 9;
    case 'N':
      unsupported("the escape \\N in a string");
    default:
      break;
  }
  if (c >= '0' && c <= '7') {
    char32_t value = 0;
    std::size_t end = at;
    while (end < text.size() && end < at + 3 && text[end] >= '0' && text[end] <= '7') {
      value = value * 8 + static_cast<char32_t>(text[end++] - '0');
    }
    append_code_point(out, value);
    return end;
  }
  std::size_t end = at;
  const char32_t other = unicode::next(text, end);
  if (other < 0x80) {
    out += '\\';
    out += c;
  } else {
    append_backslash_replacement(out, other);
  }
  return end;
}

}  // namespace

std::size_t name_length(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t next = at;
    const char32_t c = unicode::next(text, next);
    const bool letter =
        c == '_' || (c < 0x80 ? (c | 0x20) >= 'a' && (c | 0x20) <= 'z' : is_alpha(c));
    const bool later = is_decimal(c) || (c >= 0x80 && unicode::is_word(c));
    if (!letter && !(at > 0 && later)) break;
    at = next;
  }
  return at;
}

std::size_t number_literal(std::string_view text, bool after_dot, Value& out) {
  if (text.empty() || !is_ascii_digit(text[0])) return 0;
  if (const std::size_t length = after_dot ? 0 : float_length(text)) {
    double number = 0;
    parse_float(text.substr(0, length), number);
    out = number;
    return length;
  }
  const std::size_t length = integer_length(text);
  std::int64_t number = 0;
  parse_int(text.substr(0, length), 0, number);
  out = number;
  return length;
}

std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '\\' && at + 1 < text.size()) {
      at = escape(text, at + 1, out);
    } else {
      out += text[at++];
    }
  }
  return out;
}

}  // namespace moesmith::text::jinja
