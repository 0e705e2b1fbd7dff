// SPDX-License-Identifier: Apache-2.0
#if defined(__aarch64__)
#define MOESMITH_VECTOR_REGISTER(x) "+w"(x)
#else
#define MOESMITH_VECTOR_REGISTER(x) "+x"(x)
#endif
#include "common/peak-inl.h"
#include "common/peak.h"

namespace moesmith::bench::portable {
namespace {

struct V {
  typedef float Vec __attribute__((vector_size(16)));
  static constexpr double kFlops = 8;
  static Vec zero() { return Vec{}; }
  static Vec step(Vec sum) {
    Vec half{0.5f, 0.5f, 0.5f, 0.5f};
    asm volatile("" : MOESMITH_VECTOR_REGISTER(half));  // keeps the product from being folded
    return half * half + sum;
  }
};

}  // namespace

double f32_loop(std::int64_t iterations) { return run_chains<V, 12>(iterations); }

}  // namespace moesmith::bench::portable
