// SPDX-License-Identifier: Apache-2.0
// Whether the kernels for sm_90a can run here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <string>

#include "moesmith/error.h"

namespace moesmith::kernels::sm90 {

constexpr int kSkipped = 77;  // the exit code that CTest reads so

// Says why not. Throws where there is a device that does not answer.
inline bool has_hopper() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::printf("skipped: the CUDA runtime finds no device\n");
    return false;
  }
  cudaDeviceProp properties{};
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, 0); status != cudaSuccess) {
    throw Error(ErrorCode::kInternal,
                std::string("cudaGetDeviceProperties: ") + cudaGetErrorString(status));
  }
  if (properties.major != 9) {
    std::printf("skipped: %s has compute capability %d.%d, expected 9.0\n", properties.name,
                properties.major, properties.minor);
    return false;
  }
  return true;
}

}  // namespace moesmith::kernels::sm90
