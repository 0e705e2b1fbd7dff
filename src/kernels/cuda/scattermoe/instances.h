// SPDX-License-Identifier: Apache-2.0
// The kernels behind run_row_product() and run_row_sum(), one file of instances each.
#pragma once

#include "kernels/cuda/scattermoe/product.h"

namespace moesmith::kernels::gpu {

// Blocks of a grid over tiles whose number only the device knows; tile_of_block() maps them.
inline std::int64_t blocks_of(const RowTiles& tiles, int column_tiles) {
  return static_cast<std::int64_t>((tiles.max_tiles + 7) / 8) * 8 * column_tiles;
}

void run_row_product_k_major(const RowProduct& product, const TileShape& shape, void* stream);
void run_row_product_row_major(const RowProduct& product, const TileShape& shape, void* stream);
void run_row_product_simt(const RowProduct& product, bool f32, void* stream);
void run_row_sum_bf16(const RowSum& sum, void* stream);
void run_row_sum_simt(const RowSum& sum, void* stream);

}  // namespace moesmith::kernels::gpu
