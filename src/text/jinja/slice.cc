// SPDX-License-Identifier: Apache-2.0
// x[i] and x[start:stop:step].
#include <algorithm>

#include "text/jinja/characters.h"
#include "text/jinja/fault.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

struct Indices {
  std::int64_t start, stop, step;
};

std::int64_t part(const Value& value) {
  if (!value.is_int() && !value.is_bool()) {
    fail("slice indices must be integers or None or have an __index__ method");
  }
  return value.integer();
}

bool given(const Value* value) { return value != nullptr && !value->is_none(); }

// Python's PySlice_AdjustIndices.
Indices resolve(std::int64_t length, const Value* start, const Value* stop, const Value* step) {
  Indices r{0, 0, given(step) ? part(*step) : 1};
  if (r.step == 0) fail("slice step cannot be zero");
  const bool backwards = r.step < 0;
  const auto clamp = [&](std::int64_t index) {
    if (index < 0) return std::max<std::int64_t>(index + length, backwards ? -1 : 0);
    return std::min<std::int64_t>(index, backwards ? length - 1 : length);
  };
  r.start = given(start) ? clamp(part(*start)) : (backwards ? length - 1 : 0);
  r.stop = given(stop) ? clamp(part(*stop)) : (backwards ? -1 : length);
  return r;
}

template <class Item>
std::vector<Item> take(const std::vector<Item>& items, const Indices& r) {
  std::vector<Item> out;
  // The step is at most the length, so the position cannot wrap.
  const auto length = static_cast<std::int64_t>(items.size());
  const std::int64_t step = std::clamp<std::int64_t>(r.step, -length - 1, length + 1);
  for (std::int64_t i = r.start; step > 0 ? i < r.stop : i > r.stop; i += step) {
    out.push_back(items[static_cast<std::size_t>(i)]);
  }
  return out;
}

}  // namespace

const Value* item_at(const Items& items, std::int64_t index) {
  const auto length = static_cast<std::int64_t>(items.size());
  if (index < 0) index += length;
  return index < 0 || index >= length ? nullptr : &items[static_cast<std::size_t>(index)];
}

Value slice(const Value& value, const Value* start, const Value* stop, const Value* step) {
  if (value.is_undefined()) fail(value.why_undefined().message);
  if (value.is_string()) {
    const std::string& text = value.string();
    const Indices r = resolve(count_characters(text), start, stop, step);
    if (r.step == 1) {
      const std::size_t begin = byte_offset(text, r.start);
      const std::size_t end = byte_offset(text, std::max(r.start, r.stop));
      return Value(text.substr(begin, end - begin), value.is_markup());
    }
    std::string out;
    for (const std::string_view c : take(characters(text), r)) out += c;
    return Value(std::move(out), value.is_markup());
  }
  if (value.is_sequence(SequenceKind::kList) || value.is_sequence(SequenceKind::kTuple)) {
    const Indices r = resolve(length(value), start, stop, step);
    return Value::sequence(value.sequence().kind, take(value.items(), r));
  }
  if (value.is_sequence(SequenceKind::kRange)) {
    const Sequence& range = value.sequence();
    const Indices r = resolve(length(value), start, stop, step);
    return Value::range(range.start + r.start * range.step, range.start + r.stop * range.step,
                        range.step * r.step, take(value.items(), r));
  }
  if (value.is_dict()) fail("unhashable type: 'slice'");
  fail("'", type_name(value), "' object is not subscriptable");
}

}  // namespace moesmith::text::jinja
