// SPDX-License-Identifier: Apache-2.0
// CUTLASS's grouped kernel for sm_80 and newer: persistent blocks that find their problems on the
// device. Tensor cores in bf16, ordinary units in f32.
#pragma once

#include <cutlass/device_kernel.h>
#include <cutlass/epilogue/thread/linear_combination.h>
#include <cutlass/gemm/kernel/default_gemm_grouped.h>

#include "cuda/launch.cuh"
#include "kernels/cuda/grouped_mm/problems.h"

namespace moesmith::kernels::gpu {

using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;

template <class Out, int kElements>
using Epilogue = cutlass::epilogue::thread::LinearCombination<Out, kElements, float, float>;

// 16-byte accesses throughout; 64 KB of shared memory.
template <class LayoutA, class LayoutB, class Out>
using GroupedBf16 = typename cutlass::gemm::kernel::DefaultGemmGrouped<
    cutlass::bfloat16_t,
    LayoutA,
    cutlass::ComplexTransform::kNone,
    8,
    cutlass::bfloat16_t,
    LayoutB,
    cutlass::ComplexTransform::kNone,
    8,
    Out,
    RowMajor,
    float,
    cutlass::arch::OpClassTensorOp,
    cutlass::arch::Sm80,
    cutlass::gemm::GemmShape<128, 128, 32>,
    cutlass::gemm::GemmShape<64, 64, 32>,
    cutlass::gemm::GemmShape<16, 8, 16>,
    Epilogue<Out, 16 / sizeof(Out)>,
    cutlass::gemm::threadblock::GemmBatchedIdentityThreadblockSwizzle,
    4,
    cutlass::gemm::kernel::GroupScheduleMode::kDeviceOnly>::GemmKernel;

template <class LayoutA, class LayoutB>
using GroupedF32 = typename cutlass::gemm::kernel::DefaultGemmGrouped<
    float,
    LayoutA,
    cutlass::ComplexTransform::kNone,
    1,
    float,
    LayoutB,
    cutlass::ComplexTransform::kNone,
    1,
    float,
    RowMajor,
    float,
    cutlass::arch::OpClassSimt,
    cutlass::arch::Sm80,
    cutlass::gemm::GemmShape<128, 64, 8>,
    cutlass::gemm::GemmShape<64, 32, 8>,
    cutlass::gemm::GemmShape<1, 1, 1>,
    Epilogue<float, 1>,
    cutlass::gemm::threadblock::GemmBatchedIdentityThreadblockSwizzle,
    4,
    cutlass::gemm::kernel::GroupScheduleMode::kDeviceOnly>::GemmKernel;

// As many blocks as run at once; which block computes a tile changes no bit.
template <class GemmKernel>
int blocks_at_once() {
  int device = 0, processors = 0, each = 0;
  cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  cuda::check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
              "cudaDeviceGetAttribute");
  cuda::check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                  &each, cutlass::Kernel<GemmKernel>, GemmKernel::kThreadCount,
                  sizeof(typename GemmKernel::SharedStorage)),
              "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return processors * (each > 0 ? each : 1);
}

template <class GemmKernel>
void run_cutlass(cuda::Kernel<typename GemmKernel::Params>& kernel,
                 const Problems& problems,
                 void* stream) {
  using A = typename GemmKernel::ElementA;
  using B = typename GemmKernel::ElementB;
  using C = typename GemmKernel::ElementC;
  const ProblemTable& t = problems.table;
  auto** const out = reinterpret_cast<C**>(t.out);
  kernel.raise_shared_limit();  // the occupancy goes by it
  const int blocks = blocks_at_once<GemmKernel>();
  const typename GemmKernel::Arguments arguments(
      reinterpret_cast<cutlass::gemm::GemmCoord*>(t.sizes), problems.count, blocks,
      {1.0f, problems.accumulate ? 1.0f : 0.0f}, const_cast<A**>(reinterpret_cast<const A**>(t.a)),
      const_cast<B**>(reinterpret_cast<const B**>(t.b)), out, out, t.a_stride, t.b_stride,
      t.out_stride, t.out_stride);
  kernel.launch(blocks, GemmKernel::kThreadCount, stream, typename GemmKernel::Params(arguments));
}

}  // namespace moesmith::kernels::gpu

// The body of an instance's file.
#define MOESMITH_GROUPED_INSTANCE(function, ...)                                           \
  void function(const Problems& problems, void* stream) {                                  \
    using GemmKernel = __VA_ARGS__;                                                        \
    static cuda::Kernel<GemmKernel::Params> kernel{#function, cutlass::Kernel<GemmKernel>, \
                                                   sizeof(GemmKernel::SharedStorage)};     \
    run_cutlass<GemmKernel>(kernel, problems, stream);                                     \
  }
