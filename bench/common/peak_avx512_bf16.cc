// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#define MOESMITH_VECTOR_REGISTER(x) "+v"(x)
#include "common/peak-inl.h"
#include "common/peak.h"

namespace moesmith::bench::avx512_bf16 {
namespace {

struct V {
  using Vec = __m512;
  static constexpr double kFlops = 64;
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec step(Vec sum) {
    const __m512bh one = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f803f80));
    return _mm512_dpbf16_ps(sum, one, one);
  }
};

}  // namespace

double bf16_loop(std::int64_t iterations) { return run_chains<V, 14>(iterations); }

}  // namespace moesmith::bench::avx512_bf16
