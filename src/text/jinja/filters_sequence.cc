// SPDX-License-Identifier: Apache-2.0
// Filters over sequences and dicts, without a choice of items.
#include <algorithm>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/filter_functions.h"
#include "text/jinja/limits.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

Value ignore_case(const Value& value) {
  return value.is_string() ? Value(to_lower(value.string()), value.is_markup()) : value;
}

using Keyed = std::vector<std::pair<Value, Value>>;  // sort key, item

// Stable, and with `reverse` still stable, as Python's sorted.
Items sorted(Interpreter& interpreter, Keyed keyed, bool reverse) {
  if (reverse) std::reverse(keyed.begin(), keyed.end());
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    interpreter.charge(1);
    return less(a.first, b.first);
  });
  if (reverse) std::reverse(keyed.begin(), keyed.end());
  Items items;
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return items;
}

Value extreme(Interpreter& interpreter,
              const Value& value,
              const Arguments& arguments,
              bool largest) {
  const Bound bound(largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const Items items = iterate(value);
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const auto key = [&](const Value& item) {
    const Value part = interpreter.attribute_path(item, bound[1]);
    return bound.truth(0, false) ? part : ignore_case(part);
  };
  std::size_t best = 0;
  Value best_key = key(items[0]);
  for (std::size_t i = 1; i < items.size(); ++i) {
    const Value other = key(items[i]);
    if (largest ? less(best_key, other) : less(other, best_key)) {
      best = i;
      best_key = other;
    }
  }
  return items[best];
}

}  // namespace

Value filter_default(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("default", arguments, {"default_value", "boolean"});
  const bool replaced = value.is_undefined() || (bound.truth(1, false) && !truthy(value));
  if (!replaced) return value;
  return bound[0] == nullptr ? Value("") : *bound[0];
}

Value filter_list(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("list", arguments, {});
  return interpreter.list(iterate(value));
}

Value filter_items(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("items", arguments, {});
  Items items;
  if (!value.is_undefined()) {
    if (!value.is_dict()) fail("Can only get item pairs from a mapping.");
    for (const auto& [key, item] : value.dict().entries) {
      items.push_back(Value::tuple({key, item}));
    }
  }
  return interpreter.list(std::move(items), SequenceKind::kGenerator);
}

Value filter_first(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("first", arguments, {});
  const Items items = iterate(value);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value filter_last(Interpreter&, const Value& value, const Arguments& arguments) {
  const Bound bound("last", arguments, {});
  if (value.is_sequence(SequenceKind::kGenerator)) fail("'generator' object is not reversible");
  const Items items = iterate(value);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value filter_reverse(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("reverse", arguments, {});
  if (!is_iterable(value)) fail("argument must be iterable");
  Items items = iterate(value);
  std::reverse(items.begin(), items.end());
  if (value.is_string()) {
    std::string out;
    for (const Value& item : items) out += item.string();
    return interpreter.text(std::move(out), value.is_markup());
  }
  // Python's reversed() takes sequences, dicts and their views; other things become a list.
  const bool as_list = value.is_undefined() || value.is_sequence(SequenceKind::kGenerator);
  return interpreter.list(std::move(items),
                          as_list ? SequenceKind::kList : SequenceKind::kGenerator);
}

Value filter_join(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("join", arguments, {"d", "attribute"});
  const std::string separator = bound[0] == nullptr ? "" : to_string(*bound[0]);
  std::string out;
  bool first = true;
  for (const Value& item : iterate(value)) {
    if (!first) out += separator;
    first = false;
    out += to_string(interpreter.attribute_path(item, bound[1]));
    interpreter.charge(1 + static_cast<std::int64_t>(separator.size() / 16));
    Interpreter::check_size(out);
  }
  return interpreter.text(std::move(out));
}

Value filter_sort(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  std::vector<Value> paths{Value()};
  if (bound.given(2)) {
    paths = {*bound[2]};
    if (bound[2]->is_string()) {
      paths.clear();
      for (const std::string& part : split(bound.text(2), ",", -1)) paths.emplace_back(part);
    }
  }
  Keyed keyed;
  for (const Value& item : iterate(value)) {
    Items key;
    for (const Value& path : paths) {
      const Value part = interpreter.attribute_path(item, &path);
      key.push_back(bound.truth(1, false) ? part : ignore_case(part));
    }
    keyed.emplace_back(Value::list(std::move(key)), item);
  }
  return interpreter.list(sorted(interpreter, std::move(keyed), bound.truth(0, false)));
}

Value filter_dictsort(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = bound[1] == nullptr ? "key" : bound.text(1);
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (!value.is_dict()) fail("'", type_name(value), "' object has no attribute 'items'");
  Keyed keyed;
  for (const auto& [key, item] : value.dict().entries) {
    const Value& part = by == "key" ? key : item;
    keyed.emplace_back(bound.truth(0, false) ? part : ignore_case(part), Value::tuple({key, item}));
  }
  return interpreter.list(sorted(interpreter, std::move(keyed), bound.truth(2, false)));
}

Value filter_unique(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("unique", arguments, {"case_sensitive", "attribute"});
  Items out;
  std::vector<Value> seen;
  for (const Value& item : iterate(value)) {
    Value key = interpreter.attribute_path(item, bound[1]);
    if (!bound.truth(0, false)) key = ignore_case(key);
    if (key.is_dict() || key.is_sequence(SequenceKind::kList)) {
      fail("unhashable type: '", type_name(key), "'");
    }
    interpreter.charge(static_cast<std::int64_t>(seen.size()));
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& s) { return equal(s, key); })) {
      continue;
    }
    seen.push_back(std::move(key));
    out.push_back(item);
  }
  return interpreter.list(std::move(out), SequenceKind::kGenerator);
}

Value filter_min(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return extreme(interpreter, value, arguments, false);
}

Value filter_max(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return extreme(interpreter, value, arguments, true);
}

Value filter_batch(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("batch", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t size = bound.integer(0, 1);
  Items out, row;
  for (const Value& item : iterate(value)) {
    if (static_cast<std::int64_t>(row.size()) == size) {
      out.push_back(interpreter.list(std::exchange(row, {})));
    }
    row.push_back(item);
  }
  if (!row.empty()) {
    if (bound.given(1)) {
      interpreter.charge(std::max<std::int64_t>(size, 0));
      while (static_cast<std::int64_t>(row.size()) < size) row.push_back(*bound[1]);
    }
    out.push_back(interpreter.list(std::move(row)));
  }
  return interpreter.list(std::move(out), SequenceKind::kGenerator);
}

Value filter_slice(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Bound bound("slice", arguments, {"slices", "fill_with"}, 1);
  const std::int64_t slices = bound.integer(0, 1);
  const Items items = iterate(value);
  const auto count = static_cast<std::int64_t>(items.size());
  if (slices == 0) fail("integer division or modulo by zero");
  Items out;
  if (slices > 0) {
    interpreter.charge(slices);
    const std::int64_t each = count / slices, longer = count % slices;
    auto at = items.begin();
    for (std::int64_t i = 0; i < slices; ++i) {
      const auto end = at + static_cast<std::ptrdiff_t>(each + (i < longer ? 1 : 0));
      Items part(at, end);
      at = end;
      if (bound.given(1) && i >= longer) part.push_back(*bound[1]);
      out.push_back(interpreter.list(std::move(part)));
    }
  }
  return interpreter.list(std::move(out), SequenceKind::kGenerator);
}

}  // namespace moesmith::text::jinja
