// SPDX-License-Identifier: Apache-2.0
// The routing index on the device: a stable counting sort in four launches, without the host. A
// row's place depends on the indices alone.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/rows.h"

namespace moesmith::kernels::gpu {

inline constexpr int kMaxExperts = 1024;

struct RoutingInput {
  const void* index = nullptr;  // [T,K] int64 or int32
  bool index_is_64 = true;
  const void* weights = nullptr;  // [T,K] f32 or bf16
  bool weights_are_bf16 = false;
};

// Slots of one chunk: so many that there are at most 4096 chunks.
int routing_chunk_slots(std::int64_t num_slots);
// Largest number of tiles of `granule` rows that `rows` rows of `num_experts` experts can make.
int max_row_tiles(std::int64_t rows, std::int64_t num_experts, int granule);

// Fills every array of `rows`. Rows beyond the capacity are left out and `overflow` is set.
void build_rows(const Rows& rows, const RoutingInput& input, void* stream);

}  // namespace moesmith::kernels::gpu
