// SPDX-License-Identifier: Apache-2.0
// Element types, and the two 16-bit floats that GCC 12 has no arithmetic type for.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace moesmith {

enum class DType : std::uint8_t { kF32, kBF16, kF16, kF64, kI64, kI32, kI16, kI8, kU8, kBool };

// Bytes per element.
std::int64_t dtype_size(DType dtype) noexcept;
// safetensors' spelling: "F32", "BF16", "F16", "I64", ...
std::string_view dtype_name(DType dtype) noexcept;
// Inverse of dtype_name; throws Error(kInvalidInput) for a name that is not listed above.
DType parse_dtype(std::string_view name);

// bfloat16: the upper half of a float. Rounds to nearest even; NaN stays NaN.
struct bf16 {
  std::uint16_t bits;

  bf16() = default;
  explicit bf16(float value) noexcept {
    std::uint32_t u;
    std::memcpy(&u, &value, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<std::uint16_t>((u >> 16) | 0x40u);
    } else {
      bits = static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
  }
  explicit operator float() const noexcept {
    const std::uint32_t u = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &u, sizeof value);
    return value;
  }
};

// IEEE binary16; only read from checkpoints and written back, never computed in.
struct fp16 {
  std::uint16_t bits;

  fp16() = default;
  explicit fp16(float value) noexcept;
  explicit operator float() const noexcept;
};

static_assert(sizeof(bf16) == 2 && sizeof(fp16) == 2);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<fp16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::kU8;
};

}  // namespace moesmith
