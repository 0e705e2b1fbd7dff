// SPDX-License-Identifier: Apache-2.0
// Decoders look at neighbours (the first token loses its space, bytes join to characters), so each
// new id is decoded behind the ones whose text was last settled.
#include <string_view>

#include "text/tokenizer/tokenizer.h"

namespace moesmith::text {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

std::string StreamDecoder::push(std::int32_t id) {
  window_.push_back(id);
  const std::string text = tokenizer_.decode(window_, skip_special_tokens_);
  // The text may end within a character. One that is U+FFFD itself comes with the next token.
  if (text.size() <= emitted_.size() || std::string_view(text).ends_with("\uFFFD")) return {};
  std::string fresh = text.substr(emitted_.size());
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(settled_));
  settled_ = window_.size();
  emitted_ = tokenizer_.decode(window_, skip_special_tokens_);
  return fresh;
}

std::string StreamDecoder::finish() {
  const std::string text = tokenizer_.decode(window_, skip_special_tokens_);
  std::string rest = text.size() > emitted_.size() ? text.substr(emitted_.size()) : std::string();
  window_.clear();
  settled_ = 0;
  emitted_.clear();
  return rest;
}

}  // namespace moesmith::text
