// SPDX-License-Identifier: Apache-2.0
// The products that forward and backward share, each over all blocks of rows: what their sums
// become is said by the pass that runs them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/thread_pool.h"
#include "experts/lora.h"
#include "experts/scattermoe/stream.h"
#include "experts/scattermoe/weight_terms.h"
#include "experts/scattermoe/workspace.h"
#include "kernels/rows/rows.h"
#include "moesmith/experts.h"

namespace moesmith::experts::scattermoe {

// What both passes know about one call.
template <class T>
struct Pass {
  const ExpertsRequest& request;
  const ExpertsInputs& inputs;
  const RoutingIndex& index;
  const PackedLora<T>& lora_1;
  const PackedLora<T>& lora_2;
  const RowBlock* blocks;
  std::int64_t num_blocks;
  const kernels::cpu::Tile& tile;       // of compute dtype times weights
  const kernels::cpu::Tile& lora_tile;  // of compute dtype times itself
  const WeightTerms weights;

  std::int64_t token_of(std::int64_t row) const { return index.slot_of[row] / request.top_k; }
  float weight_of(std::int64_t row) const {
    return static_cast<float>(
        route_weight(inputs, request.route_weights_dtype, index.slot_of[row]));
  }
  // Rows of a [T, width] tensor by token, and of a [rows, width] one.
  RowSource by_token(const void* base, std::int64_t width) const {
    return {base, width, DTypeOf<T>::value, index.slot_of, request.top_k};
  }
  RowSource by_row(const T* base, std::int64_t width) const {
    return {base, width, DTypeOf<T>::value, nullptr, 1};
  }
  RowSource x() const { return by_token(inputs.hidden, request.hidden); }

  Block new_block() const {
    Block block;
    block.tile = &tile;
    return block;
  }

  // h of a block of activations: x W1^T + u B1^T.
  Block h_block(std::int64_t expert,
                const T* u_1,
                std::int64_t i_block,
                const HRange& range) const {
    Block block = new_block();
    weights.add_h(block, x(), expert, i_block);
    if (lora_1.lora_rank == 0) return block;
    Term& lora = block.add(by_row(u_1, lora_1.lora_rank), lora_1.lora_rank);
    const auto b =
        kernels::gemm::transposed(lora_1.b_of(expert), DTypeOf<T>::value, lora_1.lora_rank);
    for (int c = 0; c < range.count; ++c) {
      const HColumns& columns = range.columns[c];
      add_strip(lora, from_column(b, columns.first), columns.count, columns.at);
    }
    return block;
  }
};

// body(rows, first, end, worker) for each block of rows and [0, num_columns) blocks of columns, the
// latter in groups: within a group each knows its next. Results do not depend on the grouping.
template <class T, class Body>
void run_grouped(const Pass<T>& pass,
                 std::int64_t num_columns,
                 ThreadPool& pool,
                 const Body& body) {
  constexpr std::int64_t kTasksPerThread = 16;
  const std::int64_t wanted = kTasksPerThread * pool.num_threads();
  const std::int64_t groups = std::clamp<std::int64_t>(
      ceil_div(wanted, std::max<std::int64_t>(pass.num_blocks, 1)), 1, num_columns);
  pool.run(pass.num_blocks * groups, [&](std::int64_t task, int worker) {
    const std::int64_t group = task % groups;
    body(pass.blocks[task / groups], num_columns * group / groups,
         num_columns * (group + 1) / groups, worker);
  });
}

// to [rows, r16] = scale * A B_e, B_e given by b_of(expert) [k, r16].
template <class T, class Workers, class BOf>
void project(const Pass<T>& pass,
             const RowSource& a,
             std::int64_t k,
             std::int64_t lora_rank,
             float scale,
             T* to,
             const Workers& worker_of,
             ThreadPool& pool,
             const BOf& b_of) {
  pool.run(pass.num_blocks, [&](std::int64_t task, int worker) {
    const RowBlock& rows = pass.blocks[task];
    const WorkerScratch scratch = worker_of(worker);
    constexpr std::int64_t kColumns = 64;
    for (std::int64_t j = 0; j < lora_rank; j += kColumns) {
      const std::int64_t n = std::min(kColumns, lora_rank - j);
      Block block;
      block.tile = &pass.lora_tile;
      Term& term = block.add(a, k);
      add_strip(term, from_column(b_of(rows.expert), j), n, 0);
      BlockStream(scratch.block)
          .run(block, nullptr, {rows.begin, rows.end}, [&](std::int64_t row, const float* sums) {
            kernels::rows::ops<T>().from_f32(to + row * lora_rank + j, sums, scale, n);
          });
    }
  });
}

// For each stripe of columns of a [T, H] sum over slots: block_of(expert, first column, columns)
// gives the product over k, start(expert, first column, columns) is called before its rows are
// finished, add(row, sums, columns, stripe row) adds one row of it, store(token, first column,
// columns, stripe row) takes the result. Rows are added by expert, and within an expert by
// slot: an order that the routing alone decides.
template <class T, class Workers, class BlockOf, class Start, class Add, class Store>
void combine(const Pass<T>& pass,
             std::int64_t columns,
             const Workers& worker_of,
             ThreadPool& pool,
             const BlockOf& block_of,
             const Start& start,
             const Add& add,
             const Store& store) {
  const std::int64_t hidden = pass.request.hidden, num_tokens = pass.inputs.num_tokens;
  pool.run(ceil_div(hidden, columns), [&](std::int64_t task, int worker) {
    const std::int64_t c0 = task * columns, n = std::min(columns, hidden - c0);
    const WorkerScratch scratch = worker_of(worker);
    std::fill(scratch.stripe, scratch.stripe + num_tokens * columns, 0.0f);
    const auto fetch = [&](std::int64_t row, const float* stripe) {
      if (row >= pass.index.num_rows) return;
      const float* to = stripe + pass.token_of(row) * columns;
      for (std::int64_t i = 0; i < n; i += 16) __builtin_prefetch(to + i, 1);
    };
    BlockStream stream(scratch.block);
    for_blocks(
        0, pass.num_blocks, [&](std::int64_t b) { return block_of(pass.blocks[b].expert, c0, n); },
        [&](std::int64_t b, const Block& block, const Block* next) {
          const RowBlock& rows = pass.blocks[b];
          start(rows.expert, c0, n, scratch);
          stream.run(block, next, {rows.begin, rows.end}, [&](std::int64_t row, float* sums) {
            fetch(row + kernels::cpu::kTileRows, scratch.stripe);
            add(row, sums, n, scratch, scratch.stripe + pass.token_of(row) * columns);
          });
        });
    for (std::int64_t t = 0; t < num_tokens; ++t) {
      store(t, c0, n, scratch.stripe + t * columns);
    }
  });
}

}  // namespace moesmith::experts::scattermoe
