// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/format_layout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"

namespace moesmith::text::jinja {

namespace {

constexpr std::int64_t kMaxWidth = 1 << 20;

}  // namespace

std::int64_t take_number(std::string_view text, std::size_t& at) {
  std::int64_t value = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    value = value * 10 + (text[at++] - '0');
    if (value > kMaxWidth) unsupported("a format width or precision beyond ", kMaxWidth);
  }
  return value;
}

std::string lay_out(const Layout& layout, const std::string& sign, const std::string& body) {
  const std::int64_t missing = layout.width - count_characters(sign) - count_characters(body);
  if (missing <= 0) return sign + body;
  const auto fill = [&](std::int64_t count) {
    std::string out;
    for (std::int64_t i = 0; i < count; ++i) out += layout.fill;
    return out;
  };
  switch (layout.align) {
    case '<':
      return sign + body + fill(missing);
    case '^':
      return fill(missing / 2) + sign + body + fill(missing - missing / 2);
    case '=':
      return sign + fill(missing) + body;
    default:
      return fill(missing) + sign + body;
  }
}

std::string sign_of(const Layout& layout, bool negative) {
  if (negative) return "-";
  return layout.sign == '-' ? "" : std::string(1, layout.sign);
}

std::string group_thousands(const std::string& digits) {
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string out;
  for (std::size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out + digits.substr(whole);
}

std::string format_integer(const Layout& layout, std::int64_t value, std::int64_t min_digits) {
  const bool negative = value < 0;
  const std::uint64_t magnitude =
      negative ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
  const unsigned base = layout.type == 'x' || layout.type == 'X' ? 16
                        : layout.type == 'o'                     ? 8
                        : layout.type == 'b'                     ? 2
                                                                 : 10;
  std::string digits;
  for (std::uint64_t rest = magnitude; rest > 0 || digits.empty(); rest /= base) {
    const char* symbols = layout.type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    digits += symbols[rest % base];
  }
  while (static_cast<std::int64_t>(digits.size()) < min_digits) digits += '0';
  std::reverse(digits.begin(), digits.end());
  if (layout.comma) digits = group_thousands(digits);
  std::string sign = sign_of(layout, negative);
  if (layout.alternate && base != 10) sign += std::string("0") + layout.type;
  return lay_out(layout, sign, digits);
}

std::string format_double(const Layout& layout, double value, char type) {
  const bool percent = type == '%';
  if (percent) value *= 100;
  const bool negative = std::signbit(value) && !std::isnan(value);
  std::string body;
  if (!std::isfinite(value)) {
    body = std::isnan(value) ? "nan" : "inf";
    if (type == 'E' || type == 'F' || type == 'G') body = std::isnan(value) ? "NAN" : "INF";
  } else {
    char spec[8] = {'%', layout.alternate ? '#' : '.', '\0'};
    std::snprintf(spec, sizeof spec, layout.alternate ? "%%#.*%c" : "%%.*%c", percent ? 'f' : type);
    const int precision = static_cast<int>(layout.precision < 0 ? 6 : layout.precision);
    if (precision > 1000) unsupported("a precision beyond 1000");
    std::array<char, 1400> text{};
    std::snprintf(text.data(), text.size(), spec, precision, std::fabs(value));
    body = text.data();
  }
  if (layout.comma) body = group_thousands(body);
  if (percent) body += '%';
  return lay_out(layout, sign_of(layout, negative), body);
}

bool is_float_type(char type) {
  return type == 'e' || type == 'E' || type == 'f' || type == 'F' || type == 'g' || type == 'G';
}

std::string cut(std::string_view text, std::int64_t precision) {
  return std::string(precision < 0 ? text : text.substr(0, byte_offset(text, precision)));
}

}  // namespace moesmith::text::jinja
