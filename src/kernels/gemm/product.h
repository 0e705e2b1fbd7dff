// SPDX-License-Identifier: Apache-2.0
// What the paths of run() share: the checked problem with its tile, and where its rows and columns
// are cut. All cuts along k are functions of the problem alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/checked.h"
#include "kernels/common/cpu/tile.h"
#include "kernels/gemm/gemm.h"

namespace moesmith::kernels::gemm {

// Words of k packed at a time. 64 columns of 1024 words are 256 KiB: two such panels and the rows
// they meet stay in an L2 cache of 1 MiB.
constexpr std::int64_t kChunkWords = 1024;

struct Product {
  Args args;
  const cpu::Tile* tile = nullptr;
  bool transposed_c = false;    // c[j * ldc + i] instead of c[i * ldc + j]
  const float* bias = nullptr;  // [n], widened

  std::int64_t num_words() const { return ceil_div(args.k, tile->k_unit()); }
  std::int64_t num_chunks() const {
    return std::max<std::int64_t>(1, ceil_div(num_words(), kChunkWords));
  }
  // Words before chunk c; the chunks differ by at most one word.
  std::int64_t chunk_begin(std::int64_t c) const { return num_words() * c / num_chunks(); }
  // Rows are cut evenly into tiles of at most kTileRows, so that no tile is left nearly empty.
  std::int64_t num_row_tiles() const { return ceil_div(args.m, cpu::kTileRows); }
  std::int64_t row_begin(std::int64_t t) const { return args.m * t / num_row_tiles(); }
  // Whether tiles of whole vectors may store their sums as they are, without finish().
  bool stores_sums() const {
    return args.c_dtype == DType::kF32 && args.alpha == 1.0f && bias == nullptr && !transposed_c;
  }
};

inline const char* element(const Operand& x, std::int64_t i, std::int64_t j) {
  return static_cast<const char*>(x.data) +
         (i * x.row_stride + j * x.col_stride) * (x.dtype == DType::kBF16 ? 2 : 4);
}

// Writes alpha * sums + bias (+ C) for rows [i, i + num_rows) and columns [j, j + num_cols).
void finish(const Product& p,
            std::int64_t i,
            std::int64_t num_rows,
            std::int64_t j,
            std::int64_t num_cols,
            const float* sums,
            std::int64_t ld);

// Runs the tasks on the pool, or here when the product is too small to wake anybody for.
void run_tasks(const Product& p,
               ThreadPool& pool,
               std::int64_t num_tasks,
               FunctionRef<void(std::int64_t)> task);

void run_packed(const Product& p, ThreadPool& pool);
void run_dot(const Product& p, ThreadPool& pool);

}  // namespace moesmith::kernels::gemm
