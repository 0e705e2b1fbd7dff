// SPDX-License-Identifier: Apache-2.0
// What a product of scattermoe is made of: a block of columns of one expert, the sum of one or more
// products A B. Rows of A are read through the routing index, so that tokens are gathered by the
// product itself; B is a strip of a weight or a LoRA factor, where it lies. stream.h runs blocks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/checked.h"
#include "kernels/common/cpu/tile.h"
#include "kernels/gemm/gemm.h"
#include "moesmith/dtype.h"

namespace moesmith::experts::scattermoe {

inline constexpr std::int64_t kBlockRows = 384;   // 64 full tiles between two packings of B
inline constexpr std::int64_t kColumnGrain = 16;  // strips begin at multiples of it

// Words of k that are packed and multiplied at once, and the columns of a block. B whose columns
// are contiguous along k (x W^T) is read down its columns: long runs of k, few columns. Else (dy W)
// it is read along its rows, more columns wide, since a page of memory holds but a row or two. Two
// packed slices fit an L2 of 1 MiB. Results depend on the words, not on the columns.
inline constexpr std::int64_t kLongChunk = 512, kLongColumns = 128;
inline constexpr std::int64_t kWideChunk = 192, kWideColumns = 256;
// A later term of LoRA's of at most so many words is multiplied together with the chunk before it.
inline constexpr std::int64_t kShortTerm = 64;

inline bool along_k(const kernels::gemm::Operand& b) { return b.row_stride == 1; }

// Columns of a block; of no influence on results.
inline constexpr std::int64_t kBlockColumns = std::max(kLongColumns, kWideColumns);
inline std::int64_t columns_for(bool along_k) { return along_k ? kLongColumns : kWideColumns; }

// Rows of an operand by row number: directly, or the row of the token of a slot.
struct RowSource {
  const void* base = nullptr;
  std::int64_t stride = 0;  // elements
  DType dtype = DType::kF32;
  const std::int64_t* slot_of = nullptr;  // nullptr: row r lies at r * stride
  std::int64_t top_k = 1;

  const char* row(std::int64_t r) const {
    const std::int64_t at = slot_of == nullptr ? r : slot_of[r] / top_k;
    return static_cast<const char*>(base) + at * stride * dtype_size(dtype);
  }
};

// Columns of B [k, num_cols] that go to the columns [at, at + num_cols) of the sums; zeros up to
// the next multiple of kColumnGrain. Strips lie side by side from column 0 on.
struct Strip {
  kernels::gemm::Operand b;
  std::int64_t num_cols = 0, at = 0;

  std::int64_t end() const { return at + round_up(num_cols, kColumnGrain); }
};

// Where a term's B lies packed already (weight_terms.h): words [w, w + n) of its columns are the
// n * 4 * columns bytes at base + 4 (w all_columns + first_column n), panel after panel.
struct PackedB {
  const char* base = nullptr;  // nullptr: it does not
  std::int64_t all_columns = 0, first_column = 0;

  explicit operator bool() const { return base != nullptr; }
  const char* words(std::int64_t begin, std::int64_t count) const {
    return base + 4 * (begin * all_columns + first_column * count);
  }
};

// sums += A B
struct Term {
  RowSource a;
  std::int64_t k = 0;
  Strip strips[2];  // also of a packed B: they say how it is cut
  int num_strips = 0;
  bool is_weight = false;  // else LoRA's
  PackedB packed;

  std::int64_t columns() const { return strips[num_strips - 1].end(); }
  std::int64_t words(const kernels::cpu::Tile& tile) const { return ceil_div(k, tile.k_unit()); }
  std::int64_t chunk_words() const { return along_k(strips[0].b) ? kLongChunk : kWideChunk; }
};

struct Block {
  static constexpr int kMaxTerms = 3;

  const kernels::cpu::Tile* tile = nullptr;
  Term terms[kMaxTerms];
  int num_terms = 0;

  Term& add(const RowSource& a, std::int64_t k) {
    Term& term = terms[num_terms++];
    term = {};
    term.a = a;
    term.k = k;
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
  b.data = static_cast<const char*>(b.data) + n0 * b.col_stride * dtype_size(b.dtype);
  return b;
}

// Rows are cut evenly into tiles of at most kTileRows.
struct RowCut {
  std::int64_t begin, end;

  std::int64_t num_rows() const { return end - begin; }
  std::int64_t num_tiles() const { return ceil_div(end - begin, kernels::cpu::kTileRows); }
  std::int64_t tile_begin(std::int64_t t) const { return begin + (end - begin) * t / num_tiles(); }
};

}  // namespace moesmith::experts::scattermoe
