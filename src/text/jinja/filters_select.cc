// SPDX-License-Identifier: Apache-2.0
// map, select, reject and their attribute forms. Python makes generators of them; the items are
// found at once here, which differs only where a template's own functions have side effects.
#include "text/jinja/fault.h"
#include "text/jinja/filter_functions.h"
#include "text/jinja/filters.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

Arguments rest_of(const Arguments& arguments, std::size_t skip) {
  Arguments rest;
  rest.named = arguments.named;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(skip),
                         arguments.positional.end());
  return rest;
}

// keep: what a test must say for an item to stay.
Value choose(Interpreter& interpreter,
             const Value& value,
             const Arguments& arguments,
             bool by_attribute,
             bool keep) {
  Items out;
  if (!truthy(value)) return interpreter.list({}, SequenceKind::kGenerator);
  const Items& given = arguments.positional;
  if (by_attribute && given.empty()) fail("Missing parameter for attribute name");
  const std::size_t first = by_attribute ? 1 : 0;
  const TestByName* test = nullptr;
  Arguments rest;
  if (given.size() > first) {
    if (!given[first].is_string()) fail("the name of a test must be a str");
    test = find_test(given[first].string());
    if (test == nullptr) fail("no test named '", given[first].string(), "'");
    rest = rest_of(arguments, first + 1);
  }
  for (const Value& item : iterate(value)) {
    interpreter.charge(1);
    const Value part = by_attribute ? interpreter.attribute_path(item, &given[0]) : item;
    const bool passes = test == nullptr ? truthy(part) : test->apply(interpreter, part, rest);
    if (passes == keep) out.push_back(item);
  }
  return interpreter.list(std::move(out), SequenceKind::kGenerator);
}

Value map_attribute(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("map", arguments, {"attribute", "default"});
  Items out;
  for (const Value& item : iterate(value)) {
    interpreter.charge(1);
    Value part = interpreter.attribute_path(item, bound[0]);
    if (part.is_undefined() && bound.given(1)) part = *bound[1];
    out.push_back(std::move(part));
  }
  return interpreter.list(std::move(out), SequenceKind::kGenerator);
}

}  // namespace

Value filter_map(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  if (!truthy(value)) return interpreter.list({}, SequenceKind::kGenerator);
  if (arguments.positional.empty() && arguments.find("attribute") != nullptr) {
    return map_attribute(interpreter, value, arguments);
  }
  if (arguments.positional.empty() || !arguments.positional[0].is_string()) {
    fail("map requires a filter argument");
  }
  const std::string& name = arguments.positional[0].string();
  const Filter* filter = find_filter(name);
  if (filter == nullptr) {
    if (is_known_filter(name)) unsupported("this filter is not built: '", name, "'");
    fail("no filter named '", name, "'");
  }
  const Arguments rest = rest_of(arguments, 1);
  Items out;
  for (const Value& item : iterate(value)) {
    interpreter.charge(1);
    out.push_back(filter->apply(interpreter, item, rest));
  }
  return interpreter.list(std::move(out), SequenceKind::kGenerator);
}

Value filter_select(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return choose(interpreter, value, arguments, false, true);
}

Value filter_reject(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return choose(interpreter, value, arguments, false, false);
}

Value filter_selectattr(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return choose(interpreter, value, arguments, true, true);
}

Value filter_rejectattr(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return choose(interpreter, value, arguments, true, false);
}

// value.name without the fallback to value["name"].
Value filter_attr(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("attr", arguments, {"name"}, 1);
  const std::string& name = bound.text(0);
  if (value.is_dict() && value.dict().find(std::string_view(name)) != nullptr) {
    const Value without_keys = Value::dict({});
    if (interpreter.attribute(without_keys, name).is_undefined()) {
      return Value::undefined("'dict object' has no attribute " + repr_string(name));
    }
  }
  return interpreter.attribute(value, name);
}

}  // namespace moesmith::text::jinja
