// SPDX-License-Identifier: Apache-2.0
// The `pre_tokenizer` of a tokenizer.json: cuts a normalised text into the words that the model
// works on one by one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/json.h"
#include "text/tokenizer/regex.h"

namespace moesmith::text {

// A text in pieces. Stages cut the spans finer, or write a new text with new spans.
struct Pieces {
  std::string text;
  std::vector<Span> spans;     // in order, none empty
  bool at_text_start = false;  // `text` starts where the input does
};

// Match and gap alike: a stretch of a piece and whether the pattern matched it.
struct Stretch {
  Span span;
  bool is_match;
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Cuts by `stretches`, which cover the piece, as `behavior` has it; empty results are left out.
void split_by(const std::vector<Stretch>& stretches,
              SplitBehavior behavior,
              std::vector<Span>& out);

using PreTokenizerStage = std::function<void(Pieces&)>;

struct PreTokenizer {
  std::vector<PreTokenizerStage> stages;
  // The last stage spells each byte as its printable character. It is left to the model, which
  // does it once per distinct word.
  bool byte_level_last = false;
};

// `node` is the pre-tokenizer's JSON; throws Error(kUnsupported) for a type that is not built.
PreTokenizer make_pre_tokenizer(const io::JsonRef& node);

// GPT-2's splitting pattern, which ByteLevel with use_regex applies.
extern const char* const kGpt2Pattern;

}  // namespace moesmith::text
