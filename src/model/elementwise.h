// SPDX-License-Identifier: Apache-2.0
// Row primitives over whole buffers, spread over the pool.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/profile.h"
#include "core/thread_pool.h"
#include "kernels/rows/rows.h"
#include "model/parts.h"

namespace moesmith::model {

inline constexpr std::int64_t kElementChunk = 16384;

// y = a + b; y may be a or b.
template <class T>
void add(T* y, const T* a, const T* b, std::int64_t count, ThreadPool& pool) {
  const profile::Scope scope(part::kElementwise);
  pool.for_chunks(count, kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    kernels::rows::ops<T>().add(y + begin, a + begin, b + begin, end - begin);
  });
}

template <class T>
void from_f32(T* y, const float* x, std::int64_t count, ThreadPool& pool) {
  pool.for_chunks(count, kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    kernels::rows::ops<T>().from_f32(y + begin, x + begin, 1.0f, end - begin);
  });
}

template <class T>
void zero(T* y, std::int64_t count, ThreadPool& pool) {
  pool.for_chunks(count, kElementChunk, [&](std::int64_t begin, std::int64_t end) {
    std::memset(static_cast<void*>(y + begin), 0,
                static_cast<std::size_t>(end - begin) * sizeof(T));
  });
}

}  // namespace moesmith::model
