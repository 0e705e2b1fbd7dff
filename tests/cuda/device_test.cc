// SPDX-License-Identifier: Apache-2.0
#include "cuda/device.h"

#include <gtest/gtest.h>

namespace moesmith::cuda {
namespace {

TEST(device, says_why_there_is_none) {
  const DeviceList list = list_devices();
  EXPECT_EQ(list.devices.empty(), !list.why_empty.empty());
}

TEST(device, describes_each_gpu) {
  const DeviceList list = list_devices();
  if (list.devices.empty()) GTEST_SKIP() << list.why_empty;
  for (const DeviceInfo& device : list.devices) {
    EXPECT_FALSE(device.name.empty());
    EXPECT_GE(device.compute_major, 7);
    EXPECT_GT(device.num_multiprocessors, 0);
    EXPECT_GT(device.memory_bytes, 0);
    EXPECT_GE(device.shared_memory_per_block_bytes, 48 * 1024);
  }
}

}  // namespace
}  // namespace moesmith::cuda
