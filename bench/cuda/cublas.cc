// SPDX-License-Identifier: Apache-2.0
#include "cublas.h"

#include <dlfcn.h>

#include <stdexcept>

namespace moesmith::bench {
namespace {

// cuBLAS's C interface, as far as it is used.
using Create = int (*)(void**);
using Destroy = int (*)(void*);
using SetStream = int (*)(void*, void*);
using Gemm = int (*)(void*,
                     int,
                     int,
                     int,
                     int,
                     int,
                     const void*,
                     const void*,
                     int,
                     int,
                     long long,
                     const void*,
                     int,
                     int,
                     long long,
                     const void*,
                     void*,
                     int,
                     int,
                     long long,
                     int,
                     int,
                     int);
constexpr int kNormal = 0, kTransposed = 1, kBf16 = 14, kComputeF32 = 68, kDefault = -1;

template <class Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

void check(int status, const char* call) {
  if (status != 0) throw std::runtime_error(std::string(call) + ": " + std::to_string(status));
}

}  // namespace

Cublas::Cublas() {
  for (const char* name : {"libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13",
                           "libcublas.so.12", "libcublas.so"}) {
    library_ = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (library_ != nullptr) break;
  }
  if (library_ == nullptr) {
    why_absent_ = dlerror();
    return;
  }
  check(symbol<Create>(library_, "cublasCreate_v2")(&handle_), "cublasCreate");
}

Cublas::~Cublas() {
  if (handle_ != nullptr) symbol<Destroy>(library_, "cublasDestroy_v2")(handle_);
}

void Cublas::run(const Product& p, void* stream) const {
  check(symbol<SetStream>(library_, "cublasSetStream_v2")(handle_, stream), "cublasSetStream");
  const float one = 1, zero = 0;
  // Column-major: y^T [n, m] = w^T x^T.
  const int w_ld = static_cast<int>(p.weights_k_major ? p.k : p.n);
  const int x_ld = static_cast<int>(p.x_transposed ? p.m : p.k);
  check(symbol<Gemm>(library_, "cublasGemmStridedBatchedEx")(
            handle_, p.weights_k_major ? kTransposed : kNormal,
            p.x_transposed ? kTransposed : kNormal, static_cast<int>(p.n), static_cast<int>(p.m),
            static_cast<int>(p.k), &one, p.w, kBf16, w_ld, p.n * p.k, p.x, kBf16, x_ld, p.m * p.k,
            &zero, p.y, kBf16, static_cast<int>(p.n), p.m * p.n, static_cast<int>(p.batch),
            kComputeF32, kDefault),
        "cublasGemmStridedBatchedEx");
}

}  // namespace moesmith::bench
