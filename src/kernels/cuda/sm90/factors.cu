// SPDX-License-Identifier: Apache-2.0
// PEFT's layout at the border: factors packed for the kernels, and their gradients' parts added in
// chunk order and unpacked.
#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/sm90/launch_attributes.h"
#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/sm90.h"

namespace moesmith::kernels::sm90 {
namespace {

constexpr int kThreadsPerBlock = 256;

__device__ __forceinline__ std::int64_t parameter_row(std::int64_t c,
                                                      std::int64_t cols,
                                                      bool interleaved) {
  if (!interleaved) return c;
  return c < cols / 2 ? 2 * c : 2 * (c - cols / 2) + 1;
}

__device__ __forceinline__ void put(
    void* out, bool f32, bool accumulate, std::int64_t at, float value) {
  if (f32) {
    float* to = static_cast<float*>(out) + at;
    *to = accumulate ? *to + value : value;
  } else {
    __nv_bfloat16* to = static_cast<__nv_bfloat16*>(out) + at;
    *to = __float2bfloat16(accumulate ? __bfloat162float(*to) + value : value);
  }
}

// A: a thread owns four columns of one row of the parameter.
__global__ void __launch_bounds__(kThreadsPerBlock)
    a_gradient_kernel(const FactorGradientArgs args, const int* first_chunk) {
  const std::int64_t pieces = args.cols / 4;
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kThreadsPerBlock + threadIdx.x;
  const std::int64_t out_row = item / pieces, piece = item - out_row * pieces;
  if (out_row >= args.rows.num_experts * args.lora_rank) return;
  const std::int64_t expert = out_row / args.lora_rank, j = out_row - expert * args.lora_rank;
  float4 sum{};
  const int end = first_chunk[expert + 1];
  for (int chunk = first_chunk[expert]; chunk < end; ++chunk) {
    const float4 v = __ldcs(
        reinterpret_cast<const float4*>(args.parts + (chunk * args.rank + j) * args.cols) + piece);
    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
  }
  const std::int64_t at = out_row * args.cols + piece * 4;
  if (args.out_f32 && !args.accumulate && reinterpret_cast<std::uintptr_t>(args.out) % 16 == 0) {
    *reinterpret_cast<float4*>(static_cast<float*>(args.out) + at) = sum;
    return;
  }
  put(args.out, args.out_f32, args.accumulate, at, sum.x);
  put(args.out, args.out_f32, args.accumulate, at + 1, sum.y);
  put(args.out, args.out_f32, args.accumulate, at + 2, sum.z);
  put(args.out, args.out_f32, args.accumulate, at + 3, sum.w);
}

// B: a block takes 32 columns of one rank of 32 experts and turns them in shared memory.
__global__ void __launch_bounds__(kThreadsPerBlock)
    b_gradient_kernel(const FactorGradientArgs args, const int* first_chunk) {
  __shared__ float tile[32][33];
  const std::int64_t blocks_c = (args.cols + 31) / 32;
  const std::int64_t j = blockIdx.x / blocks_c, c0 = (blockIdx.x - j * blocks_c) * 32;
  const std::int64_t e0 = static_cast<std::int64_t>(blockIdx.y) * 32;
  const int x = threadIdx.x & 31;
  for (int y = threadIdx.x / 32; y < 32; y += kThreadsPerBlock / 32) {
    float sum = 0.0f;
    if (e0 + y < args.rows.num_experts && c0 + x < args.cols) {
      const int end = first_chunk[e0 + y + 1];
      for (int chunk = first_chunk[e0 + y]; chunk < end; ++chunk) {
        sum += __ldcs(args.parts + (chunk * args.rank + j) * args.cols + c0 + x);
      }
    }
    tile[y][x] = sum;
  }
  __syncthreads();
  for (int y = threadIdx.x / 32; y < 32; y += kThreadsPerBlock / 32) {
    if (c0 + y >= args.cols || e0 + x >= args.rows.num_experts) continue;
    const std::int64_t row = parameter_row(c0 + y, args.cols, args.interleaved);
    put(args.out, args.out_f32, args.accumulate,
        (row * args.lora_rank + j) * args.rows.num_experts + e0 + x, tile[x][y]);
  }
}

__device__ __forceinline__ float get(const void* in, bool f32, std::int64_t at) {
  return f32 ? __ldg(static_cast<const float*>(in) + at)
             : __bfloat162float(static_cast<const __nv_bfloat16*>(in)[at]);
}

// A thread owns eight columns of one packed row.
__global__ void __launch_bounds__(kThreadsPerBlock) pack_a_kernel(const PackArgs args) {
  const std::int64_t pieces = args.cols / 8;
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kThreadsPerBlock + threadIdx.x;
  const std::int64_t row = item / pieces, piece = item - row * pieces;
  if (row >= args.num_experts * args.rank) return;
  const std::int64_t expert = row / args.rank, j = row - expert * args.rank;
  uint4 out{};
  if (j < args.lora_rank) {
    const std::int64_t from = (expert * args.lora_rank + j) * args.cols + piece * 8;
    if (reinterpret_cast<std::uintptr_t>(args.in) % 16 != 0) {
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = get(args.in, args.in_f32, from + i);
      out = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
                       pack_bf16(v[6], v[7]));
    } else if (args.in_f32) {
      const float4* in = reinterpret_cast<const float4*>(static_cast<const float*>(args.in) + from);
      const float4 a = __ldg(in), b = __ldg(in + 1);
      out = make_uint4(pack_bf16(a.x, a.y), pack_bf16(a.z, a.w), pack_bf16(b.x, b.y),
                       pack_bf16(b.z, b.w));
    } else {
      out = *reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(args.in) + from);
    }
  }
  static_cast<uint4*>(args.by_rank)[item] = out;
}

// B: a block takes kC columns, 16 ranks and kE experts: more experts read longer pieces.
template <int kE, int kC>
__global__ void __launch_bounds__(kThreadsPerBlock) pack_b_kernel(const PackArgs args) {
  constexpr int kR = 16;
  __shared__ __nv_bfloat16 tile[kE][kR][kC + 2];
  const std::int64_t c0 = static_cast<std::int64_t>(blockIdx.x) * kC;
  const std::int64_t blocks_r = args.rank / kR;
  const std::int64_t e0 = blockIdx.y / blocks_r * kE, j0 = blockIdx.y % blocks_r * kR;
#pragma unroll 8
  for (int i = threadIdx.x; i < kC * kR * kE; i += kThreadsPerBlock) {
    const int e = i % kE, j = i / kE % kR, c = i / (kE * kR);
    float value = 0.0f;
    if (e0 + e < args.num_experts && j0 + j < args.lora_rank && c0 + c < args.cols) {
      const std::int64_t row = parameter_row(c0 + c, args.cols, args.interleaved);
      value =
          get(args.in, args.in_f32, (row * args.lora_rank + j0 + j) * args.num_experts + e0 + e);
    }
    tile[e][j][c] = __float2bfloat16(value);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kC * kR * kE; i += kThreadsPerBlock) {
    if (args.by_rank != nullptr) {
      const int c = i % kC, j = i / kC % kR, e = i / (kC * kR);
      if (e0 + e < args.num_experts && c0 + c < args.cols) {
        static_cast<__nv_bfloat16*>(
            args.by_rank)[((e0 + e) * args.rank + j0 + j) * args.cols + c0 + c] = tile[e][j][c];
      }
    }
    if (args.by_col != nullptr) {
      const int j = i % kR, c = i / kR % kC, e = i / (kC * kR);
      if (e0 + e < args.num_experts && c0 + c < args.cols) {
        static_cast<__nv_bfloat16*>(
            args.by_col)[((e0 + e) * args.cols + c0 + c) * args.rank + j0 + j] = tile[e][j][c];
      }
    }
  }
}

}  // namespace

void factor_gradient(const FactorGradientArgs& args, cudaStream_t stream) {
  LaunchSettings settings{.name = "factor_gradient", .threads = kThreadsPerBlock};
  const int* first_chunk = tile_table(args.rows).first_chunk;
  if (args.is_a) {
    const std::int64_t items = args.rows.num_experts * args.lora_rank * (args.cols / 4);
    settings.blocks = static_cast<int>((items + kThreadsPerBlock - 1) / kThreadsPerBlock);
    launch(a_gradient_kernel, settings, stream, args, first_chunk);
    return;
  }
  settings.blocks = static_cast<int>(args.lora_rank * ((args.cols + 31) / 32));
  settings.blocks_y = static_cast<int>((args.rows.num_experts + 31) / 32);
  launch(b_gradient_kernel, settings, stream, args, first_chunk);
}

void pack_factor(const PackArgs& args, cudaStream_t stream) {
  LaunchSettings settings{.name = "pack_factor", .threads = kThreadsPerBlock};
  if (args.is_a) {
    const std::int64_t items = args.num_experts * args.rank * (args.cols / 8);
    settings.blocks = static_cast<int>((items + kThreadsPerBlock - 1) / kThreadsPerBlock);
    launch(pack_a_kernel, settings, stream, args);
    return;
  }
  const auto launch_b = [&](auto kernel, int experts, int cols) {
    settings.blocks = static_cast<int>((args.cols + cols - 1) / cols);
    settings.blocks_y =
        static_cast<int>((args.num_experts + experts - 1) / experts * (args.rank / 16));
    launch(kernel, settings, stream, args);
  };
  if (args.num_experts >= 32) {
    launch_b(pack_b_kernel<32, 16>, 32, 16);
  } else {
    launch_b(pack_b_kernel<8, 32>, 8, 32);
  }
}

}  // namespace moesmith::kernels::sm90
