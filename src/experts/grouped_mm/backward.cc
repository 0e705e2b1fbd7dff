// SPDX-License-Identifier: Apache-2.0
// First half of backward, per tile of one expert's rows: dA' = dy W2 + v2 A2, the routing weight's
// gradient <dA', a> + <dy, b2>, dh = act'(w dA'), dx = dh W1 + v1 A1. Then per token the sum of its
// rows of dx.
#include <cstring>

#include "experts/activation/activation.h"
#include "experts/gradients.h"
#include "experts/grouped_mm/passes.h"
#include "experts/grouped_mm/tiles.h"
#include "kernels/rows/rows.h"

namespace moesmith::experts::grouped_mm {
namespace {

template <class T>
struct Backward {
  const ExpertsRequest& request;
  const BackwardArgs& args;
  const BackwardWork<T>& work;
  const SavedState saved;
  const Needs needs;
  const TileOps<T> ops;

  static void keep(T* to, const RowTile& tile, const T* rows, std::int64_t width) {
    if (to == nullptr) return;
    std::memcpy(to + tile.begin * width, rows,
                static_cast<std::size_t>(tile.count * width) * sizeof(T));
  }

  void gather_dy(const RowTile& tile, const WorkerTiles<T>& mine) const {
    const std::int64_t hidden = request.hidden;
    for (std::int64_t i = 0; i < tile.count; ++i) {
      const std::int64_t token = ops.token_of(tile.begin + i);
      convert_scaled(mine.dy + i * hidden,
                     advance(args.d_output, request.d_output_dtype, token * hidden),
                     request.d_output_dtype, 1.0f, hidden);
    }
  }

  // v [padded, r16] = scale * rows B
  void lora_back(const RowTile& tile,
                 const PackedLora<T>& lora,
                 float scale,
                 const T* rows,
                 const WorkerTiles<T>& mine) const {
    const std::int64_t rank = lora.lora_rank;
    multiply_tile(tile.padded(), rank, lora.out, rows,
                  kernels::gemm::row_major(lora.b_of(tile.expert), DTypeOf<T>::value, rank),
                  mine.sums, rank, false);
    kernels::rows::ops<T>().from_f32(mine.u, mine.sums, scale, tile.padded() * rank);
  }

  const T* h_of(const RowTile& tile, const WorkerTiles<T>& mine) const {
    const std::int64_t width = request.gate_up_width(), rank = work.lora_1.lora_rank;
    if (saved.h != nullptr) return static_cast<const T*>(saved.h) + tile.begin * width;
    ops.gather_x(tile, mine.x);
    if (rank > 0) {
      std::memcpy(mine.u, static_cast<const T*>(saved.u_1) + tile.begin * rank,
                  static_cast<std::size_t>(tile.count * rank) * sizeof(T));
    }
    ops.pre_activation(tile, mine.x, mine.u, mine.sums, mine.h);
    keep(work.h_rows, tile, mine.h, width);
    return mine.h;
  }

  // <dy, b2> of one row.
  float bias_part(const RowTile& tile, std::int64_t i, const WorkerTiles<T>& mine) const {
    const std::int64_t hidden = request.hidden;
    convert_scaled(mine.wide_1, mine.dy + i * hidden, DTypeOf<T>::value, 1.0f, hidden);
    convert_scaled(
        mine.wide_2,
        advance(args.inputs.weights.down_bias, request.weight_dtype, tile.expert * hidden),
        request.weight_dtype, 1.0f, hidden);
    return kernels::rows::ops<float>().dot(mine.wide_1, mine.wide_2, hidden);
  }

  void activation(const RowTile& tile, const T* h, const WorkerTiles<T>& mine) const {
    const std::int64_t width = request.gate_up_width();
    for (std::int64_t i = 0; i < tile.count; ++i) {
      const std::int64_t row = tile.begin + i;
      float d_weight = activation_ops<T>().backward(
          request.activation, gate_up_of_row<const T>(request, h + i * width),
          mine.d_a + i * request.inter, ops.weight_of(row),
          gate_up_of_row(request, mine.d_h + i * width), nullptr, request.inter);
      if (!request.wanted.top_k_weights.wanted()) continue;
      if (request.down_bias) d_weight += bias_part(tile, i, mine);
      store_gradient(request.wanted.top_k_weights, args.gradients.top_k_weights,
                     work.index.slot_of[row], &d_weight, 1);
    }
  }

  void hidden_gradient(const RowTile& tile, const WorkerTiles<T>& mine) const {
    const std::int64_t hidden = request.hidden, width = request.gate_up_width();
    bool accumulate = false;
    if (needs.v_1) {
      const std::int64_t rank = work.lora_1.lora_rank;
      multiply_tile(
          tile.padded(), hidden, rank, mine.u,
          kernels::gemm::row_major(work.lora_1.a_of(tile.expert), DTypeOf<T>::value, hidden),
          mine.sums, hidden, false);
      accumulate = true;
    }
    for (const WeightPart& part : gate_up_parts(request, args.inputs.weights, tile.expert)) {
      kernels::gemm::Args product;
      product.m = tile.padded();
      product.n = hidden;
      product.k = part.rows;
      product.a = {mine.d_h + part.first, DTypeOf<T>::value, width, 1};
      product.b = backward_operand(part, request.weight_dtype);
      product.c = mine.sums;
      product.ldc = hidden;
      product.accumulate = accumulate;
      multiply(product);
      accumulate = true;
    }
    kernels::rows::ops<T>().from_f32(work.d_x_rows + tile.begin * hidden, mine.sums, 1.0f,
                                     tile.count * hidden);
  }

  void run_tile(const RowTile& tile, const WorkerTiles<T>& mine) const {
    const std::int64_t inter = request.inter, hidden = request.hidden;
    gather_dy(tile, mine);
    // h first: computing it again uses u, which v2 then takes.
    const T* h = needs.h ? h_of(tile, mine) : nullptr;
    if (needs.v_2) {
      lora_back(tile, work.lora_2, request.down_lora.lora_scale, mine.dy, mine);
      keep(work.v_2_rows, tile, mine.u, work.lora_2.lora_rank);
    }
    if (!needs.d_a) return;
    const WeightPart down = down_part(request, args.inputs.weights, tile.expert);
    multiply_tile(tile.padded(), inter, hidden, mine.dy,
                  backward_operand(down, request.weight_dtype), mine.d_a, inter, false);
    if (needs.v_2) {
      multiply_tile(
          tile.padded(), inter, work.lora_2.lora_rank, mine.u,
          kernels::gemm::row_major(work.lora_2.a_of(tile.expert), DTypeOf<T>::value, inter),
          mine.d_a, inter, true);
    }
    activation(tile, h, mine);
    if (!needs.d_h) return;
    keep(work.d_h_rows, tile, mine.d_h, request.gate_up_width());
    if (needs.v_1) {
      lora_back(tile, work.lora_1, request.gate_up_lora.lora_scale, mine.d_h, mine);
      keep(work.v_1_rows, tile, mine.u, work.lora_1.lora_rank);
    }
    if (request.wanted.hidden.wanted()) hidden_gradient(tile, mine);
  }
};

}  // namespace

template <class T>
void run_backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool) {
  const std::int64_t num_tokens = args.inputs.num_tokens;
  Carver carver(args.scratch.data());
  BackwardWork<T> work = BackwardWork<T>::carve(carver, request, num_tokens, pool.num_threads());
  build_routing(args.inputs, request.index_dtype, work.index);
  pack_lora(request.gate_up_lora, args.inputs.gate_up_lora, work.index, work.lora_1, pool);
  pack_lora(request.down_lora, args.inputs.down_lora, work.index, work.lora_2, pool);

  SavedState saved = SavedState::at(args.saved.data(), request, row_capacity(request, num_tokens));
  const Backward<T> pass{
      request,        args,
      work,           saved,
      Needs(request), TileOps<T>{request, args.inputs, work.index, work.lora_1, work.lora_2}};
  const std::vector<RowTile> tiles = row_tiles(work.index);
  pool.run(static_cast<std::int64_t>(tiles.size()), [&](std::int64_t task, int worker) {
    pass.run_tile(tiles[static_cast<std::size_t>(task)], work.worker(request, num_tokens, worker));
  });
  store_skipped_slots(request, args, work.index);

  if (request.wanted.hidden.wanted()) {
    pool.run(num_tokens, [&](std::int64_t token, int worker) {
      float* sums = work.worker(request, num_tokens, worker).wide_1;
      combine_token(request, args.inputs, work.index, token, work.d_x_rows, false, sums);
      store_gradient(request.wanted.hidden, args.gradients.hidden, token * request.hidden, sums,
                     request.hidden);
    });
  }
  if (saved.h == nullptr) saved.h = work.h_rows;
  sum_over_rows(request, args, work, saved, pool);
}

template void run_backward<float>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);
template void run_backward<bf16>(const ExpertsRequest&, const BackwardArgs&, ThreadPool&);

}  // namespace moesmith::experts::grouped_mm
