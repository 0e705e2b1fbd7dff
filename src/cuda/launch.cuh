// SPDX-License-Identifier: Apache-2.0
// Launching kernels: one place that raises the shared-memory limit, checks the grid and turns an
// error into one that names the kernel and its shape.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::cuda {

inline void check(cudaError_t status, const std::string& call) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // the next call must not see this one's error
  throw Error(
      status == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
      str("cuda: ", call, ": ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ")"));
}

// A kernel with a name for messages. `raised` remembers the devices on which its shared-memory
// limit has been raised, a bit each: an instance is static where the kernel is launched.
template <class... Params>
struct Kernel {
  const char* name;
  void (*function)(Params...);
  int shared_bytes = 0;
  std::atomic<std::uint64_t> raised = 0;

  // A grid without blocks launches nothing.
  template <class... Args>
  void launch(std::int64_t blocks, int threads, void* stream, const Args&... args) {
    if (blocks == 0) return;
    if (blocks > 0x7fffffff) {
      throw Error(ErrorCode::kUnsupported, str("cuda: ", name, ": got a grid of ", blocks,
                                               " blocks, expected at most 2147483647"));
    }
    raise_shared_limit();
    function<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads),
               static_cast<std::size_t>(shared_bytes), static_cast<cudaStream_t>(stream)>>>(
        args...);
    if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) {
      check(status, str("launch of ", name, ", ", blocks, " blocks of ", threads, " threads, ",
                        shared_bytes, " bytes of shared memory"));
    }
  }

  // For the current device; launch() does so by itself.
  void raise_shared_limit() {
    if (shared_bytes <= 48 * 1024) return;
    int device = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    const std::uint64_t bit = std::uint64_t{1} << (device % 64);
    if (device < 64 && (raised.load(std::memory_order_relaxed) & bit) != 0) return;
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(function),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
          str("cudaFuncSetAttribute(", name, ", ", shared_bytes, " bytes of shared memory)"));
    raised.fetch_or(bit, std::memory_order_relaxed);
  }
};

}  // namespace moesmith::cuda
