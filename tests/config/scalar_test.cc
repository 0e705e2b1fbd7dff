// SPDX-License-Identifier: Apache-2.0
#include "config/scalar.h"

#include <gtest/gtest.h>

namespace moesmith::config {
namespace {

TEST(scalar, reads_booleans_however_they_are_spelt) {
  for (const char* text : {"true", "True", "TRUE", "yes", "Yes", "on", "1"}) {
    EXPECT_EQ(parse_bool(text), true) << text;
  }
  for (const char* text : {"false", "False", "FALSE", "no", "No", "off", "0"}) {
    EXPECT_EQ(parse_bool(text), false) << text;
  }
  for (const char* text : {"", "2", "truee", "nope", "null", "yes ", "-1"}) {
    EXPECT_EQ(parse_bool(text), std::nullopt) << text;
  }
}

TEST(scalar, reads_integers) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer("-17"), -17);
  EXPECT_EQ(parse_integer("+4"), 4);
  EXPECT_EQ(parse_integer("1_000_000"), 1000000);
  EXPECT_EQ(parse_integer("4.0"), 4);
  EXPECT_EQ(parse_integer("1e3"), 1000);
  EXPECT_EQ(parse_integer("9223372036854775807"), INT64_MAX);
}

TEST(scalar, refuses_what_is_no_integer) {
  for (const char* text :
       {"", "-", "+", "+-1", "1.5", "1e400", "9223372036854775808", "0x10", "010", "1_", "_1",
        "1__0", "1 ", " 1", "1e-3", "true", "\xD9\xA1", "1e19"}) {
    EXPECT_EQ(parse_integer(text), std::nullopt) << text;
  }
}

TEST(scalar, reads_numbers) {
  EXPECT_EQ(parse_number("2e-4"), 2e-4);
  EXPECT_EQ(parse_number("2E-4"), 2e-4);
  EXPECT_EQ(parse_number("1.5e+2"), 150.0);
  EXPECT_EQ(parse_number(".5"), 0.5);
  EXPECT_EQ(parse_number("5."), 5.0);
  EXPECT_EQ(parse_number("1_000.5"), 1000.5);
  EXPECT_EQ(parse_number("-0.25"), -0.25);
}

TEST(scalar, refuses_what_is_no_finite_decimal_number) {
  for (const char* text : {"", ".", "e5", "1e", "inf", "-inf", ".inf", "nan", ".nan", "1e999",
                           "0x1p3", "1,5", "00.5", "--1", "1 000", "five"}) {
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  }
}

TEST(scalar, shows_numbers_that_read_back) {
  for (const double value : {0.0, 2e-4, 1e-8, 0.1, 1.0 / 3, 123456789.0, 1e300}) {
    EXPECT_EQ(parse_number(number_text(value)), value);
  }
}

TEST(scalar, quotes_text_that_yaml_would_take_for_something_else) {
  EXPECT_EQ(yaml_text("adamw"), "adamw");
  EXPECT_EQ(yaml_text("./out/x"), "./out/x");
  for (const char* text :
       {"", "null", "Null", "true", "no", "12", "1e5", "a: b", "- a", "#x", "a\nb", "\"", "~"}) {
    EXPECT_EQ(yaml_text(text)[0], '"') << text;
  }
  EXPECT_EQ(json_text("a\"b\\c\n\t\x01"), "\"a\\\"b\\\\c\\n\\t\\u0001\"");
}

}  // namespace
}  // namespace moesmith::config
