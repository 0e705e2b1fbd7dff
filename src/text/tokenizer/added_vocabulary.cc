// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/added_vocabulary.h"

#include "text/tokenizer/unicode.h"

namespace moesmith::text {
namespace {

bool word_ends_at(std::string_view text, std::size_t at) {
  if (at == 0) return false;
  std::size_t last = unicode::previous(text, at);
  return unicode::is_word(unicode::next(text, last));
}

bool word_starts_at(std::string_view text, std::size_t at) {
  return at < text.size() && unicode::is_word(unicode::next(text, at));
}

std::size_t skip_space_back(std::string_view text, std::size_t at) {
  while (at > 0) {
    const std::size_t last = unicode::previous(text, at);
    std::size_t after = last;
    if (!unicode::is_whitespace(unicode::next(text, after))) break;
    at = last;
  }
  return at;
}

std::size_t skip_space(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    std::size_t after = at;
    if (!unicode::is_whitespace(unicode::next(text, after))) break;
    at = after;
  }
  return at;
}

}  // namespace

void TokenFinder::add(std::string_view spelling, const AddedToken& token) {
  if (spelling.empty()) return;
  std::int32_t node = 0;
  for (const char c : spelling) {
    const auto byte = static_cast<unsigned char>(c);
    std::int32_t child = -1;
    for (const auto& [key, target] : nodes_[static_cast<std::size_t>(node)].children) {
      if (key == byte) child = target;
    }
    if (child < 0) {
      child = static_cast<std::int32_t>(nodes_.size());
      nodes_[static_cast<std::size_t>(node)].children.emplace_back(byte, child);
      nodes_.emplace_back();
    }
    node = child;
  }
  can_start_[static_cast<unsigned char>(spelling.front())] = true;
  std::int32_t& end = nodes_[static_cast<std::size_t>(node)].token;
  if (end >= 0) return;
  end = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back(token);
}

TokenFinder::Match TokenFinder::longest_at(std::string_view text, std::size_t at) const {
  Match best{-1, at};
  std::int32_t node = 0;
  while (at < text.size()) {
    const auto byte = static_cast<unsigned char>(text[at]);
    std::int32_t child = -1;
    for (const auto& [key, target] : nodes_[static_cast<std::size_t>(node)].children) {
      if (key == byte) child = target;
    }
    if (child < 0) break;
    node = child;
    ++at;
    const std::int32_t token = nodes_[static_cast<std::size_t>(node)].token;
    if (token >= 0) best = {token, at};
  }
  return best;
}

std::vector<Section> TokenFinder::split(std::string_view text) const {
  std::vector<Section> sections;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (!can_start_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const Match match = longest_at(text, at);
    if (match.token < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(match.token)];
    std::size_t begin = at;
    std::size_t end = match.end;
    at = match.end;  // also past one that is turned down: its bytes are used up
    if (token.single_word && (word_ends_at(text, begin) || word_starts_at(text, end))) continue;
    if (token.lstrip) begin = skip_space_back(text, begin);
    if (token.rstrip) end = skip_space(text, end);
    if (begin > done) sections.push_back({{done, begin}, -1});
    sections.push_back({{begin, end}, token.id});
    done = end;
  }
  if (done < text.size()) sections.push_back({{done, text.size()}, -1});
  return sections;
}

}  // namespace moesmith::text
