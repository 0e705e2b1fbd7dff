// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "common/bandwidth-inl.h"
#include "common/bandwidth.h"

namespace moesmith::bench::portable {
namespace {

struct V {
  typedef std::uint64_t Vec __attribute__((vector_size(16)));
  static constexpr int kBytes = 16;
  static Vec zero() { return Vec{}; }
  static Vec load(const char* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static Vec mix(Vec a, Vec b) { return a ^ b; }
  static std::uint64_t word(Vec v) { return v[0]; }
};

}  // namespace

std::uint64_t read_streams(const char* data, std::int64_t bytes, int streams) {
  return read_in_streams<V>(data, bytes, streams);
}

}  // namespace moesmith::bench::portable
