// SPDX-License-Identifier: Apache-2.0
#include "experts/lora.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "experts/gradients.h"
#include "experts/needs.h"
#include "experts/weights.h"
#include "kernels/rows/rows.h"

namespace moesmith::experts {
namespace {

constexpr std::int64_t kOutRows = 32;

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

// Row o of B [out, r * E] to the rows of the active experts.
template <class T, class From>
void pack_b_row(const From* row,
                std::int64_t rank,
                std::int64_t num_experts,
                const std::vector<std::int64_t>& active,
                std::int64_t o,
                const PackedLora<T>& packed) {
  for (const std::int64_t e : active) {
    T* to = packed.b + (e * packed.out + o) * packed.lora_rank;
    for (std::int64_t j = 0; j < rank; ++j) to[j] = convert<T>(row[j * num_experts + e]);
    std::fill(to + rank, to + packed.lora_rank, T{});
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
  std::vector<std::int64_t> active;
  for (std::int64_t e = 0; e < index.num_experts; ++e) {
    if (index.rows(e) > 0) active.push_back(e);
  }
  const std::int64_t rank = lora.lora_rank, in = packed.in;
  const auto num_active = static_cast<std::int64_t>(active.size());
  pool.run(num_active, [&](std::int64_t i, int) {
    const std::int64_t e = active[static_cast<std::size_t>(i)];
    T* to = packed.a + e * packed.lora_rank * in;
    convert_row(to, advance(factors.a, lora.dtype, e * rank * in), lora.dtype, rank * in);
    std::fill(to + rank * in, to + packed.lora_rank * in, T{});
  });
  pool.for_chunks(packed.out, kOutRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o) {
      const void* row = advance(factors.b, lora.dtype, o * rank * index.num_experts);
      if (lora.dtype == DType::kBF16) {
        pack_b_row(static_cast<const bf16*>(row), rank, index.num_experts, active, o, packed);
      } else {
        pack_b_row(static_cast<const float*>(row), rank, index.num_experts, active, o, packed);
      }
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
    std::vector<float> row(static_cast<std::size_t>(width));
    for (std::int64_t o = begin; o < end; ++o) {
      for (std::int64_t e = 0; e < num_experts; ++e) {
        const float* from = staged + (e * out + o) * padded;
        for (std::int64_t j = 0; j < rank; ++j) {
          row[static_cast<std::size_t>(j * num_experts + e)] = from[j];
        }
      }
      store_gradient(spec, target, o * width, row.data(), width);
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
