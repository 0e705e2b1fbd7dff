// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "io/atomic_write.h"
#include "moesmith/error.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer_data.h"

namespace moesmith::text {
namespace {

using testing::ElementsAre;

TrainerOptions sized(std::int64_t vocab_size) {
  TrainerOptions options;
  options.vocab_size = vocab_size;
  return options;
}

std::vector<std::string> joined(const TrainedBpe& bpe) {
  return {bpe.tokens.begin() + 256, bpe.tokens.end()};
}

TEST(TokenizerTrainer, joins_the_most_frequent_pair_first) {
  BpeTrainer trainer(sized(256 + 3 + 3));
  trainer.add("low low low lower lower newest");
  // " l" 4 (the first word has no space), "lo" 5, "ow" 5: of the two the first in byte order.
  EXPECT_THAT(joined(trainer.train()), ElementsAre("lo", "low", " low"));
}

TEST(TokenizerTrainer, breaks_ties_by_the_bytes_of_the_tokens) {
  BpeTrainer trainer(sized(256 + 3 + 2));
  trainer.add("zy\nzy\nab\nab\ncd");
  EXPECT_THAT(joined(trainer.train()), ElementsAre("ab", "zy"));
}

TEST(TokenizerTrainer, counts_overlapping_pairs_as_they_are_joined) {
  BpeTrainer trainer(sized(256 + 3 + 2));
  trainer.add("aaaa aaaa\naaaaa");
  EXPECT_THAT(joined(trainer.train()), ElementsAre("aa", "aaaa"));
}

TEST(TokenizerTrainer, does_not_depend_on_the_order_of_the_texts) {
  std::vector<std::string> texts;
  for (const io::Json& line : read_lines(golden_folder("qwen3") / "cases.jsonl")) {
    texts.push_back(line.find("text")->as_string());
  }
  BpeTrainer forward(sized(600));
  for (const std::string& text : texts) forward.add(text);
  BpeTrainer backward(sized(600));
  std::reverse(texts.begin(), texts.end());
  for (const std::string& text : texts) backward.add(text);
  const TrainedBpe a = forward.train();
  const TrainedBpe b = backward.train();
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.merges, b.merges);
  EXPECT_EQ(a.tokens.size(), 597u);
}

// Recounts everything before each join: what the incremental counts must come to.
std::vector<std::string> recounted(const std::vector<std::string>& words, std::size_t joins) {
  std::vector<std::vector<std::string>> split;
  for (const std::string& word : words) {
    split.emplace_back();
    for (const char c : word) split.back().emplace_back(1, c);
  }
  std::vector<std::string> out;
  while (out.size() < joins) {
    std::map<std::pair<std::string, std::string>, int> counts;
    for (const auto& word : split) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    auto best = counts.begin();  // in byte order, so the first maximum is the one
    for (auto it = counts.begin(); it != counts.end(); ++it) {
      if (it->second > best->second) best = it;
    }
    const auto pair = best->first;
    if (std::find(out.begin(), out.end(), pair.first + pair.second) == out.end()) {
      out.push_back(pair.first + pair.second);
    }
    for (auto& word : split) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != pair.first || word[i + 1] != pair.second) continue;
        word[i] += word[i + 1];
        word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return out;
}

TEST(TokenizerTrainer, equals_a_recount_before_every_join) {
  std::vector<std::string> words;
  std::uint32_t state = 12345;
  for (int i = 0; i < 400; ++i) {
    std::string word;
    for (state = state * 1664525u + 1013904223u; word.size() < 2 + (state >> 28);) {
      word += static_cast<char>('a' + (state >> (2 * word.size() % 30)) % 4);
    }
    words.push_back(word);
  }
  BpeTrainer trainer(sized(256 + 3 + 80));
  for (const std::string& word : words) trainer.add(word);
  EXPECT_EQ(joined(trainer.train()), recounted(words, 80));
}

TEST(TokenizerTrainer, cuts_out_special_tokens) {
  BpeTrainer trainer(sized(256 + 3 + 1));
  trainer.add("<|im_end|><|im_end|><|im_end|>ab ab");
  EXPECT_THAT(joined(trainer.train()), ElementsAre("ab"));
}

TEST(TokenizerTrainer, refuses_sizes_that_do_not_fit_the_text) {
  EXPECT_THROW(BpeTrainer(sized(258)), Error);
  BpeTrainer trainer(sized(1000));
  trainer.add("only a few words, only a few");
  EXPECT_THROW(trainer.train(), Error);
}

TEST(TokenizerTrainer, writes_what_the_tokenizer_reads) {
  BpeTrainer trainer(sized(400));
  const std::string novel =
      io::read_file(std::string(MOESMITH_SOURCE_DIR) + "/examples/austen/corpus/valid.jsonl");
  trainer.add(novel);
  const TrainedBpe bpe = trainer.train();
  const TokenizerFolder folder("");
  write_tokenizer(folder.path().string(), bpe, {});
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer.vocab_size(), 400);
  EXPECT_EQ(tokenizer.id_of("<|endoftext|>"), 397);
  EXPECT_EQ(tokenizer.eos()->id, 399);
  EXPECT_EQ(tokenizer.pad()->id, 397);
  EXPECT_TRUE(tokenizer.chat_template().has_value());
  std::string text = novel.substr(0, 20000) + "\u4e2d\U0001F600\t<|im_end|>";
  for (int byte = 0; byte < 128; ++byte) text += static_cast<char>(byte);
  const auto ids = tokenizer.encode(text, true);
  EXPECT_LT(ids.size(), text.size() * 2 / 3);
  EXPECT_EQ(tokenizer.decode(ids, false), text);
}

TEST(TokenizerTrainer, refuses_a_role_that_is_no_special_token) {
  BpeTrainer trainer(sized(259));
  const TrainedBpe bpe = trainer.train();
  const TokenizerFolder folder("");
  TokenizerConfig config;
  config.eos_token = "</s>";
  EXPECT_THROW(write_tokenizer(folder.path().string(), bpe, config), Error);
}

}  // namespace
}  // namespace moesmith::text
