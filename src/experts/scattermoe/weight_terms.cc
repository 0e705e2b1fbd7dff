// SPDX-License-Identifier: Apache-2.0
#include "experts/scattermoe/weight_terms.h"

#include "experts/needs.h"
#include "experts/scattermoe/slice.h"
#include "experts/weights.h"

namespace moesmith::experts::scattermoe {
namespace {

using kernels::cpu::Tile;

std::int64_t words_of(const Tile& tile, std::int64_t k) { return ceil_div(k, tile.k_unit()); }

// Columns of the block of activations `i_block`.
HRange h_block_range(const ExpertsRequest& request, std::int64_t i_block) {
  const std::int64_t i0 = i_block * inter_block(request);
  return h_range(request, i0, std::min(inter_block(request), request.inter - i0));
}

// Words along k of dh W1: gate and up of their own are two terms.
std::int64_t d_hidden_words(const ExpertsRequest& request, const Tile& tile) {
  const bool two = request.activation.gated && request.gate_up_layout == GateUpLayout::kSeparate;
  return two ? 2 * words_of(tile, request.inter) : words_of(tile, request.gate_up_width());
}

// Packs the slices of `from` to where `to`, the same block over the packed copies, reads them.
void pack_block(const Block& from, const Block& to) {
  for (Slice slice = first_slice(from); slice; slice = slice_after(from, slice)) {
    const PackedB& place = to.terms[slice.term - from.terms].packed;
    Packing(slice, const_cast<char*>(place.words(slice.begin, slice.count))).pack_all();
  }
}

}  // namespace

HRange h_range(const ExpertsRequest& request, std::int64_t i0, std::int64_t n) {
  if (!request.activation.gated) return {{{i0, n, 0}, {}}, 1};
  if (request.gate_up_layout == GateUpLayout::kInterleaved) return {{{2 * i0, 2 * n, 0}, {}}, 1};
  return {{{i0, n, 0}, {request.inter + i0, n, round_up(n, kColumnGrain)}}, 2};
}

PackedLayout::PackedLayout(const ExpertsRequest& request, const Tile& tile) {
  const auto place = [&](Product& product, std::int64_t words, std::int64_t columns) {
    product.offset = bytes;
    product.columns = columns;
    product.expert_bytes = checked_mul(checked_mul(words, columns), 4);
    bytes = checked_add(bytes, checked_mul(product.expert_bytes, request.num_experts));
  };
  const std::int64_t hidden = round_up(request.hidden, kColumnGrain);
  const std::int64_t last = ceil_div(request.inter, inter_block(request)) - 1;
  place(h, words_of(tile, request.hidden),
        last * columns_for(!request.transposed) + h_block_range(request, last).end());
  place(down, words_of(tile, request.inter), hidden);
  if (Needs(request).d_a) {
    place(d_a, words_of(tile, request.hidden), round_up(request.inter, kColumnGrain));
  }
  if (request.wanted.hidden.wanted()) place(d_hidden, d_hidden_words(request, tile), hidden);
}

PackedB WeightTerms::packed_at(const PackedLayout::Product& product,
                               std::int64_t expert,
                               std::int64_t words_before,
                               std::int64_t first_column) const {
  if (packed_ == nullptr) return {};
  const std::int64_t at = product.offset + expert * product.expert_bytes;
  return {reinterpret_cast<const char*>(packed_) + at + 4 * words_before * product.columns,
          product.columns, first_column};
}

void WeightTerms::add_h(Block& block,
                        const RowSource& x,
                        std::int64_t expert,
                        std::int64_t i_block) const {
  const HRange range = h_block_range(request_, i_block);
  const WeightParts parts = gate_up_parts(request_, weights_, expert);
  Term& term = block.add(x, request_.hidden);
  for (int c = 0; c < range.count; ++c) {
    const HColumns& columns = range.columns[c];
    const WeightPart& part = parts.part[parts.count == 2 ? c : 0];
    const kernels::gemm::Operand b = forward_operand(part, request_.weight_dtype);
    add_strip(term, from_column(b, columns.first - part.first), columns.count, columns.at);
  }
  term.is_weight = true;
  term.packed = packed_at(layout_.h, expert, 0, i_block * columns_for(!request_.transposed));
}

void WeightTerms::add(Block& block,
                      const RowSource& rows,
                      std::int64_t k,
                      const kernels::gemm::Operand& b,
                      std::int64_t first,
                      std::int64_t n,
                      const PackedB& packed) const {
  Term& term = block.add(rows, k);
  add_strip(term, from_column(b, first), n, 0);
  term.is_weight = true;
  term.packed = packed;
}

void WeightTerms::add_down(
    Block& block, const RowSource& a, std::int64_t expert, std::int64_t c0, std::int64_t n) const {
  const WeightPart part = down_part(request_, weights_, expert);
  add(block, a, request_.inter, forward_operand(part, request_.weight_dtype), c0, n,
      packed_at(layout_.down, expert, 0, c0));
}

void WeightTerms::add_d_a(
    Block& block, const RowSource& dy, std::int64_t expert, std::int64_t i0, std::int64_t n) const {
  const WeightPart part = down_part(request_, weights_, expert);
  add(block, dy, request_.hidden, backward_operand(part, request_.weight_dtype), i0, n,
      packed_at(layout_.d_a, expert, 0, i0));
}

void WeightTerms::add_d_hidden(Block& block,
                               const RowSource& d_h,
                               std::int64_t expert,
                               std::int64_t c0,
                               std::int64_t n) const {
  std::int64_t words_before = 0;
  for (const WeightPart& part : gate_up_parts(request_, weights_, expert)) {
    RowSource rows = d_h;
    if (rows.base != nullptr) rows.base = advance(d_h.base, d_h.dtype, part.first);
    add(block, rows, part.rows, backward_operand(part, request_.weight_dtype), c0, n,
        packed_at(layout_.d_hidden, expert, words_before, c0));
    words_before += words_of(tile_, part.rows);
  }
}

void pack_weights(const ExpertsRequest& request,
                  const ExpertsWeights& weights,
                  const Tile& tile,
                  std::byte* to,
                  ThreadPool& pool) {
  const WeightTerms plain(request, weights, tile, nullptr), packed(request, weights, tile, to);
  const PackedLayout layout(request, tile);
  const auto pack_columns = [&](std::int64_t count, std::int64_t grain, const auto& add) {
    for (std::int64_t first = 0; first < count; first += grain) {
      Block from, at;
      from.tile = at.tile = &tile;
      add(plain, from, first, std::min(grain, count - first));
      add(packed, at, first, std::min(grain, count - first));
      pack_block(from, at);
    }
  };
  const RowSource none;
  constexpr int kProducts = 4;
  pool.run(request.num_experts * kProducts, [&](std::int64_t task, int) {
    const std::int64_t e = task / kProducts;
    switch (task % kProducts) {
      case 0:
        return pack_columns(
            request.inter, inter_block(request),
            [&](const WeightTerms& terms, Block& block, std::int64_t i0, std::int64_t) {
              terms.add_h(block, none, e, i0 / inter_block(request));
            });
      case 1:
        return pack_columns(request.hidden, columns_for(!request.transposed),
                            [&](const WeightTerms& terms, Block& block, std::int64_t c0,
                                std::int64_t n) { terms.add_down(block, none, e, c0, n); });
      case 2:
        if (layout.d_a.expert_bytes == 0) return;
        return pack_columns(request.inter, d_a_columns(request),
                            [&](const WeightTerms& terms, Block& block, std::int64_t i0,
                                std::int64_t n) { terms.add_d_a(block, none, e, i0, n); });
      default:
        if (layout.d_hidden.expert_bytes == 0) return;
        return pack_columns(request.hidden, columns_for(request.transposed),
                            [&](const WeightTerms& terms, Block& block, std::int64_t c0,
                                std::int64_t n) { terms.add_d_hidden(block, none, e, c0, n); });
    }
  });
}

}  // namespace moesmith::experts::scattermoe
