// SPDX-License-Identifier: Apache-2.0
// What the schema tells readers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "config/schema.h"
#include "helpers.h"

namespace moesmith::config {
namespace {

using testing::HasSubstr;

TEST(page, the_committed_reference_is_the_schema_s) {
  std::ifstream in(MOESMITH_SOURCE_DIR "/docs/configuration.md");
  std::stringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(text.str() == reference_page())
      << "docs/configuration.md is old; write it anew with: moesmith validate --markdown";
}

TEST(page, every_key_has_help_and_its_default) {
  const std::string page = reference_page();
  for (const Section& section : schema()) {
    for (const Key<Config>& key : section.keys) {
      EXPECT_FALSE(key.help.empty()) << key.name;
      EXPECT_EQ(key.help.back(), '.') << key.name;
      EXPECT_THAT(page, HasSubstr("| `" + std::string(key.name) + "` |"));
    }
  }
  EXPECT_THAT(page, HasSubstr("| `adam_beta2` | number in [0, 1) | `0.999` |"));
}

TEST(page, help_lists_each_key_as_a_flag_within_100_columns) {
  std::istringstream lines(flags_help());
  std::string line;
  while (std::getline(lines, line)) {
    EXPECT_LE(line.size(), 100u) << line;
  }
  EXPECT_THAT(flags_help(), HasSubstr("--lora-target-parameters"));
  EXPECT_THAT(flags_help(), HasSubstr("default 0.999"));
}

// JSON is YAML too, so the tree's parser checks the form.
TEST(page, the_json_schema_is_json_and_has_every_key) {
  const Node root = parse_yaml(json_schema_document(), "schema.json");
  const Node* properties = root.find("properties");
  ASSERT_NE(properties, nullptr);
  for (const std::string& name : all_names()) {
    ASSERT_NE(properties->find(name), nullptr) << name;
  }
  EXPECT_EQ(properties->find("adam_beta2")->find("exclusiveMaximum")->text, "1");
  EXPECT_EQ(root.find("$defs")->find("dataset")->find("required")->items.size(), 2u);
}

// A default that its own range refuses would make the resolved file unreadable.
TEST(page, every_default_is_a_valid_value) {
  const Config defaults;
  for (const Section& section : schema()) {
    for (const Key<Config>& key : section.keys) {
      const std::string value = key.show(defaults);
      if (!value.empty() && !key.required) {
        Config config;
        const Node node = parse_yaml("x: " + value, "default");
        EXPECT_NO_THROW(key.set(config, node.items[0])) << key.name << ": " << value;
        EXPECT_EQ(key.show(config), value) << key.name;
      }
    }
  }
}

}  // namespace
}  // namespace moesmith::config
