// SPDX-License-Identifier: Apache-2.0
// Names, numbers and string escapes, as jinja2's lexer reads them.
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace moesmith::text::jinja {

// Bytes of the name at the start of `text`, 0 when there is none.
std::size_t name_length(std::string_view text);
// The same for a number, whose value goes to `out`. After a dot "1.2" is two integers.
std::size_t number_literal(std::string_view text, bool after_dot, Value& out);
// The text between a string's quotes. Throws Fault without a line.
std::string unescape(std::string_view text);

}  // namespace moesmith::text::jinja
