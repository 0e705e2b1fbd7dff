// SPDX-License-Identifier: Apache-2.0
// Broken and unsupported tokenizer.json files: one error each, naming file, JSON path and cause.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/text.h"
#include "io/atomic_write.h"
#include "moesmith/error.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer_data.h"

namespace moesmith::text {
namespace {

using testing::AllOf;
using testing::HasSubstr;

void expect_error(const std::string& json,
                  ErrorCode code,
                  const testing::Matcher<std::string>& message) {
  const TokenizerFolder folder(json);
  try {
    Tokenizer::load(folder.path());
    ADD_FAILURE() << "loaded: " << json;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(std::string(error.what()), AllOf(HasSubstr("tokenizer.json"), message));
  }
}

// A tokenizer.json with the model's `vocab` and `merges`, and `rest` of it before them.
std::string with_model(const std::string& vocab,
                       const std::string& merges,
                       const std::string& rest = "") {
  return str("{", rest, R"("model": {"type": "BPE", "vocab": )", vocab, R"(, "merges": )", merges,
             "}}");
}

const char* const kVocab = R"({"a": 0, "b": 1, "ab": 2})";
const char* const kMerges = R"([["a", "b"]])";

void expect_invalid(const std::string& json, const testing::Matcher<std::string>& message) {
  expect_error(json, ErrorCode::kInvalidInput, message);
}

void expect_unsupported(const std::string& rest, const testing::Matcher<std::string>& message) {
  expect_error(with_model(kVocab, kMerges, rest), ErrorCode::kUnsupported, message);
}

TEST(TokenizerFile, loads_the_smallest) {
  const TokenizerFolder folder(with_model(kVocab, kMerges));
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_THAT(tokenizer.encode("aabxb", true), testing::ElementsAre(0, 2, 1));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{0, 2}, false), "a ab");
}

TEST(TokenizerFile, names_a_missing_file) {
  try {
    Tokenizer::load("/nowhere/model");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("/nowhere/model"));
  }
}

TEST(TokenizerFile, refuses_every_truncation) {
  const std::string whole = with_model(
      kVocab, kMerges,
      R"("added_tokens": [{"id": 3, "content": "<x>"}], "normalizer": {"type": "NFC"},)");
  EXPECT_NO_THROW(Tokenizer::load(TokenizerFolder(whole).path()));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const TokenizerFolder folder(whole.substr(0, length));
    EXPECT_THROW(Tokenizer::load(folder.path()), Error) << length;
  }
}

TEST(TokenizerFile, refuses_a_broken_model) {
  expect_invalid("[]", HasSubstr("expected an object"));
  expect_invalid("{}", HasSubstr("model"));
  expect_invalid(R"({"model": 3})", HasSubstr("model"));
  expect_invalid(R"({"model": {"type": "BPE", "merges": []}})", HasSubstr("vocab"));
  expect_invalid(R"({"model": {"type": "BPE", "vocab": {"a": 0}}})", HasSubstr("merges"));
  expect_invalid(with_model("[]", "[]"), HasSubstr("model.vocab"));
  expect_invalid(with_model(R"({"a": "0"})", "[]"),
                 AllOf(HasSubstr("model.vocab"), HasSubstr("\"0\"")));
  expect_invalid(with_model(R"({"a": -1})", "[]"), HasSubstr("-1"));
  expect_invalid(with_model(R"({"a": 0.5})", "[]"), HasSubstr("0.5"));
  expect_invalid(with_model(R"({"a": 4000000000})", "[]"), HasSubstr("4000000000"));
  expect_invalid(with_model(R"({"a": 16777216})", "[]"), HasSubstr("16777216"));
  expect_invalid(with_model(R"({"a": 7, "b": 7})", "[]"),
                 AllOf(HasSubstr("id 7"), HasSubstr("\"a\""), HasSubstr("\"b\"")));
  expect_invalid(with_model(R"({"a": 0, "a": 1})", "[]"), HasSubstr("a"));
}

TEST(TokenizerFile, refuses_broken_merges) {
  const auto merges = [](const std::string& list) { return with_model(kVocab, list); };
  expect_invalid(merges(R"({"a": "b"})"), HasSubstr("model.merges"));
  expect_invalid(merges(R"([["a", "b"], ["a", "z"]])"),
                 AllOf(HasSubstr("model.merges[1]"), HasSubstr("\"z\"")));
  expect_invalid(merges(R"(["z b"])"), AllOf(HasSubstr("model.merges[0]"), HasSubstr("\"z\"")));
  expect_invalid(merges(R"(["b a"])"), HasSubstr("\"ba\""));  // what it joins to is unknown
  expect_invalid(merges(R"(["ab"])"), HasSubstr("model.merges[0]"));
  expect_invalid(merges(R"(["a b a"])"), HasSubstr("model.merges[0]"));
  expect_invalid(merges(R"([["a"]])"), HasSubstr("model.merges[0]"));
  expect_invalid(merges(R"([["a", 1]])"), HasSubstr("model.merges[0]"));
  expect_invalid(merges(R"([null])"), HasSubstr("model.merges[0]"));
}

TEST(TokenizerFile, refuses_broken_added_tokens) {
  const auto added = [](const std::string& list) {
    return with_model(kVocab, kMerges, str(R"("added_tokens": )", list, ","));
  };
  expect_invalid(added("3"), HasSubstr("added_tokens"));
  expect_invalid(added(R"([{"content": "x"}])"), HasSubstr("added_tokens[0]"));
  expect_invalid(added(R"([{"id": 3}])"), HasSubstr("added_tokens[0]"));
  expect_invalid(added(R"([{"id": 3, "content": ""}])"), HasSubstr("empty"));
  expect_invalid(added(R"([{"id": -3, "content": "x"}])"), HasSubstr("-3"));
  expect_invalid(added(R"([{"id": 99999999, "content": "x"}])"), HasSubstr("99999999"));
  expect_invalid(added(R"([{"id": 1, "content": "x"}])"), HasSubstr("\"b\""));
  expect_invalid(added(R"([{"id": 5, "content": "ab"}])"), HasSubstr("2 in model.vocab"));
  expect_invalid(added(R"([{"id": 5, "content": "x"}, {"id": 5, "content": "y"}])"),
                 HasSubstr("added_tokens[1]"));
  expect_invalid(added(R"([{"id": 5, "content": "x"}, {"id": 6, "content": "x"}])"),
                 HasSubstr("added_tokens[1]"));
  expect_invalid(added(R"([{"id": 5, "content": "x", "special": "yes"}])"), HasSubstr("special"));
}

TEST(TokenizerFile, names_what_is_not_supported) {
  expect_error(R"({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}})", ErrorCode::kUnsupported,
               HasSubstr("model: the model \"Unigram\""));
  expect_error(R"({"model": {"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []}})",
               ErrorCode::kUnsupported, HasSubstr("model.dropout"));
  expect_unsupported(R"("normalizer": {"type": "Precompiled"},)",
                     HasSubstr("normalizer: the normalizer \"Precompiled\""));
  expect_unsupported(
      R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Nmt"}]},)",
      HasSubstr("normalizer.normalizers[1]: the normalizer \"Nmt\""));
  expect_unsupported(R"("pre_tokenizer": {"type": "UnicodeScripts"},)",
                     HasSubstr("pre_tokenizer: the pre-tokenizer \"UnicodeScripts\""));
  expect_unsupported(R"("decoder": {"type": "CTC"},)", HasSubstr("decoder: the decoder \"CTC\""));
  expect_unsupported(R"("post_processor": {"type": "Other"},)",
                     HasSubstr("post_processor: the post-processor \"Other\""));
  expect_unsupported(
      R"("pre_tokenizer": {"type": "Split", "pattern": {"String": "x"}, "behavior": "Sideways"},)",
      HasSubstr("pre_tokenizer.behavior"));
}

TEST(TokenizerFile, refuses_broken_sections) {
  const auto with = [](const std::string& rest) { return with_model(kVocab, kMerges, rest); };
  expect_invalid(with(R"("normalizer": {},)"), HasSubstr("normalizer"));
  expect_invalid(
      with(R"("normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": ""},)"),
      HasSubstr("normalizer.pattern"));
  expect_invalid(
      with(R"("pre_tokenizer": {"type": "Split", "pattern": {}, "behavior": "Isolated"},)"),
      HasSubstr("pre_tokenizer.pattern"));
  expect_invalid(
      with(
          R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"},)"),
      AllOf(HasSubstr("pre_tokenizer.pattern"), HasSubstr("(a")));
  expect_invalid(with(R"("decoder": {"type": "Strip", "content": "", "start": 1, "stop": 0},)"),
                 HasSubstr("decoder"));
  expect_invalid(
      with(R"("post_processor": {"type": "BertProcessing", "cls": ["a", 9], "sep": ["b", 1]},)"),
      HasSubstr("post_processor: the id 9"));
  expect_invalid(with(R"("post_processor": {"type": "TemplateProcessing", "special_tokens": {},
              "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]},)"),
                 HasSubstr("special_tokens"));
}

TEST(TokenizerFile, says_which_character_has_no_token) {
  const TokenizerFolder folder(
      R"({"model": {"type": "BPE", "unk_token": "<unk>", "vocab": {"a": 0}, "merges": []}})");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_THAT(tokenizer.encode("aa", false), testing::ElementsAre(0, 0));
  try {
    tokenizer.encode("a\u4e2d", false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("<unk>"), HasSubstr("\u4e2d")));
  }
}

TEST(TokenizerFile, refuses_patterns_that_mean_something_else_here) {
  for (const char* pattern :
       {"(?x: a b)", "a(?i)b", "\\\\p{IsGreek", "\\\\X", "\\\\g<1>", "[a[^b]]", "[\\\\W]", "(?~ab)",
        "[[:punct:]]", "\\\\u12", "\\\\x{12", "\\\\xe9", "[a", "x{", "(?<=", "\\\\"}) {
    const std::string json = with_model(
        kVocab, kMerges,
        str(R"("pre_tokenizer": {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": ")",
            pattern, R"("}},)"));
    const TokenizerFolder folder(json);
    EXPECT_THROW(Tokenizer::load(folder.path()), Error) << pattern;
  }
}

TEST(TokenizerFile, gives_up_on_a_pattern_that_would_take_forever) {
  const TokenizerFolder folder(with_model(
      kVocab, kMerges,
      R"("pre_tokenizer": {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "(a+)+c|(b*)*d"}},)"));
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_THROW(tokenizer.encode(std::string(60, 'a') + "b", false), Error);
}

}  // namespace
}  // namespace moesmith::text
