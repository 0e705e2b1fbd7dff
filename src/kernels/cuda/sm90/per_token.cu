// SPDX-License-Identifier: Apache-2.0
// Slots back to tokens: the weighted sum over a token's slots, in slot order, and the gradient of
// its routing weights. A thread owns 8 columns of a token, or a slot.
#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/sm90/launch_attributes.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {
namespace {

constexpr int kThreadsPerBlock = 256;

__device__ __forceinline__ void add_8(float (&sums)[8], uint4 v, float weight) {
  const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sums[2 * i] += weight * low_bf16(words[i]);
    sums[2 * i + 1] += weight * high_bf16(words[i]);
  }
}

__device__ __forceinline__ void store_8(const CombineArgs& args,
                                        std::int64_t at,
                                        float (&sums)[8]) {
  if (args.out_f32) {
    float4* out = reinterpret_cast<float4*>(static_cast<float*>(args.out) + at);
    float4 low{sums[0], sums[1], sums[2], sums[3]}, high{sums[4], sums[5], sums[6], sums[7]};
    if (args.accumulate) {
      const float4 l = out[0], h = out[1];
      low = {low.x + l.x, low.y + l.y, low.z + l.z, low.w + l.w};
      high = {high.x + h.x, high.y + h.y, high.z + h.z, high.w + h.w};
    }
    out[0] = low;
    out[1] = high;
    return;
  }
  uint4* out = reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(args.out) + at);
  if (args.accumulate) add_8(sums, *out, 1.0f);
  *out = make_uint4(pack_bf16(sums[0], sums[1]), pack_bf16(sums[2], sums[3]),
                    pack_bf16(sums[4], sums[5]), pack_bf16(sums[6], sums[7]));
}

__global__ void __launch_bounds__(kThreadsPerBlock) combine_kernel(const CombineArgs args) {
  const int pieces = static_cast<int>(args.hidden / 8), top_k = static_cast<int>(args.rows.top_k);
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kThreadsPerBlock + threadIdx.x;
  const std::int64_t token = item / pieces;
  if (token >= args.rows.num_tokens) return;
  const int piece = static_cast<int>(item - token * pieces);
  const std::int32_t* slots = args.rows.slot_row + token * top_k;
  const uint4* in = static_cast<const uint4*>(args.in) + piece;
  float sums[8]{};
  constexpr int kAhead = 8;  // loads in flight
  for (int first = 0; first < top_k; first += kAhead) {
    uint4 v[kAhead];
    float weight[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int row = first + i < top_k ? __ldg(slots + first + i) : -1;
      v[i] = row < 0 ? uint4{} : __ldcs(in + static_cast<std::int64_t>(row) * pieces);
      weight[i] = row < 0 ? 0.0f : args.weighted ? __ldg(args.rows.row_weight + row) : 1.0f;
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) add_8(sums, v[i], weight[i]);
  }
  store_8(args, token * args.hidden + piece * 8, sums);
}

__global__ void __launch_bounds__(kThreadsPerBlock)
    route_weight_kernel(const RouteWeightArgs args, int parts) {
  const std::int64_t slot = static_cast<std::int64_t>(blockIdx.x) * kThreadsPerBlock + threadIdx.x;
  if (slot >= args.rows.num_tokens * args.rows.top_k) return;
  const int row = args.rows.slot_row[slot];
  float sum = 0.0f;
  if (row >= 0) {
    for (int i = 0; i < parts; ++i)
      sum += args.row_parts[static_cast<std::int64_t>(row) * parts + i];
    if (args.row_extra != nullptr) sum += args.row_extra[row];
  }
  if (args.out_f32) {
    float* out = static_cast<float*>(args.out) + slot;
    *out = args.accumulate ? *out + sum : sum;
  } else {
    __nv_bfloat16* out = static_cast<__nv_bfloat16*>(args.out) + slot;
    *out = __float2bfloat16(args.accumulate ? __bfloat162float(*out) + sum : sum);
  }
}

int blocks_for(std::int64_t items) {
  return static_cast<int>((items + kThreadsPerBlock - 1) / kThreadsPerBlock);
}

}  // namespace

void combine(const CombineArgs& args, cudaStream_t stream) {
  LaunchSettings settings{.name = "combine",
                          .blocks = blocks_for(args.rows.num_tokens * (args.hidden / 8)),
                          .threads = kThreadsPerBlock};
  launch(combine_kernel, settings, stream, args);
}

void route_weight_gradient(const RouteWeightArgs& args, cudaStream_t stream) {
  LaunchSettings settings{.name = "route_weight_gradient",
                          .blocks = blocks_for(args.rows.num_tokens * args.rows.top_k),
                          .threads = kThreadsPerBlock};
  launch(route_weight_kernel, settings, stream, args, static_cast<int>(args.num_parts));
}

}  // namespace moesmith::kernels::sm90
