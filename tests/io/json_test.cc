// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "io/atomic_write.h"
#include "moesmith/error.h"
#include "temp_dir.h"

namespace moesmith::io {
namespace {

Json parse(std::string_view text) { return Json::parse(text, "t"); }

TEST(json, keeps_types_and_order) {
  const Json json = parse(R"({"z": 1, "a": 1.0, "m": [true, null, "x"], "e": {}, "n": []})");
  const JsonObject& object = json.as_object();
  ASSERT_EQ(object.size(), 5u);
  EXPECT_EQ(object.key(0), "z");
  EXPECT_TRUE(object.value(0).is_integer());
  EXPECT_TRUE(object.value(1).is_double());
  EXPECT_EQ(json.dump(), R"({"z": 1, "a": 1.0, "m": [true, null, "x"], "e": {}, "n": []})");
  EXPECT_EQ(json.dump({.spaces = false}), R"({"z":1,"a":1.0,"m":[true,null,"x"],"e":{},"n":[]})");
}

TEST(json, is_indented_and_sorted_as_python_does) {
  const Json json = parse(R"({"b": [1, {"d": 2, "c": 3}], "a": {}, "e": []})");
  EXPECT_EQ(json.dump({.indent = 2, .sort_keys = true}),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    {\n      \"c\": 3,\n      \"d\": 2\n    }\n"
            "  ],\n  \"e\": []\n}");
}

// Expected texts are those of Python's repr.
TEST(json, writes_doubles_as_python_repr) {
  const std::pair<double, const char*> cases[] = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {0.1, "0.1"},
      {1e-5, "1e-05"},
      {0.0001, "0.0001"},
      {1.5e-7, "1.5e-07"},
      {1e15, "1000000000000000.0"},
      {1e16, "1e+16"},
      {1e22, "1e+22"},
      {123456789.125, "123456789.125"},
      {1e300, "1e+300"},
      {5e-324, "5e-324"},
      {std::numeric_limits<double>::max(), "1.7976931348623157e+308"},
      {0.30000000000000004, "0.30000000000000004"},
      {std::numeric_limits<double>::infinity(), "Infinity"},
      {-std::numeric_limits<double>::infinity(), "-Infinity"}};
  for (const auto& [value, text] : cases) {
    EXPECT_EQ(Json(value).dump(), text);
    EXPECT_EQ(parse(text).as_number(), value) << text;
  }
  EXPECT_EQ(Json(std::nan("")).dump(), "NaN");
  EXPECT_TRUE(std::isnan(parse("NaN").as_number()));
}

TEST(json, reads_numbers_at_the_limits) {
  EXPECT_EQ(parse("9223372036854775807").as_integer(), INT64_MAX);
  EXPECT_EQ(parse("-9223372036854775808").as_integer(), INT64_MIN);
  EXPECT_TRUE(parse("9223372036854775808").is_double());
  EXPECT_EQ(parse("1000000000000000019884624838656").as_number(), 1e30);
  EXPECT_EQ(parse("-0").as_integer(), 0);
  EXPECT_EQ(parse("1e-400").as_number(), 0.0);
  EXPECT_EQ(parse("0." + std::string(400, '0') + "1").as_number(), 0.0);
  EXPECT_ERROR(parse("1e400"), ErrorCode::kInvalidInput, "out of range");
}

TEST(json, escapes_strings_both_ways) {
  const std::string text = "\"\\u00e9\\ud83d\\ude00\\n\\t\\\"\\\\\\/\\u0001\"";
  const Json json = parse(text);
  EXPECT_EQ(json.as_string(), "\xc3\xa9\xf0\x9f\x98\x80\n\t\"\\/\x01");
  EXPECT_EQ(json.dump(), "\"\\u00e9\\ud83d\\ude00\\n\\t\\\"\\\\/\\u0001\"");
  EXPECT_EQ(json.dump({.ascii = false}), "\"\xc3\xa9\xf0\x9f\x98\x80\\n\\t\\\"\\\\/\\u0001\"");
}

TEST(json, names_line_and_column_of_a_mistake) {
  EXPECT_ERROR(Json::parse("{\n  \"a\": 1,\n  \"b\" 2\n}", "c.json"), ErrorCode::kInvalidInput,
               "c.json:3:7: invalid JSON: got '2', expected :");
  EXPECT_ERROR(parse(""), ErrorCode::kInvalidInput, "t:1:1: invalid JSON: got the end");
  EXPECT_ERROR(parse("{\"a\": 1, \"a\": 2}"), ErrorCode::kInvalidInput, "\"a\" occurs twice");
}

TEST(json, refuses_what_is_not_json) {
  for (const char* text : {"{",
                           "[",
                           "[1,]",
                           "{,}",
                           "{\"a\":}",
                           "{\"a\" 1}",
                           "{a: 1}",
                           "'a'",
                           "01",
                           "-",
                           "1.",
                           "1e",
                           "+1",
                           ".5",
                           "tru",
                           "nul",
                           "\"",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "1 2",
                           "[1 2]",
                           "{}x",
                           "\"\n\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\u0041\"",
                           "\"\xff\"",
                           "\"\xc0\x80\"",
                           "\"\xed\xa0\x80\"",
                           "\"\xf4\x90\x80\x80\"",
                           "\"\xe2\x82",
                           "-Inf",
                           "\"\\"}) {
    EXPECT_THROW(parse(text), Error) << text;
  }
  EXPECT_THROW(parse(std::string_view("{\"a\0\": 1}", 9)), Error);
}

TEST(json, bounds_the_nesting) {
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']');
  };
  EXPECT_NO_THROW(parse(nested(256)));
  EXPECT_ERROR(parse(nested(100000)), ErrorCode::kInvalidInput, "nested deeper");
}

TEST(json, survives_cuts_and_flipped_bits) {
  const std::string text = read_file(MOESMITH_TEST_DATA "/io/qwen3_both/adapter_config.json");
  for (std::size_t end = 0; end < text.size(); ++end) {
    EXPECT_THROW(parse(text.substr(0, end)), Error) << end;
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      try {
        const Json json = parse(flipped);
        EXPECT_EQ(parse(json.dump()), json);  // whatever was read is written back the same
      } catch (const Error&) {
      }
    }
  }
}

TEST(json, finds_members_among_many) {
  Json json = Json::object();
  for (int i = 0; i < 5000; ++i) json.set("key" + std::to_string(i), i);
  for (int i = 0; i < 5000; ++i) {
    EXPECT_EQ(json.find("key" + std::to_string(i))->as_integer(), i);
  }
  EXPECT_EQ(json.find("key5000"), nullptr);
  json.set("key7", "seven");
  json.as_object().erase("key6");
  EXPECT_EQ(json.as_object().size(), 4999u);
  EXPECT_EQ(json.find("key6"), nullptr);
  EXPECT_EQ(json.find("key7")->as_string(), "seven");
  EXPECT_EQ(json.find("key4999")->as_integer(), 4999);
  EXPECT_EQ(parse(json.dump()), json);
}

// A vocabulary of 200,000 entries; a table that degrades to a scan would take minutes.
TEST(json, reads_a_large_vocabulary_in_seconds) {
  std::string text = "{\"vocab\": {";
  for (int i = 0; i < 200000; ++i) {
    text += (i == 0 ? "\"t" : ", \"t") + std::to_string(i) + "\": " + std::to_string(i);
  }
  text += "}}";
  const auto start = std::chrono::steady_clock::now();
  const Json json = parse(text);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(json.find("vocab")->find("t199999")->as_integer(), 199999);
}

TEST(json, typed_reads_name_file_and_path) {
  const JsonFile file = {"config.json", parse(R"({"num_experts": "8", "rope": {"factor": [1, "x"]},
                                                  "nothing": null, "ok": 3, "flag": 1})")};
  const JsonRef root = file.root();
  EXPECT_ERROR(root.at("num_experts").as_integer(), ErrorCode::kInvalidInput,
               "config.json: num_experts: got string \"8\", expected an integer");
  EXPECT_ERROR(root.at("rope").at("factor").as_numbers(), ErrorCode::kInvalidInput,
               "config.json: rope.factor[1]: got string \"x\", expected a number");
  EXPECT_ERROR(root.at("rope").at("type"), ErrorCode::kInvalidInput,
               "config.json: rope.type: is missing");
  EXPECT_ERROR(root.get_bool("flag", false), ErrorCode::kInvalidInput,
               "config.json: flag: got integer 1, expected true or false");
  EXPECT_ERROR(root.at("ok").at("x"), ErrorCode::kInvalidInput, "config.json: ok: got integer 3");
  EXPECT_FALSE(root.has("nothing"));
  EXPECT_EQ(root.get_integer("nothing", 5), 5);
  EXPECT_EQ(root.get_integer("absent", 6), 6);
  EXPECT_EQ(root.get_integer("ok", 6), 3);
  EXPECT_EQ(root.get_number("ok", 6), 3.0);
  EXPECT_ERROR(read_json("/does/not/exist.json"), ErrorCode::kNotFound, "/does/not/exist.json");
}

}  // namespace
}  // namespace moesmith::io
