// SPDX-License-Identifier: Apache-2.0
// Scalars: text to value and back.
#include "config/scalar.h"

#include <array>
#include <charconv>
#include <cmath>

namespace moesmith::config {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "_" between digits taken out, "+" in front too; nothing when an underscore stands elsewhere.
std::optional<std::string> plain_digits(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return std::nullopt;
    }
  }
  if (!out.empty() && out[0] == '+') {
    out.erase(0, 1);
    if (!out.empty() && out[0] == '-') {
      return std::nullopt;
    }
  }
  return out;
}

template <class T>
std::optional<T> whole(const std::string& digits) {
  T value{};
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value);
  return error == std::errc() && stop == end ? std::optional<T>(value) : std::nullopt;
}

bool has_leading_zero(std::string_view digits) {
  if (!digits.empty() && digits[0] == '-') {
    digits.remove_prefix(1);
  }
  return digits.size() > 1 && digits[0] == '0' && is_digit(digits[1]);
}

}  // namespace

std::optional<bool> parse_bool(std::string_view text) {
  const std::string word = lower(text);
  for (const char* yes : {"true", "yes", "on", "1"}) {
    if (word == yes) {
      return true;
    }
  }
  for (const char* no : {"false", "no", "off", "0"}) {
    if (word == no) {
      return false;
    }
  }
  return std::nullopt;
}

std::optional<double> parse_number(std::string_view text) {
  const auto digits = plain_digits(text);
  if (!digits || digits->empty() ||
      digits->find_first_not_of("+-.0123456789eE") != std::string::npos ||
      has_leading_zero(*digits)) {
    return std::nullopt;  // also inf, nan and hexadecimal numbers
  }
  const auto value = whole<double>(*digits);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  const auto digits = plain_digits(text);
  if (!digits || has_leading_zero(*digits)) {
    return std::nullopt;
  }
  if (const auto value = whole<std::int64_t>(*digits)) {
    return value;
  }
  const auto number = parse_number(text);
  // Above 2^53 a double no longer names one integer.
  if (number && std::trunc(*number) == *number && std::fabs(*number) <= 0x1p53) {
    return static_cast<std::int64_t>(*number);
  }
  return std::nullopt;
}

std::string number_text(double value) {
  std::array<char, 32> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), result.ptr);
}

std::string yaml_text(std::string_view text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./";
  const std::string word = lower(text);
  const bool special = text.empty() || word == "null" || text[0] == '-' || parse_bool(text) ||
                       parse_number(text) ||
                       text.find_first_not_of(kPlain) != std::string_view::npos;
  return special ? json_text(text) : std::string(text);
}

std::string json_text(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace moesmith::config
