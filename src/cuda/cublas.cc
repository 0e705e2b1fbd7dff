// SPDX-License-Identifier: Apache-2.0
#include "cuda/cublas.h"

#include <dlfcn.h>

#include <type_traits>

#include "core/text.h"
#include "moesmith/error.h"

namespace moesmith::cuda {
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
constexpr int kNormal = 0, kTransposed = 1, kF32 = 0, kBf16 = 14, kSumF32 = 68, kDefault = -1;

struct Library {
  std::string why_absent;
  Create create = nullptr;
  Destroy destroy = nullptr;
  SetStream set_stream = nullptr;
  Gemm gemm = nullptr;
};

Library load() {
  Library library;
  void* found = nullptr;
  for (const char* name : {"libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13",
                           "libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so.12"}) {
    found = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (found != nullptr) break;
  }
  if (found == nullptr) {
    library.why_absent = "neither libcublas.so.13 nor libcublas.so.12 can be loaded";
    return library;
  }
  const auto look_up = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(found, name));
    if (function == nullptr) library.why_absent = str("libcublas lacks ", name);
  };
  look_up(library.create, "cublasCreate_v2");
  look_up(library.destroy, "cublasDestroy_v2");
  look_up(library.set_stream, "cublasSetStream_v2");
  look_up(library.gemm, "cublasGemmStridedBatchedEx");
  return library;
}

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

void check(int status, const std::string& call) {
  if (status == 0) return;
  throw Error(ErrorCode::kInternal, str("cuda: ", call, ": cuBLAS's status ", status));
}

int narrow(std::int64_t size) {
  if (size < 0 || size > 0x7fffffff) {
    throw Error(ErrorCode::kUnsupported,
                str("cuda: cuBLAS's product: got a size of ", size, ", expected at most 2^31 - 1"));
  }
  return static_cast<int>(size);
}

}  // namespace

const std::string& why_no_cublas() { return library().why_absent; }

Cublas::Cublas() {
  if (const std::string& why = why_no_cublas(); !why.empty()) {
    throw Error(ErrorCode::kUnsupported, str("cuda: cuBLAS: ", why));
  }
  check(library().create(&handle_), "cublasCreate");
}

Cublas::~Cublas() {
  if (handle_ != nullptr) library().destroy(handle_);
}

void Cublas::run(const DenseProduct& p, void* stream) const {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return;
  check(library().set_stream(handle_, stream), "cublasSetStream");
  const float one = 1, before = p.accumulate ? 1 : 0;
  const int in = p.is_f32 ? kF32 : kBf16, out = p.c_is_f32 ? kF32 : kBf16;
  // Columns one after another: c^T [n, m] = b^T a^T.
  check(library().gemm(handle_, p.b_transposed ? kTransposed : kNormal,
                       p.a_transposed ? kTransposed : kNormal, narrow(p.n), narrow(p.m),
                       narrow(p.k), &one, p.b, in, narrow(p.b_stride), p.b_batch, p.a, in,
                       narrow(p.a_stride), p.a_batch, &before, p.c, out, narrow(p.c_stride),
                       p.c_batch, narrow(p.batch), kSumF32, kDefault),
        str("cublasGemmStridedBatchedEx, ", p.batch, " of [", p.m, ", ", p.n, ", ", p.k, "]"));
}

}  // namespace moesmith::cuda
