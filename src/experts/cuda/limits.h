// SPDX-License-Identifier: Apache-2.0
// What every implementation that uses kernels/cuda/common needs of a request.
#pragma once

#include "cuda/device.h"
#include "experts/implementation.h"

namespace moesmith::experts::on_cuda {

// Dtypes, sizes and the GPU itself.
Refusal beyond_common_limits(const ExpertsRequest& request);

// One dtype for activations and weights: what a product of a library asks for.
Refusal mixes_dtypes(const ExpertsRequest& request);

// " on NVIDIA ...", or "" where the request's device does not exist.
std::string on_device(const ExpertsRequest& request);

}  // namespace moesmith::experts::on_cuda
