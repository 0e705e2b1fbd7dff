// SPDX-License-Identifier: Apache-2.0
// What host code needs around kernel launches, without CUDA's headers: the caller's device is
// restored, and an error names its call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace moesmith::cuda {

// Makes `device` current and restores the one before. Throws Error(kUnsupported) where the device
// cannot be used.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
};

// Asynchronous on `stream` (a cudaStream_t) of the current device.
void set_bytes(void* target, int byte, std::int64_t num_bytes, void* stream);

// Throws Error(kUnsupported), naming `who`, while `stream` is being captured: what waits for the
// device no graph can hold.
void refuse_capture(const char* who, void* stream);
// Copies from the device and waits for `stream`.
void copy_to_host(void* target, const void* source, std::int64_t num_bytes, void* stream);

}  // namespace moesmith::cuda
