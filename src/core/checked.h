// SPDX-License-Identifier: Apache-2.0
// Integer maths that throws instead of wrapping, for sizes that come from files and configurations.
#pragma once

#include <cstdint>
#include <string>

#include "moesmith/error.h"

namespace moesmith {

inline std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) {
    throw Error(ErrorCode::kInvalidInput,
                "size " + std::to_string(a) + " x " + std::to_string(b) + " does not fit 64 bits");
  }
  return product;
}

inline std::int64_t checked_add(std::int64_t a, std::int64_t b) {
  std::int64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) {
    throw Error(ErrorCode::kInvalidInput,
                "size " + std::to_string(a) + " + " + std::to_string(b) + " does not fit 64 bits");
  }
  return sum;
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

}  // namespace moesmith
