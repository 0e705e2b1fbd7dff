// SPDX-License-Identifier: Apache-2.0
// The tiles that are built. All fit the 99 KB of shared memory of sm_86, sm_89 and sm_120.
#pragma once

#include "kernels/cuda/scattermoe/tile.cuh"

namespace moesmith::kernels::gpu {

// Many rows per expert.
using LargeTile = TileConfig<2, 2, 64, 64, 4, 2>;
// Up to 64 rows per expert.
using SmallTile = TileConfig<1, 2, 64, 64, 4, 4>;
// Few columns (LoRA's ranks): bound by the bytes of the rows.
using NarrowTile = TileConfig<4, 1, 32, 64, 4, 3>;

}  // namespace moesmith::kernels::gpu
