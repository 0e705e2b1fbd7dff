// SPDX-License-Identifier: Apache-2.0
// Stands in for device.cu in a build without CUDA.
#include "cuda/device.h"

namespace moesmith::cuda {

DeviceList list_devices() {
  return {{}, "this build has no CUDA (configure with -DMOESMITH_CUDA=ON)"};
}

}  // namespace moesmith::cuda
