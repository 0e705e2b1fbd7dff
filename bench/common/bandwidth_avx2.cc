// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "common/bandwidth-inl.h"
#include "common/bandwidth.h"

namespace moesmith::bench::avx2 {
namespace {

struct V {
  using Vec = __m256i;
  static constexpr int kBytes = 32;
  static Vec zero() { return _mm256_setzero_si256(); }
  static Vec load(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static Vec mix(Vec a, Vec b) { return _mm256_xor_si256(a, b); }
  static std::uint64_t word(Vec v) { return static_cast<std::uint64_t>(v[0]); }
};

}  // namespace

std::uint64_t read_streams(const char* data, std::int64_t bytes, int streams) {
  return read_in_streams<V>(data, bytes, streams);
}

}  // namespace moesmith::bench::avx2
