// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#define MOESMITH_VECTOR_REGISTER(x) "+x"(x)
#include "common/peak-inl.h"
#include "common/peak.h"

namespace moesmith::bench::avx2 {
namespace {

struct V {
  using Vec = __m256;
  static constexpr double kFlops = 16;
  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec step(Vec sum) {
    const __m256 half = _mm256_set1_ps(0.5f);
    return _mm256_fmadd_ps(half, half, sum);
  }
};

}  // namespace

double f32_loop(std::int64_t iterations) { return run_chains<V, 12>(iterations); }

}  // namespace moesmith::bench::avx2
