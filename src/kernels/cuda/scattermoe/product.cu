// SPDX-License-Identifier: Apache-2.0
// Which instance serves a product; the numbers behind the choice are in docs/cuda.md.
#include "kernels/cuda/scattermoe/product.h"

#include "kernels/cuda/scattermoe/instances.h"

namespace moesmith::kernels::gpu {

TileShape row_product_shape(bool tensor_cores, int columns, std::int64_t rows, int num_experts) {
  if (!tensor_cores) return {kSmallTiles, 64, false};
  if (columns <= 64) return {kLargeTiles, 64, true};
  if (rows <= std::int64_t{64} * num_experts) return {kSmallTiles, 128, true};
  return {kLargeTiles, 128, true};
}

int row_product_column_tiles(const TileShape& shape, int n, Pairing pairing) {
  const int per_tile = pairing == Pairing::kNone ? shape.columns : shape.columns / 2;
  return (n + per_tile - 1) / per_tile;
}

void run_row_product(const RowProduct& product, const TileShape& shape, bool f32, void* stream) {
  if (!shape.tensor_cores) return run_row_product_simt(product, f32, stream);
  if (product.segment[0].b.k_major) return run_row_product_k_major(product, shape, stream);
  run_row_product_row_major(product, shape, stream);
}

void run_row_sum(const RowSum& sum, void* stream) {
  if (sum.left.is_f32 || sum.right.is_f32) return run_row_sum_simt(sum, stream);
  run_row_sum_bf16(sum, stream);
}

}  // namespace moesmith::kernels::gpu
