// SPDX-License-Identifier: Apache-2.0
// The BPE model of a tokenizer.json: a word's characters are its first symbols, and the pair whose
// merge comes first in the list is joined until no pair is in it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "io/json.h"
#include "text/tokenizer/merge_table.h"
#include "text/tokenizer/vocabulary.h"

namespace moesmith::text {

// What encoding writes to: one per thread at a time, kept between calls for its cache of words.
struct BpeScratch {
  struct Symbol {
    std::int32_t id;  // -1 once it is joined to the one before it
    std::int32_t previous;
    std::int32_t next;
  };
  struct Candidate {
    std::int32_t rank;
    std::int32_t position;
    std::int32_t result;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };

  std::vector<Symbol> symbols;
  std::vector<Candidate> queue;  // a heap
  std::string spelling;
  std::unordered_map<std::string, std::vector<std::int32_t>, Hash, std::equal_to<>> words;
};

inline std::uint64_t bigram_key(char32_t left, char32_t right) {
  return static_cast<std::uint64_t>(left) << 32 | right;
}

class Bpe {
 public:
  // `node` is the `model` of a tokenizer.json; `byte_level` as encode() will be called.
  static Bpe load(const io::JsonRef& node, bool byte_level);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Appends the ids of `word`. With `byte_level` the word is raw bytes, which the vocabulary spells
  // as printable characters. Time is n log n in the word's length.
  void encode(std::string_view word,
              bool byte_level,
              BpeScratch& scratch,
              std::vector<std::int32_t>& ids) const;

 private:
  void load_vocabulary(const io::JsonRef& node);
  void load_merges(const io::JsonRef& node);
  void add_bigrams(std::string_view token);
  bool can_cut(std::string_view left, std::string_view right) const;
  void encode_uncut(std::string_view word,
                    bool byte_level,
                    BpeScratch& scratch,
                    std::vector<std::int32_t>& ids) const;
  void encode_spelt(std::string_view word,
                    BpeScratch& scratch,
                    std::vector<std::int32_t>& ids) const;
  void set_symbols(std::string_view word, BpeScratch& scratch) const;
  bool set_byte_symbols(std::string_view character, BpeScratch& scratch) const;
  void merge_symbols(BpeScratch& scratch) const;
  void propose(BpeScratch& scratch, std::int32_t left, std::int32_t right) const;

  std::string path_;  // for messages
  Vocabulary vocabulary_;
  MergeTable merges_;
  // Pairs of characters that some merge's token has side by side. No merge reaches across any
  // other pair, so a long word is cut there.
  std::unordered_set<std::uint64_t> bigrams_;
  std::optional<std::string> unk_token_;
  std::string subword_prefix_;
  std::string word_suffix_;
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  bool cuttable_ = false;  // bigrams_ is filled, and a cut changes nothing
};

}  // namespace moesmith::text
