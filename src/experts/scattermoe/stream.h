// SPDX-License-Identifier: Apache-2.0
// Runs blocks one after the other, slice by slice: while the tiles of one slice are multiplied, the
// B of the next is fetched and packed into the other of two buffers. Sums are handed over tile by
// tile. One per task; not to be shared.
#pragma once

#include <cstdint>

#include "experts/carver.h"
#include "experts/scattermoe/slice.h"

namespace moesmith::experts::scattermoe {

struct BlockScratch {
  char* packed[2] = {};        // [packed_bytes()]
  char* rows = nullptr;        // [kBlockRows, row_bytes]: rows that had to be widened or padded
  std::int64_t row_bytes = 0;  // an odd number of lines: rows do not compete for the same sets
  float* sums = nullptr;       // [kBlockRows, kBlockColumns]

  // For blocks of at most `num_rows` rows and terms of at most `k`.
  static BlockScratch carve(Carver& carver, std::int64_t num_rows, std::int64_t k);
};

class BlockStream {
 public:
  explicit BlockStream(const BlockScratch& scratch) : scratch_(scratch) {}

  // finish(row, sums [columns of the block]) for each of `rows`, at most kBlockRows of them, each
  // tile as soon as it is complete: what it writes drains while the next tile is multiplied.
  // `next`: the block of the next run() of this stream, or nullptr; both stay where they are until
  // then.
  template <class Finish>
  void run(const Block& block, const Block* next, const RowCut& rows, const Finish& finish) {
    const std::int64_t columns = block.terms[0].columns();
    const auto finish_rows = [&](std::int64_t first, std::int64_t count, float* sums) {
      for (std::int64_t i = 0; i < count; ++i) finish(first + i, sums + i * columns);
    };
    sum(block, next, rows,
        {&finish_rows, [](const void* f, std::int64_t first, std::int64_t count, float* sums) {
           (*static_cast<decltype(&finish_rows)>(f))(first, count, sums);
         }});
  }

 private:
  // A reference to the finish_rows of run().
  struct FinishRows {
    const void* function;
    void (*call)(const void* function, std::int64_t first, std::int64_t count, float* sums);
  };
  void sum(const Block& block, const Block* next, const RowCut& rows, const FinishRows& finish);
  void run_slice(const Slice& slice, const RowCut& rows, const FinishRows* finish);
  void fetch_words(const Slice& slice, const RowCut& rows);
  // Panel `column` of the rows [row, row + num_rows), counted from the first of the block.
  void multiply(const Slice& slice,
                std::int64_t column,
                std::int64_t row,
                std::int64_t num_rows,
                float* sums);
  // From now on the tiles fetch the lines of a packed panel.
  void fetch_panel(const Slice& slice, std::int64_t column, std::int64_t num_tiles);

  BlockScratch scratch_;
  int current_ = 0;     // of scratch_.packed: what the present slice reads
  bool ready_ = false;  // it has been packed
  Packing next_;
  Slice following_;              // what next_ packs
  const char* panel_ = nullptr;  // lines of a packed panel to fetch
  std::int64_t panel_lines_ = 0;
  std::int64_t calls_ = 0, spread_ = 1, lines_ = 0;  // how next_ is spread over the tiles
  const char* words_[kBlockRows];                    // rows of A of the present slice
  const char* extra_[kBlockRows];
};

// body(i, block, next) for i in [first, end), blocks made by block_of(i) one ahead of their turn.
template <class BlockOf, class Body>
void for_blocks(std::int64_t first, std::int64_t end, const BlockOf& block_of, const Body& body) {
  Block blocks[2];
  if (first < end) blocks[first % 2] = block_of(first);
  for (std::int64_t i = first; i < end; ++i) {
    Block* next = i + 1 < end ? &blocks[(i + 1) % 2] : nullptr;
    if (next != nullptr) *next = block_of(i + 1);
    body(i, blocks[i % 2], next);
  }
}

}  // namespace moesmith::experts::scattermoe
