// SPDX-License-Identifier: Apache-2.0
// The arguments of one call, and their binding to a function's parameters.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/fault.h"
#include "text/jinja/semantics.h"
#include "text/jinja/value.h"

namespace moesmith::text::jinja {

struct Arguments {
  Items positional;
  std::vector<std::pair<std::string, Value>> named;

  const Value* find(std::string_view name) const {
    for (const auto& [key, value] : named) {
      if (key == name) return &value;
    }
    return nullptr;
  }
};

// Parameters in their order; those after the first `required` may be left out. Throws Fault as
// Python's TypeError for too many, missing and unknown ones.
class Bound {
 public:
  Bound(std::string_view function,
        const Arguments& arguments,
        std::initializer_list<std::string_view> names,
        std::size_t required = 0)
      : function_(function), values_(names.size(), nullptr) {
    if (arguments.positional.size() > names.size()) {
      fail(function, "() takes at most ", names.size(), " arguments, got ",
           arguments.positional.size());
    }
    for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
      values_[i] = &arguments.positional[i];
    }
    for (const auto& [key, value] : arguments.named) {
      std::size_t i = 0;
      while (i < names.size() && names.begin()[i] != key) ++i;
      if (i == names.size()) fail(function, "() got an unexpected keyword argument '", key, "'");
      if (values_[i] != nullptr) fail(function, "() got two values for argument '", key, "'");
      values_[i] = &value;
    }
    for (std::size_t i = 0; i < required; ++i) {
      if (values_[i] == nullptr) {
        fail(function, "() is missing the argument '", names.begin()[i], "'");
      }
    }
  }

  // nullptr when it is left out.
  const Value* operator[](std::size_t i) const { return values_[i]; }
  bool given(std::size_t i) const { return values_[i] != nullptr && !values_[i]->is_none(); }
  bool truth(std::size_t i, bool fallback) const {
    return values_[i] == nullptr ? fallback : truthy(*values_[i]);
  }
  std::int64_t integer(std::size_t i, std::int64_t fallback) const {
    if (values_[i] == nullptr) return fallback;
    const Value& value = *values_[i];
    if (!value.is_int() && !value.is_bool()) {
      fail(function_, "(): '", type_name(value), "' object cannot be interpreted as an integer");
    }
    return value.integer();
  }
  const std::string& text(std::size_t i) const {
    const Value& value = *values_[i];
    if (!value.is_string()) fail(function_, "() wants a str, got ", type_name(value));
    return value.string();
  }

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace moesmith::text::jinja
