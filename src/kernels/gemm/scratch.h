// SPDX-License-Identifier: Apache-2.0
// Packing buffers, one set per thread, kept between calls: a steady state allocates nothing.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace moesmith::kernels::gemm {

class Buffer {
 public:
  // At least `bytes` bytes, 64-byte aligned; what was there before is lost when it grows.
  void* reserve(std::int64_t bytes) {
    if (bytes > capacity_) {
      data_.reset();
      capacity_ = 0;
      const std::size_t rounded = (static_cast<std::size_t>(bytes) + 4095) / 4096 * 4096;
      data_.reset(std::aligned_alloc(4096, rounded));
      if (data_ == nullptr) throw std::bad_alloc();
      capacity_ = static_cast<std::int64_t>(rounded);
    }
    return data_.get();
  }
  template <class T>
  T* reserve_as(std::int64_t count) {
    return static_cast<T*>(reserve(count * static_cast<std::int64_t>(sizeof(T))));
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> data_;
  std::int64_t capacity_ = 0;
};

// `a` and `bias` belong to the thread that calls run() and are read by all; the others to the
// thread that runs a task.
struct Scratch {
  Buffer a, bias, b, sums;
};

inline Scratch& scratch() {
  thread_local Scratch buffers;
  return buffers;
}

}  // namespace moesmith::kernels::gemm
