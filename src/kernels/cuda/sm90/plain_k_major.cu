// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sm90/plain_products.cuh"

namespace moesmith::kernels::sm90 {

void launch_plain_k_major(const Product& product,
                          const StoreEpilogue::Params& epilogue,
                          cudaStream_t stream) {
  if (product.tile.cols == 192) {
    launch_product<192, Major::kK, false, StoreEpilogue>(product, epilogue, stream);
  } else {
    launch_product<256, Major::kK, false, StoreEpilogue>(product, epilogue, stream);
  }
}

}  // namespace moesmith::kernels::sm90
