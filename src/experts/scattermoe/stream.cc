// SPDX-License-Identifier: Apache-2.0
#include "experts/scattermoe/stream.h"

#include <algorithm>
#include <cstring>

namespace moesmith::experts::scattermoe {

using kernels::cpu::Ahead;
using kernels::cpu::Tile;
using kernels::cpu::TileCall;

namespace {

constexpr std::int64_t kLineBytes = 64;

// The words [begin, begin + count) of a row, where they lie or copied to `copy`.
const char* row_words(const Tile& tile,
                      const Term& term,
                      std::int64_t begin,
                      std::int64_t count,
                      std::int64_t row,
                      char* copy) {
  const std::int64_t unit = tile.k_unit(), size = dtype_size(term.a.dtype);
  const std::int64_t first = begin * unit, length = std::min(count * unit, term.k - first);
  const char* src = term.a.row(row) + first * size;
  if (term.a.dtype != tile.operand) {
    tile.widen(src, reinterpret_cast<float*>(copy), length);
    return copy;
  }
  if (length == count * unit) return src;
  std::memcpy(copy, src, static_cast<std::size_t>(length * size));
  std::memset(copy + length * size, 0, static_cast<std::size_t>(count * 4 - length * size));
  return copy;
}

// The first lines of each row, until the hardware sees the stream.
void fetch_rows(const char* const* rows, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    for (int line = 0; line < 8; ++line) __builtin_prefetch(rows[i] + line * 64);
  }
}

}  // namespace

BlockScratch BlockScratch::carve(Carver& carver, std::int64_t num_rows, std::int64_t k) {
  const std::int64_t words = std::min(kLongChunk, k) + kShortTerm;
  BlockScratch scratch;
  for (char*& packed : scratch.packed) packed = carver.take<char>(packed_bytes(k));
  scratch.row_bytes = round_up(words * 4, 128) + 64;
  scratch.rows = carver.take<char>(std::min(kBlockRows, num_rows) * scratch.row_bytes);
  scratch.sums = carver.take<float>(std::min(kBlockRows, num_rows) * kBlockColumns);
  return scratch;
}

void BlockStream::sum(const Block& block,
                      const Block* next,
                      const RowCut& rows,
                      const FinishRows& finish) {
  for (Slice slice = first_slice(block), after; slice; slice = after) {
    if (!ready_) Packing(slice, scratch_.packed[current_]).pack_all();
    after = slice_after(block, slice);
    following_ = !after && next != nullptr ? first_slice(*next) : after;
    next_ = following_ ? Packing(following_, scratch_.packed[current_ ^ 1]) : Packing();
    run_slice(slice, rows, after ? nullptr : &finish);
    next_.pack_all();
    ready_ = static_cast<bool>(following_);
    current_ ^= 1;
  }
}

void BlockStream::fetch_words(const Slice& slice, const RowCut& rows) {
  for (std::int64_t i = 0; i < rows.end - rows.begin; ++i) {
    char* copy = scratch_.rows + i * scratch_.row_bytes;
    words_[i] = row_words(*slice.tile, *slice.term, slice.begin, slice.count, rows.begin + i, copy);
    if (slice.extra == nullptr) continue;
    extra_[i] = row_words(*slice.tile, *slice.extra, 0, slice.extra_words(), rows.begin + i,
                          copy + slice.count * 4);
  }
}

// A block of one slice goes tile by tile, the sums of a tile being finished in L1. Else a panel of
// B meets all rows before the next one does, and the last panel finishes the rows.
void BlockStream::run_slice(const Slice& slice, const RowCut& rows, const FinishRows* finish) {
  fetch_words(slice, rows);
  const std::int64_t width = slice.tile->width(), columns = slice.columns();
  const std::int64_t num_tiles = rows.num_tiles(), num_panels = ceil_div(columns, width);
  calls_ = 0;
  panel_ = nullptr;
  spread_ = std::max<std::int64_t>(num_panels * num_tiles - 2, 1);
  lines_ = ceil_div(next_.num_lines(), spread_);
  const auto first_of = [&](std::int64_t t) { return rows.tile_begin(t) - rows.begin; };
  const auto fetch_tile = [&](std::int64_t t) {
    if (t < num_tiles) fetch_rows(words_ + first_of(t), first_of(t + 1) - first_of(t));
  };
  if (slice.first && finish != nullptr) {
    for (std::int64_t t = 0; t < num_tiles; ++t) {
      const std::int64_t first = first_of(t), count = first_of(t + 1) - first;
      fetch_tile(t + 1);
      for (std::int64_t j = 0; j < columns; j += width) {
        multiply(slice, j, first, count, scratch_.sums);
      }
      finish->call(finish->function, rows.begin + first, count, scratch_.sums);
    }
    return;
  }
  for (std::int64_t j = 0; j < columns; j += width) {
    // Lines that are not packed again wait in L2 until they are multiplied: one panel, not more.
    if (slice.term->packed && j + width < columns) {
      fetch_panel(slice, j + width, num_tiles);
    } else if (following_ && following_.term->packed) {
      fetch_panel(following_, 0, num_tiles);
    } else {
      panel_ = nullptr;
    }
    for (std::int64_t t = 0; t < num_tiles; ++t) {
      const std::int64_t first = first_of(t), count = first_of(t + 1) - first;
      float* sums = scratch_.sums + first * columns;
      if (j == 0) fetch_tile(t + 1);
      multiply(slice, j, first, count, sums);
      if (finish != nullptr && j + width >= columns) {
        finish->call(finish->function, rows.begin + first, count, sums);
      }
    }
  }
}

void BlockStream::fetch_panel(const Slice& slice, std::int64_t column, std::int64_t num_tiles) {
  const std::int64_t width = std::min<std::int64_t>(slice.tile->width(), slice.columns() - column);
  panel_ = slice.term->packed.words(slice.begin, slice.count) + column * slice.count * 4;
  panel_lines_ = ceil_div(width * slice.count * 4, kLineBytes);
  lines_ = ceil_div(panel_lines_, std::max<std::int64_t>(num_tiles - 1, 1));
}

// After it a part of the next slice is packed, each piece a tile or more after its lines were asked
// for.
void BlockStream::multiply(
    const Slice& slice, std::int64_t column, std::int64_t row, std::int64_t num_rows, float* sums) {
  const Tile& tile = *slice.tile;
  const std::int64_t width = std::min<std::int64_t>(tile.width(), slice.columns() - column);
  TileCall call;
  std::copy_n(words_ + row, num_rows, call.rows);
  call.k_step = 4;
  call.num_steps = slice.count;
  const char* packed = scratch_.packed[current_] + column * slice.panel_words() * 4;
  if (slice.term->packed) {
    call.b = slice.term->packed.words(slice.begin, slice.count) + column * slice.count * 4;
    call.more_b = packed;
  } else {
    call.b = packed;
  }
  call.out = sums + column;
  call.ld = slice.columns();
  call.add = !slice.first;
  if (panel_ != nullptr) {
    call.ahead.line = panel_;
    call.ahead.count = std::min({lines_, panel_lines_, slice.count});
    call.ahead.left = call.ahead.count + 1;
    call.ahead.step = kLineBytes;
    panel_ += call.ahead.count * kLineBytes;
    panel_lines_ -= call.ahead.count;
  } else {
    call.ahead = next_.next_lines(std::min(lines_, slice.count));
  }
  call.ahead.every = slice.count / std::max<std::int64_t>(call.ahead.count, 1);
  if (slice.extra != nullptr) {
    std::copy_n(extra_ + row, num_rows, call.more_rows);
    call.more_steps = slice.extra_words();
  }
  tile.multiply(static_cast<int>(num_rows), static_cast<int>(width / tile.lanes), call);
  next_.pack_until(next_.num_pieces() * calls_ / spread_);
  ++calls_;
}

}  // namespace moesmith::experts::scattermoe
