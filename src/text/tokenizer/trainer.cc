// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/trainer.h"

#include <algorithm>
#include <queue>
#include <unordered_set>

#include "core/text.h"
#include "moesmith/error.h"
#include "text/tokenizer/unicode.h"

namespace moesmith::text {

const char* const kQwenPattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

namespace {

using Pair = std::pair<std::int32_t, std::int32_t>;

struct PairHash {
  std::size_t operator()(const Pair& pair) const {
    const std::uint64_t key =
        static_cast<std::uint64_t>(pair.first) << 32 | static_cast<std::uint32_t>(pair.second);
    return static_cast<std::size_t>((key * 0x9e3779b97f4a7c15u) >> 16);
  }
};

struct Word {
  std::vector<std::int32_t> symbols;
  std::int64_t count;
};

struct PairUse {
  std::int64_t count = 0;
  std::unordered_set<std::size_t> words;  // those that have had the pair at some time
};

class Learner {
 public:
  Learner(std::vector<Word> words, std::int64_t min_frequency)
      : words_(std::move(words)), min_frequency_(min_frequency), queue_(Later{this}) {
    for (int byte = 0; byte < 256; ++byte) add_token(std::string(1, static_cast<char>(byte)));
    for (std::size_t i = 0; i < words_.size(); ++i) count_pairs(i, 1);
    for (const auto& [pair, use] : uses_) queue_.push({use.count, pair});
  }

  std::size_t num_tokens() const { return tokens_.size(); }

  // Joins the most frequent pair; false when none is frequent enough.
  bool step() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const std::int64_t count = uses_[top.pair].count;
      if (count != top.count) {  // it fell since it was queued; risen ones were queued again
        if (count > 0 && count < top.count) queue(top.pair, count);
        continue;
      }
      if (count < min_frequency_) return false;
      join(top.pair);
      return true;
    }
    return false;
  }

  std::vector<std::string> take_tokens() { return std::move(tokens_); }
  std::vector<Pair> take_merges() { return std::move(merges_); }

 private:
  struct Candidate {
    std::int64_t count;
    Pair pair;
  };
  struct Later {
    const Learner* learner;
    bool operator()(const Candidate& a, const Candidate& b) const {
      if (a.count != b.count) return a.count < b.count;
      const auto& tokens = learner->tokens_;
      const auto text = [&](std::int32_t id) -> const std::string& {
        return tokens[static_cast<std::size_t>(id)];
      };
      const int left = text(a.pair.first).compare(text(b.pair.first));
      if (left != 0) return left > 0;
      return text(a.pair.second) > text(b.pair.second);
    }
  };

  std::int32_t add_token(const std::string& token) {
    const auto [entry, fresh] = ids_.emplace(token, static_cast<std::int32_t>(tokens_.size()));
    if (fresh) tokens_.push_back(token);
    return entry->second;
  }

  // Adds `sign` times the word's pairs to their counts.
  void count_pairs(std::size_t index, int sign) {
    const Word& word = words_[index];
    for (std::size_t i = 0; i + 1 < word.symbols.size(); ++i) {
      PairUse& use = uses_[{word.symbols[i], word.symbols[i + 1]}];
      use.count += sign * word.count;
      if (sign > 0) use.words.insert(index);
    }
  }

  void join(const Pair& pair) {
    merges_.push_back(pair);
    // Two pairs can spell one token; it keeps the id it has.
    const std::int32_t joined = add_token(tokens_[static_cast<std::size_t>(pair.first)] +
                                          tokens_[static_cast<std::size_t>(pair.second)]);
    const std::unordered_set<std::size_t> affected = std::move(uses_[pair].words);
    for (const std::size_t index : affected) {
      count_pairs(index, -1);
      join_in(words_[index].symbols, pair, joined);
      count_pairs(index, 1);
    }
    for (const std::size_t index : affected) queue_pairs_with(joined, words_[index].symbols);
    uses_.erase(pair);
  }

  static void join_in(std::vector<std::int32_t>& symbols, const Pair& pair, std::int32_t joined) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < symbols.size(); ++kept) {
      if (i + 1 < symbols.size() && symbols[i] == pair.first && symbols[i + 1] == pair.second) {
        symbols[kept] = joined;
        i += 2;
      } else {
        symbols[kept] = symbols[i++];
      }
    }
    symbols.resize(kept);
  }

  // Only pairs with the joined token can have become more frequent.
  void queue_pairs_with(std::int32_t joined, const std::vector<std::int32_t>& symbols) {
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Pair pair{symbols[i], symbols[i + 1]};
      if (pair.first != joined && pair.second != joined) continue;
      queue(pair, uses_[pair].count);
    }
  }

  // A pair whose newest entry says `count` is not entered twice.
  void queue(const Pair& pair, std::int64_t count) {
    std::int64_t& newest = queued_[pair];
    if (newest == count) return;
    newest = count;
    queue_.push({count, pair});
  }

  std::vector<Word> words_;
  std::int64_t min_frequency_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<Pair> merges_;
  std::unordered_map<Pair, PairUse, PairHash> uses_;
  std::unordered_map<Pair, std::int64_t, PairHash> queued_;  // count when last queued
  std::priority_queue<Candidate, std::vector<Candidate>, Later> queue_;
};

}  // namespace

BpeTrainer::BpeTrainer(TrainerOptions options)
    : options_(std::move(options)), pattern_(Regex::compile(options_.pattern, "pattern")) {
  const auto fixed = static_cast<std::int64_t>(256 + options_.special_tokens.size());
  if (options_.vocab_size < fixed) {
    throw Error(ErrorCode::kInvalidInput,
                str("vocabulary: got a size of ", options_.vocab_size, ", expected at least ",
                    fixed, ": 256 bytes and the special tokens"));
  }
  for (std::size_t i = 0; i < options_.special_tokens.size(); ++i) {
    AddedToken token;
    token.id = static_cast<std::int32_t>(i);
    token.content = options_.special_tokens[i];
    special_.add(token.content, token);
  }
}

void BpeTrainer::add(std::string_view text) {
  const std::string valid = unicode::to_valid_utf8(text);
  for (const Section& section : special_.split(valid)) {
    if (section.token >= 0) continue;
    const std::string_view part =
        std::string_view(valid).substr(section.span.begin, section.span.end - section.span.begin);
    for (const Span& span : pattern_.find_all(part)) {
      const std::string_view word = part.substr(span.begin, span.end - span.begin);
      const auto found = words_.find(word);
      if (found != words_.end()) {
        ++found->second;
      } else {
        words_.emplace(word, 1);
      }
    }
  }
}

TrainedBpe BpeTrainer::train() const {
  std::vector<Word> words;
  words.reserve(words_.size());
  for (const auto& [text, count] : words_) {
    Word word;
    word.count = count;
    for (const char byte : text) word.symbols.push_back(static_cast<unsigned char>(byte));
    words.push_back(std::move(word));
  }
  Learner learner(std::move(words), options_.min_frequency);
  const auto wanted =
      static_cast<std::size_t>(options_.vocab_size) - options_.special_tokens.size();
  while (learner.num_tokens() < wanted) {
    if (!learner.step()) {
      throw Error(ErrorCode::kInvalidInput,
                  str("vocabulary: got texts with pairs for ",
                      learner.num_tokens() + options_.special_tokens.size(),
                      " tokens, expected more text or a smaller size than ", options_.vocab_size));
    }
  }
  return {learner.take_tokens(), learner.take_merges(), options_};
}

}  // namespace moesmith::text
