// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sm90/weight_gradient_launch.cuh"

namespace moesmith::kernels::sm90 {

template <>
void launch_weight_gradient<true>(const WeightGradientArgs& args, cudaStream_t stream) {
  if (args.tile.cluster == 2) {
    launch_weight_gradient_side<true, 2>(args, stream);
  } else {
    launch_weight_gradient_side<true, 1>(args, stream);
  }
}

}  // namespace moesmith::kernels::sm90
