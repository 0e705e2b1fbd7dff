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

void refuse_capture(const char* who, void* stream) {
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &capturing),
        "cudaStreamIsCapturing");
  if (capturing == cudaStreamCaptureStatusNone) return;
  throw Error(ErrorCode::kUnsupported,
              str("cuda: ", who, " waits for the device: no CUDA graph can hold it"));
}

void copy_to_host(void* target, const void* source, std::int64_t num_bytes, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  check(cudaMemcpyAsync(target, source, static_cast<std::size_t>(num_bytes), cudaMemcpyDeviceToHost,
                        on),
        str("copy of ", num_bytes, " bytes to the host"));
  check(cudaStreamSynchronize(on), "cudaStreamSynchronize");
}

}  // namespace moesmith::cuda
