// SPDX-License-Identifier: Apache-2.0
// The dense bound: cuBLAS's strided batched product, loaded at run time so that nothing of ours
// links it.
#pragma once

#include <cstdint>
#include <string>

namespace moesmith::bench {

class Cublas {
 public:
  Cublas();
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  const std::string& why_absent() const { return why_absent_; }

  // y [batch, m, n] = x [batch, m, k] w, w [batch, n, k] (weights_k_major) or [batch, k, n]; bf16,
  // sums in f32. x_transposed: x is [batch, k, m].
  struct Product {
    std::int64_t batch, m, n, k;
    bool weights_k_major = true, x_transposed = false;
    const void* x;
    const void* w;
    void* y;
  };
  void run(const Product& product, void* stream) const;

 private:
  void* library_ = nullptr;
  void* handle_ = nullptr;
  std::string why_absent_;
};

}  // namespace moesmith::bench
