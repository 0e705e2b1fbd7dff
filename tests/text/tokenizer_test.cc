// SPDX-License-Identifier: Apache-2.0
// The Tokenizer's own surface: roles, look-ups, streaming, hostile text, several threads.
#include "text/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "text/tokenizer_data.h"

namespace moesmith::text {
namespace {

using testing::ElementsAre;
using Ids = std::vector<std::int32_t>;

TEST(Tokenizer, reads_roles_of_either_spelling) {
  const Tokenizer qwen = Tokenizer::load(golden_folder("qwen3"));
  EXPECT_FALSE(qwen.bos().has_value());
  ASSERT_TRUE(qwen.eos().has_value());
  EXPECT_EQ(qwen.eos()->content, "<|im_end|>");
  EXPECT_EQ(qwen.eos()->id, 151645);
  EXPECT_EQ(qwen.pad()->id, 151643);
  EXPECT_FALSE(qwen.unk().has_value());
  const Tokenizer deepseek = Tokenizer::load(golden_folder("deepseek_v3"));
  EXPECT_EQ(deepseek.bos()->id, 0);  // an object with "content"
  EXPECT_EQ(deepseek.eos()->id, 1);
}

TEST(Tokenizer, finds_tokens_and_ids) {
  const Tokenizer tokenizer = Tokenizer::load(golden_folder("qwen3") / "tokenizer.json");
  EXPECT_EQ(tokenizer.vocab_size(), 151669);
  EXPECT_EQ(tokenizer.id_of("<|im_start|>"), 151644);
  EXPECT_EQ(tokenizer.id_of("\u0120hello"), 23811);
  EXPECT_EQ(tokenizer.id_of("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.token_of(23811), "\u0120hello");
  EXPECT_EQ(tokenizer.token_of(151644), "<|im_start|>");
  EXPECT_EQ(tokenizer.token_of(151669), "");
  EXPECT_EQ(tokenizer.token_of(-1), "");
  ASSERT_EQ(tokenizer.added_tokens().size(), 26u);
  EXPECT_EQ(tokenizer.added_tokens()[1].content, "<|im_start|>");
  EXPECT_TRUE(tokenizer.is_special(151644));
  EXPECT_FALSE(tokenizer.is_special(151657));  // <tool_call>: added, not special
  EXPECT_FALSE(tokenizer.is_special(151669));
}

TEST(Tokenizer, leaves_out_special_tokens_and_ids_without_one) {
  const Tokenizer tokenizer = Tokenizer::load(golden_folder("qwen3"));
  const Ids ids = tokenizer.encode("<|im_start|>hi<tool_call>", false);
  EXPECT_EQ(tokenizer.decode(ids, false), "<|im_start|>hi<tool_call>");
  EXPECT_EQ(tokenizer.decode(ids, true), "hi<tool_call>");
  EXPECT_EQ(tokenizer.decode(Ids{151935, 6023, -5, 2147483647}, false), "hi");
  EXPECT_EQ(tokenizer.decode({}, false), "");
}

TEST(Tokenizer, puts_a_later_template_around_an_earlier_one) {
  const auto around = [](const std::string& token, const std::string& id) {
    return R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "s"}},
               {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "s"}}], "special_tokens": {"s":
               {"id": "s", "ids": [)" +
           id + R"(], "tokens": [")" + token + R"("]}}})";
  };
  const TokenizerFolder folder(
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "<": 1, "[": 2}, "merges": []},
          "post_processor": {"type": "Sequence", "processors": [)" +
      around("<", "1") + "," + around("[", "2") + "]}}");
  EXPECT_THAT(Tokenizer::load(folder.path()).encode("a", true), ElementsAre(2, 1, 0, 1, 2));
}

TEST(Tokenizer, prefers_the_template_file_and_takes_the_default_of_several) {
  const std::string json = R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})";
  const TokenizerFolder folder(json, R"({"chat_template": [{"name": "tool_use", "template": "T"},
                                         {"name": "default", "template": "D"}]})");
  EXPECT_EQ(Tokenizer::load(folder.path()).chat_template(), "D");
  std::ofstream(folder.path() / "chat_template.jinja") << "J";
  EXPECT_EQ(Tokenizer::load(folder.path()).chat_template(), "J");
  EXPECT_EQ(Tokenizer::load(TokenizerFolder(json).path()).chat_template(), std::nullopt);
}

TEST(Tokenizer, counts_each_invalid_sequence_as_a_replacement_character) {
  const Tokenizer tokenizer = Tokenizer::load(golden_folder("qwen3"));
  const auto expect_same = [&](std::string_view invalid, std::string_view valid) {
    EXPECT_EQ(tokenizer.encode(invalid, false), tokenizer.encode(valid, false)) << valid;
  };
  expect_same(
      "a\xff"
      "b",
      "a\uFFFDb");
  expect_same("\xc3", "\uFFFD");      // cut short
  expect_same("\xe4\xb8", "\uFFFD");  // one maximal sequence
  expect_same("\xe4\xb8x", "\uFFFDx");
  expect_same("\xf0\x9f\x98", "\uFFFD");
  expect_same("\xc0\xaf", "\uFFFD\uFFFD");                      // overlong
  expect_same("\xe0\x80\xaf", "\uFFFD\uFFFD\uFFFD");            // overlong
  expect_same("\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD");            // a surrogate
  expect_same("\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
  expect_same(std::string_view("\x80\0\xfe", 3), std::string_view("\uFFFD\0\uFFFD", 7));
}

TEST(Tokenizer, takes_long_words) {
  for (const char* name : {"qwen3", "sentencepiece_bpe"}) {
    const Tokenizer tokenizer = Tokenizer::load(golden_folder(name));
    for (const std::string unit : {"a", "abcab", " ", "\u4e2d\u6587", "e\u0323"}) {
      std::string text;
      while (text.size() < 300000) text += unit;
      const Ids ids = tokenizer.encode(text, false);
      EXPECT_LT(ids.size(), text.size() + 2);
      const bool composes = unit[0] == 'e';  // NFC makes one character of it
      EXPECT_EQ(tokenizer.decode(ids, false) == text, !composes || name[0] == 's')
          << name << " " << unit;
    }
  }
}

TEST(Tokenizer, normalises_a_long_run_of_marks_out_of_order) {
  const Tokenizer tokenizer = Tokenizer::load(golden_folder("qwen3"));
  std::string text = "x";
  std::string ordered = "x";
  for (int i = 0; i < 100000; ++i) text += "\u0301\u0323";
  for (int i = 0; i < 100000; ++i) ordered += "\u0323";
  for (int i = 0; i < 100000; ++i) ordered += "\u0301";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), ordered);
}

TEST(Tokenizer, streams_a_character_with_its_last_byte) {
  const Tokenizer tokenizer = Tokenizer::load(golden_folder("qwen3"));
  const Ids ids = tokenizer.encode("x\U00010348y", false);  // four bytes, no token of its own
  ASSERT_GT(ids.size(), 3u);
  StreamDecoder stream(tokenizer, true);
  std::vector<std::string> pieces;
  for (const std::int32_t id : ids) pieces.push_back(stream.push(id));
  EXPECT_EQ(pieces.front(), "x");
  for (std::size_t i = 1; i + 2 < pieces.size(); ++i) EXPECT_EQ(pieces[i], "");
  EXPECT_EQ(pieces[pieces.size() - 2], "\U00010348");
  EXPECT_EQ(pieces.back(), "y");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Tokenizer, streams_out_a_character_that_stays_unfinished) {
  const Tokenizer tokenizer = Tokenizer::load(golden_folder("qwen3"));
  Ids ids = tokenizer.encode("\U00010348", false);
  ids.pop_back();
  StreamDecoder stream(tokenizer, true);
  for (const std::int32_t id : ids) EXPECT_EQ(stream.push(id), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.push(6023), "hi");  // as new
}

TEST(Tokenizer, streams_the_space_that_only_a_first_token_loses) {
  const Tokenizer tokenizer = Tokenizer::load(golden_folder("sentencepiece_bpe"));
  const Ids ids = tokenizer.encode("the house the", false);
  StreamDecoder stream(tokenizer, true);
  std::string text;
  for (const std::int32_t id : ids) text += stream.push(id);
  EXPECT_EQ(text + stream.finish(), "the house the");
}

TEST(Tokenizer, gives_every_thread_the_same) {
  const Tokenizer tokenizer = Tokenizer::load(golden_folder("byte_level_bos"));
  const auto cases = read_lines(golden_folder("byte_level_bos") / "cases.jsonl");
  std::vector<std::vector<Ids>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (const io::Json& line : cases) {
        result.push_back(tokenizer.encode(line.find("text")->as_string(), false));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    for (const auto& result : results) EXPECT_EQ(result[i], ids_of(*cases[i].find("ids")));
  }
}

}  // namespace
}  // namespace moesmith::text
