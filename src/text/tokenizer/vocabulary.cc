// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/vocabulary.h"

#include <utility>

namespace moesmith::text {

bool Vocabulary::add(std::string token, std::int32_t id) {
  const auto index = static_cast<std::size_t>(id);
  if (has(id) || ids_.contains(token)) return false;
  if (index >= tokens_.size()) tokens_.resize(index + 1);
  const std::string& kept = store_.emplace_back(std::move(token));
  tokens_[index] = kept;
  ids_.emplace(kept, id);
  return true;
}

std::int32_t Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

std::string_view Vocabulary::token(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= tokens_.size()) return {};
  return tokens_[static_cast<std::size_t>(id)];
}

}  // namespace moesmith::text
