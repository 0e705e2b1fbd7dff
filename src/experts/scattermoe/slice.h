// SPDX-License-Identifier: Apache-2.0
// A slice: some words of k of a block's B, packed into panels of the register tile and multiplied
// with all rows of the block. Packing is cut into pieces, to be done between the tiles of the slice
// before; the lines that a piece reads are fetched while those tiles run. Of a B that was packed
// beforehand only the lines are fetched.
#pragma once

#include <cstdint>

#include "experts/scattermoe/block.h"

namespace moesmith::experts::scattermoe {

// Words [begin, begin + count) of one term, and after them the whole of a short one.
struct Slice {
  const kernels::cpu::Tile* tile = nullptr;
  const Term* term = nullptr;  // nullptr: no slice
  std::int64_t begin = 0, count = 0;
  const Term* extra = nullptr;
  bool first = false;  // of its block: overwrites the sums

  explicit operator bool() const { return term != nullptr; }
  std::int64_t columns() const { return term->columns(); }
  std::int64_t extra_words() const { return extra == nullptr ? 0 : extra->words(*tile); }
  // Words per panel of what has to be packed.
  std::int64_t own_words() const { return term->packed ? 0 : count; }
  std::int64_t panel_words() const { return own_words() + extra_words(); }
};

// A block's slices in order.
Slice first_slice(const Block& block);
Slice slice_after(const Block& block, const Slice& slice);

// Bytes of the largest slice of a term of at most `k`.
inline std::int64_t packed_bytes(std::int64_t k) {
  return 4 * std::max(kWideColumns * (std::min(kWideChunk, k) + kShortTerm),
                      kLongColumns * (std::min(kLongChunk, k) + kShortTerm));
}

// Packs one slice piece by piece.
class Packing {
 public:
  Packing() = default;
  Packing(const Slice& slice, char* dst);

  bool done() const { return piece_ >= num_pieces_; }
  std::int64_t num_pieces() const { return num_pieces_; }
  std::int64_t piece() const { return piece_; }
  void pack_until(std::int64_t piece);
  void pack_all() { pack_until(num_pieces_); }

  // Lines of the term's B in the order of the pieces, and the next `count` of them.
  std::int64_t num_lines() const;
  kernels::cpu::Ahead next_lines(std::int64_t count);

 private:
  // Words of a strip of a term.
  struct Source {
    const Term* term;
    const Strip* strip;
    std::int64_t first_word, num_words;
  };
  void pack_piece(std::int64_t piece) const;
  // Those of its columns that lie in [first_column, end_column) of the block, to the words from
  // `to_word` on of the panels.
  void pack(const Source& source,
            std::int64_t to_word,
            std::int64_t first_column,
            std::int64_t end_column) const;
  void start_strip();
  int num_line_strips() const { return slice_.term->packed ? 1 : slice_.term->num_strips; }

  Slice slice_;
  char* dst_ = nullptr;
  std::int64_t piece_ = 0, num_pieces_ = 0;
  // Where next_lines() is.
  int strip_ = 0;
  const char* line_ = nullptr;
  std::int64_t num_runs_ = 0, run_ = 0, line_in_run_ = 0;
  std::int64_t run_lines_ = 0, line_step_ = 0, run_step_ = 0;  // the steps in bytes
};

}  // namespace moesmith::experts::scattermoe
