// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#define MOESMITH_VECTOR_REGISTER(x) "+v"(x)
#include "common/peak-inl.h"
#include "common/peak.h"

namespace moesmith::bench::avx512 {
namespace {

struct V {
  using Vec = __m512;
  static constexpr double kFlops = 32;
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec step(Vec sum) {
    const __m512 half = _mm512_set1_ps(0.5f);
    return _mm512_fmadd_ps(half, half, sum);
  }
};

}  // namespace

double f32_loop(std::int64_t iterations) { return run_chains<V, 14>(iterations); }

}  // namespace moesmith::bench::avx512
