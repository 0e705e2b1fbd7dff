// SPDX-License-Identifier: Apache-2.0
// value is test.
#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/object.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

using A = const Arguments&;
using I = Interpreter&;
using V = const Value&;

void no_arguments(A a) { const Bound bound("test", a, {}); }

template <bool (Value::*Is)() const noexcept>
bool is_kind(I, V v, A a) {
  no_arguments(a);
  return (v.*Is)();
}

template <char First, char Second = '\0'>
bool compares(I, V v, A a) {
  const Bound bound("test", a, {"other"}, 1);
  constexpr char op[] = {First, Second, '\0'};
  return compare(op, v, *bound[0]);
}

bool is_multiple(V v, V divisor) {
  return equal(arithmetic("%", v, divisor), Value(std::int64_t{0}));
}

bool is_sequence(I, V v, A a) {
  no_arguments(a);
  return v.is_undefined() || v.is_string() || v.is_dict() || v.is_sequence(SequenceKind::kList) ||
         v.is_sequence(SequenceKind::kTuple) || v.is_sequence(SequenceKind::kRange);
}

bool is_same(I, V v, A a) {
  const Bound bound("sameas", a, {"other"}, 1);
  const Value& other = *bound[0];
  if (v.is_none() || v.is_bool()) {
    return v.is_none() ? other.is_none() : other.is_bool() && v.boolean() == other.boolean();
  }
  if (v.identity() != nullptr) return v.identity() == other.identity();
  if (type_name(v) != type_name(other)) return false;
  unsupported("'is sameas' for a ", type_name(v));
}

bool is_integer(I, V v, A a) {
  no_arguments(a);
  return v.is_int();
}

constexpr TestByName kTests[] = {
    {"!=", compares<'!', '='>},
    {"boolean", is_kind<&Value::is_bool>},
    {"callable",
     [](I, V v, A a) {
       no_arguments(a);
       return v.is_object() && v.object()->is_callable();
     }},
    {"defined",
     [](I, V v, A a) {
       no_arguments(a);
       return !v.is_undefined();
     }},
    {"divisibleby",
     [](I, V v, A a) {
       const Bound bound("divisibleby", a, {"num"}, 1);
       return is_multiple(v, *bound[0]);
     }},
    {"eq", compares<'=', '='>},
    {"equalto", compares<'=', '='>},
    {"==", compares<'=', '='>},
    {"escaped", is_kind<&Value::is_markup>},
    {"even",
     [](I, V v, A a) {
       no_arguments(a);
       return is_multiple(v, 2);
     }},
    {"false",
     [](I, V v, A a) {
       no_arguments(a);
       return v.is_bool() && !v.boolean();
     }},
    {"filter",
     [](I, V v, A a) {
       no_arguments(a);
       return v.is_string() && find_filter(v.string()) != nullptr;
     }},
    {"float", is_kind<&Value::is_float>},
    {"ge", compares<'>', '='>},
    {">=", compares<'>', '='>},
    {"greaterthan", compares<'>'>},
    {"gt", compares<'>'>},
    {">", compares<'>'>},
    {"in",
     [](I, V v, A a) {
       const Bound bound("in", a, {"seq"}, 1);
       return contains(*bound[0], v);
     }},
    {"integer", is_integer},
    {"iterable",
     [](I, V v, A a) {
       no_arguments(a);
       return is_iterable(v);
     }},
    {"le", compares<'<', '='>},
    {"<=", compares<'<', '='>},
    {"lessthan", compares<'<'>},
    {"lower",
     [](I, V v, A a) {
       no_arguments(a);
       return is_lower_text(to_string(v));
     }},
    {"lt", compares<'<'>},
    {"<", compares<'<'>},
    {"mapping", is_kind<&Value::is_dict>},
    {"ne", compares<'!', '='>},
    {"none", is_kind<&Value::is_none>},
    {"number", is_kind<&Value::is_number>},
    {"odd",
     [](I, V v, A a) {
       no_arguments(a);
       return equal(arithmetic("%", v, 2), Value(1));
     }},
    {"sameas", is_same},
    {"sequence", is_sequence},
    {"string", is_kind<&Value::is_string>},
    {"test",
     [](I, V v, A a) {
       no_arguments(a);
       return v.is_string() && find_test(v.string()) != nullptr;
     }},
    {"true",
     [](I, V v, A a) {
       no_arguments(a);
       return v.is_bool() && v.boolean();
     }},
    {"undefined", is_kind<&Value::is_undefined>},
    {"upper",
     [](I, V v, A a) {
       no_arguments(a);
       return is_upper_text(to_string(v));
     }},
};

}  // namespace

const TestByName* find_test(std::string_view name) {
  for (const TestByName& test : kTests) {
    if (test.name == name) return &test;
  }
  return nullptr;
}

}  // namespace moesmith::text::jinja
