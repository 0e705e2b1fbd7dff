// SPDX-License-Identifier: Apache-2.0
// Memory and the steps that both passes take.
#include "experts/cuda/unfused.h"

#include <algorithm>

#include "experts/routing.h"
#include "kernels/cuda/common/unfused.h"

namespace moesmith::experts::on_cuda {

namespace gpu = kernels::gpu;

namespace {

struct Take {
  Carver& carver;
  std::int64_t rows, size;

  Take(Carver& into, const ExpertsRequest& request, std::int64_t num_tokens)
      : carver(into),
        rows(row_capacity(request, num_tokens)),
        size(dtype_size(request.compute_dtype)) {}

  void* values(bool needed, std::int64_t columns) const {
    return needed ? carver.bytes(checked_mul(checked_mul(rows, size), columns)) : nullptr;
  }
  float* sums(std::int64_t columns) const { return carver.take<float>(checked_mul(rows, columns)); }
};

std::int64_t widest_product(const ExpertsRequest& request, const Work& common) {
  return std::max({request.gate_up_width(), request.hidden, std::int64_t{common.lora_1.padded_rank},
                   std::int64_t{common.lora_2.padded_rank}});
}

// Elements of the largest sum over rows that goes through parts: a factor's, one part an expert, or
// a bias's by tiles.
std::int64_t part_elements(const ExpertsRequest& request, const Work& common) {
  const WantedGradients& want = request.wanted;
  std::int64_t widest = 0;
  const auto need = [&](bool wanted, std::int64_t wide, std::int64_t narrow, std::int64_t count) {
    if (wanted) widest = std::max(widest, checked_mul(checked_mul(wide, narrow), count));
  };
  const std::int64_t width = request.gate_up_width(), experts = request.num_experts;
  const std::int64_t tiles = common.rows.tiles[gpu::kSumTiles].max_tiles;
  need(want.gate_up_a.wanted(), request.hidden, common.lora_1.padded_rank, experts);
  need(want.gate_up_b.wanted(), width, common.lora_1.padded_rank, experts);
  need(want.down_a.wanted(), request.inter, common.lora_2.padded_rank, experts);
  need(want.down_b.wanted(), request.hidden, common.lora_2.padded_rank, experts);
  need(want.gate_up_bias.wanted(), width, 1, tiles);
  need(want.down_bias.wanted(), request.hidden, 1, tiles);
  return widest;
}

}  // namespace

UnfusedWork UnfusedWork::forward(Carver& carver,
                                 const ExpertsRequest& request,
                                 std::int64_t num_tokens) {
  const Needs needs(request);
  const Take take(carver, request, num_tokens);
  UnfusedWork work;
  work.common = Work::common(carver, request, num_tokens);
  work.x = take.values(true, request.hidden);
  work.u_1 = take.values(!needs.save_u_1, work.common.lora_1.padded_rank);
  work.u_2 = take.values(!needs.save_u_2, work.common.lora_2.padded_rank);
  work.h = take.values(!needs.save_h, request.gate_up_width());
  work.a = take.values(true, request.inter);
  work.sums = take.sums(widest_product(request, work.common));
  return work;
}

UnfusedWork UnfusedWork::backward(Carver& carver,
                                  const ExpertsRequest& request,
                                  std::int64_t num_tokens) {
  const Needs needs(request);
  const WantedGradients& want = request.wanted;
  const Take take(carver, request, num_tokens);
  UnfusedWork work;
  work.common = Work::common(carver, request, num_tokens);
  const std::int64_t rank_1 = work.common.lora_1.padded_rank;
  const std::int64_t rank_2 = work.common.lora_2.padded_rank;
  const bool h_again = needs.h && !needs.save_h;
  work.x = take.values(h_again || want.gate_up.wanted() || want.gate_up_a.wanted(), request.hidden);
  work.dy = take.values(true, request.hidden);
  work.h = take.values(h_again, request.gate_up_width());
  work.a = take.values(want.down_a.wanted(), request.inter);
  work.weighted_a = take.values(want.down.wanted(), request.inter);
  work.d_h = take.values(needs.d_h, request.gate_up_width());
  work.v_1 = take.values(needs.v_1, rank_1);
  work.v_2 = take.values(needs.v_2, rank_2);
  work.weighted_v_2 = take.values(want.down_a.wanted(), rank_2);
  work.weighted_u_2 = take.values(want.down_b.wanted(), rank_2);
  work.d_weights = take.sums(1);
  work.sums = take.sums(widest_product(request, work.common));
  work.parts = carver.take<float>(part_elements(request, work.common));
  return work;
}

ExpertsSizes unfused_sizes(const ExpertsRequest& request,
                           std::int64_t num_tokens,
                           GroupedProducts& products) {
  ExpertsSizes result;
  Carver forward, backward;
  UnfusedWork::forward(forward, request, num_tokens);
  products.carve(forward, request);
  result.forward_scratch_bytes = forward.used();
  if (!request.wanted.any()) return result;
  UnfusedWork::backward(backward, request, num_tokens);
  products.carve(backward, request);
  result.backward_scratch_bytes = backward.used();
  result.saved_bytes = SavedState::bytes(request, row_capacity(request, num_tokens));
  return result;
}

void UnfusedLayer::gather(const void* from, bool from_is_f32, void* to) const {
  gpu::gather_rows(layer.work.rows, {from, from_is_f32, request().hidden, to}, layer.f32(),
                   layer.stream);
}

void UnfusedLayer::multiply(const void* rows,
                            std::int64_t rows_stride,
                            const gpu::ExpertOperand& b,
                            std::span<const void* const> b_host,
                            std::int64_t n,
                            std::int64_t k,
                            bool accumulate,
                            std::int64_t first_column,
                            std::int64_t stride) const {
  GroupedProducts::ByMatrix product;
  product.a = rows, product.a_stride = rows_stride;
  product.b = b, product.b_host = b_host;
  product.n = n, product.k = k;
  product.sums = work.sums + first_column;
  product.stride = stride == 0 ? n : stride;
  product.accumulate = accumulate;
  products.run(product);
}

void UnfusedLayer::rank_product(const void* rows,
                                std::int64_t k,
                                const gpu::ExpertOperand& factor,
                                int rank,
                                float scale,
                                void* out,
                                void* weighted) const {
  multiply(rows, k, factor, {}, rank, k, false);
  gpu::round_rows(layer.work.rows, {work.sums, rank, scale, nullptr, false, out, weighted},
                  layer.f32(), layer.stream);
}

void UnfusedLayer::pre_activation(const void* u_1, void* h) const {
  const std::int64_t hidden = request().hidden, inter = request().inter;
  const std::int64_t width = request().gate_up_width();
  const ExpertsWeights& weights = layer.inputs.weights;
  const gpu::ExpertOperand first = layer.gate_up_matrix(layer.work.gate_up);
  if (layer.separate()) {
    multiply(work.x, hidden, first, weights.gate_up.base, inter, hidden, false, 0, width);
    multiply(work.x, hidden, layer.gate_up_matrix(layer.work.up), weights.up.base, inter, hidden,
             false, inter, width);
  } else {
    multiply(work.x, hidden, first, weights.gate_up.base, width, hidden, false);
  }
  if (const int rank = layer.work.lora_1.padded_rank; rank > 0) {
    multiply(u_1, rank, layer.factor_b(layer.work.lora_1, width), {}, width, rank, true);
  }
  gpu::round_rows(layer.work.rows,
                  {work.sums, width, 1.0f, request().gate_up_bias ? weights.gate_up_bias : nullptr,
                   request().weight_dtype == DType::kF32, h, nullptr},
                  layer.f32(), layer.stream);
}

}  // namespace moesmith::experts::on_cuda
