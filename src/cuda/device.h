// SPDX-License-Identifier: Apache-2.0
// Which NVIDIA GPUs this process can use. Without CUDA in the build, or without a driver, the list
// is empty and says why; asking never fails.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moesmith::cuda {

struct DeviceInfo {
  int index = 0;
  std::string name;
  int compute_major = 0;  // 9 for Hopper
  int compute_minor = 0;
  int num_multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t shared_memory_per_block_bytes = 0;  // the opt-in maximum
};

struct DeviceList {
  std::vector<DeviceInfo> devices;
  std::string why_empty;  // one sentence when `devices` is empty, "" otherwise
};

DeviceList list_devices();

}  // namespace moesmith::cuda
