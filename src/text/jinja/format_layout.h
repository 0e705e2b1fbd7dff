// SPDX-License-Identifier: Apache-2.0
// What the two languages of format, % and {}, share: width, sign, digits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moesmith::text::jinja {

struct Layout {
  std::string fill = " ";
  char align = '\0';  // '<' '>' '^' '=' or none
  char sign = '-';    // '-', '+', ' '
  bool alternate = false;
  bool comma = false;
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = '\0';
};

// The decimal number at `at`, which moves behind it; 0 when there is none.
std::int64_t take_number(std::string_view text, std::size_t& at);
// Text with its sign split off, laid into the width.
std::string lay_out(const Layout& layout, const std::string& sign, const std::string& body);
std::string sign_of(const Layout& layout, bool negative);
std::string group_thousands(const std::string& digits);
std::string format_integer(const Layout& layout, std::int64_t value, std::int64_t min_digits);
std::string format_double(const Layout& layout, double value, char type);
bool is_float_type(char type);
// The first `precision` characters, all when it is negative.
std::string cut(std::string_view text, std::int64_t precision);

}  // namespace moesmith::text::jinja
