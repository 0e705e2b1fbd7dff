// SPDX-License-Identifier: Apache-2.0
// Gradients of weights, factors and biases: for each expert left^T right, summed over its rows in
// their order and in chunks of fixed size. A task owns a block of rows of one expert's gradient;
// both sides are gathered while they are packed.
#include <algorithm>

#include "core/cpu_features.h"
#include "experts/gradients.h"
#include "experts/scattermoe/passes.h"

namespace moesmith::experts::scattermoe {
namespace {

using kernels::cpu::kTileRows;

// One operand: [rows, width].
struct Side {
  RowSource rows;
  std::int64_t width = 0;
};

// left^T right [p, q] per expert: element (i, j), i < stored rows, at e * expert_stride +
// i * row_stride + j * column_stride of the target.
struct RowSum {
  Side left, right;
  GradSpec spec;
  void* target = nullptr;
  std::int64_t expert_stride = 0, row_stride = 0, column_stride = 1;
  std::int64_t num_stored = 0;
  bool streams = false;  // past the caches
};

template <class T>
struct RowSums {
  const Pass<T>& pass;
  const BackwardArgs& args;
  const BackwardWork<T>& work;
  const SavedState& saved;
  const T* dy;

  Side x() const { return {pass.x(), pass.request.hidden}; }
  Side d_y() const { return {pass.by_token(dy, pass.request.hidden), pass.request.hidden}; }
  Side rows(const void* base, std::int64_t width) const {
    return {pass.by_row(static_cast<const T*>(base), width), width};
  }

  void run_weight(const GradSpec& spec,
                  void* target,
                  const Side& out,
                  const Side& in,
                  const WorkerOf& worker_of,
                  ThreadPool& pool) const {
    if (!spec.wanted()) return;
    const bool transposed = pass.request.transposed;
    RowSum sum{transposed ? in : out, transposed ? out : in, spec, target};
    sum.expert_stride = out.width * in.width;
    sum.row_stride = sum.right.width;
    sum.num_stored = sum.left.width;
    sum.streams =
        outgrows_caches(pass.request.num_experts * sum.expert_stride * dtype_size(spec.dtype));
    run(sum, worker_of, pool);
  }

  void run_a(const GradSpec& spec,
             void* target,
             const LoraSpec& lora,
             const Side& v,
             const Side& in,
             const WorkerOf& worker_of,
             ThreadPool& pool) const {
    if (!spec.wanted()) return;
    RowSum sum{v, in, spec, target};
    sum.expert_stride = lora.lora_rank * in.width;
    sum.row_stride = in.width;
    sum.num_stored = lora.lora_rank;
    sum.streams =
        outgrows_caches(pass.request.num_experts * sum.expert_stride * dtype_size(spec.dtype));
    run(sum, worker_of, pool);
  }

  // The narrow side is the left one, as tiles like it; the staging [E, out, r16] is written across.
  void run_b(const GradSpec& spec,
             void* target,
             const LoraSpec& lora,
             float* staged,
             const Side& out,
             const Side& u,
             const WorkerOf& worker_of,
             ThreadPool& pool) const {
    if (!spec.wanted()) return;
    RowSum sum{u, out, {GradMode::kOverwrite, DType::kF32}, staged};
    sum.expert_stride = out.width * u.width;
    sum.row_stride = 1;
    sum.column_stride = u.width;
    sum.num_stored = u.width;
    run(sum, worker_of, pool);
    store_b_gradient(spec, target, lora, pass.request.num_experts, out.width, staged, pool);
  }

  void run(const RowSum& sum, const WorkerOf& worker_of, ThreadPool& pool) const {
    const std::int64_t row_blocks = ceil_div(sum.num_stored, kSumRows);
    const std::int64_t col_blocks = ceil_div(sum.right.width, kSumColumns);
    const std::int64_t per_expert = row_blocks * col_blocks;
    pool.run(pass.request.num_experts * per_expert, [&](std::int64_t task, int worker) {
      const std::int64_t expert = task / per_expert, rest = task % per_expert;
      run_block(sum, expert, rest / col_blocks * kSumRows, rest % col_blocks * kSumColumns,
                worker_of(worker));
    });
  }

  // Rows [p, p + kSumRows) and columns [q, q + kSumColumns) of one expert's sum.
  void run_block(const RowSum& sum,
                 std::int64_t expert,
                 std::int64_t p,
                 std::int64_t q,
                 const WorkerScratch& scratch) const {
    const std::int64_t begin = pass.index.offsets[expert], end = pass.index.offsets[expert + 1];
    const std::int64_t num_p = std::min(kSumRows, sum.num_stored - p);
    const std::int64_t num_q = std::min(kSumColumns, sum.right.width - q);
    const std::int64_t chunk = kSumWords * pass.lora_tile.k_unit();
    if (begin == end) std::fill(scratch.sums, scratch.sums + kSumRows * kSumColumns, 0.0f);
    for (std::int64_t row = begin; row < end; row += chunk) {
      add_chunk(sum, row, std::min(chunk, end - row), {p, p + num_p}, {q, q + num_q}, row != begin,
                scratch);
    }
    const std::int64_t offset =
        expert * sum.expert_stride + p * sum.row_stride + q * sum.column_stride;
    for (std::int64_t i = 0; i < num_p; ++i) {
      const float* from = scratch.sums + i * kSumColumns;
      if (sum.streams) {
        stream_gradient(sum.spec, sum.target, offset + i * sum.row_stride, from, num_q);
      } else {
        store_gradient(sum.spec, sum.target, offset + i * sum.row_stride, from, num_q,
                       sum.column_stride);
      }
    }
    if (sum.streams) kernels::rows::fence();
  }

  void add_chunk(const RowSum& sum,
                 std::int64_t row,
                 std::int64_t count,
                 const RowCut& p,
                 const RowCut& q,
                 bool add,
                 const WorkerScratch& scratch) const {
    const kernels::cpu::Tile& tile = pass.lora_tile;
    const std::int64_t words = ceil_div(count, tile.k_unit());
    const void** left_rows = scratch.rows;
    const void** right_rows = left_rows + count;
    for (std::int64_t k = 0; k < count; ++k) {
      left_rows[k] = sum.left.rows.row(row + k);
      right_rows[k] = sum.right.rows.row(row + k);
    }
    const auto pack = [&](const void* const* rows, const RowCut& columns, std::int64_t width,
                          std::int64_t panel, char* dst) {
      kernels::cpu::PackCall call{};
      call.src_is_bf16 = DTypeOf<T>::value == DType::kBF16;
      call.outer_stride = 1;
      call.num_outer = columns.num_rows();
      call.num_k = count;
      call.width = width;
      call.dst = dst;
      call.dst_width = panel;
      call.panel_stride = panel * words * 4;
      call.k_rows = rows;
      call.src_offset = columns.begin;
      tile.pack(call);
    };
    for (std::int64_t t = 0; t < p.num_tiles(); ++t) {
      pack(left_rows, {p.tile_begin(t), p.tile_begin(t + 1)}, kTileRows, kTileRows,
           scratch.left + t * kTileRows * words * 4);
    }
    // Whole panels side by side, then one of what is left: rows are read once, not once per panel.
    const std::int64_t columns = round_up(q.num_rows(), tile.lanes), width = tile.width();
    const std::int64_t whole = columns / width * width;
    if (whole > 0) {
      pack(right_rows, {q.begin, std::min(q.begin + whole, q.end)}, whole, width, scratch.right);
    }
    if (whole < columns) {
      pack(right_rows, {q.begin + whole, q.end}, columns - whole, columns - whole,
           scratch.right + whole * words * 4);
    }
    for (std::int64_t j = 0; j < columns; j += width) {
      for (std::int64_t t = 0; t < p.num_tiles(); ++t) {
        kernels::cpu::TileCall call;
        const std::int64_t first = p.tile_begin(t), num_rows = p.tile_begin(t + 1) - first;
        for (std::int64_t i = 0; i < num_rows; ++i) {
          call.rows[i] = scratch.left + (t * words * kTileRows + i) * 4;
        }
        call.k_step = kTileRows * 4;
        call.num_steps = words;
        call.b = scratch.right + j * words * 4;
        call.out = scratch.sums + (first - p.begin) * kSumColumns + j;
        call.ld = kSumColumns;
        call.add = add;
        tile.multiply(static_cast<int>(num_rows),
                      static_cast<int>(std::min(width, columns - j) / tile.lanes), call);
      }
    }
  }

  // Sums of the rows of dh, and of weight * dy.
  void run_biases(const WorkerOf& worker_of, ThreadPool& pool) const {
    const WantedGradients& want = pass.request.wanted;
    const std::int64_t width = pass.request.gate_up_width(), hidden = pass.request.hidden;
    if (!want.gate_up_bias.wanted() && !want.down_bias.wanted()) return;
    pool.run(pass.request.num_experts, [&](std::int64_t expert, int worker) {
      float* sums = worker_of(worker).wide;
      const std::int64_t begin = pass.index.offsets[expert], end = pass.index.offsets[expert + 1];
      if (want.gate_up_bias.wanted()) {
        std::fill(sums, sums + width, 0.0f);
        for (std::int64_t row = begin; row < end; ++row) {
          kernels::rows::ops<T>().axpy(sums, work.d_h + row * width, 1.0f, width);
        }
        store_gradient(want.gate_up_bias, args.gradients.gate_up_bias, expert * width, sums, width);
      }
      if (!want.down_bias.wanted()) return;
      std::fill(sums, sums + hidden, 0.0f);
      for (std::int64_t row = begin; row < end; ++row) {
        kernels::rows::ops<T>().axpy(sums, dy + pass.token_of(row) * hidden, pass.weight_of(row),
                                     hidden);
      }
      store_gradient(want.down_bias, args.gradients.down_bias, expert * hidden, sums, hidden);
    });
  }
};

}  // namespace

template <class T>
void sum_over_rows(const Pass<T>& pass,
                   const BackwardArgs& args,
                   const BackwardWork<T>& work,
                   const SavedState& saved,
                   const T* dy,
                   const WorkerOf& worker_of,
                   ThreadPool& pool) {
  const RowSums<T> sums{pass, args, work, saved, dy};
  const ExpertsRequest& request = pass.request;
  const WantedGradients& want = request.wanted;
  const ExpertsGradients& to = args.gradients;
  const std::int64_t rank_1 = pass.lora_1.lora_rank, rank_2 = pass.lora_2.lora_rank;
  const Side d_h = sums.rows(work.d_h, request.gate_up_width());
  sums.run_weight(want.gate_up, to.gate_up, d_h, sums.x(), worker_of, pool);
  sums.run_weight(want.down, to.down, sums.d_y(), sums.rows(work.weighted_a, request.inter),
                  worker_of, pool);
  sums.run_a(want.gate_up_a, to.gate_up_a, request.gate_up_lora, sums.rows(work.v_1, rank_1),
             sums.x(), worker_of, pool);
  sums.run_a(want.down_a, to.down_a, request.down_lora, sums.rows(work.weighted_v_2, rank_2),
             sums.rows(work.a, request.inter), worker_of, pool);
  sums.run_b(want.gate_up_b, to.gate_up_b, request.gate_up_lora, work.d_b_1, d_h,
             sums.rows(saved.u_1, rank_1), worker_of, pool);
  sums.run_b(want.down_b, to.down_b, request.down_lora, work.d_b_2, sums.d_y(),
             sums.rows(work.weighted_u_2, rank_2), worker_of, pool);
  sums.run_biases(worker_of, pool);
}

template void sum_over_rows(const Pass<float>&,
                            const BackwardArgs&,
                            const BackwardWork<float>&,
                            const SavedState&,
                            const float*,
                            const WorkerOf&,
                            ThreadPool&);
template void sum_over_rows(const Pass<bf16>&,
                            const BackwardArgs&,
                            const BackwardWork<bf16>&,
                            const SavedState&,
                            const bf16*,
                            const WorkerOf&,
                            ThreadPool&);

}  // namespace moesmith::experts::scattermoe
