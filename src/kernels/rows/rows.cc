// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows/rows.h"

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
namespace avx512_bf16 {
const Ops<bf16>& bf16_ops();
}  // namespace avx512_bf16
#endif

void fence() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

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
  if (active_isa() >= IsaLevel::kAvx512Bf16) return avx512_bf16::bf16_ops();
  if (active_isa() >= IsaLevel::kAvx512) return avx512::bf16_ops();
  if (active_isa() >= IsaLevel::kAvx2) return avx2::bf16_ops();
#endif
  return portable::bf16_ops();
}

}  // namespace moesmith::kernels::rows
