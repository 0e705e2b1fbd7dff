// SPDX-License-Identifier: Apache-2.0
// Tensor maps, encoded through the driver's entry point, which is looked up at run time: nothing
// here links to libcuda.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace moesmith::kernels::sm90 {

// A bf16 tensor of up to four dimensions, dimension 0 contiguous; out-of-bounds elements read 0.
// Boxes have 64 elements (128 bytes, swizzled) in dimension 0.
struct TensorMapSpec {
  const char* what = "";  // for the error
  const void* base = nullptr;
  int dims = 0;
  std::int64_t size[4] = {};
  std::int64_t stride[4] = {};  // in elements; stride[0] is 1
  std::uint32_t box[4] = {};
};
// Throws Error(kUnsupported) where the driver has no tensor maps, kInternal where it refuses this.
CUtensorMap encode(const TensorMapSpec& spec);

}  // namespace moesmith::kernels::sm90
