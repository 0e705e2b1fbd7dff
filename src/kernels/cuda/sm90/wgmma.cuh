// SPDX-License-Identifier: Apache-2.0
// wgmma: d [64,N] += A [64,16] B [16,N], bf16 operands in shared memory with 128-byte swizzle,
// f32 sums in registers. Thread t of the warpgroup holds, in d[4 j + 2 h + b], row
// 16 (t / 32) + (t % 32) / 4 + 8 h and column 8 j + 2 (t % 4) + b.
#pragma once

#include <cstdint>

namespace moesmith::kernels::sm90 {

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Rows of 64 elements along k, 128 bytes each, rows of 8 in an atom of 1024 bytes. 16 along k are
// kStepKMajor further on.
inline constexpr std::uint64_t kStepKMajor = 32 >> 4;
__device__ __forceinline__ std::uint64_t operand_k_major(std::uint32_t address) {
  return static_cast<std::uint64_t>((address & 0x3ffff) >> 4) | (1ull << 16) |
         (static_cast<std::uint64_t>(1024 >> 4) << 32) | (1ull << 62);
}
// Boxes of [64 k][64 n], n contiguous, 8192 bytes each. 16 along k are kStepMnMajor further on.
inline constexpr std::uint64_t kStepMnMajor = 2048 >> 4;
__device__ __forceinline__ std::uint64_t operand_mn_major(std::uint32_t address) {
  return static_cast<std::uint64_t>((address & 0x3ffff) >> 4) |
         (static_cast<std::uint64_t>(8192 >> 4) << 16) |
         (static_cast<std::uint64_t>(1024 >> 4) << 32) | (1ull << 62);
}

// clang-format off
#define MOESMITH_F8(d, i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
  "+f"(d[i + 6]), "+f"(d[i + 7])

template <int kTransposeB, int kTransposeA>
__device__ __forceinline__ void wgmma_n128(float (&d)[64],
    std::uint64_t a, std::uint64_t b) {
  asm volatile(
            "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, 1, 1, 1, %67, %66;"
      : MOESMITH_F8(d, 0), MOESMITH_F8(d, 8), MOESMITH_F8(d, 16), MOESMITH_F8(d, 24), MOESMITH_F8(d, 32), MOESMITH_F8(d, 40), MOESMITH_F8(d, 48), MOESMITH_F8(d, 56)
      : "l"(a), "l"(b), "n"(kTransposeB), "n"(kTransposeA));
}

template <int kTransposeB, int kTransposeA>
__device__ __forceinline__ void wgmma_n192(float (&d)[96],
    std::uint64_t a, std::uint64_t b) {
  asm volatile(
            "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, "
      "%96, %97, 1, 1, 1, %99, %98;"
      : MOESMITH_F8(d, 0), MOESMITH_F8(d, 8), MOESMITH_F8(d, 16), MOESMITH_F8(d, 24), MOESMITH_F8(d, 32), MOESMITH_F8(d, 40), MOESMITH_F8(d, 48), MOESMITH_F8(d, 56), MOESMITH_F8(d, 64), MOESMITH_F8(d, 72), MOESMITH_F8(d, 80), MOESMITH_F8(d, 88)
      : "l"(a), "l"(b), "n"(kTransposeB), "n"(kTransposeA));
}

template <int kTransposeB, int kTransposeA>
__device__ __forceinline__ void wgmma_n256(float (&d)[128],
    std::uint64_t a, std::uint64_t b) {
  asm volatile(
            "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "%128, %129, 1, 1, 1, %131, %130;"
      : MOESMITH_F8(d, 0), MOESMITH_F8(d, 8), MOESMITH_F8(d, 16), MOESMITH_F8(d, 24), MOESMITH_F8(d, 32), MOESMITH_F8(d, 40), MOESMITH_F8(d, 48), MOESMITH_F8(d, 56), MOESMITH_F8(d, 64), MOESMITH_F8(d, 72), MOESMITH_F8(d, 80), MOESMITH_F8(d, 88), MOESMITH_F8(d, 96), MOESMITH_F8(d, 104), MOESMITH_F8(d, 112), MOESMITH_F8(d, 120)
      : "l"(a), "l"(b), "n"(kTransposeB), "n"(kTransposeA));
}

#undef MOESMITH_F8
// clang-format on

template <int kN, int kTransposeB, int kTransposeA = 0>
__device__ __forceinline__ void wgmma(float (&d)[kN / 2], std::uint64_t a, std::uint64_t b) {
  static_assert(kN == 128 || kN == 192 || kN == 256);
  if constexpr (kN == 128) wgmma_n128<kTransposeB, kTransposeA>(d, a, b);
  if constexpr (kN == 192) wgmma_n192<kTransposeB, kTransposeA>(d, a, b);
  if constexpr (kN == 256) wgmma_n256<kTransposeB, kTransposeA>(d, a, b);
}

}  // namespace moesmith::kernels::sm90
