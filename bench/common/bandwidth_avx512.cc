// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "common/bandwidth-inl.h"
#include "common/bandwidth.h"

namespace moesmith::bench::avx512 {
namespace {

struct V {
  using Vec = __m512i;
  static constexpr int kBytes = 64;
  static Vec zero() { return _mm512_setzero_si512(); }
  static Vec load(const char* p) { return _mm512_loadu_si512(p); }
  static Vec mix(Vec a, Vec b) { return _mm512_xor_si512(a, b); }
  static std::uint64_t word(Vec v) { return static_cast<std::uint64_t>(v[0]); }
};

}  // namespace

std::uint64_t read_streams(const char* data, std::int64_t bytes, int streams) {
  return read_in_streams<V>(data, bytes, streams);
}

}  // namespace moesmith::bench::avx512
