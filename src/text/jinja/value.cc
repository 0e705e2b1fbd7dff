// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "text/jinja/fault.h"
#include "text/jinja/limits.h"
#include "text/jinja/semantics.h"

namespace moesmith::text::jinja {
namespace {

constexpr std::uint32_t kNoEntry = 0xffffffffu;
constexpr std::size_t kLinearEntries = 8;  // below that a scan is quicker than a hash

std::size_t hash_of(const Value& value) {
  if (value.is_string()) return std::hash<std::string>()(value.string());
  if (value.is_bool() || value.is_int()) {
    return std::hash<double>()(static_cast<double>(value.integer()));
  }
  if (value.is_float()) return std::hash<double>()(value.number());
  if (value.is_sequence(SequenceKind::kTuple)) {
    std::size_t hash = 1;
    for (const Value& item : value.items()) hash = hash * 1000003 + hash_of(item);
    return hash;
  }
  return std::hash<const void*>()(value.identity());
}

void check_hashable(const Value& key) {
  if (key.is_dict() || key.is_sequence(SequenceKind::kList)) {
    fail("unhashable type: '", type_name(key), "'");
  }
  if (key.is_sequence(SequenceKind::kTuple)) {
    for (const Value& item : key.items()) check_hashable(item);
  }
}

// Counts `value` as a part of `container`.
template <class Container>
void weigh(Container& container, const Value& value) {
  container.depth = std::max(container.depth, value.depth() + 1);
  if (container.depth > kMaxNesting) unsupported("containers nest deeper than ", kMaxNesting);
  container.weight += value.weight();
  if (container.weight > kMaxWork) unsupported("a container of more than ", kMaxWork, " values");
}

void insert_slot(Dict& dict, std::uint32_t entry) {
  const std::size_t mask = dict.slots.size() - 1;
  std::size_t at = hash_of(dict.entries[entry].first) & mask;
  while (dict.slots[at] != kNoEntry) at = (at + 1) & mask;
  dict.slots[at] = entry;
}

void add(Dict& dict, Value key, Value value) {
  check_hashable(key);
  weigh(dict, key);
  weigh(dict, value);
  if (const Value* found = dict.find(key)) {
    *const_cast<Value*>(found) = std::move(value);
    return;
  }
  dict.entries.emplace_back(std::move(key), std::move(value));
  const std::size_t count = dict.entries.size();
  if (count <= kLinearEntries) return;
  if (count * 2 > dict.slots.size()) {
    dict.slots.assign(std::max<std::size_t>(32, dict.slots.size() * 2), kNoEntry);
    for (std::uint32_t i = 0; i < count; ++i) insert_slot(dict, i);
  } else {
    insert_slot(dict, static_cast<std::uint32_t>(count - 1));
  }
}

Value convert(const io::Json& json) {
  if (json.is_bool()) return json.as_bool();
  if (json.is_integer()) return json.as_integer();
  if (json.is_double()) return json.as_number();
  if (json.is_string()) return json.as_string();
  if (json.is_array()) {
    Items items;
    items.reserve(json.as_array().size());
    for (const io::Json& item : json.as_array()) items.push_back(convert(item));
    return Value::list(std::move(items));
  }
  if (json.is_object()) {
    const io::JsonObject& object = json.as_object();
    std::vector<std::pair<Value, Value>> entries;
    entries.reserve(object.size());
    for (std::size_t i = 0; i < object.size(); ++i) {
      entries.emplace_back(object.key(i), convert(object.value(i)));
    }
    return Value::dict(std::move(entries));
  }
  return Value();
}

}  // namespace

Value Value::undefined(std::string message) {
  Value value;
  value.value_ = std::make_shared<const Undefined>(Undefined{std::move(message)});
  return value;
}

Value Value::sequence(SequenceKind kind, Items items) {
  auto sequence = std::make_shared<Sequence>();
  sequence->kind = kind;
  for (const Value& item : items) weigh(*sequence, item);
  sequence->items = std::move(items);
  Value value;
  value.value_ = std::shared_ptr<const Sequence>(std::move(sequence));
  return value;
}

Value Value::range(std::int64_t start, std::int64_t stop, std::int64_t step, Items items) {
  auto sequence = std::make_shared<Sequence>();
  sequence->kind = SequenceKind::kRange;
  sequence->weight += static_cast<std::int64_t>(items.size());
  sequence->items = std::move(items);
  sequence->start = start;
  sequence->stop = stop;
  sequence->step = step;
  Value value;
  value.value_ = std::shared_ptr<const Sequence>(std::move(sequence));
  return value;
}

Value Value::dict(std::vector<std::pair<Value, Value>> entries) {
  auto dict = std::make_shared<Dict>();
  dict->entries.reserve(entries.size());
  for (auto& [key, item] : entries) add(*dict, std::move(key), std::move(item));
  Value value;
  value.value_ = std::shared_ptr<const Dict>(std::move(dict));
  return value;
}

Value Value::from_json(const io::Json& json) {
  try {
    return convert(json);
  } catch (const Fault& fault) {
    throw Error(fault.code(), fault.what());
  }
}

std::int64_t Value::integer() const {
  return is_bool() ? std::int64_t{boolean()} : std::get<std::int64_t>(value_);
}

double Value::number() const {
  return is_float() ? std::get<double>(value_) : static_cast<double>(integer());
}

const void* Value::identity() const noexcept {
  if (is_sequence()) return std::get<6>(value_).get();
  if (is_dict()) return std::get<7>(value_).get();
  if (is_object()) return std::get<8>(value_).get();
  return nullptr;
}

int Value::depth() const noexcept {
  if (is_sequence()) return sequence().depth;
  return is_dict() ? dict().depth : 0;
}

std::int64_t Value::weight() const noexcept {
  if (is_sequence()) return sequence().weight;
  if (is_dict()) return dict().weight;
  return is_string() ? 1 + static_cast<std::int64_t>(string().size() / 16) : 1;
}

const Value* Dict::find(const Value& key) const {
  check_hashable(key);
  if (slots.empty()) {
    for (const auto& entry : entries) {
      if (equal(entry.first, key)) return &entry.second;
    }
    return nullptr;
  }
  const std::size_t mask = slots.size() - 1;
  for (std::size_t at = hash_of(key) & mask; slots[at] != kNoEntry; at = (at + 1) & mask) {
    if (equal(entries[slots[at]].first, key)) return &entries[slots[at]].second;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (!slots.empty()) return find(Value(key));
  for (const auto& entry : entries) {
    if (entry.first.is_string() && entry.first.string() == key) return &entry.second;
  }
  return nullptr;
}

}  // namespace moesmith::text::jinja
