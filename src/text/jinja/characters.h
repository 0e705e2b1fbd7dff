// SPDX-License-Identifier: Apache-2.0
// str as Python has it, over UTF-8: positions count characters, classes and case come from Unicode.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moesmith::text::jinja {

bool is_space(char32_t c);      // str.isspace of one character
bool is_printable(char32_t c);  // not escaped by repr
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_lower(char32_t c);
bool is_upper(char32_t c);
bool is_title(char32_t c);
bool is_lower_text(std::string_view text);  // str.islower
bool is_upper_text(std::string_view text);  // str.isupper

std::int64_t count_characters(std::string_view text);
// Byte position of character `index` (at most the text's end).
std::size_t byte_offset(std::string_view text, std::int64_t index);
std::vector<std::string_view> characters(std::string_view text);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_titlecase(std::string_view text);    // str.title()
std::string to_capitalized(std::string_view text);  // str.capitalize()
std::string swap_case(std::string_view text);
std::string fold_case(std::string_view text);

enum class Side { kBoth, kLeft, kRight };
std::string_view strip(std::string_view text, Side side);
std::string_view strip(std::string_view text, std::string_view characters, Side side);

// str.split(separator, limit) and rsplit; no separator: runs of white space. limit < 0: none.
std::vector<std::string> split(std::string_view text, std::int64_t limit);
std::vector<std::string> split(std::string_view text, std::string_view by, std::int64_t limit);
std::vector<std::string> rsplit(std::string_view text, std::int64_t limit);
std::vector<std::string> rsplit(std::string_view text, std::string_view by, std::int64_t limit);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
// str.replace; limit < 0: all.
std::string replace(std::string_view text,
                    std::string_view old,
                    std::string_view by,
                    std::int64_t limit);

}  // namespace moesmith::text::jinja
