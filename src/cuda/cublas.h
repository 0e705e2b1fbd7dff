// SPDX-License-Identifier: Apache-2.0
// cuBLAS's matrix product, looked up at run time so that nothing of ours links the library.
#pragma once

#include <cstdint>
#include <string>

namespace moesmith::cuda {

// "", or why the library cannot be used.
const std::string& why_no_cublas();

// c [batch, m, n] = or += a [batch, m, k] b [batch, k, n], rows one after another, sums in f32. A
// transposed operand lies as [k, m], or [n, k]. a and b are both bf16 or both f32; c is theirs, or
// f32. Strides are in elements.
struct DenseProduct {
  std::int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
  std::int64_t a_stride = 0, b_stride = 0, c_stride = 0;  // of a row as it lies
  bool a_transposed = false, b_transposed = false;
  bool is_f32 = false, c_is_f32 = false, accumulate = false;
  std::int64_t batch = 1, a_batch = 0, b_batch = 0, c_batch = 0;
};

// A handle for one device and one thread at a time.
class Cublas {
 public:
  // For the current device. Throws Error(kUnsupported) where the library is missing.
  Cublas();
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  // Queues the product on `stream` (a cudaStream_t). Sizes and strides fit 31 bits, those of a
  // batch need not.
  void run(const DenseProduct& product, void* stream) const;

 private:
  void* handle_ = nullptr;
};

}  // namespace moesmith::cuda
