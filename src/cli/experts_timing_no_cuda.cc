// SPDX-License-Identifier: Apache-2.0
// Stands in for experts_timing_cuda.cc in a build without CUDA.
#include "cli/experts_timing.h"
#include "cuda/device.h"
#include "moesmith/error.h"

namespace moesmith::cli {

CudaTimings time_layer_on_cuda(const LayerCase&, std::span<const experts::ExpertsPlan>, double) {
  throw Error(ErrorCode::kUnsupported, "bench: " + cuda::list_devices().why_empty);
}

}  // namespace moesmith::cli
