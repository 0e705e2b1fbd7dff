// SPDX-License-Identifier: Apache-2.0
// What Python's operators and builtins do with values. Everything here throws Fault where Python
// raises, and asks an undefined value for nothing but its text, length and truth.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace moesmith::text::jinja {

std::string type_name(const Value& value);    // type(x).__name__
bool truthy(const Value& value);              // bool(x)
std::string to_string(const Value& value);    // str(x)
std::string repr(const Value& value);         // repr(x)
std::string repr_string(std::string_view s);  // with the quotes and escapes Python picks
std::string format_float(double number);      // repr(float)
std::int64_t length(const Value& value);      // len(x)
bool is_iterable(const Value& value);
// list(x): characters of a string, keys of a dict; a generator is used up.
Items iterate(const Value& value);
bool equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b);  // a < b
// "==", "!=", "<", "<=", ">", ">=", "in", "not in"
bool compare(std::string_view op, const Value& a, const Value& b);
bool contains(const Value& container, const Value& item);

// "+", "-", "*", "/", "//", "%", "**"
Value arithmetic(std::string_view op, const Value& a, const Value& b);
Value negate(const Value& value);
Value positive(const Value& value);
std::string format_percent(std::string_view format, const Value& arguments);  // format % arguments
// format.format(*positional, **named); look_up follows ".name" and "[key]" of a field.
struct Arguments;
using LookUp = std::function<Value(const Value&, const Value& key, bool is_attribute)>;
std::string format_braces(std::string_view format, const Arguments& arguments, const LookUp&);
// format(value, spec)
std::string format_spec(const Value& value, std::string_view spec);

// x[start:stop:step]; a part that is null is left out.
Value slice(const Value& value, const Value* start, const Value* stop, const Value* step);
// The item at a Python index, negative ones from the end; nullptr when there is none.
const Value* item_at(const Items& items, std::int64_t index);

// int(text, base) and float(text); false when Python raises ValueError.
bool parse_int(std::string_view text, std::int64_t base, std::int64_t& out);
bool parse_float(std::string_view text, double& out);
// int(number); throws when it is no finite number or beyond 64 bits.
std::int64_t int_of(double number);

struct JsonStyle {
  bool ascii = false;
  bool sort_keys = false;
  bool pretty = false;
  std::string indent;  // one level, when pretty
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string dump_json(const Value& value, const JsonStyle& style);

}  // namespace moesmith::text::jinja
