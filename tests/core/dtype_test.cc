// SPDX-License-Identifier: Apache-2.0
#include "moesmith/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "moesmith/error.h"

namespace moesmith {
namespace {

TEST(bf16, round_trips_every_pattern_that_is_not_nan) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    bf16 value;
    value.bits = static_cast<std::uint16_t>(bits);
    const auto wide = static_cast<float>(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(bf16(wide))));
    } else {
      EXPECT_EQ(bf16(wide).bits, value.bits);
    }
  }
}

TEST(bf16, rounds_halves_to_even) {
  EXPECT_EQ(bf16(1.0f + 0x1p-8f).bits, bf16(1.0f).bits);  // half way, 1.0 is even
  EXPECT_EQ(bf16(1.0f + 0x3p-8f).bits,
            bf16(1.0f + 0x1p-6f).bits);  // half way, the upper one is even
  EXPECT_EQ(bf16(1.0f + 0x1.1p-8f).bits, bf16(1.0f + 0x1p-7f).bits);  // past half way
}

TEST(fp16, round_trips_every_pattern_that_is_not_nan) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    fp16 value;
    value.bits = static_cast<std::uint16_t>(bits);
    const auto wide = static_cast<float>(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(fp16(wide))));
    } else {
      EXPECT_EQ(fp16(wide).bits, value.bits) << wide;
    }
  }
}

TEST(fp16, rounds_to_the_nearest_of_its_neighbours) {
  for (std::uint16_t bits = 0; bits < 0x7bff; ++bits) {
    fp16 low, high;
    low.bits = bits;
    high.bits = static_cast<std::uint16_t>(bits + 1);
    const double a = static_cast<float>(low), b = static_cast<float>(high);
    const auto middle = static_cast<float>((a + b) / 2);  // exact: 12 significant bits
    EXPECT_EQ(fp16(middle).bits, bits % 2 == 0 ? bits : bits + 1) << middle;
    EXPECT_EQ(fp16(std::nextafterf(middle, 0.0f)).bits, bits) << middle;
    EXPECT_EQ(fp16(std::nextafterf(middle, 1e9f)).bits, bits + 1) << middle;
  }
  EXPECT_EQ(fp16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(fp16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(fp16(-std::numeric_limits<float>::infinity()).bits, 0xfc00);
}

TEST(dtype, names_parse_back) {
  for (const DType dtype :
       {DType::kF32, DType::kBF16, DType::kF16, DType::kF64, DType::kI64, DType::kBool}) {
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
  }
  EXPECT_THROW(parse_dtype("F8_E4M3"), Error);
}

}  // namespace
}  // namespace moesmith
