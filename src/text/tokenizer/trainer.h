// SPDX-License-Identifier: Apache-2.0
// Learns a byte-level BPE tokenizer from text: the 256 bytes, then the pair of neighbours that is
// most frequent within words, joined, again and again. Deterministic: of equally frequent pairs
// the one first in the order of its tokens' bytes is taken, whatever order the text came in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/tokenizer/added_vocabulary.h"
#include "text/tokenizer/regex.h"

namespace moesmith::text {

// Qwen2's splitting pattern: words with a leading space, single digits, runs of signs and spaces.
extern const char* const kQwenPattern;

struct TrainerOptions {
  std::int64_t vocab_size = 4096;  // special tokens included
  std::vector<std::string> special_tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::string pattern = kQwenPattern;
  std::int64_t min_frequency = 2;  // rarer pairs are not joined
};

struct TrainedBpe {
  std::vector<std::string> tokens;  // by id, as raw bytes: 256 bytes, joined ones; no special ones
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;  // ids, the first joined first
  TrainerOptions options;
};

class BpeTrainer {
 public:
  // Throws Error(kInvalidInput) when the bytes and the special tokens alone exceed the size.
  explicit BpeTrainer(TrainerOptions options);

  // Counts the words of a text. Special tokens in it are cut out.
  void add(std::string_view text);
  // Throws Error(kInvalidInput) when the texts have too few pairs for the size asked for.
  TrainedBpe train() const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };

  TrainerOptions options_;
  Regex pattern_;
  TokenFinder special_;
  std::unordered_map<std::string, std::int64_t, Hash, std::equal_to<>> words_;
};

struct TokenizerConfig {
  std::string eos_token = "<|im_end|>";
  std::string pad_token = "<|endoftext|>";
};

// Writes tokenizer.json and tokenizer_config.json (with a ChatML template) into `folder`, which is
// made when it is not there. The special tokens' ids follow the other tokens'. Throws
// Error(kInvalidInput) when a token of `config` is no special token.
void write_tokenizer(const std::string& folder,
                     const TrainedBpe& bpe,
                     const TokenizerConfig& config);

}  // namespace moesmith::text
