// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11). A value is a pure function of
// (seed, stream, index), so a resumed run, or another thread count, draws the same numbers without
// saved state.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace moesmith {

// Four 32-bit words for the counter (index, stream) under the key `seed`.
std::array<std::uint32_t, 4> philox(std::uint64_t seed,
                                    std::uint64_t stream,
                                    std::uint64_t index) noexcept;

class Rng {
 public:
  Rng(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  std::uint32_t bits(std::uint64_t index) const noexcept {
    return philox(seed_, stream_, index >> 2)[index & 3];
  }
  // [0, 1), 24 bits.
  float uniform(std::uint64_t index) const noexcept {
    return static_cast<float>(bits(index) >> 8) * 0x1p-24f;
  }
  // Mean 0, variance 1 (Box-Muller over one counter's first two words).
  float normal(std::uint64_t index) const noexcept;
  // out[i] = uniform(first + i) and normal(first + i), to the bit, several times faster.
  void uniforms(std::uint64_t first, std::span<float> out) const noexcept;
  void normals(std::uint64_t first, std::span<float> out) const noexcept;
  // [0, bound), without the bias of a remainder (multiply-shift over 64 bits); bound > 0.
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const noexcept;

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
};

}  // namespace moesmith
