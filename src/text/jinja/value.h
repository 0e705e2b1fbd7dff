// SPDX-License-Identifier: Apache-2.0
// The values of a template: Python's None, bool, int (64 bits), float, str, list, tuple, dict, and
// what only a template makes (undefined, namespaces, macros, loops). Containers are immutable, as
// in the sandbox that chat templates run in, so copies share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "io/json.h"

namespace moesmith::text::jinja {

class Value;
class Object;  // namespace, macro, function, loop: see object.h

using Items = std::vector<Value>;

// Why a value is not there; printed as "", an error when anything is asked of it.
struct Undefined {
  std::string message;  // "'x' is undefined"
};

struct Str {
  std::string text;     // UTF-8
  bool markup = false;  // result of `safe` or `escape`: what is added to it gets escaped
};

enum class SequenceKind { kList, kTuple, kRange, kGenerator, kKeys, kValues, kItems };

struct Sequence {
  SequenceKind kind = SequenceKind::kList;
  Items items;
  std::int64_t start = 0, stop = 0, step = 1;  // of a range: for printing
  int depth = 1;                               // levels of nested containers
  std::int64_t weight = 1;                     // see Value::weight
  mutable bool consumed = false;               // a generator gives its items once
};

struct Dict;

class Value {
 public:
  Value() noexcept : value_(nullptr) {}  // None
  Value(bool value) noexcept : value_(value) {}
  Value(int value) noexcept : value_(static_cast<std::int64_t>(value)) {}
  Value(std::int64_t value) noexcept : value_(value) {}
  Value(double value) noexcept : value_(value) {}
  Value(const char* value) : Value(std::string(value)) {}
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(std::string value, bool markup = false)
      : value_(std::make_shared<const Str>(Str{std::move(value), markup})) {}
  Value(std::shared_ptr<Object> object) noexcept : value_(std::move(object)) {}

  static Value undefined(std::string message);
  // Throws Fault (fault.h) when containers nest or hold more than limits.h allows.
  static Value sequence(SequenceKind kind, Items items);
  static Value list(Items items) { return sequence(SequenceKind::kList, std::move(items)); }
  static Value tuple(Items items) { return sequence(SequenceKind::kTuple, std::move(items)); }
  static Value range(std::int64_t start, std::int64_t stop, std::int64_t step, Items items);
  // A later entry replaces the value of an earlier one with an equal key. Throws
  // Fault for a key that cannot be hashed (list, dict).
  static Value dict(std::vector<std::pair<Value, Value>> entries);
  // Throws Error(kUnsupported) beyond the same bounds.
  static Value from_json(const io::Json& json);

  bool is_undefined() const noexcept { return value_.index() == 0; }
  bool is_none() const noexcept { return value_.index() == 1; }
  bool is_bool() const noexcept { return value_.index() == 2; }
  bool is_int() const noexcept { return value_.index() == 3; }
  bool is_float() const noexcept { return value_.index() == 4; }
  bool is_string() const noexcept { return value_.index() == 5; }
  bool is_sequence() const noexcept { return value_.index() == 6; }
  bool is_dict() const noexcept { return value_.index() == 7; }
  bool is_object() const noexcept { return value_.index() == 8; }
  bool is_sequence(SequenceKind kind) const noexcept {
    return is_sequence() && sequence().kind == kind;
  }
  bool is_number() const noexcept { return is_bool() || is_int() || is_float(); }  // as Python's

  // The caller has looked at the type.
  const Undefined& why_undefined() const { return *std::get<0>(value_); }
  bool boolean() const { return std::get<bool>(value_); }
  std::int64_t integer() const;  // of a bool or int
  double number() const;         // of a bool, int or float
  const std::string& string() const { return std::get<5>(value_)->text; }
  bool is_markup() const noexcept { return is_string() && std::get<5>(value_)->markup; }
  const Sequence& sequence() const { return *std::get<6>(value_); }
  const Items& items() const { return sequence().items; }
  const Dict& dict() const { return *std::get<7>(value_); }
  const std::shared_ptr<Object>& object() const { return std::get<8>(value_); }

  // Address of what copies share, to tell two containers apart.
  const void* identity() const noexcept;
  int depth() const noexcept;
  // Values in it, a shared one as often as it occurs, and 16-byte units of text: what printing or
  // comparing it costs.
  std::int64_t weight() const noexcept;

 private:
  std::variant<std::shared_ptr<const Undefined>,
               std::nullptr_t,
               bool,
               std::int64_t,
               double,
               std::shared_ptr<const Str>,
               std::shared_ptr<const Sequence>,
               std::shared_ptr<const Dict>,
               std::shared_ptr<Object>>
      value_;
};

// Entries in the order of their first insertion; lookup by hash, 1 == 1.0 == true as in Python.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  std::vector<std::uint32_t> slots;  // open addressing, a power of two; empty for few entries
  int depth = 1;
  std::int64_t weight = 1;

  // nullptr when there is no such key; throws as Value::dict for a key that cannot be hashed.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
};

}  // namespace moesmith::text::jinja
