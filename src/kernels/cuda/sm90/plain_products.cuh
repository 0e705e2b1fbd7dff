// SPDX-License-Identifier: Apache-2.0
// The products whose sums are stored as they are, one source file for each direction of B.
#pragma once

#include "kernels/cuda/sm90/epilogue.cuh"
#include "kernels/cuda/sm90/launch.cuh"

namespace moesmith::kernels::sm90 {

void launch_plain_k_major(const Product& product,
                          const StoreEpilogue::Params& epilogue,
                          cudaStream_t stream);
void launch_plain_mn_major(const Product& product,
                           const StoreEpilogue::Params& epilogue,
                           cudaStream_t stream);

}  // namespace moesmith::kernels::sm90
