// SPDX-License-Identifier: Apache-2.0
// The read loop over one kind of register.
#pragma once

#include <cstdint>

namespace moesmith::bench {
namespace {

// V: Vec, zero(), load(p), mix(a, b), word(v) -> some 64 bits of it; kBytes.
template <class V>
std::uint64_t read_in_streams(const char* data, std::int64_t bytes, int streams) {
  constexpr int kStep = 256;
  typename V::Vec sums[kStep / V::kBytes];
#pragma GCC unroll 16
  for (auto& sum : sums) sum = V::zero();
  const std::int64_t part = bytes / streams;
  for (std::int64_t at = 0; at < part; at += kStep) {
    for (int stream = 0; stream < streams; ++stream) {
      const char* from = data + stream * part + at;
#pragma GCC unroll 16
      for (int i = 0; i < kStep / V::kBytes; ++i) {
        sums[i] = V::mix(sums[i], V::load(from + i * V::kBytes));
      }
    }
  }
  std::uint64_t result = 0;
  for (const auto& sum : sums) result ^= V::word(sum);
  return result;
}

}  // namespace
}  // namespace moesmith::bench
