// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.cuh"
#include "cuda/launch.h"

namespace moesmith::cuda {

DeviceGuard::DeviceGuard(int device) {
  check(cudaGetDevice(&previous_), "cudaGetDevice");
  if (previous_ != device) check(cudaSetDevice(device), str("cudaSetDevice(", device, ")"));
}

DeviceGuard::~DeviceGuard() { static_cast<void>(cudaSetDevice(previous_)); }

void set_bytes(void* target, int byte, std::int64_t num_bytes, void* stream) {
  if (num_bytes == 0) return;
  check(cudaMemsetAsync(target, byte, static_cast<std::size_t>(num_bytes),
                        static_cast<cudaStream_t>(stream)),
        str("cudaMemsetAsync of ", num_bytes, " bytes"));
}

}  // namespace moesmith::cuda
