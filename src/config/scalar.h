// SPDX-License-Identifier: Apache-2.0
// The text of a value as a boolean, integer or number, before any rule looks at it. Quotes make no
// difference: "false" is false and "2" is 2, whatever program wrote the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moesmith::config {

// true/false, yes/no, on/off in any case, 1/0.
std::optional<bool> parse_bool(std::string_view text);
// Decimal with optional sign and "_" between digits, or a number without a fraction such as 1e3 and
// 4.0. No leading zeros: YAML 1.1 reads 010 as 8.
std::optional<std::int64_t> parse_integer(std::string_view text);
// Decimal, finite: 3, 0.5, .5, 2e-4, 1_000.
std::optional<double> parse_number(std::string_view text);

// Shortest text that parse_number reads back to the same value: "0.0002", "1e-08".
std::string number_text(double value);
// As YAML in one line: plain where that reads back as the same text, else in double quotes.
std::string yaml_text(std::string_view text);
// A JSON string with its quotes.
std::string json_text(std::string_view text);

}  // namespace moesmith::config
