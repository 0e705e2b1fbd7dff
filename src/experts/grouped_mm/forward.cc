// SPDX-License-Identifier: Apache-2.0
// Per tile of one expert's rows: gather x, h = x W1^T + u1 B1^T + b1, a = act(h),
// y = a W2^T + u2 B2^T + b2. Then per token the weighted sum of its rows.
#include <cstring>

#include "experts/activation/activation.h"
#include "experts/grouped_mm/passes.h"
#include "experts/grouped_mm/tiles.h"
#include "kernels/rows/rows.h"

namespace moesmith::experts::grouped_mm {
namespace {

template <class T>
struct Forward {
  const ExpertsRequest& request;
  const ForwardArgs& args;
  const ForwardWork<T>& work;
  const SavedState saved;
  const TileOps<T> ops;

  void save(void* to, const RowTile& tile, const T* rows, std::int64_t width) const {
    if (to == nullptr) return;
    std::memcpy(static_cast<T*>(to) + tile.begin * width, rows,
                static_cast<std::size_t>(tile.count * width) * sizeof(T));
  }

  void down(const RowTile& tile, const WorkerTiles<T>& mine) const {
    const std::int64_t hidden = request.hidden, inter = request.inter;
    const std::int64_t rank = work.lora_2.lora_rank;
    if (rank > 0) {
      ops.lora_in(tile, work.lora_2, request.down_lora.lora_scale, mine.a, mine.sums, mine.u);
      save(saved.u_2, tile, mine.u, rank);
    }
    const WeightPart weight = down_part(request, args.inputs.weights, tile.expert);
    multiply_tile(tile.padded(), hidden, inter, mine.a,
                  forward_operand(weight, request.weight_dtype), mine.sums, hidden, false);
    if (rank > 0) {
      multiply_tile(
          tile.padded(), hidden, rank, mine.u,
          kernels::gemm::transposed(work.lora_2.b_of(tile.expert), DTypeOf<T>::value, rank),
          mine.sums, hidden, true);
    }
    const void* bias = request.down_bias ? advance(args.inputs.weights.down_bias,
                                                   request.weight_dtype, tile.expert * hidden)
                                         : nullptr;
    for (std::int64_t i = 0; i < tile.count; ++i) {
      float* row = mine.sums + i * hidden;
      if (bias != nullptr) add_bias(row, bias, request.weight_dtype, hidden);
      kernels::rows::ops<T>().from_f32(work.y_rows + (tile.begin + i) * hidden, row, 1.0f, hidden);
    }
  }

  void run_tile(const RowTile& tile, const WorkerTiles<T>& mine) const {
    const std::int64_t width = request.gate_up_width();
    ops.gather_x(tile, mine.x);
    if (work.lora_1.lora_rank > 0) {
      ops.lora_in(tile, work.lora_1, request.gate_up_lora.lora_scale, mine.x, mine.sums, mine.u);
      save(saved.u_1, tile, mine.u, work.lora_1.lora_rank);
    }
    ops.pre_activation(tile, mine.x, mine.u, mine.sums, mine.h);
    save(saved.h, tile, mine.h, width);
    for (std::int64_t i = 0; i < tile.count; ++i) {
      activation_ops<T>().forward(request.activation,
                                  gate_up_of_row<const T>(request, mine.h + i * width),
                                  mine.a + i * request.inter, request.inter);
    }
    down(tile, mine);
  }
};

}  // namespace

template <class T>
void run_forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool) {
  const std::int64_t num_tokens = args.inputs.num_tokens;
  Carver carver(args.scratch.data());
  ForwardWork<T> work = ForwardWork<T>::carve(carver, request, num_tokens, pool.num_threads());
  build_routing(args.inputs, request.index_dtype, work.index);
  pack_lora(request.gate_up_lora, args.inputs.gate_up_lora, work.index, work.lora_1, pool);
  pack_lora(request.down_lora, args.inputs.down_lora, work.index, work.lora_2, pool);

  const Forward<T> pass{
      request, args, work,
      SavedState::at(args.saved.data(), request, row_capacity(request, num_tokens)),
      TileOps<T>{request, args.inputs, work.index, work.lora_1, work.lora_2}};
  const std::vector<RowTile> tiles = row_tiles(work.index);
  pool.run(static_cast<std::int64_t>(tiles.size()), [&](std::int64_t task, int worker) {
    pass.run_tile(tiles[static_cast<std::size_t>(task)], work.worker(request, num_tokens, worker));
  });

  pool.run(num_tokens, [&](std::int64_t token, int worker) {
    float* sums = work.worker(request, num_tokens, worker).wide_1;
    combine_token(request, args.inputs, work.index, token, work.y_rows, true, sums);
    kernels::rows::ops<T>().from_f32(static_cast<T*>(args.output) + token * request.hidden, sums,
                                     1.0f, request.hidden);
  });
}

template void run_forward<float>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);
template void run_forward<bf16>(const ExpertsRequest&, const ForwardArgs&, ThreadPool&);

}  // namespace moesmith::experts::grouped_mm
