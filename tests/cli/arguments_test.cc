// SPDX-License-Identifier: Apache-2.0
#include "cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moesmith::cli {
namespace {

using testing::HasSubstr;

const std::vector<Option> kOptions = {{"prompt", "TEXT", "."}, {"chat", "", "."}};

Arguments parse(const std::vector<std::string>& words) { return parse_arguments(words, kOptions); }

std::string error_of(const std::vector<std::string>& words) {
  try {
    parse(words);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// "flag key=value" of the only override.
std::string only(const std::vector<std::string>& words) {
  const Arguments arguments = parse(words);
  if (arguments.overrides.size() != 1) {
    return std::to_string(arguments.overrides.size()) + " overrides";
  }
  const auto& over = arguments.overrides[0];
  return over.flag + " " + over.key + "=" + over.value;
}

TEST(arguments, keys_come_in_each_spelling) {
  EXPECT_EQ(only({"--lora-r", "16"}), "--lora-r lora_r=16");
  EXPECT_EQ(only({"--lora_r", "16"}), "--lora_r lora_r=16");
  EXPECT_EQ(only({"--lora-r=16"}), "--lora-r lora_r=16");
  EXPECT_EQ(only({"--output-dir=a=b"}), "--output-dir output_dir=a=b");
  EXPECT_EQ(only({"--output-dir="}), "--output-dir output_dir=");
  EXPECT_EQ(only({"--local-rank", "-1"}), "--local-rank local_rank=-1");
  EXPECT_EQ(only({"--datasets.0.path", "x"}), "--datasets.0.path datasets.0.path=x");
}

TEST(arguments, booleans_need_no_value) {
  EXPECT_EQ(only({"--sample-packing"}), "--sample-packing sample_packing=true");
  EXPECT_EQ(only({"--no-sample-packing"}), "--no-sample-packing sample_packing=false");
  EXPECT_EQ(only({"--sample-packing", "no"}), "--sample-packing sample_packing=no");
  EXPECT_EQ(only({"--sample-packing=no"}), "--sample-packing sample_packing=no");
  EXPECT_EQ(only({"--sample-packing", "run.yml"}), "--sample-packing sample_packing=true");
  EXPECT_EQ(parse({"--sample-packing", "run.yml"}).config_file, "run.yml");
  EXPECT_THAT(error_of({"--no-lora-r"}), HasSubstr("unknown flag --no-lora-r"));
}

TEST(arguments, a_command_s_own_options_are_told_apart) {
  const Arguments arguments = parse({"run.yml", "--prompt", "Hello, you", "--chat", "--seed", "1"});
  EXPECT_EQ(arguments.config_file, "run.yml");
  EXPECT_EQ(arguments.options.at("prompt"), "Hello, you");
  EXPECT_TRUE(arguments.has("chat"));
  EXPECT_EQ(arguments.overrides.size(), 1u);
  EXPECT_TRUE(parse({"-h"}).help);
  EXPECT_TRUE(parse({"run.yml", "--help"}).help);
}

TEST(arguments, mistakes_are_said) {
  EXPECT_EQ(error_of({"--lora-rr", "1"}), "unknown flag --lora-rr; did you mean --lora-r?");
  EXPECT_EQ(error_of({"--promt", "1"}), "unknown flag --promt; did you mean --prompt?");
  EXPECT_EQ(error_of({"--qqqqqqqqqqq"}), "unknown flag --qqqqqqqqqqq");
  EXPECT_EQ(error_of({"-x"}), "unknown flag -x; flags begin with two dashes");
  EXPECT_EQ(error_of({"--lora-r"}), "--lora-r: got no value, expected one after it");
  EXPECT_EQ(error_of({"--lora-r", "--seed", "1"}), "--lora-r: got no value, expected one after it");
  EXPECT_EQ(error_of({"--prompt"}), "--prompt: got no value, expected one after it");
  EXPECT_EQ(error_of({"--chat=1"}), "--chat: got a value, expected none");
  EXPECT_EQ(error_of({"a.yml", "b.yml"}),
            "got a second file b.yml after a.yml, expected one configuration");
}

}  // namespace
}  // namespace moesmith::cli
