// SPDX-License-Identifier: Apache-2.0
// A block of rows of one expert times up to 128 columns: sums [rows, columns] of several products,
// handed to the caller tile by tile while they are in cache. Rows are read through the routing
// index, so that tokens are gathered by the product itself.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "kernels/common/cpu/tile.h"
#include "kernels/gemm/gemm.h"
#include "moesmith/dtype.h"

namespace moesmith::experts::scattermoe {

inline constexpr std::int64_t kBlockColumns = 128;
inline constexpr std::int64_t kBlockRows = 252;         // 42 full tiles between two packings of B
inline constexpr std::int64_t kChunkWords = 1024;       // of k, as kernels/gemm has them
inline constexpr std::int64_t kStripBytes = 640 << 10;  // packed B of one block, of an L2 of 1 MiB

// Rows of an operand by row number: directly, or the row of the token of a slot.
struct RowSource {
  const void* base = nullptr;
  std::int64_t stride = 0;  // elements
  DType dtype = DType::kF32;
  const std::int64_t* slot_of = nullptr;  // nullptr: row r lies at r * stride
  std::int64_t top_k = 1;

  const char* row(std::int64_t r) const {
    const std::int64_t at = slot_of == nullptr ? r : slot_of[r] / top_k;
    return static_cast<const char*>(base) + at * stride * (dtype == DType::kBF16 ? 2 : 4);
  }
};

// Columns of B [k, num_cols] that go to the columns [at, at + num_cols) of the sums; `at` is a
// multiple of 64.
struct Strip {
  kernels::gemm::Operand b;
  std::int64_t num_cols = 0, at = 0;
};

// sums += A B
struct Term {
  RowSource a;
  std::int64_t k = 0;
  Strip strips[2];
  int num_strips = 0;
};

struct Block {
  static constexpr int kMaxTerms = 3;

  const kernels::cpu::Tile* tile = nullptr;
  Term terms[kMaxTerms];
  int num_terms = 0;

  Term& add(const RowSource& a, std::int64_t k) {
    Term& term = terms[num_terms++];
    term.a = a;
    term.k = k;
    term.num_strips = 0;
    return term;
  }
};

inline void add_strip(Term& term,
                      const kernels::gemm::Operand& b,
                      std::int64_t num_cols,
                      std::int64_t at) {
  term.strips[term.num_strips++] = {b, num_cols, at};
}

// B from column n0 on.
inline kernels::gemm::Operand from_column(kernels::gemm::Operand b, std::int64_t n0) {
  b.data = static_cast<const char*>(b.data) + n0 * b.col_stride * (b.dtype == DType::kBF16 ? 2 : 4);
  return b;
}

struct BlockScratch {
  char* b = nullptr;      // packed strips
  char* a = nullptr;      // rows of a tile, widened or padded
  float* sums = nullptr;  // [kBlockRows, kBlockColumns]

  static BlockScratch carve(Carver& carver);
};

// Rows are cut evenly into tiles of at most kTileRows.
struct RowCut {
  std::int64_t begin, end;

  std::int64_t num_tiles() const { return ceil_div(end - begin, kernels::cpu::kTileRows); }
  std::int64_t tile_begin(std::int64_t t) const { return begin + (end - begin) * t / num_tiles(); }
};

class BlockProduct {
 public:
  BlockProduct(const Block& block, const BlockScratch& scratch);

  // finish(first_row, num_rows, sums [num_rows, kBlockColumns]) for each tile of the rows, at most
  // kBlockRows of them. `again`: the last run() was of the same block and scratch; what it packed
  // is used once more where it fits.
  template <class Finish>
  void run(const RowCut& rows, bool again, const Finish& finish) const {
    if (fits_) {
      if (!again) pack_all();
      for (std::int64_t t = 0; t < rows.num_tiles(); ++t) {
        const std::int64_t first = rows.tile_begin(t), count = rows.tile_begin(t + 1) - first;
        multiply_all(first, count);
        finish(first, count, scratch_.sums);
      }
      return;
    }
    sum_by_chunks(rows);
    for (std::int64_t t = 0; t < rows.num_tiles(); ++t) {
      const std::int64_t first = rows.tile_begin(t), count = rows.tile_begin(t + 1) - first;
      finish(first, count, scratch_.sums + (first - rows.begin) * kBlockColumns);
    }
  }

 private:
  // Words [begin, begin + count) of one term; B at `b`.
  struct Pass {
    const Term* term;
    std::int64_t begin, count;
    char* b;
    bool first;
  };
  template <class Body>
  void for_passes(const Body& body) const;
  std::int64_t pass_bytes(const Term& term, std::int64_t words) const;
  void pack(const Pass& pass) const;
  void multiply(const Pass& pass, std::int64_t row, std::int64_t num_rows, float* sums) const;
  void pack_all() const;
  void multiply_all(std::int64_t row, std::int64_t num_rows) const;
  void sum_by_chunks(const RowCut& rows) const;

  const Block& block_;
  const BlockScratch& scratch_;
  bool fits_ = false;
};

}  // namespace moesmith::experts::scattermoe
