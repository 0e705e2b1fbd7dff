// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding/embedding.h"

#include <cstring>

#include "kernels/rows/rows.h"

namespace moesmith::kernels::embedding {

template <class T>
void forward(
    std::span<const std::int32_t> ids, const T* table, std::int64_t dim, T* out, ThreadPool& pool) {
  const auto bytes = static_cast<std::size_t>(dim) * sizeof(T);
  pool.for_chunks(
      static_cast<std::int64_t>(ids.size()), 64, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          std::memcpy(out + i * dim, table + ids[static_cast<std::size_t>(i)] * dim, bytes);
        }
      });
}

// Tasks own columns, so that two tokens with one id never meet.
template <class T>
void backward(std::span<const std::int32_t> ids,
              const T* d_out,
              std::int64_t dim,
              float* d_table,
              ThreadPool& pool) {
  pool.for_chunks(dim, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      rows::ops<T>().axpy(d_table + ids[i] * dim + begin,
                          d_out + static_cast<std::int64_t>(i) * dim + begin, 1.0f, end - begin);
    }
  });
}

template void forward<float>(
    std::span<const std::int32_t>, const float*, std::int64_t, float*, ThreadPool&);
template void forward<bf16>(
    std::span<const std::int32_t>, const bf16*, std::int64_t, bf16*, ThreadPool&);
template void backward<float>(
    std::span<const std::int32_t>, const float*, std::int64_t, float*, ThreadPool&);
template void backward<bf16>(
    std::span<const std::int32_t>, const bf16*, std::int64_t, float*, ThreadPool&);

}  // namespace moesmith::kernels::embedding
