// SPDX-License-Identifier: Apache-2.0
// The instances whose weights lie with k contiguous: x W^T.
#include "cuda/launch.cuh"
#include "kernels/cuda/scattermoe/configs.cuh"
#include "kernels/cuda/scattermoe/instances.h"
#include "kernels/cuda/scattermoe/row_product_bf16.cuh"

namespace moesmith::kernels::gpu {
namespace {

template <class C>
void run(const char* name, const RowProduct& product, int column_tiles, void* stream) {
  static cuda::Kernel<RowProduct, int> kernel{name, row_product_bf16<C, true>, C::kSharedBytes};
  kernel.launch(blocks_of(product.tiles, column_tiles), C::kThreads, stream, product, column_tiles);
}

}  // namespace

void run_row_product_k_major(const RowProduct& product, const TileShape& shape, void* stream) {
  const int tiles = row_product_column_tiles(shape, product.n, product.pairing);
  if (shape.columns == NarrowTile::kColumns) {
    return run<NarrowTile>("row_product_k_major<128, 64>", product, tiles, stream);
  }
  if (shape.rows == kSmallTiles) {
    return run<SmallTile>("row_product_k_major<64, 128>", product, tiles, stream);
  }
  run<LargeTile>("row_product_k_major<128, 128>", product, tiles, stream);
}

}  // namespace moesmith::kernels::gpu
