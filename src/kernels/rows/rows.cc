// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows/rows.h"

#include <algorithm>
#include <limits>

#include "core/cpu_features.h"

namespace moesmith::kernels::rows {

namespace portable {
const Ops<float>& f32_ops();
const Ops<bf16>& bf16_ops();
}  // namespace portable
#if defined(__x86_64__)
namespace avx2 {
const Ops<float>& f32_ops();
const Ops<bf16>& bf16_ops();
}  // namespace avx2
namespace avx512 {
const Ops<float>& f32_ops();
const Ops<bf16>& bf16_ops();
}  // namespace avx512
#endif

template <>
const Ops<float>& ops<float>() {
#if defined(__x86_64__)
  if (active_isa() >= IsaLevel::kAvx512) return avx512::f32_ops();
  if (active_isa() >= IsaLevel::kAvx2) return avx2::f32_ops();
#endif
  return portable::f32_ops();
}

template <>
const Ops<bf16>& ops<bf16>() {
#if defined(__x86_64__)
  if (active_isa() >= IsaLevel::kAvx512) return avx512::bf16_ops();
  if (active_isa() >= IsaLevel::kAvx2) return avx2::bf16_ops();
#endif
  return portable::bf16_ops();
}

float row_max(const float* x, std::int64_t n) {
  constexpr std::int64_t kLanes = 16;
  float lane[kLanes];
  std::fill(lane, lane + kLanes, -std::numeric_limits<float>::infinity());
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t j = 0; j < kLanes; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  }
  for (std::int64_t j = 0; i + j < n; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
  return *std::max_element(lane, lane + kLanes);
}

}  // namespace moesmith::kernels::rows
