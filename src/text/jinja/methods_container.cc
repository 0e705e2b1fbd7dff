// SPDX-License-Identifier: Apache-2.0
// The methods of dict, list and tuple, and which names Python has besides.
#include <algorithm>
#include <initializer_list>

#include "text/jinja/fault.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

bool is_any(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value dict_view(Interpreter& interpreter,
                const Value& self,
                const Arguments& a,
                SequenceKind kind) {
  const Bound bound("dict view", a, {});
  Items items;
  for (const auto& [key, value] : self.dict().entries) {
    if (kind == SequenceKind::kItems) {
      items.push_back(Value::tuple({key, value}));
    } else {
      items.push_back(kind == SequenceKind::kKeys ? key : value);
    }
  }
  return interpreter.list(std::move(items), kind);
}

Value dict_get(Interpreter&, const Value& self, const Arguments& arguments) {
  // dict.get takes no keywords in Python; a template that gives one would fail there.
  if (!arguments.named.empty()) fail("dict.get() takes no keyword arguments");
  const Bound bound("get", arguments, {"key", "default"}, 1);
  const Value* found = self.dict().find(*bound[0]);
  if (found != nullptr) return *found;
  return bound[1] == nullptr ? Value() : *bound[1];
}

Value copy(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("copy", arguments, {});
  return self;
}

Value count_items(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("count", arguments, {"value"}, 1);
  std::int64_t count = 0;
  for (const Value& item : self.items()) count += equal(item, *bound[0]);
  return count;
}

Value index_of(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("index", arguments, {"value"}, 1);
  const Items& items = self.items();
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], *bound[0])) return static_cast<std::int64_t>(i);
  }
  fail(repr(*bound[0]), " is not in the ", type_name(self));
}

using A = const Arguments&;
using I = Interpreter&;
using V = const Value&;

constexpr Method kDictMethods[] = {
    {"copy", copy},
    {"get", dict_get},
    {"items", [](I i, V self, A a) { return dict_view(i, self, a, SequenceKind::kItems); }},
    {"keys", [](I i, V self, A a) { return dict_view(i, self, a, SequenceKind::kKeys); }},
    {"values", [](I i, V self, A a) { return dict_view(i, self, a, SequenceKind::kValues); }},
};
constexpr Method kListMethods[] = {{"copy", copy}, {"count", count_items}, {"index", index_of}};
constexpr Method kTupleMethods[] = {{"count", count_items}, {"index", index_of}};

template <std::size_t N>
const Method* find_in(const Method (&methods)[N], std::string_view name) {
  for (const Method& method : methods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace

const Method* find_method(const Value& self, std::string_view name) {
  if (self.is_string()) return find_string_method(name);
  if (self.is_dict()) return find_in(kDictMethods, name);
  if (self.is_sequence(SequenceKind::kList)) return find_in(kListMethods, name);
  if (self.is_sequence(SequenceKind::kTuple)) return find_in(kTupleMethods, name);
  return nullptr;
}

bool is_unsafe_attribute(const Value& self, std::string_view name) {
  if (is_any(name, {"__class__", "__doc__", "__init__", "__dict__", "__getattribute__", "__len__",
                    "__eq__", "__str__", "__repr__", "__hash__", "__new__", "__reduce__",
                    "__subclasshook__", "__getitem__", "__contains__", "__iter__"})) {
    return true;
  }
  if (self.is_dict()) return is_any(name, {"clear", "pop", "popitem", "setdefault", "update"});
  return self.is_sequence(SequenceKind::kList) &&
         is_any(name, {"append", "reverse", "insert", "sort", "extend", "remove"});
}

bool is_unbuilt_attribute(const Value& self, std::string_view name) {
  if (self.is_string()) {
    return is_any(name,
                  {"encode", "format_map", "isidentifier", "istitle", "maketrans", "translate"}) ||
           (self.is_markup() && is_any(name, {"striptags", "unescape", "escape"}));
  }
  if (self.is_dict()) return name == "fromkeys";
  if (self.is_sequence(SequenceKind::kList)) return is_any(name, {"clear", "pop"});
  if (self.is_sequence(SequenceKind::kRange)) {
    return is_any(name, {"start", "stop", "step", "count", "index"});
  }
  if (self.is_number()) {
    return is_any(
        name, {"real", "imag", "numerator", "denominator", "conjugate", "bit_length", "bit_count",
               "to_bytes", "from_bytes", "as_integer_ratio", "is_integer", "hex", "fromhex"});
  }
  return false;
}

}  // namespace moesmith::text::jinja
