// SPDX-License-Identifier: Apache-2.0
#include "core/rng.h"

#include <cmath>
#include <numbers>

namespace moesmith {

std::array<std::uint32_t, 4> philox(std::uint64_t seed,
                                    std::uint64_t stream,
                                    std::uint64_t index) noexcept {
  // Multipliers and Weyl increments from the paper's table for Philox4x32.
  constexpr std::uint32_t kMul0 = 0xD2511F53u, kMul1 = 0xCD9E8D57u;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  std::array<std::uint32_t, 4> c{low(index), high(index), low(stream), high(stream)};
  std::uint32_t k0 = low(seed), k1 = high(seed);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = static_cast<std::uint64_t>(kMul0) * c[0];
    const std::uint64_t p1 = static_cast<std::uint64_t>(kMul1) * c[2];
    c = {high(p1) ^ c[1] ^ k0, low(p1), high(p0) ^ c[3] ^ k1, low(p0)};
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return c;
}

float Rng::normal(std::uint64_t index) const noexcept {
  const auto words = philox(seed_, stream_, index);
  const float u = (static_cast<float>(words[0] >> 8) + 1.0f) * 0x1p-24f;  // (0, 1]
  const float v = static_cast<float>(words[1] >> 8) * 0x1p-24f;
  return std::sqrt(-2.0f * std::log(u)) * std::cos(2.0f * std::numbers::pi_v<float> * v);
}

std::uint64_t Rng::below(std::uint64_t index, std::uint64_t bound) const noexcept {
  const auto words = philox(seed_, stream_, index);
  const std::uint64_t x = (static_cast<std::uint64_t>(words[0]) << 32) | words[1];
  __extension__ using uint128 = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<uint128>(x) * bound) >> 64);
}

}  // namespace moesmith
