// SPDX-License-Identifier: Apache-2.0
// JSON values: parsed in one pass with line and column in errors, written as Python's json writes
// them. Json is the bare value; JsonRef is a value that knows where it stands, for typed reads
// whose errors name file and path: `config.json: num_experts: got string "8", expected an integer`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace moesmith::io {

class Json;

// Members in the order of the file; a key occurs once. Lookup is by hash, so a vocabulary is fine.
class JsonObject {
 public:
  std::size_t size() const noexcept { return keys_.size(); }
  bool empty() const noexcept { return keys_.empty(); }
  const std::string& key(std::size_t i) const { return keys_[i]; }
  const Json& value(std::size_t i) const;
  // nullptr when there is no such key.
  const Json* find(std::string_view key) const noexcept;
  Json* find(std::string_view key) noexcept;
  bool contains(std::string_view key) const noexcept { return find(key) != nullptr; }
  // Adds a member at the end or replaces the value of the one that is there.
  void set(std::string key, Json value);
  void erase(std::string_view key);

 private:
  friend class JsonParser;
  static constexpr std::uint32_t kNone = 0xffffffffu;
  std::uint32_t index_of(std::string_view key) const noexcept;
  bool append(std::string key, Json value);  // false: the key is there already
  void rebuild_slots();

  std::vector<std::string> keys_;
  std::vector<Json> values_;
  std::vector<std::uint32_t> slots_;  // open addressing, a power of two; empty for few members
};

struct JsonFormat {
  int indent = -1;         // spaces per level; -1 is one line
  bool spaces = true;      // one line: ", " and ": " as Python, else "," and ":" as safetensors
  bool ascii = true;       // everything else as \uXXXX, Python's default
  bool sort_keys = false;  // by code point
};

class Json {
 public:
  using Array = std::vector<Json>;

  Json() noexcept = default;  // null
  Json(std::nullptr_t) noexcept {}
  Json(bool value) noexcept : value_(value) {}
  Json(int value) noexcept : value_(static_cast<std::int64_t>(value)) {}
  Json(std::int64_t value) noexcept : value_(value) {}
  Json(double value) noexcept : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) noexcept : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(Array value) noexcept : value_(std::move(value)) {}
  Json(JsonObject value) noexcept : value_(std::move(value)) {}
  static Json object() { return Json(JsonObject()); }
  static Json array() { return Json(Array()); }
  template <class T>
  static Json array_of(const std::vector<T>& items) {
    Array array;
    array.reserve(items.size());
    for (const auto& item : items) array.emplace_back(item);
    return Json(std::move(array));
  }

  // Throws Error(kInvalidInput) "<source>:<line>:<column>: <what>". NaN, Infinity and -Infinity are
  // read, as Python writes them; an integer beyond 64 bits becomes a double. A key that occurs
  // twice, invalid UTF-8 and nesting beyond 256 are errors.
  static Json parse(std::string_view text, const std::string& source);

  bool is_null() const noexcept { return value_.index() == 0; }
  bool is_bool() const noexcept { return value_.index() == 1; }
  bool is_integer() const noexcept { return value_.index() == 2; }
  bool is_double() const noexcept { return value_.index() == 3; }
  bool is_number() const noexcept { return is_integer() || is_double(); }
  bool is_string() const noexcept { return value_.index() == 4; }
  bool is_array() const noexcept { return value_.index() == 5; }
  bool is_object() const noexcept { return value_.index() == 6; }

  // Throw Error(kInvalidInput) "got <type and value>, expected <type>" on another type. as_number
  // takes integers too.
  bool as_bool() const;
  std::int64_t as_integer() const;
  double as_number() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  Array& as_array();
  const JsonObject& as_object() const;
  JsonObject& as_object();

  // Of an object; nullptr when this is no object or has no such key.
  const Json* find(std::string_view key) const noexcept;
  // Of an object (a null turns into one).
  void set(std::string key, Json value);
  // Of an array (a null turns into one).
  void push_back(Json value);

  // `string "8"`, `array of 3`: for messages, cut to a readable length.
  std::string describe() const;
  // A double is written with the least digits that read back as the same value, as Python's repr.
  std::string dump(const JsonFormat& format = {}) const;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, JsonObject> value_;
};

bool operator==(const Json& a, const Json& b);

// A value and its place; refers to a Json that must outlive it.
class JsonRef {
 public:
  JsonRef(const Json& value, std::string source) : value_(&value), source_(std::move(source)) {}

  const Json& value() const noexcept { return *value_; }
  const std::string& source() const noexcept { return source_; }
  const std::string& path() const noexcept { return path_; }  // "rope_scaling.factor", "merges[3]"

  // The member or element; throws Error(kInvalidInput) when it is not there.
  JsonRef at(std::string_view key) const;
  JsonRef at(std::size_t index) const;
  // Nothing when the key is absent or its value is null.
  std::optional<JsonRef> find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key).has_value(); }
  std::size_t size() const noexcept;  // of an array or object, else 0

  bool as_bool() const;
  std::int64_t as_integer() const;
  double as_number() const;
  const std::string& as_string() const;
  std::vector<std::int64_t> as_integers() const;
  std::vector<double> as_numbers() const;
  std::vector<std::string> as_strings() const;

  // Of the member `key`; the fallback when it is absent or null.
  bool get_bool(std::string_view key, bool fallback) const;
  std::int64_t get_integer(std::string_view key, std::int64_t fallback) const;
  double get_number(std::string_view key, double fallback) const;
  std::string get_string(std::string_view key, std::string_view fallback) const;

  // Throws Error(kInvalidInput) "<source>: <path>: <what>".
  [[noreturn]] void fail(const std::string& what) const;

 private:
  JsonRef child(const Json& value, std::string path) const;

  const Json* value_;
  std::string source_;
  std::string path_;
};

// A whole file. Errors name it by the path that was given.
struct JsonFile {
  std::string path;
  Json value;
  JsonRef root() const { return {value, path}; }
};

// Throws Error(kNotFound) without the file, Error(kIo) when it cannot be read.
JsonFile read_json(const std::string& path);

}  // namespace moesmith::io
