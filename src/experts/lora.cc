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

// Elements of B that are turned over at once per expert.
constexpr std::int64_t kTurned = 256;

// Rows [begin, end) of B [out, r * E] to [E, out, r16], for kExpertBlock experts at a time: theirs
// lie side by side in B. Several rows go through a tile on the stack, so that each expert's stretch
// is written once: stretches of different experts lie a large power of two apart and would throw
// each other out of the caches.
template <class T, class From>
void pack_b_rows(const From* b,
                 std::int64_t rank,
                 const RoutingIndex& index,
                 std::int64_t begin,
                 std::int64_t end,
                 const PackedLora<T>& packed) {
  const std::int64_t num_experts = index.num_experts, padded = packed.lora_rank;
  const std::int64_t most_rows = std::max<std::int64_t>(kTurned / padded, 1);
  float tile[kExpertBlock][kTurned] = {};  // columns past the rank stay 0
  for (std::int64_t e0 = 0; e0 < num_experts; e0 += kExpertBlock) {
    const std::int64_t count = std::min(kExpertBlock, num_experts - e0);
    if (index.offsets[e0] == index.offsets[e0 + count]) continue;
    for (std::int64_t o = begin; o < end; o += most_rows) {
      const std::int64_t num_rows = std::min(most_rows, end - o);
      for (std::int64_t i = 0; i < num_rows; ++i) {
        const From* row = b + (o + i) * rank * num_experts + e0;
        kernels::rows::ops<From>().turn(&tile[0][i * padded], kTurned, row, num_experts, rank,
                                        count);
      }
      for (std::int64_t e = 0; e < count; ++e) {
        T* to = packed.b + ((e0 + e) * packed.out + o) * padded;
        kernels::rows::ops<T>().from_f32(to, tile[e], 1.0f, num_rows * padded);
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
    float tile[kLoraRankStep][kExpertBlock];
    for (std::int64_t e0 = 0; e0 < num_experts; e0 += kExpertBlock) {
      const std::int64_t count = std::min(kExpertBlock, num_experts - e0);
      for (std::int64_t o = begin; o < end; ++o) {
        for (std::int64_t j0 = 0; j0 < rank; j0 += kLoraRankStep) {
          kernels::rows::ops<float>().turn(&tile[0][0], kExpertBlock,
                                           staged + (e0 * out + o) * padded + j0, out * padded,
                                           count, kLoraRankStep);
          for (std::int64_t j = j0; j < std::min(rank, j0 + kLoraRankStep); ++j) {
            store_gradient(spec, target, o * width + j * num_experts + e0, tile[j - j0], count);
          }
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
