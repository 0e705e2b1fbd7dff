// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "core/text.h"
#include "moesmith/error.h"
#include "text/tokenizer/byte_level.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text {
namespace {

// Words of natural text are far shorter; longer ones seldom come twice.
constexpr std::size_t kLongestCachedWord = 64;
// About 16 MiB a thread.
constexpr std::size_t kMaxCachedWords = std::size_t{1} << 17;
// Shorter words are not worth looking for a cut in.
constexpr std::size_t kShortestCutWord = 24;

constexpr std::int32_t kNone = -1;

// "<0x0A>", as byte_fallback spells a byte.
std::string byte_token(unsigned char byte) {
  const char* digits = "0123456789ABCDEF";
  return str("<0x", digits[byte >> 4], digits[byte & 15], ">");
}

// The heap's order: the lowest rank on top, and of equal ones the leftmost.
bool comes_later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

void Bpe::encode(std::string_view word,
                 bool byte_level,
                 BpeScratch& scratch,
                 std::vector<std::int32_t>& ids) const {
  if (!cuttable_ || word.size() < kShortestCutWord) {
    encode_uncut(word, byte_level, scratch, ids);
    return;
  }
  std::size_t begin = 0;
  std::size_t at = 0;
  unicode::next(word, at);
  for (std::size_t left = 0, here = at; here < word.size(); left = here, here = at) {
    unicode::next(word, at);
    if (can_cut(word.substr(left, here - left), word.substr(here, at - here))) {
      encode_uncut(word.substr(begin, here - begin), byte_level, scratch, ids);
      begin = here;
    }
  }
  encode_uncut(word.substr(begin), byte_level, scratch, ids);
}

// Both characters must be symbols of their own: unknown ones are spelt as bytes, or fused.
bool Bpe::can_cut(std::string_view left, std::string_view right) const {
  std::size_t at_left = 0;
  std::size_t at_right = 0;
  const auto pair = bigram_key(unicode::next(left, at_left), unicode::next(right, at_right));
  return !bigrams_.contains(pair) && vocabulary_.find(left) >= 0 && vocabulary_.find(right) >= 0;
}

void Bpe::encode_uncut(std::string_view word,
                       bool byte_level,
                       BpeScratch& scratch,
                       std::vector<std::int32_t>& ids) const {
  const bool cached = word.size() <= kLongestCachedWord;
  if (cached) {
    const auto found = scratch.words.find(word);
    if (found != scratch.words.end()) {
      ids.insert(ids.end(), found->second.begin(), found->second.end());
      return;
    }
  }
  const std::size_t before = ids.size();
  if (byte_level) {
    scratch.spelling = bytes_to_characters(word);
    encode_spelt(scratch.spelling, scratch, ids);
  } else {
    encode_spelt(word, scratch, ids);
  }
  if (cached) {
    if (scratch.words.size() >= kMaxCachedWords) scratch.words.clear();
    scratch.words.emplace(word, std::vector<std::int32_t>(
                                    ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end()));
  }
}

void Bpe::encode_spelt(std::string_view word,
                       BpeScratch& scratch,
                       std::vector<std::int32_t>& ids) const {
  const std::int32_t whole = ignore_merges_ ? vocabulary_.find(word) : -1;
  if (whole >= 0) {
    ids.push_back(whole);
    return;
  }
  if (word.size() > std::numeric_limits<std::int32_t>::max()) {
    throw Error(ErrorCode::kUnsupported,
                str("tokenizer: got a word of ", word.size(), " bytes, expected less than 2 GiB"));
  }
  set_symbols(word, scratch);
  merge_symbols(scratch);
  for (const BpeScratch::Symbol& symbol : scratch.symbols) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
}

void Bpe::set_symbols(std::string_view word, BpeScratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  bool unk_pending = false;
  const auto add = [&](std::int32_t id) { symbols.push_back({id, kNone, kNone}); };
  const auto flush_unk = [&] {
    if (unk_pending) add(vocabulary_.find(*unk_token_));
    unk_pending = false;
  };
  std::string decorated;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t begin = at;
    unicode::next(word, at);
    std::string_view character = word.substr(begin, at - begin);
    const bool prefixed = begin > 0 && !subword_prefix_.empty();
    const bool suffixed = at == word.size() && !word_suffix_.empty();
    if (prefixed || suffixed) {
      decorated = str(prefixed ? subword_prefix_ : "", character, suffixed ? word_suffix_ : "");
      character = decorated;
    }
    const std::int32_t id = vocabulary_.find(character);
    if (id >= 0) {
      flush_unk();
      add(id);
      continue;
    }
    // A pending unknown token stays pending across bytes: Hugging Face's order, kept.
    if (byte_fallback_ && set_byte_symbols(character, scratch)) continue;
    if (!unk_token_) continue;  // without an unknown token such characters vanish
    if (vocabulary_.find(*unk_token_) < 0) {
      throw Error(ErrorCode::kInvalidInput, str(path_, ": unk_token \"", *unk_token_,
                                                "\" is not in the vocabulary, and the text has \"",
                                                character, "\", which is not either"));
    }
    if (!fuse_unk_) flush_unk();
    unk_pending = true;
  }
  flush_unk();
}

bool Bpe::set_byte_symbols(std::string_view character, BpeScratch& scratch) const {
  std::array<std::int32_t, 4> bytes{};
  if (character.size() > bytes.size()) return false;
  for (std::size_t i = 0; i < character.size(); ++i) {
    bytes[i] = vocabulary_.find(byte_token(static_cast<unsigned char>(character[i])));
    if (bytes[i] < 0) return false;
  }
  for (std::size_t i = 0; i < character.size(); ++i) {
    scratch.symbols.push_back({bytes[i], kNone, kNone});
  }
  return true;
}

void Bpe::propose(BpeScratch& scratch, std::int32_t left, std::int32_t right) const {
  if (left < 0 || right < 0) return;
  const Merge* merge = merges_.find(scratch.symbols[static_cast<std::size_t>(left)].id,
                                    scratch.symbols[static_cast<std::size_t>(right)].id);
  if (merge == nullptr) return;
  scratch.queue.push_back({merge->rank, left, merge->result});
  std::push_heap(scratch.queue.begin(), scratch.queue.end(), comes_later);
}

void Bpe::merge_symbols(BpeScratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& queue = scratch.queue;
  queue.clear();
  const auto count = static_cast<std::int32_t>(symbols.size());
  for (std::int32_t i = 0; i < count; ++i) {
    symbols[static_cast<std::size_t>(i)].previous = i - 1;
    symbols[static_cast<std::size_t>(i)].next = i + 1 < count ? i + 1 : kNone;
  }
  for (std::int32_t i = 0; i + 1 < count; ++i) propose(scratch, i, i + 1);
  while (!queue.empty()) {
    const BpeScratch::Candidate top = queue.front();
    std::pop_heap(queue.begin(), queue.end(), comes_later);
    queue.pop_back();
    auto& left = symbols[static_cast<std::size_t>(top.position)];
    if (left.id < 0 || left.next < 0) continue;
    auto& right = symbols[static_cast<std::size_t>(left.next)];
    // The pair may have changed since it was queued.
    const Merge* merge = merges_.find(left.id, right.id);
    if (merge == nullptr || merge->result != top.result) continue;
    left.id = merge->result;
    right.id = kNone;
    left.next = right.next;
    if (right.next >= 0) symbols[static_cast<std::size_t>(right.next)].previous = top.position;
    propose(scratch, left.previous, top.position);
    propose(scratch, top.position, left.next);
  }
}

}  // namespace moesmith::text
