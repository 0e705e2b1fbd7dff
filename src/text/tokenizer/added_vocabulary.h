// SPDX-License-Identifier: Apache-2.0
// The added tokens of a tokenizer.json: found in the text before the model sees it, the leftmost
// first and of those the longest.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer/regex.h"
#include "text/tokenizer/tokenizer.h"

namespace moesmith::text {

// A stretch of text, and the added token that it is (-1: none, the model's matter).
struct Section {
  Span span;
  std::int32_t token;
};

class TokenFinder {
 public:
  TokenFinder() : nodes_(1) {}

  // `spelling` is what is sought; the first token to claim a spelling keeps it.
  void add(std::string_view spelling, const AddedToken& token);
  bool empty() const { return tokens_.empty(); }
  // The sections of `text` in order, none of them empty but those of tokens.
  std::vector<Section> split(std::string_view text) const;

 private:
  struct Node {
    std::int32_t token = -1;                                       // in tokens_, when one ends here
    std::vector<std::pair<unsigned char, std::int32_t>> children;  // byte and node
  };
  struct Match {
    std::int32_t token;  // in tokens_; -1: none
    std::size_t end;
  };

  Match longest_at(std::string_view text, std::size_t at) const;

  std::vector<Node> nodes_;  // a trie over bytes; 0 is its root
  std::vector<AddedToken> tokens_;
  std::array<bool, 256> can_start_{};
};

}  // namespace moesmith::text
