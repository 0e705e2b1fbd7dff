// SPDX-License-Identifier: Apache-2.0
// value.name(arguments): the methods of str, dict, list and tuple.
#pragma once

#include <string_view>

#include "text/jinja/arguments.h"
#include "text/jinja/value.h"

namespace moesmith::text::jinja {

class Interpreter;

struct Method {
  std::string_view name;
  Value (*apply)(Interpreter& interpreter, const Value& self, const Arguments& arguments);
};

// nullptr when the type has no such method here.
const Method* find_method(const Value& self, std::string_view name);
const Method* find_string_method(std::string_view name);
// Python has an attribute of that name, which the sandbox refuses: append, __class__, ...
bool is_unsafe_attribute(const Value& self, std::string_view name);
// Python has an attribute of that name, which is not built here: encode, real, ...
bool is_unbuilt_attribute(const Value& self, std::string_view name);

}  // namespace moesmith::text::jinja
