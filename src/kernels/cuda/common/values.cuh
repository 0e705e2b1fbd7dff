// SPDX-License-Identifier: Apache-2.0
// Elements of f32 and bf16, one at a time and eight at once.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace moesmith::kernels::gpu {

using bf16_t = __nv_bfloat16;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16_t x) { return __bfloat162float(x); }

template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline bf16_t from_float<bf16_t>(float x) {
  return __float2bfloat16_rn(x);
}

__device__ inline float load(const void* data, bool is_f32, std::int64_t i) {
  return is_f32 ? static_cast<const float*>(data)[i]
                : to_float(static_cast<const bf16_t*>(data)[i]);
}

// target[i] = or += value, in the dtype of the target.
__device__ inline void store_sum(void* target, bool is_f32, bool add, std::int64_t i, float value) {
  if (add) value += load(target, is_f32, i);
  if (is_f32) {
    static_cast<float*>(target)[i] = value;
  } else {
    static_cast<bf16_t*>(target)[i] = __float2bfloat16_rn(value);
  }
}

__device__ inline bool on_16_bytes(const void* pointer) {
  return (reinterpret_cast<std::uintptr_t>(pointer) & 15) == 0;
}

// Eight neighbours. `n` of them exist; the others read as 0 and are not written.
__device__ inline void load8(const float* from, int n, float (&to)[8]) {
  if (n >= 8 && on_16_bytes(from)) {
    const float4 low = reinterpret_cast<const float4*>(from)[0];
    const float4 high = reinterpret_cast<const float4*>(from)[1];
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) to[i] = i < n ? from[i] : 0.0f;
}
__device__ inline void load8(const bf16_t* from, int n, float (&to)[8]) {
  if (n >= 8 && on_16_bytes(from)) {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    const std::uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      to[2 * i] = __uint_as_float(word[i] << 16);
      to[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) to[i] = i < n ? to_float(from[i]) : 0.0f;
}
__device__ inline void store8(float* to, int n, const float (&from)[8]) {
  if (n >= 8 && on_16_bytes(to)) {
    reinterpret_cast<float4*>(to)[0] = make_float4(from[0], from[1], from[2], from[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(from[4], from[5], from[6], from[7]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < n) to[i] = from[i];
  }
}
__device__ inline void store8(bf16_t* to, int n, const float (&from)[8]) {
  if (n >= 8 && on_16_bytes(to)) {
    alignas(16) __nv_bfloat162 pair[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) pair[i] = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(pair);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < n) to[i] = __float2bfloat16_rn(from[i]);
  }
}

}  // namespace moesmith::kernels::gpu
