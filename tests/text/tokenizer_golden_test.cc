// SPDX-License-Identifier: Apache-2.0
// Encodings and decodings equal to those of Hugging Face's `tokenizers` (tests/data/tokenizers).
#include <gtest/gtest.h>

#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer_data.h"

namespace moesmith::text {
namespace {

class TokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, encodes_and_decodes_every_case) {
  const auto folder = golden_folder(GetParam());
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const auto cases = read_lines(folder / "cases.jsonl");
  ASSERT_EQ(cases.size(), 248u);
  for (const io::Json& line : cases) {
    const std::string& text = line.find("text")->as_string();
    const auto ids = ids_of(*line.find("ids"));
    EXPECT_EQ(tokenizer.encode(text, false), ids) << "text: " << text;
    EXPECT_EQ(tokenizer.encode(text, true), ids_of(*line.find("ids_special"))) << "text: " << text;
    EXPECT_EQ(tokenizer.decode(ids, false), line.find("decoded")->as_string());
  }
}

TEST_P(TokenizerGolden, streams_what_decode_gives) {
  const auto folder = golden_folder(GetParam());
  const Tokenizer tokenizer = Tokenizer::load(folder);
  for (const io::Json& line : read_lines(folder / "cases.jsonl")) {
    StreamDecoder stream(tokenizer, false);
    std::string text;
    for (const std::int32_t id : ids_of(*line.find("ids"))) text += stream.push(id);
    text += stream.finish();
    EXPECT_EQ(text, line.find("decoded")->as_string());
  }
}

class TokenizerChats : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerChats, encodes_rendered_chats) {
  const auto folder = golden_folder(GetParam());
  const auto chats =
      std::filesystem::path(MOESMITH_TEST_DATA) / "tokenizers" / GetParam() / "chats.jsonl";
  const Tokenizer tokenizer = Tokenizer::load(folder);
  EXPECT_TRUE(tokenizer.chat_template().has_value());
  for (const io::Json& line : read_lines(chats)) {
    const std::string& text = line.find("text")->as_string();
    EXPECT_EQ(tokenizer.encode(text, false), ids_of(*line.find("ids"))) << text;
  }
}

std::string name_of(const testing::TestParamInfo<const char*>& info) { return info.param; }

INSTANTIATE_TEST_SUITE_P(
    folders,
    TokenizerGolden,
    testing::Values("qwen3", "deepseek_v3", "gptoss", "sentencepiece_bpe", "byte_level_bos"),
    name_of);
// gptoss came without a chat template.
INSTANTIATE_TEST_SUITE_P(
    folders,
    TokenizerChats,
    testing::Values("qwen3", "deepseek_v3", "sentencepiece_bpe", "byte_level_bos"),
    name_of);

}  // namespace
}  // namespace moesmith::text
