// SPDX-License-Identifier: Apache-2.0
#include "experts/scattermoe/block.h"

#include <algorithm>
#include <cstring>

namespace moesmith::experts::scattermoe {

using kernels::cpu::kTileRows;
using kernels::cpu::Tile;

namespace {

std::int64_t padded_columns(const Tile& tile, const Strip& strip) {
  return round_up(strip.num_cols, tile.lanes);
}

// The words [begin, begin + count) of each row, where they lie or copied to `copy`.
void set_rows(const Tile& tile,
              const Term& term,
              std::int64_t begin,
              std::int64_t count,
              std::int64_t row,
              std::int64_t num_rows,
              char* copy,
              kernels::cpu::TileCall* call) {
  const std::int64_t unit = tile.k_unit(), size = term.a.dtype == DType::kBF16 ? 2 : 4;
  const std::int64_t first = begin * unit, length = std::min(count * unit, term.k - first);
  const bool in_place = term.a.dtype == tile.operand && length == count * unit;
  for (std::int64_t i = 0; i < num_rows; ++i) {
    const char* src = term.a.row(row + i) + first * size;
    if (in_place) {
      call->rows[i] = src;
      continue;
    }
    char* dst = copy + i * kChunkWords * 4;
    if (term.a.dtype == tile.operand) {
      std::memcpy(dst, src, static_cast<std::size_t>(length * size));
      std::memset(dst + length * size, 0, static_cast<std::size_t>(count * 4 - length * size));
    } else {
      tile.widen(src, reinterpret_cast<float*>(dst), length);
    }
    call->rows[i] = dst;
  }
}

}  // namespace

BlockScratch BlockScratch::carve(Carver& carver) {
  BlockScratch scratch;
  scratch.b = carver.take<char>(kStripBytes);
  scratch.a = carver.take<char>(kTileRows * kChunkWords * 4);
  scratch.sums = carver.take<float>(kBlockRows * kBlockColumns);
  return scratch;
}

BlockProduct::BlockProduct(const Block& block, const BlockScratch& scratch)
    : block_(block), scratch_(scratch) {
  std::int64_t bytes = 0;
  for (int t = 0; t < block.num_terms; ++t) {
    bytes += pass_bytes(block.terms[t], ceil_div(block.terms[t].k, block.tile->k_unit()));
  }
  fits_ = bytes <= kStripBytes;
}

std::int64_t BlockProduct::pass_bytes(const Term& term, std::int64_t words) const {
  std::int64_t columns = 0;
  for (int s = 0; s < term.num_strips; ++s) {
    columns += padded_columns(*block_.tile, term.strips[s]);
  }
  return columns * words * 4;
}

template <class Body>
void BlockProduct::for_passes(const Body& body) const {
  char* b = scratch_.b;
  bool first = true;
  for (int t = 0; t < block_.num_terms; ++t) {
    const Term& term = block_.terms[t];
    const std::int64_t words = ceil_div(term.k, block_.tile->k_unit());
    const std::int64_t num_chunks = ceil_div(words, kChunkWords);
    for (std::int64_t c = 0; c < num_chunks; ++c) {
      const std::int64_t begin = words * c / num_chunks;
      const Pass pass{&term, begin, words * (c + 1) / num_chunks - begin, b, first};
      body(pass);
      if (fits_) b += pass_bytes(term, pass.count);
      first = false;
    }
  }
}

void BlockProduct::pack(const Pass& pass) const {
  const Tile& tile = *block_.tile;
  const std::int64_t k0 = pass.begin * tile.k_unit();
  const std::int64_t num_k = std::min(pass.count * tile.k_unit(), pass.term->k - k0);
  char* dst = pass.b;
  for (int s = 0; s < pass.term->num_strips; ++s) {
    const Strip& strip = pass.term->strips[s];
    const std::int64_t padded = padded_columns(tile, strip);
    const std::int64_t size = strip.b.dtype == DType::kBF16 ? 2 : 4;
    for (std::int64_t j = 0; j < padded; j += tile.width()) {
      const std::int64_t width = std::min<std::int64_t>(tile.width(), padded - j);
      kernels::cpu::PackCall call;
      call.src = static_cast<const char*>(strip.b.data) +
                 (k0 * strip.b.row_stride + j * strip.b.col_stride) * size;
      call.src_is_bf16 = strip.b.dtype == DType::kBF16;
      call.outer_stride = strip.b.col_stride;
      call.k_stride = strip.b.row_stride;
      call.num_outer = std::min(width, strip.num_cols - j);
      call.num_k = num_k;
      call.width = width;
      call.dst = dst;
      tile.pack(call);
      dst += width * pass.count * 4;
    }
  }
}

void BlockProduct::multiply(const Pass& pass,
                            std::int64_t row,
                            std::int64_t num_rows,
                            float* sums) const {
  const Tile& tile = *block_.tile;
  kernels::cpu::TileCall call;
  call.k_step = 4;
  call.num_steps = pass.count;
  call.ld = kBlockColumns;
  call.add = !pass.first;
  set_rows(tile, *pass.term, pass.begin, pass.count, row, num_rows, scratch_.a, &call);
  const char* b = pass.b;
  for (int s = 0; s < pass.term->num_strips; ++s) {
    const Strip& strip = pass.term->strips[s];
    const std::int64_t padded = padded_columns(tile, strip);
    for (std::int64_t j = 0; j < padded; j += tile.width()) {
      const std::int64_t width = std::min<std::int64_t>(tile.width(), padded - j);
      call.b = b;
      call.out = sums + strip.at + j;
      tile.multiply(static_cast<int>(num_rows), static_cast<int>(width / tile.lanes), call);
      b += width * pass.count * 4;
    }
  }
}

void BlockProduct::pack_all() const {
  for_passes([&](const Pass& pass) { pack(pass); });
}

void BlockProduct::multiply_all(std::int64_t row, std::int64_t num_rows) const {
  for_passes([&](const Pass& pass) { multiply(pass, row, num_rows, scratch_.sums); });
}

void BlockProduct::sum_by_chunks(const RowCut& rows) const {
  for_passes([&](const Pass& pass) {
    pack(pass);
    for (std::int64_t t = 0; t < rows.num_tiles(); ++t) {
      const std::int64_t first = rows.tile_begin(t);
      multiply(pass, first, rows.tile_begin(t + 1) - first,
               scratch_.sums + (first - rows.begin) * kBlockColumns);
    }
  });
}

}  // namespace moesmith::experts::scattermoe
