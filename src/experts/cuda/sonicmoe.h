// SPDX-License-Identifier: Apache-2.0
// sonicmoe's two passes on a Hopper GPU.
#pragma once

#include "moesmith/experts.h"

namespace moesmith::experts::on_cuda {

void sonic_forward(const ExpertsRequest& request,
                   const ForwardArgs& args,
                   const CudaStream& stream);
void sonic_backward(const ExpertsRequest& request,
                    const BackwardArgs& args,
                    const CudaStream& stream);

}  // namespace moesmith::experts::on_cuda
