// SPDX-License-Identifier: Apache-2.0
// Where the words of a conversation's turns lie in its rendering. The conversation is rendered once
// as it is and once more per turn with other words in their place; what differs are the words, and
// whatever the template makes of them (trimmed white space, reasoning, tool calls).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace moesmith::train {

struct TextSpan {
  std::size_t begin = 0, end = 0;  // bytes
};

// The words of message `index` in `rendered`, which is request's rendering. Nothing when they
// cannot be told from the rest (the template renders other turns otherwise with other words in this
// one, or leaves this one out). `turn_ends` are the texts of the tokens that end a turn.
std::optional<TextSpan> find_turn(const text::ChatTemplate& chat_template,
                                  const text::ChatRequest& request,
                                  std::string_view rendered,
                                  std::size_t index,
                                  std::span<const std::string> turn_ends);

// Byte offsets in `text` of each token's start and, last, of the end: [ids.size() + 1]. A token of
// a part of a character starts where the character does. Nothing when decoding does not give `text`
// back (a normaliser changed it).
std::optional<std::vector<std::size_t>> token_offsets(const text::Tokenizer& tokenizer,
                                                      std::span<const std::int32_t> ids,
                                                      std::string_view text);

}  // namespace moesmith::train
