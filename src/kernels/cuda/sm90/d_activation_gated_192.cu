// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sm90/activation_launch.cuh"

namespace moesmith::kernels::sm90 {

template <>
void launch_d_activation<Pairing::kHalves, Major::kMn, 192>(
    const DActivationEpilogue<Pairing::kHalves>::Params& epilogue,
    const Product& product,
    cudaStream_t stream) {
  launch_product<192, Major::kMn, true, DActivationEpilogue<Pairing::kHalves>>(product, epilogue,
                                                                               stream);
}

}  // namespace moesmith::kernels::sm90
