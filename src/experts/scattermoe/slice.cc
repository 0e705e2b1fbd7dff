// SPDX-License-Identifier: Apache-2.0
#include "experts/scattermoe/slice.h"

namespace moesmith::experts::scattermoe {

using kernels::cpu::Tile;

namespace {

constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kPieceWords = 4;  // of a wide slice: 8 rows of bf16

bool is_short(const Block& block, const Term* term) {
  return term > block.terms && !term->is_weight && term->words(*block.tile) <= kShortTerm;
}

Slice make_slice(const Block& block, const Term* term, std::int64_t chunk) {
  Slice slice{block.tile, term};
  const std::int64_t words = term->words(*block.tile);
  const std::int64_t num_chunks = ceil_div(words, term->chunk_words());
  slice.begin = words * chunk / num_chunks;
  slice.count = words * (chunk + 1) / num_chunks - slice.begin;
  slice.first = term == block.terms && chunk == 0;
  const Term* next = term + 1;
  const bool last = chunk + 1 == num_chunks && next < block.terms + block.num_terms;
  if (last && is_short(block, next)) slice.extra = next;
  return slice;
}

}  // namespace

Slice first_slice(const Block& block) { return make_slice(block, block.terms, 0); }

Slice slice_after(const Block& block, const Slice& slice) {
  const std::int64_t words = slice.term->words(*block.tile);
  const std::int64_t num_chunks = ceil_div(words, slice.term->chunk_words());
  for (std::int64_t c = 0; c + 1 < num_chunks; ++c) {
    if (words * c / num_chunks == slice.begin) return make_slice(block, slice.term, c + 1);
  }
  const Term* next = (slice.extra != nullptr ? slice.extra : slice.term) + 1;
  if (next == block.terms + block.num_terms) return {};
  return make_slice(block, next, 0);
}

// A long slice is cut by columns, a wide one by words; the short term is one more piece.
Packing::Packing(const Slice& slice, char* dst) : slice_(slice), dst_(dst) {
  if (!slice.term->packed) {
    num_pieces_ = along_k(slice.term->strips[0].b) ? ceil_div(slice.columns(), kColumnGrain)
                                                   : ceil_div(slice.count, kPieceWords);
  }
  if (slice.extra != nullptr) ++num_pieces_;
  start_strip();
}

void Packing::pack_until(std::int64_t piece) {
  for (; piece_ < std::min(piece, num_pieces_); ++piece_) pack_piece(piece_);
}

void Packing::pack_piece(std::int64_t piece) const {
  if (slice_.extra != nullptr && piece + 1 == num_pieces_) {
    for (int s = 0; s < slice_.extra->num_strips; ++s) {
      const Source source{slice_.extra, &slice_.extra->strips[s], 0, slice_.extra_words()};
      pack(source, slice_.own_words(), 0, kBlockColumns);
    }
    return;
  }
  for (int s = 0; s < slice_.term->num_strips; ++s) {
    Source source{slice_.term, &slice_.term->strips[s], slice_.begin, slice_.count};
    if (along_k(source.strip->b)) {
      pack(source, 0, piece * kColumnGrain, (piece + 1) * kColumnGrain);
    } else {
      const std::int64_t word = piece * kPieceWords;
      source.first_word += word;
      source.num_words = std::min(kPieceWords, slice_.count - word);
      pack(source, word, 0, kBlockColumns);
    }
  }
}

// Panels have the tile's width, the last one what is left of the columns; a strip may begin or end
// within one.
void Packing::pack(const Source& source,
                   std::int64_t to_word,
                   std::int64_t first_column,
                   std::int64_t end_column) const {
  const Tile& tile = *slice_.tile;
  const Strip& strip = *source.strip;
  const std::int64_t width = tile.width(), size = dtype_size(strip.b.dtype);
  const std::int64_t panel_words = slice_.panel_words();
  const std::int64_t k0 = source.first_word * tile.k_unit();
  const std::int64_t strip_end = std::min(strip.end(), end_column);
  kernels::cpu::PackCall call;
  call.src_is_bf16 = strip.b.dtype == DType::kBF16;
  call.outer_stride = strip.b.col_stride;
  call.k_stride = strip.b.row_stride;
  call.num_k = std::min(source.num_words * tile.k_unit(), source.term->k - k0);
  for (std::int64_t begin = std::max(strip.at, first_column), end; begin < strip_end; begin = end) {
    const std::int64_t panel = begin / width * width, first = begin - strip.at;
    call.dst_width = std::min(width, slice_.columns() - panel);
    call.panel_stride = 0;
    end = std::min(panel + call.dst_width, strip_end);
    if (begin == panel && end == panel + width) {
      end = strip_end / width * width;
      call.panel_stride = width * panel_words * 4;
    }
    call.src = static_cast<const char*>(strip.b.data) +
               (k0 * strip.b.row_stride + first * strip.b.col_stride) * size;
    call.num_outer = std::min(end - begin, strip.num_cols - first);
    call.width = end - begin;
    call.dst = dst_ + (panel * panel_words + to_word * call.dst_width + begin - panel) * 4;
    tile.pack(call);
  }
}

void Packing::start_strip() {
  const Strip& strip = slice_.term->strips[strip_];
  const std::int64_t size = dtype_size(strip.b.dtype), unit = slice_.tile->k_unit();
  const std::int64_t k0 = slice_.begin * unit;
  const std::int64_t num_k = std::min(slice_.count * unit, slice_.term->k - k0);
  line_ = static_cast<const char*>(strip.b.data) + k0 * strip.b.row_stride * size;
  line_step_ = kLineBytes;
  run_ = line_in_run_ = 0;
  if (const PackedB& packed = slice_.term->packed) {
    line_ = packed.words(slice_.begin, slice_.count);
    run_lines_ = ceil_div(slice_.count * slice_.columns() * 4, kLineBytes);
    num_runs_ = 1;
    return;
  }
  if (along_k(strip.b)) {
    run_lines_ = ceil_div(num_k * size, kLineBytes);
    num_runs_ = strip.num_cols;
    run_step_ = strip.b.col_stride * size;
  } else {
    run_lines_ = ceil_div(strip.num_cols * size, kLineBytes);
    num_runs_ = num_k;
    run_step_ = strip.b.row_stride * size;
  }
}

std::int64_t Packing::num_lines() const {
  if (!slice_) return 0;
  return run_lines_ * num_runs_ * num_line_strips();
}

kernels::cpu::Ahead Packing::next_lines(std::int64_t count) {
  if (!slice_ || count <= 0) return {};
  if (run_ >= num_runs_) {
    if (strip_ + 1 >= num_line_strips()) return {};
    ++strip_;
    start_strip();
  }
  kernels::cpu::Ahead ahead;
  ahead.line = line_ + run_ * run_step_ + line_in_run_ * line_step_;
  ahead.count = std::min(count, (num_runs_ - run_) * run_lines_ - line_in_run_);
  ahead.left = run_lines_ - line_in_run_;
  ahead.run = run_lines_;
  ahead.step = line_step_;
  ahead.jump = run_step_ - run_lines_ * line_step_;
  run_ += (line_in_run_ + ahead.count) / run_lines_;
  line_in_run_ = (line_in_run_ + ahead.count) % run_lines_;
  return ahead;
}

}  // namespace moesmith::experts::scattermoe
