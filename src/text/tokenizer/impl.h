// SPDX-License-Identifier: Apache-2.0
// The tables behind a Tokenizer.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/added_vocabulary.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/tokenizer.h"

namespace moesmith::text {

// Lends each call a scratch, so that calls on several threads share no cache and no lock but this.
class ScratchPool {
 public:
  std::unique_ptr<BpeScratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<BpeScratch>();
    auto scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }
  void give(std::unique_ptr<BpeScratch> scratch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<BpeScratch>> free_;
};

struct Tokenizer::Impl {
  Bpe model;
  Normalizer normalizer;  // empty: none
  PreTokenizer pre_tokenizer;
  Surround surround;
  Decoder decoder;  // empty: none

  std::vector<AddedToken> added;  // by id
  Vocabulary added_vocabulary;
  // What decoders get for a normalised added token where it is not its content, as tokenizers 0.23.
  std::unordered_map<std::int32_t, std::string> decoded_as;
  std::vector<char> special;  // by id
  TokenFinder in_raw;         // sought before normalisation
  TokenFinder in_normalized;  // sought after it

  std::optional<NamedToken> bos, eos, pad, unk;
  std::optional<std::string> chat_template;

  mutable ScratchPool pool;

  std::int32_t find(std::string_view token) const;
  std::string_view token(std::int32_t id) const;
  std::int64_t size() const;
  void encode_section(std::string_view text,
                      bool at_text_start,
                      BpeScratch& scratch,
                      std::vector<std::int32_t>& ids) const;
};

}  // namespace moesmith::text
