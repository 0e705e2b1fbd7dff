// SPDX-License-Identifier: Apache-2.0
// Rows of a table by token id, and the gradient of the table.
#pragma once

#include <cstdint>
#include <span>

#include "core/thread_pool.h"
#include "moesmith/dtype.h"

namespace moesmith::kernels::embedding {

// out [ids, dim] = table[ids]. Ids are in range: the caller has checked them.
template <class T>
void forward(
    std::span<const std::int32_t> ids, const T* table, std::int64_t dim, T* out, ThreadPool& pool);

// d_table[ids[i]] += d_out[i], in the order of i for each row.
template <class T>
void backward(std::span<const std::int32_t> ids,
              const T* d_out,
              std::int64_t dim,
              float* d_table,
              ThreadPool& pool);

}  // namespace moesmith::kernels::embedding
