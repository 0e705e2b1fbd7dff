// SPDX-License-Identifier: Apache-2.0
// The four products with base weights as terms of a block, and the copies of frozen weights that
// are packed once: for each expert and product the very slices that a stream would pack at each
// call, so that results are bit for bit the same. x W^T wants pairs of words along the input and dy
// W along the output, so forward and backward have copies of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/thread_pool.h"
#include "experts/scattermoe/block.h"
#include "moesmith/experts.h"

namespace moesmith::experts::scattermoe {

// Columns [first, first + count) of h that go to the columns `at` of a block's sums.
struct HColumns {
  std::int64_t first, count, at;
};

// The gate and up columns of the activations [i0, i0 + n): one range or two.
struct HRange {
  HColumns columns[2];
  int count = 0;

  std::int64_t end() const {
    const HColumns& last = columns[count - 1];
    return last.at + round_up(last.count, kColumnGrain);
  }
};

HRange h_range(const ExpertsRequest& request, std::int64_t i0, std::int64_t n);

// Activations per block: their gate and up columns fill it.
inline std::int64_t inter_block(const ExpertsRequest& request) {
  return columns_for(!request.transposed) / (request.activation.gated ? 2 : 1);
}
// Activations per block of dA'.
inline std::int64_t d_a_columns(const ExpertsRequest& request) {
  return columns_for(request.transposed);
}

// Where the copies lie in their buffer. Those of forward come first, so that a plan which wants no
// gradients reads the same buffer.
struct PackedLayout {
  struct Product {
    std::int64_t offset = 0, columns = 0, expert_bytes = 0;
  };
  Product h, down, d_a, d_hidden;  // expert_bytes 0: not needed
  std::int64_t bytes = 0;

  PackedLayout(const ExpertsRequest& request, const kernels::cpu::Tile& tile);
};

class WeightTerms {
 public:
  // `packed`: a buffer filled by pack_weights(); looked at with packed_weights only.
  WeightTerms(const ExpertsRequest& request,
              const ExpertsWeights& weights,
              const kernels::cpu::Tile& tile,
              const std::byte* packed)
      : request_(request),
        weights_(weights),
        tile_(tile),
        packed_(request.packed_weights ? packed : nullptr),
        layout_(request, tile) {}

  // Each adds to a block of rows of one expert:
  // h of the activations of block `i_block`, x [rows, H].
  void add_h(Block& block, const RowSource& x, std::int64_t expert, std::int64_t i_block) const;
  // Columns [c0, c0 + n) of a W2^T, a [rows, I]; c0 is a multiple of 64.
  void add_down(
      Block& block, const RowSource& a, std::int64_t expert, std::int64_t c0, std::int64_t n) const;
  // Columns [i0, i0 + n) of dy W2, dy [rows, H]; i0 is a multiple of d_a_columns().
  void add_d_a(Block& block,
               const RowSource& dy,
               std::int64_t expert,
               std::int64_t i0,
               std::int64_t n) const;
  // Columns [c0, c0 + n) of dh W1, dh [rows, 2I]; c0 is a multiple of 64.
  void add_d_hidden(Block& block,
                    const RowSource& d_h,
                    std::int64_t expert,
                    std::int64_t c0,
                    std::int64_t n) const;

 private:
  // rows B for the columns of `b` from `first` on.
  void add(Block& block,
           const RowSource& rows,
           std::int64_t k,
           const kernels::gemm::Operand& b,
           std::int64_t first,
           std::int64_t n,
           const PackedB& packed) const;
  PackedB packed_at(const PackedLayout::Product& product,
                    std::int64_t expert,
                    std::int64_t words_before,
                    std::int64_t first_column) const;

  const ExpertsRequest& request_;
  const ExpertsWeights& weights_;
  const kernels::cpu::Tile& tile_;
  const std::byte* packed_;
  PackedLayout layout_;
};

// Fills [PackedLayout::bytes] at `to`.
void pack_weights(const ExpertsRequest& request,
                  const ExpertsWeights& weights,
                  const kernels::cpu::Tile& tile,
                  std::byte* to,
                  ThreadPool& pool);

}  // namespace moesmith::experts::scattermoe
