// SPDX-License-Identifier: Apache-2.0
// Token strings and their ids, both ways.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace moesmith::text {

class Vocabulary {
 public:
  // No vocabulary has more ids; a larger one in a file is a mistake that would cost the memory.
  static constexpr std::int64_t kMaxIds = std::int64_t{1} << 24;

  void reserve(std::size_t num_tokens) { ids_.reserve(num_tokens); }
  // False, and nothing is added, when the token or the id is there already. 0 <= id < kMaxIds.
  bool add(std::string token, std::int32_t id);
  // -1 without such a token.
  std::int32_t find(std::string_view token) const;
  // "" for an id without a token.
  std::string_view token(std::int32_t id) const;
  bool has(std::int32_t id) const { return !token(id).empty(); }
  // One more than the largest id.
  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }

 private:
  std::vector<std::string_view> tokens_;  // by id, into store_
  std::deque<std::string> store_;         // never moves its strings
  std::unordered_map<std::string_view, std::int32_t> ids_;
};

}  // namespace moesmith::text
