// SPDX-License-Identifier: Apache-2.0
// value | filter and value is test, by name.
#pragma once

#include <string_view>

#include "text/jinja/arguments.h"
#include "text/jinja/value.h"

namespace moesmith::text::jinja {

class Interpreter;

struct Filter {
  std::string_view name;
  Value (*apply)(Interpreter& interpreter, const Value& value, const Arguments& arguments);
};

struct TestByName {
  std::string_view name;
  bool (*apply)(Interpreter& interpreter, const Value& value, const Arguments& arguments);
};

// nullptr when there is no such filter or test.
const Filter* find_filter(std::string_view name);
const TestByName* find_test(std::string_view name);
// jinja2 has a filter of that name that is not built here.
bool is_known_filter(std::string_view name);

}  // namespace moesmith::text::jinja
