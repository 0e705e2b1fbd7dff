// SPDX-License-Identifier: Apache-2.0
// B laid out once for the register tile, for a weight that many products use.
#pragma once

#include <cstdint>
#include <memory>

#include "core/thread_pool.h"
#include "kernels/common/cpu/tile.h"
#include "kernels/gemm/gemm.h"

namespace moesmith::kernels::gemm {

class PackedB {
 public:
  // b is [k, n] and not referred to afterwards. a_dtype is what it will be multiplied with; bf16
  // stays bf16 where the active instruction set multiplies bf16, else it is widened.
  PackedB(const Operand& b, std::int64_t k, std::int64_t n, DType a_dtype, ThreadPool& pool);
  // The same in memory of the caller's: storage_bytes(), 64-byte aligned, outliving the object.
  PackedB(const Operand& b,
          std::int64_t k,
          std::int64_t n,
          DType a_dtype,
          ThreadPool& pool,
          void* storage);
  static std::int64_t storage_bytes(std::int64_t k, std::int64_t n, DType a_dtype, DType b_dtype);

  std::int64_t k() const { return k_; }
  std::int64_t n() const { return n_; }
  std::int64_t bytes() const { return bytes_; }
  // The tile that the panels were made for. Throws Error(kInternal) when a product with
  // `a_dtype` would need another one.
  const cpu::Tile& tile_with(DType a_dtype) const;
  // Whether a product may take [k, n] from (row, col) on as its B: the whole; or, up to 1024 words
  // of k, rows that begin and end at words and columns that begin and end at panels. With row > 0
  // every panel must be whole.
  bool has_part(std::int64_t row, std::int64_t col, std::int64_t k, std::int64_t n) const;

  // Panel [words, vecs * lanes] of the columns from n0 on, for the words [begin, end) of k. The
  // panels of a chunk are `panel_words` words of k apart.
  struct Panel {
    const void* data;
    std::int64_t panel_words;
  };
  Panel panel(std::int64_t word_begin, std::int64_t word_end, std::int64_t n0) const;

 private:
  std::int64_t k_, n_, padded_n_;
  std::int64_t bytes_ = 0;
  const cpu::Tile* tile_;
  char* panels_ = nullptr;
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> owned_;  // empty where the caller has the memory
};

}  // namespace moesmith::kernels::gemm
