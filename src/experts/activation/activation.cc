// SPDX-License-Identifier: Apache-2.0
#include "experts/activation/activation.h"

#include "core/cpu_features.h"

namespace moesmith::experts {

namespace portable {
const ActivationOps<float>& f32_ops();
const ActivationOps<bf16>& bf16_ops();
}  // namespace portable
#if defined(__x86_64__)
namespace avx2 {
const ActivationOps<float>& f32_ops();
const ActivationOps<bf16>& bf16_ops();
}  // namespace avx2
namespace avx512 {
const ActivationOps<float>& f32_ops();
const ActivationOps<bf16>& bf16_ops();
}  // namespace avx512
namespace avx512_bf16 {
const ActivationOps<bf16>& bf16_ops();
}  // namespace avx512_bf16
#endif

template <>
const ActivationOps<float>& activation_ops<float>() {
#if defined(__x86_64__)
  if (active_isa() >= IsaLevel::kAvx512) return avx512::f32_ops();
  if (active_isa() >= IsaLevel::kAvx2) return avx2::f32_ops();
#endif
  return portable::f32_ops();
}

template <>
const ActivationOps<bf16>& activation_ops<bf16>() {
#if defined(__x86_64__)
  if (active_isa() >= IsaLevel::kAvx512Bf16) return avx512_bf16::bf16_ops();
  if (active_isa() >= IsaLevel::kAvx512) return avx512::bf16_ops();
  if (active_isa() >= IsaLevel::kAvx2) return avx2::bf16_ops();
#endif
  return portable::bf16_ops();
}

}  // namespace moesmith::experts
