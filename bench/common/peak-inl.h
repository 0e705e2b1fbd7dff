// SPDX-License-Identifier: Apache-2.0
// Chains of multiply-adds in registers, enough of them to hide the latency of each.
#pragma once

#include <cstdint>

namespace moesmith::bench {
namespace {

// V: Vec, zero(), step(sum) -> sum + something, flops per step.
template <class V, int kChains>
double run_chains(std::int64_t iterations) {
  typename V::Vec sums[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = V::zero();
  for (std::int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
      sums[i] = V::step(sums[i]);
      asm volatile("" : MOESMITH_VECTOR_REGISTER(sums[i]));  // the loop must not be folded
    }
  }
  return static_cast<double>(iterations) * kChains * V::kFlops;
}

}  // namespace
}  // namespace moesmith::bench
