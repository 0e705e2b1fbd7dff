// SPDX-License-Identifier: Apache-2.0
// Which experts implementation a file means: each point that a review of Axolotl's kernels plug-in
// left open is a case here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "helpers.h"

namespace moesmith::config {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string implementation(const std::string& more) {
  return parse(more).model.experts_implementation;
}

TEST(experts_rules, the_string_false_is_false) {
  EXPECT_EQ(implementation("use_scattermoe: \"false\"\n"), "auto");
  EXPECT_EQ(implementation("use_scattermoe: 'False'\nuse_sonicmoe: \"true\"\n"), "sonicmoe");
}

TEST(experts_rules, the_string_two_is_the_number_two) {
  EXPECT_THAT(
      parse_error("expert_parallel_size: \"2\"\n"),
      StartsWith("run.yml:5:1: expert_parallel_size is 2, but this command is one process"));
  EXPECT_EQ(parse_error("expert_parallel_size: \"1\"\n"), "");
  EXPECT_THAT(parse_error("expert_parallel_size: \"two\"\n"),
              StartsWith("run.yml:5:23: expert_parallel_size: got \"two\", expected an integer"));
  EXPECT_THAT(parse_error("expert_parallel_size: 0\n"), HasSubstr("expected an integer"));
}

TEST(experts_rules, a_name_alone_is_honoured) {
  for (const char* name : {"eager", "batched_mm", "grouped_mm", "scattermoe", "sonicmoe", "auto"}) {
    EXPECT_EQ(implementation(std::string("experts_implementation: ") + name + "\n"), name);
  }
}

TEST(experts_rules, a_flag_alone_is_honoured) {
  EXPECT_EQ(implementation("use_scattermoe: true\n"), "scattermoe");
  EXPECT_EQ(implementation("use_sonicmoe: yes\n"), "sonicmoe");
  EXPECT_EQ(implementation("use_kernels: true\nuse_scattermoe: true\n"), "scattermoe");
}

TEST(experts_rules, nothing_said_means_auto_and_never_eager) {
  EXPECT_EQ(implementation(""), "auto");
  EXPECT_EQ(implementation("use_kernels: true\n"), "auto");
  EXPECT_EQ(implementation("use_scattermoe: false\nuse_sonicmoe: false\n"), "auto");
  EXPECT_EQ(implementation("plugins: [axolotl.integrations.kernels.KernelsPlugin]\n"), "auto");
}

TEST(experts_rules, a_flag_that_agrees_with_the_name_is_fine) {
  EXPECT_EQ(implementation("use_scattermoe: true\nexperts_implementation: scattermoe\n"),
            "scattermoe");
  EXPECT_EQ(implementation("use_sonicmoe: false\nexperts_implementation: scattermoe\n"),
            "scattermoe");
  EXPECT_EQ(implementation("expert_backend: sonicmoe\nuse_sonicmoe: true\n"), "sonicmoe");
}

TEST(experts_rules, both_flags_are_an_error) {
  EXPECT_EQ(
      parse_error("use_scattermoe: true\nuse_sonicmoe: true\n"),
      "run.yml:6:1: use_sonicmoe asks for sonicmoe, but use_scattermoe for scattermoe; give one");
}

TEST(experts_rules, a_flag_against_a_name_is_an_error) {
  EXPECT_THAT(
      parse_error("experts_implementation: grouped_mm\nuse_scattermoe: true\n"),
      HasSubstr("run.yml:6:1: use_scattermoe asks for scattermoe, but experts_implementation for "
                "grouped_mm"));
  EXPECT_THAT(parse_error("experts_implementation: eager\nuse_sonicmoe: true\n"),
              HasSubstr("give one"));
  EXPECT_THAT(parse_error("experts_implementation: auto\nuse_sonicmoe: true\n"),
              HasSubstr("give one"));
  EXPECT_THAT(parse_error("experts_implementation: scattermoe\nuse_scattermoe: false\n"),
              HasSubstr("use_scattermoe: false contradicts experts_implementation: scattermoe"));
  EXPECT_THAT(parse_error("use_kernels: false\nuse_scattermoe: true\n"),
              HasSubstr("run.yml:5:1: use_kernels: false contradicts use_scattermoe: true"));
}

TEST(experts_rules, an_unknown_name_is_an_error_and_not_eager) {
  EXPECT_EQ(
      parse_error("experts_implementation: scatermoe\n"),
      "run.yml:5:1: experts_implementation: got \"scatermoe\", expected one of eager, batched_mm, "
      "grouped_mm, scattermoe, sonicmoe, auto; did you mean scattermoe?");
  EXPECT_THAT(parse_error("experts_implementation: deep_ep_sonicmoe\n"),
              HasSubstr("several processes"));
}

TEST(experts_rules, one_sided_adapters_are_kept) {
  const std::string lora = "adapter: lora\nlora_target_parameters: ";
  EXPECT_EQ(parse(lora + "[experts.down_proj]\nuse_scattermoe: true\n").lora.lora_target_parameters,
            std::vector<std::string>{"experts.down_proj"});
  EXPECT_EQ(
      parse(lora + "experts.gate_up_proj\nuse_scattermoe: true\n").lora.lora_target_parameters,
      std::vector<std::string>{"experts.gate_up_proj"});
}

TEST(experts_rules, plugins_are_known_by_name) {
  EXPECT_TRUE(parse("plugins: axolotl.integrations.kernels.KernelsPlugin\n").notices.empty());
  EXPECT_THAT(parse("plugins: [axolotl.integrations.liger.LigerPlugin]\n").notices.at(0),
              HasSubstr("no effect here: plug-in axolotl.integrations.liger.LigerPlugin"));
  EXPECT_THAT(parse_error("plugins: [axolotl.integrations.kd.KDPlugin]\n"),
              HasSubstr("distillation"));
  EXPECT_THAT(parse_error("plugins: [my.own.Plugin]\n"),
              HasSubstr("my.own.Plugin: plug-ins cannot be loaded"));
}

}  // namespace
}  // namespace moesmith::config
