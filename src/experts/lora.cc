// SPDX-License-Identifier: Apache-2.0
#include "experts/lora.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "experts/gradients.h"
#include "experts/needs.h"
#include "experts/weights.h"
#include "kernels/rows/rows.h"

namespace moesmith::experts {
namespace {

constexpr std::int64_t kOutRows = 32;
constexpr std::int64_t kExpertBlock = 16;  // a line of f32

template <class T>
void convert_row(T* to, const void* from, DType dtype, std::int64_t n) {
  if (dtype == DTypeOf<T>::value) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else if (dtype == DType::kF32) {
    kernels::rows::ops<T>().from_f32(to, static_cast<const float*>(from), 1.0f, n);
  } else if constexpr (std::is_same_v<T, float>) {
    kernels::rows::ops<bf16>().to_f32(to, static_cast<const bf16*>(from), 1.0f, n);
  }
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else {
    return To(static_cast<float>(value));
  }
}

// Rows [begin, end) of B [out, r * E] to [E, out, r16], for kExpertBlock experts at a time: theirs
// lie side by side in B, and each writes a stretch of its own.
template <class T, class From>
void pack_b_rows(const From* b,
                 std::int64_t rank,
                 const RoutingIndex& index,
                 std::int64_t begin,
                 std::int64_t end,
                 const PackedLora<T>& packed) {
  const std::int64_t num_experts = index.num_experts;
  for (std::int64_t e0 = 0; e0 < num_experts; e0 += kExpertBlock) {
    const std::int64_t e_end = std::min(num_experts, e0 + kExpertBlock);
    if (index.offsets[e0] == index.offsets[e_end]) continue;
    for (std::int64_t o = begin; o < end; ++o) {
      const From* row = b + o * rank * num_experts;
      for (std::int64_t e = e0; e < e_end; ++e) {
        T* to = packed.b + (e * packed.out + o) * packed.lora_rank;
        for (std::int64_t j = 0; j < rank; ++j) to[j] = convert<T>(row[j * num_experts + e]);
        std::fill(to + rank, to + packed.lora_rank, T{});
      }
    }
  }
}

}  // namespace

template <class T>
PackedLora<T> PackedLora<T>::carve(Carver& carver,
                                   const LoraSpec& lora,
                                   std::int64_t num_experts,
                                   std::int64_t in,
                                   std::int64_t out) {
  PackedLora packed;
  packed.lora_rank = padded_lora_rank(lora);
  packed.in = in;
  packed.out = out;
  if (packed.lora_rank == 0) return packed;
  packed.a = carver.take<T>(num_experts * packed.lora_rank * in);
  packed.b = carver.take<T>(num_experts * out * packed.lora_rank);
  return packed;
}

template <class T>
void pack_lora(const LoraSpec& lora,
               const LoraFactors& factors,
               const RoutingIndex& index,
               const PackedLora<T>& packed,
               ThreadPool& pool) {
  if (packed.lora_rank == 0) return;
  const std::int64_t rank = lora.lora_rank, in = packed.in;
  pool.run(index.num_experts, [&](std::int64_t e, int) {
    if (index.rows(e) == 0) return;
    T* to = packed.a + e * packed.lora_rank * in;
    convert_row(to, advance(factors.a, lora.dtype, e * rank * in), lora.dtype, rank * in);
    std::fill(to + rank * in, to + packed.lora_rank * in, T{});
  });
  pool.for_chunks(packed.out, kOutRows, [&](std::int64_t begin, std::int64_t end) {
    if (lora.dtype == DType::kBF16) {
      pack_b_rows(static_cast<const bf16*>(factors.b), rank, index, begin, end, packed);
    } else {
      pack_b_rows(static_cast<const float*>(factors.b), rank, index, begin, end, packed);
    }
  });
}

void store_b_gradient(const GradSpec& spec,
                      void* target,
                      const LoraSpec& lora,
                      std::int64_t num_experts,
                      std::int64_t out,
                      const float* staged,
                      ThreadPool& pool) {
  const std::int64_t rank = lora.lora_rank, padded = padded_lora_rank(lora);
  const std::int64_t width = rank * num_experts;
  pool.for_chunks(out, kOutRows, [&](std::int64_t begin, std::int64_t end) {
    float across[kExpertBlock];
    for (std::int64_t e0 = 0; e0 < num_experts; e0 += kExpertBlock) {
      const std::int64_t count = std::min(kExpertBlock, num_experts - e0);
      for (std::int64_t o = begin; o < end; ++o) {
        const float* from = staged + (e0 * out + o) * padded;
        for (std::int64_t j = 0; j < rank; ++j) {
          for (std::int64_t e = 0; e < count; ++e) across[e] = from[e * out * padded + j];
          store_gradient(spec, target, o * width + j * num_experts + e0, across, count);
        }
      }
    }
  });
}

template struct PackedLora<float>;
template struct PackedLora<bf16>;
template void pack_lora(const LoraSpec&,
                        const LoraFactors&,
                        const RoutingIndex&,
                        const PackedLora<float>&,
                        ThreadPool&);
template void pack_lora(
    const LoraSpec&, const LoraFactors&, const RoutingIndex&, const PackedLora<bf16>&, ThreadPool&);

}  // namespace moesmith::experts
