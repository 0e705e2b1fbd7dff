// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sm90/activation_launch.cuh"

namespace moesmith::kernels::sm90 {

template <>
void launch_up<Pairing::kNone, Major::kK, 192>(
    const ActivationEpilogue<Pairing::kNone>::Params& epilogue,
    const Product& product,
    cudaStream_t stream) {
  launch_product<192, Major::kK, true, ActivationEpilogue<Pairing::kNone>>(product, epilogue,
                                                                           stream);
}

}  // namespace moesmith::kernels::sm90
