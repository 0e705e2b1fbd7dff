// SPDX-License-Identifier: Apache-2.0
// scattermoe's two passes on a GPU.
#pragma once

#include "moesmith/experts.h"

namespace moesmith::experts::on_cuda {

void run_forward(const ExpertsRequest& request, const ForwardArgs& args, const CudaStream& stream);
void run_backward(const ExpertsRequest& request,
                  const BackwardArgs& args,
                  const CudaStream& stream);

}  // namespace moesmith::experts::on_cuda
