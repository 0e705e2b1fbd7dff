// SPDX-License-Identifier: Apache-2.0
#include "device_random.h"

#include <cuda_bf16.h>

#include "cuda/launch.cuh"

namespace moesmith::bench {
namespace {

__global__ void fill(__nv_bfloat16* data, std::int64_t count, float scale, std::uint32_t seed) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    auto x =
        static_cast<std::uint32_t>(i) * 0x9e3779b1u + static_cast<std::uint32_t>(i >> 32) + seed;
    x ^= x >> 16, x *= 0x85ebca6bu, x ^= x >> 13, x *= 0xc2b2ae35u, x ^= x >> 16;
    data[i] = __float2bfloat16_rn(scale * (static_cast<float>(x) * 0x1p-31f - 1.0f));
  }
}

}  // namespace

void fill_random_bf16(
    void* data, std::int64_t count, float scale, std::uint32_t seed, void* stream) {
  static cuda::Kernel<__nv_bfloat16*, std::int64_t, float, std::uint32_t> kernel{"fill", fill};
  kernel.launch(1024, 256, stream, static_cast<__nv_bfloat16*>(data), count, scale, seed);
}

}  // namespace moesmith::bench
