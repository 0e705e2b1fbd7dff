// SPDX-License-Identifier: Apache-2.0
// For timing on a GPU: device memory that is given back, and work that is captured once and
// replayed. Every CUDA error becomes an Error that names the call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "moesmith/dtype.h"
#include "moesmith/tensor.h"

namespace moesmith::cli {

// A cudaError_t.
void check_cuda(int status, const std::string& call);

class CudaMemory {
 public:
  CudaMemory() = default;
  ~CudaMemory();
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;

  // Not initialised; 256-byte alignment.
  void* bytes(std::int64_t count);
  // As random_tensor() draws them.
  void* random(std::int64_t count, DType dtype, double scale, std::uint64_t stream);
  void* copy_of(const Tensor& tensor);

  static std::int64_t free_bytes();

 private:
  std::vector<void*> all_;
};

// Work on a stream (a cudaStream_t) as a CUDA graph where it can be captured, else launched each
// time.
class CudaWork {
 public:
  CudaWork(void* stream, std::function<void()> work);
  ~CudaWork();
  CudaWork(const CudaWork&) = delete;
  CudaWork& operator=(const CudaWork&) = delete;

  bool is_graph() const;
  // Runs it once, between two events, and waits.
  double milliseconds() const;

 private:
  struct Handles;
  std::function<void()> work_;
  std::unique_ptr<Handles> handles_;
};

}  // namespace moesmith::cli
