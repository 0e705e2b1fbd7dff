// SPDX-License-Identifier: Apache-2.0
// YAML that is fine, and YAML that is hostile.
#include "config/tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/json.h"
#include "config/utf8.h"
#include "helpers.h"

namespace moesmith::config {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string yaml_error(const std::string& text) {
  return error_of([&] { parse_yaml(text, "f.yml"); });
}

TEST(tree, remembers_where_values_and_keys_stand) {
  const Node root = parse_yaml("a: 1\nb:\n  - x\n  - {c: y}\n", "f.yml");
  EXPECT_EQ(root.find("a")->at.str(), "f.yml:1:4");
  EXPECT_EQ(root.key_at[1].str(), "f.yml:2:1");
  EXPECT_EQ(root.find("b")->items[1].find("c")->at.str(), "f.yml:4:9");
}

TEST(tree, tells_empty_values_from_quoted_ones) {
  const Node root = parse_yaml("a:\nb: ~\nc: null\nd: \"\"\ne: \"null\"\n", "f.yml");
  for (const char* key : {"a", "b", "c"}) {
    EXPECT_EQ(root.find(key)->kind, Node::Kind::kNull) << key;
  }
  EXPECT_EQ(root.find("d")->kind, Node::Kind::kScalar);
  EXPECT_EQ(root.find("e")->text, "null");
}

TEST(tree, becomes_json) {
  const Node root = parse_yaml(
      "{a: 1, b: \"1\", c: true, d: [1.5, x, ~], e: 1.0, f: 2e-4, g: {h: \"\"}}", "f.yml");
  EXPECT_EQ(to_json(root),
            "{\"a\": 1, \"b\": \"1\", \"c\": true, \"d\": [1.5, \"x\", null], \"e\": 1.0, \"f\": "
            "2e-04, \"g\": "
            "{\"h\": \"\"}}");
}

TEST(tree, follows_an_alias) {
  const Node root = parse_yaml("a: &x [1, 2]\nb: *x\n", "f.yml");
  EXPECT_EQ(root.find("b")->items.size(), 2u);
}

TEST(tree, stops_aliases_that_grow_without_end) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 0; j < 9; ++j) {
      text += ", " + before;
    }
    text += "]\n";
  }
  EXPECT_THAT(yaml_error(text), HasSubstr("more than 100000 values"));
}

TEST(tree, refuses_an_alias_inside_its_own_value) {
  EXPECT_THAT(yaml_error("a: &x [1, *x]\n"), StartsWith("f.yml:1:11: an alias stands inside"));
}

TEST(tree, refuses_deep_nesting) {
  EXPECT_THAT(yaml_error("a: " + std::string(100000, '[')), StartsWith("f.yml:1:"));
  EXPECT_THAT(yaml_error(std::string(100000, '{')), StartsWith("f.yml:1:"));
}

TEST(tree, refuses_a_key_given_twice) {
  EXPECT_EQ(yaml_error("a: 1\nb: 2\na: 3\n"), "f.yml:3:1: key a is given twice, first in line 1");
  EXPECT_THAT(yaml_error("a: {b: 1, b: 2}\n"), HasSubstr("f.yml:1:11: key b is given twice"));
}

TEST(tree, names_a_tab_as_such) {
  EXPECT_EQ(yaml_error("a:\n\tb: 1\n"),
            "f.yml:2:1: a tab indents this line; YAML allows spaces only");
}

TEST(tree, refuses_broken_yaml_with_its_place) {
  EXPECT_THAT(yaml_error("a: [1, 2\nb: 3\n"), StartsWith("f.yml:"));
  EXPECT_THAT(yaml_error("a: \"x\n"), HasSubstr("f.yml:1:4: a quote opened here is never closed"));
  EXPECT_THAT(yaml_error("a: 'it''s\n"), HasSubstr("never closed"));
  EXPECT_EQ(yaml_error("a: 'it''s'\nb: \"x\\\"y\"\n"), "");
  EXPECT_THAT(yaml_error("a: b: c\n"), HasSubstr("f.yml:1:"));
  EXPECT_THAT(yaml_error("a: *nothing\n"), HasSubstr("f.yml:1:"));
  EXPECT_THAT(yaml_error("? [1, 2]\n: x\n"), HasSubstr("got a list as a key"));
}

TEST(tree, refuses_tags) {
  EXPECT_THAT(yaml_error("a: !!python/object:os.system x\n"), HasSubstr("tag "));
  EXPECT_THAT(yaml_error("a: !!int \"3\"\n"), HasSubstr("tag "));
}

TEST(tree, refuses_a_second_document) {
  EXPECT_THAT(yaml_error("a: 1\n---\nb: 2\n"), HasSubstr("second YAML document"));
  EXPECT_EQ(yaml_error("---\na: 1\n...\n"), "");
}

TEST(tree, refuses_bytes_that_are_no_text) {
  EXPECT_EQ(yaml_error("a: 1\nb: \xff\n"),
            "f.yml:2:4: a byte that is not UTF-8 text; save the file as UTF-8");
  EXPECT_THAT(yaml_error(std::string("a: \0", 4)), HasSubstr("f.yml:1:4"));
  EXPECT_THAT(yaml_error("\xff\xfe"
                         "a\0:\0"),
              HasSubstr("f.yml:1:1"));
}

TEST(tree, reads_a_byte_order_mark_and_both_line_ends) {
  const Node root = parse_yaml(
      "\xEF\xBB\xBF"
      "a: 1\r\nb: x\r\n",
      "f.yml");
  ASSERT_NE(root.find("a"), nullptr);
  EXPECT_EQ(root.find("b")->text, "x");
}

TEST(utf8, knows_well_formed_text) {
  EXPECT_EQ(first_invalid_utf8("a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80"), 10u);
  // Overlong, surrogate, beyond U+10FFFF, continuation without start, cut short, control character.
  for (const char* text : {"\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                           "\xF5\x80\x80\x80", "\x80", "\xE4\xB8", "\x1b", "\x7f"}) {
    EXPECT_EQ(first_invalid_utf8(text), 0u);
  }
}

TEST(tree, survives_every_cut_of_a_file) {
  const std::string text =
      "a: &x {b: \"q\\n\", c: [1, 2]}\nd: *x\ne: |\n  text\n  more\nf: 'it''s'\ng:\n  - h: 1\n    "
      "i: 2\n";
  for (std::size_t length = 0; length <= text.size(); ++length) {
    error_of([&] { parse_yaml(text.substr(0, length), "f.yml"); });
    for (const char odd : {'\t', '"', '[', '}', '&', '*', '!', '\xff'}) {
      std::string changed = text;
      changed[length % text.size()] = odd;
      error_of([&] { parse_yaml(changed, "f.yml"); });
    }
  }
}

}  // namespace
}  // namespace moesmith::config
