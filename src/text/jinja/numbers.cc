// SPDX-License-Identifier: Apache-2.0
// int() and float() of text.
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  return c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

// Removes single underscores between digits; false for any other underscore.
bool drop_underscores(std::string_view text, std::string& out) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const bool between =
        i > 0 && i + 1 < text.size() && digit_of(text[i - 1]) < 36 && digit_of(text[i + 1]) < 36;
    if (!between) return false;
  }
  return true;
}

std::string lower_ascii(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

}  // namespace

bool parse_int(std::string_view text, std::int64_t base, std::int64_t& out) {
  if (base != 0 && (base < 2 || base > 36)) fail("int() base must be >= 2 and <= 36, or 0");
  std::string digits;
  text = strip(text, Side::kBoth);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const std::string prefix = lower_ascii(std::string(text.substr(0, 2)));
  const std::int64_t prefixed = prefix == "0x" ? 16 : prefix == "0o" ? 8 : prefix == "0b" ? 2 : 0;
  if (prefixed != 0 && (base == 0 || base == prefixed)) {
    base = prefixed;
    text.remove_prefix(2);
    if (!text.empty() && text[0] == '_') text.remove_prefix(1);
  } else if (base == 0) {
    base = 10;
    const bool zero = text.find_first_not_of("0_") == text.npos;
    if (text.size() > 1 && text[0] == '0' && !zero) return false;
  }
  if (!drop_underscores(text, digits) || digits.empty()) return false;
  std::int64_t value = 0;
  bool overflow = false;
  for (const char c : digits) {
    if (digit_of(c) >= base) return false;
    overflow |= __builtin_mul_overflow(value, base, &value);
    overflow |= __builtin_sub_overflow(value, std::int64_t{digit_of(c)}, &value);
  }
  if (!negative) overflow |= __builtin_sub_overflow(std::int64_t{0}, value, &value);
  if (overflow) unsupported("an integer beyond 64 bits");
  out = value;
  return true;
}

bool parse_float(std::string_view text, double& out) {
  std::string clean;
  if (!drop_underscores(strip(text, Side::kBoth), clean)) return false;
  std::string_view rest = clean;
  bool negative = false;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  if (rest.empty() || rest[0] == '-' || rest[0] == '+') return false;
  const std::string word = lower_ascii(std::string(rest));
  if (word == "inf" || word == "infinity") {
    out = HUGE_VAL;
  } else if (word == "nan") {
    out = std::nan("");
  } else {
    if (digit_of(rest[0]) > 9 && rest[0] != '.') return false;
    const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), out);
    if (parsed.ptr != rest.data() + rest.size()) return false;
    // from_chars leaves `out` alone when the number is out of range; strtod gives 0 or infinity.
    if (parsed.ec == std::errc::result_out_of_range) {
      out = std::strtod(std::string(rest).c_str(), nullptr);
    } else if (parsed.ec != std::errc()) {
      return false;
    }
  }
  if (negative) out = -out;
  return true;
}

std::int64_t int_of(double number) {
  if (std::isnan(number)) fail("cannot convert float NaN to integer");
  if (std::isinf(number)) fail("cannot convert float infinity to integer");
  if (number >= 0x1p63 || number < -0x1p63) unsupported("an integer beyond 64 bits");
  return static_cast<std::int64_t>(number);
}

}  // namespace moesmith::text::jinja
