// SPDX-License-Identifier: Apache-2.0
#include "moesmith/dtype.h"

#include <array>
#include <string>

#include "moesmith/error.h"

namespace moesmith {
namespace {

struct Entry {
  DType dtype;
  std::string_view name;
  std::int64_t size;
};

constexpr std::array<Entry, 10> kEntries{{{DType::kF32, "F32", 4},
                                          {DType::kBF16, "BF16", 2},
                                          {DType::kF16, "F16", 2},
                                          {DType::kF64, "F64", 8},
                                          {DType::kI64, "I64", 8},
                                          {DType::kI32, "I32", 4},
                                          {DType::kI16, "I16", 2},
                                          {DType::kI8, "I8", 1},
                                          {DType::kU8, "U8", 1},
                                          {DType::kBool, "BOOL", 1}}};

const Entry& entry(DType dtype) noexcept { return kEntries[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::int64_t dtype_size(DType dtype) noexcept { return entry(dtype).size; }

std::string_view dtype_name(DType dtype) noexcept { return entry(dtype).name; }

DType parse_dtype(std::string_view name) {
  for (const Entry& e : kEntries) {
    if (e.name == name) return e.dtype;
  }
  throw Error(ErrorCode::kInvalidInput,
              "dtype '" + std::string(name) + "' is not one that Moesmith reads");
}

fp16::fp16(float value) noexcept {
  std::uint32_t u;
  std::memcpy(&u, &value, sizeof u);
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520 and up rounds to infinity
    half = 0x7c00u;
  } else if (magnitude <
             0x38800000u) {  // below 2^-14: a multiple of 2^-24, rounded to even by the addition
    float shifted;
    std::memcpy(&shifted, &magnitude, sizeof shifted);
    shifted += 0.5f;  // ulp of [0.5, 1) is 2^-24
    std::uint32_t bits_of_sum;
    std::memcpy(&bits_of_sum, &shifted, sizeof bits_of_sum);
    half = bits_of_sum - 0x3f000000u;
  } else {
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    half = (rounded - 0x38000000u) >> 13;
  }
  bits = static_cast<std::uint16_t>(sign | half);
}

fp16::operator float() const noexcept {
  const std::uint32_t sign = (static_cast<std::uint32_t>(bits) & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t fraction = bits & 0x3ffu;
  std::uint32_t u;
  if (exponent == 0x1fu) {
    u = sign | 0x7f800000u | (fraction << 13);
  } else if (exponent != 0) {
    u = sign | ((exponent + 112u) << 23) | (fraction << 13);
  } else {
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    std::memcpy(&u, &value, sizeof u);
    u |= sign;
  }
  float value;
  std::memcpy(&value, &u, sizeof value);
  return value;
}

}  // namespace moesmith
