// SPDX-License-Identifier: Apache-2.0
#include "experts/cuda/workspace.h"

#include <algorithm>

#include "experts/routing.h"
#include "kernels/cuda/common/routing.h"

namespace moesmith::experts::on_cuda {

namespace gpu = kernels::gpu;

gpu::Rows carve_rows(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens) {
  const std::int64_t slots = checked_mul(num_tokens, request.top_k);
  const std::int64_t capacity = row_capacity(request, num_tokens);
  gpu::Rows rows;
  rows.num_experts = static_cast<int>(request.num_experts);
  rows.top_k = static_cast<int>(request.top_k);
  rows.num_slots = static_cast<int>(slots);
  rows.capacity = static_cast<int>(capacity);
  rows.chunk_slots = gpu::routing_chunk_slots(slots);
  rows.num_chunks = static_cast<int>(ceil_div(slots, rows.chunk_slots));
  rows.counts = carver.take<int>(checked_mul(rows.num_chunks, request.num_experts));
  rows.offsets = carver.take<int>(request.num_experts + 1);
  rows.overflow = carver.take<int>(1);
  rows.slot_of = carver.take<int>(capacity);
  rows.token_of = carver.take<int>(capacity);
  rows.weight_of = carver.take<float>(capacity);
  rows.row_of = carver.take<int>(slots);
  for (int kind = 0; kind < gpu::kNumTileKinds; ++kind) {
    gpu::RowTiles& tiles = rows.tiles[kind];
    tiles.granule = gpu::kTileRows[kind];
    tiles.max_tiles = gpu::max_row_tiles(capacity, request.num_experts, tiles.granule);
    tiles.tiles = carver.take<gpu::RowTile>(tiles.max_tiles);
    tiles.count = carver.take<int>(1);
    tiles.first = carver.take<int>(request.num_experts + 1);
  }
  return rows;
}

namespace {

Factors carve_factors(Carver& carver,
                      const ExpertsRequest& request,
                      const LoraSpec& lora,
                      std::int64_t in,
                      std::int64_t out) {
  const std::int64_t rank = padded_lora_rank(lora), size = dtype_size(request.compute_dtype);
  if (rank == 0) return {};
  const std::int64_t per_column = checked_mul(checked_mul(request.num_experts, rank), size);
  return {static_cast<int>(rank), false, carver.bytes(checked_mul(per_column, in)),
          carver.bytes(checked_mul(per_column, out))};
}

// Elements of the largest sum over rows that is kept by tile.
std::int64_t part_elements(const ExpertsRequest& request, const Work& work) {
  const WantedGradients& want = request.wanted;
  std::int64_t widest = 0;
  const auto need = [&](bool wanted, std::int64_t wide, std::int64_t narrow) {
    if (wanted) widest = std::max(widest, wide * narrow);
  };
  need(want.gate_up_a.wanted(), request.hidden, work.lora_1.padded_rank);
  need(want.gate_up_b.wanted(), request.gate_up_width(), work.lora_1.padded_rank);
  need(want.down_a.wanted(), request.inter, work.lora_2.padded_rank);
  need(want.down_b.wanted(), request.hidden, work.lora_2.padded_rank);
  need(want.gate_up_bias.wanted(), request.gate_up_width(), 1);
  need(want.down_bias.wanted(), request.hidden, 1);
  return checked_mul(widest, work.rows.tiles[gpu::kSumTiles].max_tiles);
}

}  // namespace

bool on_tensor_cores(const ExpertsRequest& request, bool base_weight) {
  return request.compute_dtype == DType::kBF16 &&
         (!base_weight || request.weight_dtype == DType::kBF16);
}

void Work::use_factors(const ExpertsRequest& request, const ExpertsInputs& inputs) {
  const auto use = [&](Factors& factors, const LoraSpec& lora, const LoraFactors& given) {
    if (request.transposed || lora.lora_rank != factors.padded_rank ||
        lora.dtype != request.compute_dtype) {
      return;
    }
    factors.a_in_place = true;
    factors.a = const_cast<void*>(given.a);
  };
  use(lora_1, request.gate_up_lora, inputs.gate_up_lora);
  use(lora_2, request.down_lora, inputs.down_lora);
}

Work Work::common(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens) {
  const bool separate =
      request.activation.gated && request.gate_up_layout == GateUpLayout::kSeparate;
  Work work;
  work.rows = carve_rows(carver, request, num_tokens);
  // One array, written by one launch.
  work.gate_up = carver.take<const void*>(request.num_experts * (separate ? 3 : 2));
  work.down = work.gate_up + request.num_experts;
  if (separate) work.up = work.gate_up + 2 * request.num_experts;
  work.lora_1 =
      carve_factors(carver, request, request.gate_up_lora, request.hidden, request.gate_up_width());
  work.lora_2 = carve_factors(carver, request, request.down_lora, request.inter, request.hidden);
  return work;
}

Work Work::forward(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens) {
  const Needs needs(request);
  const std::int64_t row_bytes =
      checked_mul(row_capacity(request, num_tokens), dtype_size(request.compute_dtype));
  Work work = common(carver, request, num_tokens);
  if (!needs.save_u_1) work.u_1 = carver.bytes(checked_mul(row_bytes, work.lora_1.padded_rank));
  if (!needs.save_u_2) work.u_2 = carver.bytes(checked_mul(row_bytes, work.lora_2.padded_rank));
  work.a = carver.bytes(checked_mul(row_bytes, request.inter));
  work.per_row = carver.bytes(checked_mul(row_bytes, request.hidden));
  return work;
}

Work Work::backward(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens) {
  const Needs needs(request);
  const WantedGradients& want = request.wanted;
  const std::int64_t rows = row_capacity(request, num_tokens), width = request.gate_up_width();
  const std::int64_t size = dtype_size(request.compute_dtype);
  Work work = common(carver, request, num_tokens);
  const auto take = [&](bool needed, std::int64_t columns) {
    return needed ? carver.bytes(checked_mul(checked_mul(rows, size), columns)) : nullptr;
  };
  if (request.d_output_dtype != request.compute_dtype) {
    work.dy = carver.bytes(checked_mul(checked_mul(num_tokens, size), request.hidden));
  }
  work.h = take(needs.h && !needs.save_h, width);
  work.d_h = take(needs.d_h, width);
  work.v_1 = take(needs.v_1, work.lora_1.padded_rank);
  work.v_2 = take(needs.v_2, work.lora_2.padded_rank);
  work.weighted_v_2 = take(want.down_a.wanted(), work.lora_2.padded_rank);
  work.weighted_u_2 = take(want.down_b.wanted(), work.lora_2.padded_rank);
  work.a = take(want.down_a.wanted(), request.inter);
  work.weighted_a = take(want.down.wanted(), request.inter);
  work.per_row = take(want.hidden.wanted(), request.hidden);
  if (want.top_k_weights.wanted()) {
    const gpu::TileShape shape =
        gpu::row_product_shape(on_tensor_cores(request, true), static_cast<int>(request.inter),
                               rows, work.rows.num_experts);
    work.d_weight_tiles =
        gpu::row_product_column_tiles(shape, static_cast<int>(request.inter), gpu::Pairing::kNone);
    work.d_weights = carver.take<float>(checked_mul(rows, work.d_weight_tiles));
  }
  work.parts = carver.take<float>(part_elements(request, work));
  return work;
}

}  // namespace moesmith::experts::on_cuda
