// SPDX-License-Identifier: Apache-2.0
// Second half of backward: each wanted gradient of a weight, factor or bias is a sum over an
// expert's rows, left^T right. A task owns one block of one expert's gradient and walks the rows in
// order, so the sum's order never depends on the threads.
#include <algorithm>
#include <vector>

#include "experts/activation/activation.h"
#include "experts/gradients.h"
#include "experts/grouped_mm/passes.h"
#include "experts/grouped_mm/tiles.h"
#include "kernels/rows/rows.h"

namespace moesmith::experts::grouped_mm {
namespace {

enum class Source { kX, kDy, kRows, kActivation };

// One operand: rows of `width` columns.
struct Side {
  Source source = Source::kRows;
  std::int64_t width = 0;
  const void* rows = nullptr;  // kRows: [max_rows, width], compute dtype
  bool weighted = false;       // times the routing weight
};

// Sums [p, q] per expert.
struct RowSum {
  Side left, right;
  GradSpec spec;
  void* target = nullptr;
  std::int64_t expert_stride = 0, row_stride = 0;  // of the target, in elements
  std::int64_t p = 0;  // rows to store; the left side may be wider by padding
  std::int64_t block_p = 0, block_q = 0, blocks_p = 0, blocks_q = 0;

  std::int64_t num_blocks() const { return blocks_p * blocks_q; }
};

template <class T>
struct RowSums {
  const ExpertsRequest& request;
  const BackwardArgs& args;
  const BackwardWork<T>& work;
  const SavedState& saved;
  const TileOps<T> ops;

  Side x() const { return {Source::kX, request.hidden, nullptr, false}; }
  Side dy() const { return {Source::kDy, request.hidden, nullptr, false}; }
  Side a(bool weighted) const { return {Source::kActivation, request.inter, nullptr, weighted}; }
  Side rows(const void* data, std::int64_t width, bool weighted = false) const {
    return {Source::kRows, width, data, weighted};
  }

  static void set_blocks(RowSum& sum) {
    const std::int64_t p = sum.left.width, q = sum.right.width;
    const bool tall = q <= kShortSide;
    sum.block_p = tall ? kLongSide : kShortSide;
    sum.block_q = tall ? kShortSide : kLongSide;
    sum.blocks_p = ceil_div(p, sum.block_p);
    sum.blocks_q = ceil_div(q, sum.block_q);
  }

  void add_weights(std::vector<RowSum>& sums,
                   const GradSpec& spec,
                   void* target,
                   const Side& out,
                   const Side& in) const {
    if (!spec.wanted()) return;
    RowSum sum;
    sum.left = request.transposed ? in : out;
    sum.right = request.transposed ? out : in;
    sum.spec = spec;
    sum.target = target;
    sum.expert_stride = out.width * in.width;
    sum.row_stride = sum.right.width;
    sum.p = sum.left.width;
    sums.push_back(sum);
  }

  void add_a(std::vector<RowSum>& sums,
             const GradSpec& spec,
             void* target,
             const LoraSpec& lora,
             const Side& v,
             const Side& in) const {
    if (!spec.wanted()) return;
    sums.push_back({v, in, spec, target, lora.lora_rank * in.width, in.width, lora.lora_rank});
  }

  // Into the staging [E, out, r16]; store_b_gradient() brings it to PEFT's layout.
  void add_b(std::vector<RowSum>& sums,
             const GradSpec& spec,
             float* staged,
             const Side& out,
             const Side& u) const {
    if (!spec.wanted()) return;
    const GradSpec plain{GradMode::kOverwrite, DType::kF32};
    sums.push_back({out, u, plain, staged, out.width * u.width, u.width, out.width});
  }

  std::vector<RowSum> wanted() const {
    const WantedGradients& want = request.wanted;
    const ExpertsGradients& to = args.gradients;
    const std::int64_t width = request.gate_up_width();
    const std::int64_t rank_1 = work.lora_1.lora_rank, rank_2 = work.lora_2.lora_rank;
    const Side d_h = rows(work.d_h_rows, width);
    std::vector<RowSum> sums;
    add_weights(sums, want.gate_up, to.gate_up, d_h, x());
    add_weights(sums, want.down, to.down, dy(), a(true));
    add_a(sums, want.gate_up_a, to.gate_up_a, request.gate_up_lora, rows(work.v_1_rows, rank_1),
          x());
    add_a(sums, want.down_a, to.down_a, request.down_lora, rows(work.v_2_rows, rank_2, true),
          a(false));
    add_b(sums, want.gate_up_b, work.d_b_1, d_h, rows(saved.u_1, rank_1));
    add_b(sums, want.down_b, work.d_b_2, dy(), rows(saved.u_2, rank_2, true));
    for (RowSum& sum : sums) set_blocks(sum);
    return sums;
  }

  // Columns [col, col + n) of one row of a side.
  void load_row(const Side& side, std::int64_t row, std::int64_t col, std::int64_t n, T* to) const {
    const float weight = side.weighted ? ops.weight_of(row) : 1.0f;
    switch (side.source) {
      case Source::kX:
        convert_scaled(
            to, static_cast<const T*>(args.inputs.hidden) + ops.token_of(row) * side.width + col,
            DTypeOf<T>::value, weight, n);
        return;
      case Source::kDy:
        convert_scaled(
            to,
            advance(args.d_output, request.d_output_dtype, ops.token_of(row) * side.width + col),
            request.d_output_dtype, weight, n);
        return;
      case Source::kRows:
        convert_scaled(to, static_cast<const T*>(side.rows) + row * side.width + col,
                       DTypeOf<T>::value, weight, n);
        return;
      case Source::kActivation: {
        const T* h = static_cast<const T*>(saved.h) + row * request.gate_up_width();
        activation_ops<T>().forward(request.activation, gate_up_of_row(request, h, col), to, n);
        if (weight != 1.0f) convert_scaled(to, to, DTypeOf<T>::value, weight, n);
        return;
      }
    }
  }

  // [padded rows, n], the padding 0: it takes part in the sum.
  void load(const Side& side, const RowTile& tile, std::int64_t col, std::int64_t n, T* to) const {
    for (std::int64_t i = 0; i < tile.count; ++i)
      load_row(side, tile.begin + i, col, n, to + i * n);
    std::fill(to + tile.count * n, to + tile.padded() * n, T{});
  }

  void run_block(const RowSum& sum,
                 std::int64_t expert,
                 std::int64_t block,
                 const WorkerTiles<T>& mine) const {
    const std::int64_t p = (block / sum.blocks_q) * sum.block_p;
    const std::int64_t q = (block % sum.blocks_q) * sum.block_q;
    const std::int64_t num_p = std::min(sum.block_p, sum.left.width - p);
    const std::int64_t num_q = std::min(sum.block_q, sum.right.width - q);
    const std::int64_t begin = work.index.offsets[expert], end = work.index.offsets[expert + 1];
    if (begin == end) {
      if (sum.spec.mode == GradMode::kAccumulate) return;
      std::fill(mine.block, mine.block + num_p * num_q, 0.0f);
    }
    for (std::int64_t row = begin; row < end; row += kTileRows) {
      const RowTile tile{expert, row, std::min(kTileRows, end - row)};
      load(sum.left, tile, p, num_p, mine.left);
      load(sum.right, tile, q, num_q, mine.right);
      kernels::gemm::Args product;
      product.m = num_p;
      product.n = num_q;
      product.k = tile.padded();
      product.a = kernels::gemm::transposed(mine.left, DTypeOf<T>::value, num_p);
      product.b = kernels::gemm::row_major(mine.right, DTypeOf<T>::value, num_q);
      product.c = mine.block;
      product.ldc = num_q;
      product.accumulate = row != begin;
      multiply(product);
    }
    for (std::int64_t i = 0; i < std::min(num_p, sum.p - p); ++i) {
      store_gradient(sum.spec, sum.target,
                     expert * sum.expert_stride + (p + i) * sum.row_stride + q,
                     mine.block + i * num_q, num_q);
    }
  }

  // d_bias[e] = sum of rows of dh, or of weight * dy.
  void bias(std::int64_t expert, const WorkerTiles<T>& mine) const {
    const WantedGradients& want = request.wanted;
    const std::int64_t begin = work.index.offsets[expert], end = work.index.offsets[expert + 1];
    const std::int64_t width = request.gate_up_width(), hidden = request.hidden;
    if (want.gate_up_bias.wanted()) {
      std::fill(mine.wide_1, mine.wide_1 + width, 0.0f);
      for (std::int64_t row = begin; row < end; ++row) {
        kernels::rows::ops<T>().axpy(mine.wide_1, work.d_h_rows + row * width, 1.0f, width);
      }
      store_gradient(want.gate_up_bias, args.gradients.gate_up_bias, expert * width, mine.wide_1,
                     width);
    }
    if (!want.down_bias.wanted()) return;
    std::fill(mine.wide_1, mine.wide_1 + hidden, 0.0f);
    for (std::int64_t row = begin; row < end; ++row) {
      const void* from = advance(args.d_output, request.d_output_dtype, ops.token_of(row) * hidden);
      if (request.d_output_dtype == DType::kF32) {
        kernels::rows::ops<float>().axpy(mine.wide_1, static_cast<const float*>(from),
                                         ops.weight_of(row), hidden);
      } else {
        kernels::rows::ops<T>().axpy(mine.wide_1, static_cast<const T*>(from), ops.weight_of(row),
                                     hidden);
      }
    }
    store_gradient(want.down_bias, args.gradients.down_bias, expert * hidden, mine.wide_1, hidden);
  }
};

}  // namespace

template <class T>
void sum_over_rows(const ExpertsRequest& request,
                   const BackwardArgs& args,
                   const BackwardWork<T>& work,
                   const SavedState& saved,
                   ThreadPool& pool) {
  const RowSums<T> all{request, args, work, saved,
                       TileOps<T>{request, args.inputs, work.index, work.lora_1, work.lora_2}};
  const std::int64_t num_tokens = args.inputs.num_tokens, num_experts = request.num_experts;
  for (const RowSum& sum : all.wanted()) {
    pool.run(num_experts * sum.num_blocks(), [&](std::int64_t task, int worker) {
      all.run_block(sum, task / sum.num_blocks(), task % sum.num_blocks(),
                    work.worker(request, num_tokens, worker));
    });
  }
  const WantedGradients& want = request.wanted;
  if (want.gate_up_bias.wanted() || want.down_bias.wanted()) {
    pool.run(num_experts, [&](std::int64_t expert, int worker) {
      all.bias(expert, work.worker(request, num_tokens, worker));
    });
  }
  if (want.gate_up_b.wanted()) {
    store_b_gradient(want.gate_up_b, args.gradients.gate_up_b, request.gate_up_lora, num_experts,
                     request.gate_up_width(), work.d_b_1, pool);
  }
  if (want.down_b.wanted()) {
    store_b_gradient(want.down_b, args.gradients.down_b, request.down_lora, num_experts,
                     request.hidden, work.d_b_2, pool);
  }
}

template void sum_over_rows(const ExpertsRequest&,
                            const BackwardArgs&,
                            const BackwardWork<float>&,
                            const SavedState&,
                            ThreadPool&);
template void sum_over_rows(const ExpertsRequest&,
                            const BackwardArgs&,
                            const BackwardWork<bf16>&,
                            const SavedState&,
                            ThreadPool&);

}  // namespace moesmith::experts::grouped_mm
