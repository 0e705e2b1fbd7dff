// SPDX-License-Identifier: Apache-2.0
// Flags over the file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "helpers.h"

namespace moesmith::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Override flag(const std::string& key, const std::string& value) { return {"--" + key, key, value}; }

TEST(override, beats_the_file) {
  const Config config =
      parse("lora_r: 8\nmax_steps: 5\n", {flag("lora_r", "16"), flag("max_steps", "")});
  EXPECT_EQ(config.lora.lora_r, 16);
  EXPECT_EQ(config.train.max_steps, std::nullopt);
  EXPECT_EQ(config.given.at("lora_r").str(), "--lora_r");
}

TEST(override, is_checked_like_the_file) {
  EXPECT_EQ(parse_error("", {flag("lora_r", "x")}),
            "--lora_r: lora_r: got \"x\", expected an integer in [1, 65536]");
  EXPECT_EQ(parse_error("", {flag("lora_rr", "1")}),
            "--lora_rr: unknown key lora_rr; did you mean lora_r?");
  EXPECT_THAT(parse_error("", {flag("load_in_4bit", "true")}),
              HasSubstr("--load_in_4bit: load_in_4bit: "));
  EXPECT_THAT(parse_error("warmup_steps: 1\n", {flag("warmup_ratio", "0.5")}),
              HasSubstr("exclude each other"));
}

TEST(override, takes_lists_in_two_spellings) {
  for (const char* value : {"q_proj,v_proj", "[q_proj, v_proj]", "[\"q_proj\",v_proj]"}) {
    EXPECT_THAT(parse("", {flag("lora_target_modules", value)}).lora.lora_target_modules,
                ElementsAre("q_proj", "v_proj"));
  }
  EXPECT_EQ(parse("", {flag("lora_target_modules", ".*q_proj")}).lora.lora_target_modules_regex,
            ".*q_proj");
}

TEST(override, a_sentence_is_no_list) {
  EXPECT_THAT(
      parse("", {flag("sample_prompts", "It was, of course, late.")}).runtime.sample_prompts,
      ElementsAre("It was, of course, late."));
  EXPECT_THAT(parse("", {flag("eot_tokens", "a, b")}).train.eot_tokens, ElementsAre("a", "b"));
}

TEST(override, takes_strings_letter_by_letter) {
  EXPECT_EQ(parse("", {flag("chat_template_jinja", "{{ a: [b] }}")}).train.chat_template_jinja,
            "{{ a: [b] }}");
  EXPECT_EQ(parse("", {flag("output_dir", "a: b # c")}).train.output_dir, "a: b # c");
}

TEST(override, takes_structures_as_yaml) {
  const Config config = parse(
      "", {flag("datasets", "[{path: x.txt, type: completion}]"),
           flag("lora_rank_pattern", "{q_proj: 4}"), flag("overrides_of_model_config", "{a: 1}")});
  EXPECT_EQ(config.train.datasets.at(0).path, "x.txt");
  EXPECT_EQ(config.lora.lora_rank_pattern.at(0).second, 4);
  EXPECT_EQ(config.model.overrides_of_model_config, "{\"a\": 1}");
  EXPECT_THAT(parse_error("", {flag("datasets", "[{path: x")}), HasSubstr("--datasets: not YAML"));
}

TEST(override, reaches_into_data_sets) {
  const Config config =
      parse("", {flag("datasets.0.path", "y.jsonl"), flag("datasets.1.path", "z.txt"),
                 flag("datasets.1.type", "completion"), flag("datasets.1.data_files", "a,b")});
  EXPECT_EQ(config.train.datasets.at(0).path, "y.jsonl");
  EXPECT_EQ(config.train.datasets.at(0).type, train::PromptType::kAlpaca);
  EXPECT_EQ(config.train.datasets.at(1).type, train::PromptType::kCompletion);
  EXPECT_THAT(config.train.datasets.at(1).data_files, ElementsAre("a", "b"));
  EXPECT_EQ(parse("test_datasets: {path: a, type: alpaca}\n", {flag("test_datasets.0.path", "b")})
                .train.test_datasets.at(0)
                .path,
            "b");
}

TEST(override, says_what_cannot_be_reached) {
  EXPECT_THAT(parse_error("", {flag("datasets.2.path", "x")}),
              HasSubstr("expected one from 0 to 1"));
  EXPECT_THAT(parse_error("", {flag("datasets.-1.path", "x")}),
              HasSubstr("expected one from 0 to 1"));
  EXPECT_THAT(parse_error("", {flag("datasets.x.path", "x")}), HasSubstr("got index"));
  EXPECT_THAT(parse_error("", {flag("datasets.0", "x")}), HasSubstr("only an entry of datasets"));
  EXPECT_THAT(parse_error("", {flag("lora_r.0.x", "x")}), HasSubstr("only an entry of datasets"));
  EXPECT_THAT(parse_error("test_datasets: word\n", {flag("test_datasets.0.path", "x")}),
              HasSubstr("no list"));
  EXPECT_THAT(parse_error("", {flag("datasets.0.pth", "x")}),
              HasSubstr("unknown key pth; did you mean path?"));
}

}  // namespace
}  // namespace moesmith::config
