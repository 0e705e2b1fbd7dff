// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/object.h"

namespace moesmith::text::jinja {

std::string Object::repr() const { unsupported("printing a ", type_name(), " object"); }

std::optional<Value> Object::attribute(std::string_view) { return std::nullopt; }

Value Object::call(Interpreter&, const Arguments&) {
  fail("'", type_name(), "' object is not callable");
}

std::optional<Value> Namespace::attribute(std::string_view name) {
  for (const auto& [key, value] : attributes_) {
    if (key == name) return value;
  }
  return std::nullopt;
}

void Namespace::set(std::string_view name, Value value) {
  for (auto& [key, old] : attributes_) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  attributes_.emplace_back(std::string(name), std::move(value));
}

}  // namespace moesmith::text::jinja
