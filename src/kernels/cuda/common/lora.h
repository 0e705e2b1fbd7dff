// SPDX-License-Identifier: Apache-2.0
// LoRA's factors at the border: PEFT's layout outside, packed compute-dtype copies inside, the rank
// rounded up to 16 with zeros; and the sums of their gradients back into PEFT's layout.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/rows.h"

namespace moesmith::kernels::gpu {

struct LoraPack {
  const void* a = nullptr;  // [rank * E, in], row e * rank + j
  const void* b = nullptr;  // [out, rank * E], column j * E + e
  bool factors_are_f32 = true;
  int rank = 0, padded_rank = 0, num_experts = 0;
  std::int64_t in = 0, out = 0;
  // As the base weights lie: [E, r16, in] and [E, out, r16]; transposed, [E, in, r16] and
  // [E, r16, out].
  bool transposed = false;
  void* packed_a = nullptr;  // null: not packed
  void* packed_b = nullptr;
  bool packed_is_f32 = true;
};

void pack_lora(const LoraPack& pack, void* stream);

// One wanted gradient.
struct GradientTarget {
  void* data = nullptr;
  bool is_f32 = true, accumulate = false;
};

// parts [tile, wide, narrow] f32; experts' tiles are those of `tiles`, added in their order. An
// expert without tiles gives 0. Without a table of tiles there is one part an expert.
//   kDense  target[e, wide, narrow]
//   kA      target[e * rank + j, wide], j < rank
//   kB      target[wide, j * E + e], j < rank
enum class SumLayout { kDense, kA, kB };

struct SumParts {
  const float* parts = nullptr;
  RowTiles tiles;
  int num_experts = 0;
  std::int64_t wide = 0;
  int narrow = 0, rank = 0;
  SumLayout layout = SumLayout::kDense;
  GradientTarget target;
};

void sum_parts(const SumParts& sums, void* stream);

}  // namespace moesmith::kernels::gpu
