// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/macro.h"

#include <algorithm>

#include "text/jinja/fault.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {

std::string Macro::repr() const { return "<Macro " + repr_string(signature_.name) + ">"; }

std::optional<Value> Macro::attribute(std::string_view name) {
  if (name == "name") return Value(signature_.name);
  if (name == "caller") return signature_.uses_caller;
  if (name == "catch_kwargs") return signature_.uses_kwargs;
  if (name == "catch_varargs") return signature_.uses_varargs;
  if (name != "arguments") return std::nullopt;
  Items names;
  for (const std::string& parameter : signature_.parameters) names.emplace_back(parameter);
  return Value::tuple(std::move(names));
}

// Sets the parameters in the current scope, as jinja2's Macro.__call__ finds them.
void Macro::bind(Interpreter& interpreter, const Arguments& arguments) const {
  const auto& names = signature_.parameters;
  const std::size_t num_given = std::min(arguments.positional.size(), names.size());
  const std::size_t first_default = names.size() - signature_.defaults.size();
  std::vector<std::pair<Value, Value>> rest;
  for (const auto& [key, value] : arguments.named) {
    const auto found =
        std::find(names.begin() + static_cast<std::ptrdiff_t>(num_given), names.end(), key);
    const bool is_caller = key == "caller" && signature_.uses_caller;
    if (found == names.end() && !is_caller) rest.emplace_back(Value(key), value);
  }
  if (!rest.empty() && !signature_.uses_kwargs) {
    fail("macro '", signature_.name, "' takes no keyword argument ", jinja::repr(rest[0].first));
  }
  if (arguments.positional.size() > names.size() && !signature_.uses_varargs) {
    fail("macro '", signature_.name, "' takes not more than ", names.size(), " argument(s)");
  }
  if (signature_.uses_kwargs) interpreter.scope()->set("kwargs", Value::dict(std::move(rest)));
  if (signature_.uses_varargs) {
    Items more(arguments.positional.begin() + static_cast<std::ptrdiff_t>(num_given),
               arguments.positional.end());
    interpreter.scope()->set("varargs", Value::tuple(std::move(more)));
  }
  if (signature_.uses_caller) {
    const Value* caller = arguments.find("caller");
    interpreter.scope()->set("caller",
                             caller != nullptr ? *caller : Value::undefined("No caller defined"));
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    Value value;
    if (i < num_given) {
      value = arguments.positional[i];
    } else if (const Value* named = arguments.find(names[i])) {
      value = *named;
    } else if (i >= first_default) {
      value = interpreter.evaluate(*signature_.defaults[i - first_default]);
    } else {
      value = Value::undefined("parameter " + repr_string(names[i]) + " was not provided");
    }
    interpreter.scope()->set(names[i], std::move(value));
  }
}

Value Macro::call(Interpreter& interpreter, const Arguments& arguments) {
  const Interpreter::CallDepth depth(interpreter);
  const Interpreter::Frame frame(interpreter, scope_);
  bind(interpreter, arguments);
  return interpreter.text(interpreter.capture(body_));
}

}  // namespace moesmith::text::jinja
