// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <functional>
#include <utility>

#include "core/text.h"
#include "io/atomic_write.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

// Up to this many members a scan is faster than a table.
constexpr std::size_t kScanLimit = 8;

[[noreturn]] void wrong_type(const Json& value, const char* expected) {
  throw Error(ErrorCode::kInvalidInput, "got " + value.describe() + ", expected " + expected);
}

std::size_t hash_of(std::string_view key) { return std::hash<std::string_view>{}(key); }

}  // namespace

const Json& JsonObject::value(std::size_t i) const { return values_[i]; }

std::uint32_t JsonObject::index_of(std::string_view key) const noexcept {
  if (slots_.empty()) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      if (keys_[i] == key) return static_cast<std::uint32_t>(i);
    }
    return kNone;
  }
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t slot = hash_of(key) & mask; slots_[slot] != kNone; slot = (slot + 1) & mask) {
    if (keys_[slots_[slot]] == key) return slots_[slot];
  }
  return kNone;
}

void JsonObject::rebuild_slots() {
  slots_.clear();
  if (keys_.size() <= kScanLimit) return;
  std::size_t size = 4 * kScanLimit;
  while (size < 4 * keys_.size()) size *= 2;  // at most half full until twice as many keys
  slots_.assign(size, kNone);
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    std::size_t slot = hash_of(keys_[i]) & (size - 1);
    while (slots_[slot] != kNone) slot = (slot + 1) & (size - 1);
    slots_[slot] = static_cast<std::uint32_t>(i);
  }
}

bool JsonObject::append(std::string key, Json value) {
  if (index_of(key) != kNone) return false;
  keys_.push_back(std::move(key));
  values_.push_back(std::move(value));
  if (keys_.size() > kScanLimit) {
    if (2 * keys_.size() > slots_.size()) {
      rebuild_slots();
    } else {
      const std::size_t mask = slots_.size() - 1;
      std::size_t slot = hash_of(keys_.back()) & mask;
      while (slots_[slot] != kNone) slot = (slot + 1) & mask;
      slots_[slot] = static_cast<std::uint32_t>(keys_.size() - 1);
    }
  }
  return true;
}

const Json* JsonObject::find(std::string_view key) const noexcept {
  const std::uint32_t i = index_of(key);
  return i == kNone ? nullptr : &values_[i];
}

Json* JsonObject::find(std::string_view key) noexcept {
  const std::uint32_t i = index_of(key);
  return i == kNone ? nullptr : &values_[i];
}

void JsonObject::set(std::string key, Json value) {
  if (Json* old = find(key)) {
    *old = std::move(value);
  } else {
    append(std::move(key), std::move(value));
  }
}

void JsonObject::erase(std::string_view key) {
  const std::uint32_t i = index_of(key);
  if (i == kNone) return;
  keys_.erase(keys_.begin() + i);
  values_.erase(values_.begin() + i);
  rebuild_slots();
}

bool Json::as_bool() const {
  if (!is_bool()) wrong_type(*this, "true or false");
  return std::get<bool>(value_);
}

std::int64_t Json::as_integer() const {
  if (!is_integer()) wrong_type(*this, "an integer");
  return std::get<std::int64_t>(value_);
}

double Json::as_number() const {
  if (is_integer()) return static_cast<double>(std::get<std::int64_t>(value_));
  if (!is_double()) wrong_type(*this, "a number");
  return std::get<double>(value_);
}

const std::string& Json::as_string() const {
  if (!is_string()) wrong_type(*this, "a string");
  return std::get<std::string>(value_);
}

const Json::Array& Json::as_array() const {
  if (!is_array()) wrong_type(*this, "an array");
  return std::get<Array>(value_);
}

Json::Array& Json::as_array() {
  if (!is_array()) wrong_type(*this, "an array");
  return std::get<Array>(value_);
}

const JsonObject& Json::as_object() const {
  if (!is_object()) wrong_type(*this, "an object");
  return std::get<JsonObject>(value_);
}

JsonObject& Json::as_object() {
  if (!is_object()) wrong_type(*this, "an object");
  return std::get<JsonObject>(value_);
}

const Json* Json::find(std::string_view key) const noexcept {
  const auto* object = std::get_if<JsonObject>(&value_);
  return object == nullptr ? nullptr : object->find(key);
}

void Json::set(std::string key, Json value) {
  if (is_null()) value_ = JsonObject();
  as_object().set(std::move(key), std::move(value));
}

void Json::push_back(Json value) {
  if (is_null()) value_ = Array();
  as_array().push_back(std::move(value));
}

std::string Json::describe() const {
  constexpr std::size_t kLongest = 60;
  switch (value_.index()) {
    case 0:
      return "null";
    case 1:
      return as_bool() ? "true" : "false";
    case 2:
      return "integer " + dump();
    case 3:
      return "number " + dump();
    case 4: {
      const std::string& text = as_string();
      if (text.size() <= kLongest) return "string " + dump({.ascii = false});
      std::size_t end = kLongest;
      while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) --end;
      return "string " + Json(text.substr(0, end) + "...").dump({.ascii = false});
    }
    case 5:
      return str("array of ", as_array().size());
    default:
      return str("object of ", as_object().size());
  }
}

bool operator==(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) return a.as_integer() == b.as_integer();
    return a.as_number() == b.as_number();
  }
  if (a.is_null() || b.is_null()) return a.is_null() && b.is_null();
  if (a.is_bool() && b.is_bool()) return a.as_bool() == b.as_bool();
  if (a.is_string() && b.is_string()) return a.as_string() == b.as_string();
  if (a.is_array() && b.is_array()) return a.as_array() == b.as_array();
  if (!a.is_object() || !b.is_object()) return false;
  const JsonObject& left = a.as_object();
  const JsonObject& right = b.as_object();
  if (left.size() != right.size()) return false;
  for (std::size_t i = 0; i < left.size(); ++i) {
    const Json* other = right.find(left.key(i));
    if (other == nullptr || !(left.value(i) == *other)) return false;
  }
  return true;
}

JsonFile read_json(const std::string& path) { return {path, Json::parse(read_file(path), path)}; }

}  // namespace moesmith::io
