// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sm90/activation_launch.cuh"

namespace moesmith::kernels::sm90 {

template <>
void launch_up<Pairing::kHalves, Major::kMn, 256>(
    const ActivationEpilogue<Pairing::kHalves>::Params& epilogue,
    const Product& product,
    cudaStream_t stream) {
  launch_product<256, Major::kMn, true, ActivationEpilogue<Pairing::kHalves>>(product, epilogue,
                                                                              stream);
}

}  // namespace moesmith::kernels::sm90
