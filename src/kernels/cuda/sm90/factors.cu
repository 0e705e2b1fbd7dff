// SPDX-License-Identifier: Apache-2.0
// PEFT's layout at the border: factors packed for the kernels, and their gradients' parts added in
// chunk order and unpacked.
#include <cuda_bf16.h>

#include <cstdint>
#include <span>

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

// A by rank: a thread owns eight columns of one packed row.
__device__ void pack_a_by_rank(const PackArgs& args, std::int64_t block) {
  const std::int64_t pieces = args.cols / 8;
  const std::int64_t item = block * kThreadsPerBlock + threadIdx.x;
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

// A by column: a thread owns eight ranks of one packed row; neighbours read neighbouring columns.
__device__ void pack_a_by_col(const PackArgs& args, std::int64_t block) {
  const std::int64_t pieces = args.rank / 8;
  const std::int64_t item = block * kThreadsPerBlock + threadIdx.x;
  const std::int64_t c = item % args.cols, rest = item / args.cols;
  const std::int64_t expert = rest / pieces, j0 = rest % pieces * 8;
  if (expert >= args.num_experts) return;
  float v[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    v[i] = j0 + i < args.lora_rank
               ? get(args.in, args.in_f32, (expert * args.lora_rank + j0 + i) * args.cols + c)
               : 0.0f;
  }
  static_cast<uint4*>(args.by_col)[(expert * args.cols + c) * pieces + j0 / 8] = make_uint4(
      pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}

// Four neighbouring numbers of which `count` exist; aligned: as one load.
__device__ __forceinline__ float4
get_4(const void* in, bool f32, std::int64_t at, std::int64_t count, bool aligned) {
  if (aligned && count >= 4) {
    if (f32) return __ldg(reinterpret_cast<const float4*>(static_cast<const float*>(in) + at));
    const uint2 v =
        __ldg(reinterpret_cast<const uint2*>(static_cast<const __nv_bfloat16*>(in) + at));
    return {low_bf16(v.x), high_bf16(v.x), low_bf16(v.y), high_bf16(v.y)};
  }
  return {count > 0 ? get(in, f32, at) : 0.0f, count > 1 ? get(in, f32, at + 1) : 0.0f,
          count > 2 ? get(in, f32, at + 2) : 0.0f, count > 3 ? get(in, f32, at + 3) : 0.0f};
}

// B: a block takes kC columns, 16 ranks and kE experts: more experts read longer pieces. It reads
// four experts at a time and writes 8 columns, or 8 ranks.
constexpr int kPackRanks = 16;
constexpr int kPackTile = 32 * (16 * 24 + 8);  // elements, padded; of the larger shape
template <int kE, int kC>
__device__ void pack_b(const PackArgs& args,
                       std::int64_t block,
                       bool by_col,
                       __nv_bfloat16 (&tile)[kPackTile]) {
  constexpr int kR = kPackRanks;
  // [e][c][j] to be written by column, [e][j][c] by rank; pieces of 8 stay on 16 bytes.
  constexpr int kColStride = kR + 8, kRankStride = kC + 8;
  constexpr int kStride = (kC * kColStride > kR * kRankStride ? kC * kColStride : kR * kRankStride);
  static_assert(kE * (kStride + 8) <= kPackTile);
  const std::int64_t blocks_c = (args.cols + kC - 1) / kC, blocks_r = args.rank / kR;
  const std::int64_t c0 = block % blocks_c * kC, rest = block / blocks_c;
  const std::int64_t e0 = rest / blocks_r * kE, j0 = rest % blocks_r * kR;
  const bool aligned =
      args.num_experts % 4 == 0 && reinterpret_cast<std::uintptr_t>(args.in) % 16 == 0;
#pragma unroll
  for (int step = 0; step < kC * kR * kE / 4 / kThreadsPerBlock; ++step) {
    const int i = step * kThreadsPerBlock + static_cast<int>(threadIdx.x);
    const int e = i % (kE / 4) * 4, j = i / (kE / 4) % kR, c = i / (kE / 4 * kR);
    float4 v{};
    if (j0 + j < args.lora_rank && c0 + c < args.cols) {
      const std::int64_t row = parameter_row(c0 + c, args.cols, args.interleaved);
      v = get_4(args.in, args.in_f32, (row * args.lora_rank + j0 + j) * args.num_experts + e0 + e,
                args.num_experts - e0 - e, aligned);
    }
    __nv_bfloat16* to =
        tile + e * (kStride + 8) + (by_col ? c * kColStride + j : j * kRankStride + c);
    to[0] = __float2bfloat16(v.x);
    to[kStride + 8] = __float2bfloat16(v.y);
    to[2 * (kStride + 8)] = __float2bfloat16(v.z);
    to[3 * (kStride + 8)] = __float2bfloat16(v.w);
  }
  __syncthreads();
#pragma unroll
  for (int step = 0; step < kC * kR * kE / 8 / kThreadsPerBlock; ++step) {
    const int i = step * kThreadsPerBlock + static_cast<int>(threadIdx.x);
    const int e = i / (kC * kR / 8), within = i % (kC * kR / 8);
    if (e0 + e >= args.num_experts) continue;
    const __nv_bfloat16* from = tile + e * (kStride + 8);
    if (by_col) {
      const int c = within / (kR / 8), piece = within % (kR / 8);
      if (c0 + c >= args.cols) continue;
      auto* to = static_cast<__nv_bfloat16*>(args.by_col) +
                 ((e0 + e) * args.cols + c0 + c) * args.rank + j0 + 8 * piece;
      *reinterpret_cast<uint4*>(to) =
          *reinterpret_cast<const uint4*>(from + c * kColStride + 8 * piece);
    } else {
      const int j = within / (kC / 8), piece = within % (kC / 8);
      if (c0 + 8 * piece >= args.cols) continue;
      auto* to = static_cast<__nv_bfloat16*>(args.by_rank) +
                 ((e0 + e) * args.rank + j0 + j) * args.cols + c0 + 8 * piece;
      *reinterpret_cast<uint4*>(to) =
          *reinterpret_cast<const uint4*>(from + j * kRankStride + 8 * piece);
    }
  }
}

enum class PackKind { kAByRank, kAByCol, kB32, kB8 };
struct PackJob {
  PackArgs args;
  PackKind kind;
  bool by_col;       // of B
  std::int64_t end;  // blocks of this job and those before it
};
constexpr int kMaxJobs = 8;
struct PackJobs {
  PackJob job[kMaxJobs];
};

std::int64_t blocks_of(const PackArgs& args, PackKind kind) {
  const auto pieces = [](std::int64_t items, std::int64_t each) {
    return (items + each - 1) / each;
  };
  const std::int64_t packed = args.num_experts * args.rank * args.cols;
  switch (kind) {
    case PackKind::kAByRank:
    case PackKind::kAByCol:
      return pieces(packed / 8, kThreadsPerBlock);
    case PackKind::kB32:
      return pieces(args.cols, 16) * pieces(args.num_experts, 32) * (args.rank / kPackRanks);
    case PackKind::kB8:
      break;
  }
  return pieces(args.cols, 32) * pieces(args.num_experts, 8) * (args.rank / kPackRanks);
}

__global__ void __launch_bounds__(kThreadsPerBlock)
    pack_factors_kernel(const __grid_constant__ PackJobs jobs) {
  __shared__ alignas(16) __nv_bfloat16 tile[kPackTile];
  int at = 0;
  while (blockIdx.x >= jobs.job[at].end) ++at;
  const PackJob& job = jobs.job[at];
  const std::int64_t block = blockIdx.x - (at > 0 ? jobs.job[at - 1].end : 0);
  switch (job.kind) {
    case PackKind::kAByRank:
      return pack_a_by_rank(job.args, block);
    case PackKind::kAByCol:
      return pack_a_by_col(job.args, block);
    case PackKind::kB32:
      return pack_b<32, 16>(job.args, block, job.by_col, tile);
    case PackKind::kB8:
      return pack_b<8, 32>(job.args, block, job.by_col, tile);
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

void pack_factors(std::span<const PackArgs> factors, cudaStream_t stream) {
  PackJobs jobs{};
  std::int64_t blocks = 0;
  int count = 0;
  const auto add = [&](const PackArgs& args, PackKind kind, bool by_col = false) {
    blocks += blocks_of(args, kind);
    jobs.job[count++] = {args, kind, by_col, blocks};
  };
  for (const PackArgs& args : factors) {
    if (!args.is_a) {
      const PackKind kind = args.num_experts >= 32 ? PackKind::kB32 : PackKind::kB8;
      if (args.by_rank != nullptr) add(args, kind);
      if (args.by_col != nullptr) add(args, kind, true);
      continue;
    }
    if (args.by_rank != nullptr) add(args, PackKind::kAByRank);
    if (args.by_col != nullptr) add(args, PackKind::kAByCol);
  }
  LaunchSettings settings{.name = "pack_factors", .threads = kThreadsPerBlock};
  settings.blocks = static_cast<int>(blocks);
  launch(pack_factors_kernel, settings, stream, jobs);
}

}  // namespace moesmith::kernels::sm90
