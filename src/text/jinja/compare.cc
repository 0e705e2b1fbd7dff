// SPDX-License-Identifier: Apache-2.0
// Truth, equality, order, membership, length and iteration.
#include <algorithm>
#include <cmath>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/object.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

bool equal_items(const Items& a, const Items& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), equal);
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal(value, *other)) return false;
  }
  return true;
}

// -1, 0, 1 for an integer beside a float, exactly; 2 when the float is NaN.
int compare_mixed(std::int64_t a, double b) {
  if (std::isnan(b)) return 2;
  if (b >= 0x1p63) return -1;
  if (b < -0x1p63) return 1;
  const double whole = std::floor(b);
  const auto floor = static_cast<std::int64_t>(whole);
  if (a != floor) return a < floor ? -1 : 1;
  return b > whole ? -1 : 0;
}

bool equal_numbers(const Value& a, const Value& b) {
  if (a.is_float() && b.is_float()) return a.number() == b.number();
  if (a.is_float()) return compare_mixed(b.integer(), a.number()) == 0;
  if (b.is_float()) return compare_mixed(a.integer(), b.number()) == 0;
  return a.integer() == b.integer();
}

bool less_numbers(const Value& a, const Value& b) {
  if (a.is_float() && b.is_float()) return a.number() < b.number();
  if (a.is_float()) return compare_mixed(b.integer(), a.number()) == 1;
  if (b.is_float()) return compare_mixed(a.integer(), b.number()) == -1;
  return a.integer() < b.integer();
}

[[noreturn]] void not_ordered(std::string_view op, const Value& a, const Value& b) {
  fail("'", op, "' not supported between instances of '", type_name(a), "' and '", type_name(b),
       "'");
}

bool both_sequences(SequenceKind kind, const Value& a, const Value& b) {
  return a.is_sequence(kind) && b.is_sequence(kind);
}

// op is "<" or "<="; ">" and ">=" come with the operands swapped and `shown` as written.
bool ordered(std::string_view op, std::string_view shown, const Value& a, const Value& b) {
  const bool or_equal = op == "<=";
  if (a.is_undefined()) fail(a.why_undefined().message);
  if (b.is_undefined()) fail(b.why_undefined().message);
  if (a.is_number() && b.is_number())
    return less_numbers(a, b) || (or_equal && equal_numbers(a, b));
  if (a.is_string() && b.is_string()) {
    return or_equal ? a.string() <= b.string() : a.string() < b.string();
  }
  if (both_sequences(SequenceKind::kList, a, b) || both_sequences(SequenceKind::kTuple, a, b)) {
    const Items &x = a.items(), &y = b.items();
    const std::size_t common = std::min(x.size(), y.size());
    for (std::size_t i = 0; i < common; ++i) {
      if (!equal(x[i], y[i])) return ordered(op, shown, x[i], y[i]);
    }
    return or_equal ? x.size() <= y.size() : x.size() < y.size();
  }
  const bool swapped = shown.front() == '>';
  not_ordered(shown, swapped ? b : a, swapped ? a : b);
}

}  // namespace

bool truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_float()) return value.number() != 0.0;
  if (value.is_number()) return value.integer() != 0;
  if (value.is_string()) return !value.string().empty();
  if (value.is_dict()) return !value.dict().entries.empty();
  if (value.is_sequence()) {
    return value.is_sequence(SequenceKind::kGenerator) || !value.items().empty();
  }
  return true;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return equal_numbers(a, b);
  if (a.is_string() && b.is_string()) return a.string() == b.string();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_dict() && b.is_dict()) return equal_dicts(a.dict(), b.dict());
  if (a.is_sequence() && b.is_sequence()) {
    const SequenceKind kind = a.sequence().kind;
    const bool by_items =
        kind == SequenceKind::kList || kind == SequenceKind::kTuple || kind == SequenceKind::kRange;
    if (by_items && b.is_sequence(kind)) return equal_items(a.items(), b.items());
  }
  return a.identity() != nullptr && a.identity() == b.identity();
}

bool less(const Value& a, const Value& b) { return ordered("<", "<", a, b); }

bool compare(std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "in") return contains(b, a);
  if (op == "not in") return !contains(b, a);
  if (op.front() == '<') return ordered(op, op, a, b);
  return ordered(op == ">" ? "<" : "<=", op, b, a);
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) {
      fail("'in <string>' requires string as left operand, not ", type_name(item));
    }
    return container.string().find(item.string()) != std::string::npos;
  }
  if (container.is_dict()) return container.dict().find(item) != nullptr;
  if (!is_iterable(container)) {
    fail("argument of type '", type_name(container), "' is not iterable");
  }
  const Items items = iterate(container);
  return std::any_of(items.begin(), items.end(), [&](const Value& x) { return equal(x, item); });
}

std::int64_t length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_string()) return count_characters(value.string());
  if (value.is_dict()) return static_cast<std::int64_t>(value.dict().entries.size());
  if (value.is_sequence() && !value.is_sequence(SequenceKind::kGenerator)) {
    return static_cast<std::int64_t>(value.items().size());
  }
  fail("object of type '", type_name(value), "' has no len()");
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dict();
}

Items iterate(const Value& value) {
  if (value.is_sequence()) {
    if (value.is_sequence(SequenceKind::kGenerator)) {
      if (value.sequence().consumed) return {};
      value.sequence().consumed = true;
    }
    return value.items();
  }
  Items items;
  if (value.is_dict()) {
    for (const auto& entry : value.dict().entries) items.push_back(entry.first);
  } else if (value.is_string()) {
    for (const std::string_view c : characters(value.string())) {
      items.emplace_back(std::string(c));
    }
  } else if (!value.is_undefined()) {
    fail("'", type_name(value), "' object is not iterable");
  }
  return items;
}

}  // namespace moesmith::text::jinja
