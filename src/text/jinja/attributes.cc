// SPDX-License-Identifier: Apache-2.0
// value.name, value[key]: first Python's attribute, then the dict's key, or the other way round.
#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/limits.h"
#include "text/jinja/methods.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

// As jinja2's messages name an object.
std::string object_name(const Value& value) {
  if (value.is_none()) return "None";
  if (!value.is_object()) return type_name(value) + " object";
  const std::string name = type_name(value);
  if (name == "Namespace") return "jinja2.utils.Namespace object";
  return (name == "Macro" || name == "LoopContext" ? "jinja2.runtime." : "") + name + " object";
}

Value missing_attribute(const Value& value, std::string_view name) {
  return Value::undefined(str("'", object_name(value), "' has no attribute ", repr_string(name)));
}

// A Python attribute; nothing when there is none.
std::optional<Value> python_attribute(Interpreter& interpreter,
                                      const Value& value,
                                      std::string_view name) {
  if (value.is_object()) {
    if (auto found = value.object()->attribute(name)) return found;
  }
  if (const Method* method = find_method(value, name)) {
    auto body = [value, method](Interpreter& caller, const Arguments& arguments) {
      return method->apply(caller, value, arguments);
    };
    return Value(interpreter.keep(std::shared_ptr<Object>(std::make_shared<Function>(body))));
  }
  if (is_unsafe_attribute(value, name)) {
    return Value::undefined(str("access to attribute ", repr_string(name), " of ",
                                repr_string(type_name(value)), " object is unsafe."));
  }
  if (is_unbuilt_attribute(value, name)) {
    unsupported("the attribute '", name, "' of a ", type_name(value));
  }
  return std::nullopt;
}

const Value* key_of(const Value& value, std::string_view name) {
  return value.is_dict() ? value.dict().find(name) : nullptr;
}

// value[key] where the key is no string; nothing where Python raises TypeError or LookupError.
std::optional<Value> subscript(const Value& value, const Value& key) {
  if (value.is_dict()) {
    if (key.is_dict() || key.is_sequence(SequenceKind::kList)) return std::nullopt;
    const Value* found = value.dict().find(key);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  if (!key.is_int() && !key.is_bool()) return std::nullopt;
  if (value.is_string()) {
    const std::string& text = value.string();
    std::int64_t index = key.integer();
    const std::int64_t count = count_characters(text);
    if (index < 0) index += count;
    if (index < 0 || index >= count) return std::nullopt;
    const std::size_t begin = byte_offset(text, index);
    const std::size_t length = byte_offset(std::string_view(text).substr(begin), 1);
    return Value(text.substr(begin, length), value.is_markup());
  }
  const bool indexable = value.is_sequence(SequenceKind::kList) ||
                         value.is_sequence(SequenceKind::kTuple) ||
                         value.is_sequence(SequenceKind::kRange);
  const Value* found = indexable ? item_at(value.items(), key.integer()) : nullptr;
  return found == nullptr ? std::nullopt : std::optional<Value>(*found);
}

}  // namespace

Value Interpreter::attribute(const Value& value, std::string_view name) {
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (auto found = python_attribute(*this, value, name)) return *found;
  if (const Value* found = key_of(value, name)) return *found;
  return missing_attribute(value, name);
}

Value Interpreter::item(const Value& value, const Value& key) {
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (value.is_string()) charge(static_cast<std::int64_t>(value.string().size() / 64));
  if (key.is_string()) {
    if (const Value* found = key_of(value, key.string())) return *found;
    if (auto found = python_attribute(*this, value, key.string())) return *found;
    return missing_attribute(value, key.string());
  }
  if (auto found = subscript(value, key)) return *found;
  return Value::undefined(str(object_name(value), " has no element ", repr(key)));
}

Value Interpreter::call_method(const Value& value,
                               std::string_view name,
                               const Arguments& arguments) {
  if (const Method* method = find_method(value, name)) {
    if (value.is_string()) charge(static_cast<std::int64_t>(value.string().size() / 16));
    Value result = method->apply(*this, value, arguments);
    if (result.is_string()) charge(static_cast<std::int64_t>(result.string().size() / 16));
    return result;
  }
  return call(attribute(value, name), arguments);
}

Value Interpreter::attribute_path(const Value& value, const Value* path) {
  if (path == nullptr || path->is_none()) return value;
  if (!path->is_string()) return item(value, *path);
  Value current = value;
  for (const std::string& part : split(path->string(), ".", -1)) {
    std::int64_t index = 0;
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
    const bool is_index = digits && parse_int(part, 10, index);
    current = item(current, is_index ? Value(index) : Value(part));
  }
  return current;
}

}  // namespace moesmith::text::jinja
