// SPDX-License-Identifier: Apache-2.0
// PEFT's layout at the border, packed copies inside: A [E, r16, in], B [E, out, r16] in compute
// dtype, the rank rounded up to 16 with zeros. W + Delta is never formed.
#pragma once

#include <cstdint>

#include "core/thread_pool.h"
#include "experts/carver.h"
#include "experts/routing.h"
#include "moesmith/experts.h"

namespace moesmith::experts {

template <class T>
struct PackedLora {
  std::int64_t lora_rank = 0;  // r16; 0: no LoRA
  std::int64_t in = 0, out = 0;
  T* a = nullptr;  // [E, r16, in]
  T* b = nullptr;  // [E, out, r16]

  const T* a_of(std::int64_t expert) const { return a + expert * lora_rank * in; }
  const T* b_of(std::int64_t expert) const { return b + expert * out * lora_rank; }

  static PackedLora carve(Carver& carver,
                          const LoraSpec& lora,
                          std::int64_t num_experts,
                          std::int64_t in,
                          std::int64_t out);
};

// Packs the factors of the experts that have rows; the others' stay as they are, unread.
template <class T>
void pack_lora(const LoraSpec& lora,
               const LoraFactors& factors,
               const RoutingIndex& index,
               const PackedLora<T>& packed,
               ThreadPool& pool);

// Sums for B, staged as [E, out, r16] f32, into PEFT's [out, r * E].
void store_b_gradient(const GradSpec& spec,
                      void* target,
                      const LoraSpec& lora,
                      std::int64_t num_experts,
                      std::int64_t out,
                      const float* staged,
                      ThreadPool& pool);

}  // namespace moesmith::experts
