// SPDX-License-Identifier: Apache-2.0
// Typed reads of a JSON value whose errors name its place.
#include "core/text.h"
#include "io/json.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

// Runs a typed read of a bare value; its error gets the place in front.
template <class Read>
decltype(auto) placed(const JsonRef& ref, Read read) {
  try {
    return read(ref.value());
  } catch (const Error& error) {
    ref.fail(error.what());
  }
}

std::string member(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

}  // namespace

void JsonRef::fail(const std::string& what) const {
  throw Error(ErrorCode::kInvalidInput,
              source_ + ": " + (path_.empty() ? "" : path_ + ": ") + what);
}

JsonRef JsonRef::child(const Json& value, std::string path) const {
  JsonRef ref(value, source_);
  ref.path_ = std::move(path);
  return ref;
}

JsonRef JsonRef::at(std::string_view key) const {
  const JsonObject& object =
      placed(*this, [](const Json& value) -> const JsonObject& { return value.as_object(); });
  const Json* found = object.find(key);
  if (found == nullptr) {
    throw Error(ErrorCode::kInvalidInput, source_ + ": " + member(path_, key) + ": is missing");
  }
  return child(*found, member(path_, key));
}

JsonRef JsonRef::at(std::size_t index) const {
  const Json::Array& array =
      placed(*this, [](const Json& value) -> const Json::Array& { return value.as_array(); });
  if (index >= array.size()) {
    fail(str("has ", array.size(), " elements, expected at least ", index + 1));
  }
  return child(array[index], str(path_, "[", index, "]"));
}

std::optional<JsonRef> JsonRef::find(std::string_view key) const {
  const JsonObject& object =
      placed(*this, [](const Json& value) -> const JsonObject& { return value.as_object(); });
  const Json* found = object.find(key);
  if (found == nullptr || found->is_null()) return std::nullopt;
  return child(*found, member(path_, key));
}

std::size_t JsonRef::size() const noexcept {
  if (value_->is_array()) return value_->as_array().size();
  return value_->is_object() ? value_->as_object().size() : 0;
}

bool JsonRef::as_bool() const {
  return placed(*this, [](const Json& value) { return value.as_bool(); });
}

std::int64_t JsonRef::as_integer() const {
  return placed(*this, [](const Json& value) { return value.as_integer(); });
}

double JsonRef::as_number() const {
  return placed(*this, [](const Json& value) { return value.as_number(); });
}

const std::string& JsonRef::as_string() const {
  return placed(*this, [](const Json& value) -> const std::string& { return value.as_string(); });
}

std::vector<std::int64_t> JsonRef::as_integers() const {
  placed(*this, [](const Json& value) -> const Json& { return value.as_array(), value; });
  std::vector<std::int64_t> items;
  for (std::size_t i = 0; i < size(); ++i) items.push_back(at(i).as_integer());
  return items;
}

std::vector<double> JsonRef::as_numbers() const {
  placed(*this, [](const Json& value) -> const Json& { return value.as_array(), value; });
  std::vector<double> items;
  for (std::size_t i = 0; i < size(); ++i) items.push_back(at(i).as_number());
  return items;
}

std::vector<std::string> JsonRef::as_strings() const {
  placed(*this, [](const Json& value) -> const Json& { return value.as_array(), value; });
  std::vector<std::string> items;
  for (std::size_t i = 0; i < size(); ++i) items.push_back(at(i).as_string());
  return items;
}

bool JsonRef::get_bool(std::string_view key, bool fallback) const {
  const auto found = find(key);
  return found ? found->as_bool() : fallback;
}

std::int64_t JsonRef::get_integer(std::string_view key, std::int64_t fallback) const {
  const auto found = find(key);
  return found ? found->as_integer() : fallback;
}

double JsonRef::get_number(std::string_view key, double fallback) const {
  const auto found = find(key);
  return found ? found->as_number() : fallback;
}

std::string JsonRef::get_string(std::string_view key, std::string_view fallback) const {
  const auto found = find(key);
  return found ? found->as_string() : std::string(fallback);
}

}  // namespace moesmith::io
