// SPDX-License-Identifier: Apache-2.0
// Rows of a routed batch as kernels see them: slots t * K + k sorted by expert, and tiles of them.
// Plain C++: hosts carve and fill these, kernels take them by value. All pointers are device ones.
#pragma once

#include <cstdint>

namespace moesmith::kernels::gpu {

// Rows [begin, end) of one expert.
struct RowTile {
  int expert, begin, end;
};

// Tiles of at most `granule` rows of one expert, experts in order. How many there are is known on
// the device only; `max_tiles` bounds it.
struct RowTiles {
  RowTile* tiles = nullptr;  // [max_tiles]
  int* count = nullptr;      // [1]
  int* first = nullptr;      // [E+1]: the first tile of each expert
  int granule = 0;
  int max_tiles = 0;
};

// Granules: products of many rows per expert and of few, and sums over rows.
enum TileKind { kLargeTiles, kSmallTiles, kSumTiles, kNumTileKinds };
inline constexpr int kTileRows[kNumTileKinds] = {128, 64, 1024};

struct Rows {
  int num_experts = 0, top_k = 0;
  int num_slots = 0;   // T * K
  int capacity = 0;    // rows that fit; more is an overflow
  int num_chunks = 0;  // of chunk_slots slots each
  int chunk_slots = 0;
  int* counts = nullptr;       // [num_chunks, E]: slots per chunk, then where they go
  int* offsets = nullptr;      // [E+1]: rows [offsets[e], offsets[e+1]) belong to expert e
  int* overflow = nullptr;     // [1]: not 0 when there were more rows than `capacity`
  int* slot_of = nullptr;      // [capacity]
  int* token_of = nullptr;     // [capacity]
  float* weight_of = nullptr;  // [capacity]: the routing weight
  int* row_of = nullptr;       // [num_slots]: -1 where the index is outside [0, E)
  RowTiles tiles[kNumTileKinds];
};

}  // namespace moesmith::kernels::gpu
