// SPDX-License-Identifier: Apache-2.0
// What the tests of the decoder's kernels share: values, element types, and double references.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels {

inline std::vector<float> normals(std::int64_t count, std::uint64_t stream) {
  const Rng rng(20261124, stream);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = rng.normal(i);
  return values;
}

template <class T>
std::vector<T> cast(const std::vector<float>& values) {
  std::vector<T> out;
  for (const float v : values) out.push_back(T(v));
  return out;
}

template <class T>
double as_double(T value) {
  return static_cast<double>(static_cast<float>(value));
}
inline double as_double(double value) { return value; }

// Rounding of one stored element, relative to its size.
template <class T>
constexpr double epsilon() {
  return sizeof(T) == 2 ? 0x1p-8 : 0x1p-23;
}

// max |a - b| / max |b|
template <class A, class B>
double relative_error(const std::vector<A>& got, const std::vector<B>& want) {
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double w = as_double(want[i]), d = std::abs(as_double(got[i]) - w);
    if (!(d <= error)) error = d;
    scale = std::max(scale, std::abs(w));
  }
  return scale > 0 ? error / scale : error;
}

}  // namespace moesmith::kernels
