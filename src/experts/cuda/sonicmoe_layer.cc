// SPDX-License-Identifier: Apache-2.0
#include "experts/cuda/sonicmoe_layer.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/text.h"
#include "experts/routing.h"
#include "kernels/cuda/common/elementwise.h"
#include "kernels/cuda/common/routing.h"
#include "moesmith/error.h"

namespace moesmith::experts::on_cuda {

namespace gpu = kernels::gpu;
namespace sm90 = kernels::sm90;

namespace {

constexpr std::int64_t kBf16 = 2;

SonicFactors carve_factors(Carver& carver,
                           const ExpertsRequest& request,
                           const LoraSpec& lora,
                           std::int64_t in,
                           std::int64_t out) {
  SonicFactors factors;
  factors.rank = padded_lora_rank(lora);
  if (factors.rank == 0) return factors;
  const std::int64_t per_column =
      checked_mul(checked_mul(request.num_experts, factors.rank), kBf16);
  factors.a = carver.bytes(checked_mul(per_column, in));
  if (request.transposed) factors.a_by_col = carver.bytes(checked_mul(per_column, in));
  factors.b_by_rank = carver.bytes(checked_mul(per_column, out));
  if (!request.transposed) factors.b_by_col = carver.bytes(checked_mul(per_column, out));
  return factors;
}

SonicWork carve_common(Carver& carver, const ExpertsRequest& request, std::int64_t num_tokens) {
  SonicWork work;
  work.rows = carve_rows(carver, request, num_tokens);
  work.tiles =
      carver.bytes(sm90::tile_bytes(row_capacity(request, num_tokens), request.num_experts));
  work.pointers = carver.take<const void*>(checked_mul(request.num_experts, 3));
  work.lora_1 =
      carve_factors(carver, request, request.gate_up_lora, request.hidden, request.gate_up_width());
  work.lora_2 = carve_factors(carver, request, request.down_lora, request.inter, request.hidden);
  return work;
}

std::int64_t part_elements(const ExpertsRequest& request, const SonicWork& work) {
  const WantedGradients& want = request.wanted;
  const std::int64_t rows = work.rows.capacity;
  std::int64_t most = 0;
  const auto factor = [&](bool wanted, std::int64_t cols, std::int64_t rank) {
    if (!wanted) return;
    most = std::max(most, sm90::skinny_part_elements(rows, request.num_experts, cols, rank));
  };
  const auto bias = [&](bool wanted, std::int64_t cols) {
    if (wanted) most = std::max(most, cols * work.rows.tiles[gpu::kSumTiles].max_tiles);
  };
  factor(want.gate_up_a.wanted(), request.hidden, work.lora_1.rank);
  factor(want.gate_up_b.wanted(), request.gate_up_width(), work.lora_1.rank);
  factor(want.down_a.wanted(), request.inter, work.lora_2.rank);
  factor(want.down_b.wanted(), request.hidden, work.lora_2.rank);
  bias(want.gate_up_bias.wanted(), request.gate_up_width());
  bias(want.down_bias.wanted(), request.hidden);
  return most;
}

}  // namespace

SonicWork SonicWork::forward(Carver& carver,
                             const ExpertsRequest& request,
                             std::int64_t num_tokens) {
  const Needs needs(request);
  const std::int64_t row_bytes = checked_mul(row_capacity(request, num_tokens), kBf16);
  SonicWork work = carve_common(carver, request, num_tokens);
  if (!needs.save_u_1) work.u_1 = carver.bytes(checked_mul(row_bytes, work.lora_1.rank));
  if (!needs.save_u_2) work.u_2 = carver.bytes(checked_mul(row_bytes, work.lora_2.rank));
  work.a = carver.bytes(checked_mul(row_bytes, request.inter));
  work.per_row = carver.bytes(checked_mul(row_bytes, request.hidden));
  return work;
}

SonicWork SonicWork::backward(Carver& carver,
                              const ExpertsRequest& request,
                              std::int64_t num_tokens) {
  const Needs needs(request);
  const WantedGradients& want = request.wanted;
  const std::int64_t rows = row_capacity(request, num_tokens), width = request.gate_up_width();
  SonicWork work = carve_common(carver, request, num_tokens);
  const auto take = [&](bool needed, std::int64_t columns) {
    return needed ? carver.bytes(checked_mul(checked_mul(rows, kBf16), columns)) : nullptr;
  };
  if (request.d_output_dtype != DType::kBF16) {
    work.dy = carver.bytes(checked_mul(checked_mul(num_tokens, kBf16), request.hidden));
  }
  work.h = take(needs.h && !needs.save_h, width);
  work.d_h = take(needs.d_h, width);
  work.v_1 = take(needs.v_1, work.lora_1.rank);
  work.v_2 = take(needs.v_2, work.lora_2.rank);
  work.a = take(needs.a_again, request.inter);
  // Weighted at once unless A's gradient needs it as it is.
  work.weighted_a = take(want.down.wanted() && want.down_a.wanted(), request.inter);
  work.per_row = take(want.hidden.wanted(), request.hidden);
  if (want.top_k_weights.wanted()) {
    work.row_parts = carver.take<float>(checked_mul(rows, sm90::d_activation_parts(request.inter)));
  }
  work.parts = carver.take<float>(part_elements(request, work));
  return work;
}

void check_aligned(const char* what, const void* pointer) {
  const std::uintptr_t off = reinterpret_cast<std::uintptr_t>(pointer) % 16;
  if (off == 0) return;
  throw Error(ErrorCode::kInvalidInput, str("experts call: sonicmoe: ", what, ": got an address ",
                                            off, " bytes past a multiple of 16"));
}

bool SonicLayer::separate() const {
  return request.activation.gated && request.gate_up_layout == GateUpLayout::kSeparate;
}
bool SonicLayer::interleaved() const {
  return request.activation.gated && request.gate_up_layout == GateUpLayout::kInterleaved;
}

sm90::Layout SonicLayer::layout() const {
  if (!request.transposed) return sm90::Layout::kOutIn;
  return interleaved() ? sm90::Layout::kInOutAdjacent : sm90::Layout::kInOut;
}

void SonicLayer::check() const {
  check_aligned("hidden_states", inputs.hidden);
  const auto weights = [](const char* what, const ProjectionWeights& projection) {
    for (const void* base : projection.base) check_aligned(what, base);
    if (projection.row_stride % 8 != 0) {
      throw Error(ErrorCode::kInvalidInput,
                  str("experts call: sonicmoe: ", what, ": row_stride: got ", projection.row_stride,
                      ", expected a multiple of 8"));
    }
  };
  weights("weights.gate_up", inputs.weights.gate_up);
  weights("weights.down", inputs.weights.down);
  if (!separate()) return;
  weights("weights.up", inputs.weights.up);
  if (inputs.weights.up.row_stride != inputs.weights.gate_up.row_stride) {
    throw Error(ErrorCode::kInvalidInput,
                str("experts call: weights.up.row_stride: got ", inputs.weights.up.row_stride,
                    ", expected the gate's on CUDA, ", inputs.weights.gate_up.row_stride));
  }
}

void SonicLayer::prepare(bool forward) const {
  std::vector<const void*> pointers(inputs.weights.gate_up.base.begin(),
                                    inputs.weights.gate_up.base.end());
  const auto append = [&](const ProjectionWeights& weights) {
    pointers.insert(pointers.end(), weights.base.begin(), weights.base.end());
  };
  append(inputs.weights.down);
  if (separate()) append(inputs.weights.up);
  gpu::write_pointers(pointers, work.pointers, stream);
  gpu::build_rows(work.rows,
                  {inputs.top_k_index, request.index_dtype == DType::kI64, inputs.top_k_weights,
                   request.route_weights_dtype == DType::kBF16},
                  stream);
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  sm90::build_tiles(rows(), work.tiles, cuda_stream);
  std::vector<sm90::PackArgs> factors;
  const auto pack = [&](const LoraSpec& lora, const LoraFactors& from, const SonicFactors& to,
                        std::int64_t in, std::int64_t out, bool mixed, bool with_weights) {
    if (to.rank == 0) return;
    const bool transposed = request.transposed;
    sm90::PackArgs args{.num_experts = request.num_experts,
                        .cols = in,
                        .lora_rank = lora.lora_rank,
                        .rank = to.rank,
                        .in = from.a,
                        .in_f32 = lora.dtype == DType::kF32,
                        .is_a = true,
                        .by_rank = forward || !transposed ? to.a : nullptr,
                        .by_col = forward ? nullptr : to.a_by_col};
    factors.push_back(args);
    args.cols = out, args.in = from.b, args.is_a = false, args.interleaved = mixed;
    args.by_rank = !forward || transposed ? to.b_by_rank : nullptr;
    args.by_col = with_weights ? to.b_by_col : nullptr;
    factors.push_back(args);
  };
  pack(request.gate_up_lora, inputs.gate_up_lora, work.lora_1, request.hidden,
       request.gate_up_width(), mixed(), forward || work.h != nullptr);
  pack(request.down_lora, inputs.down_lora, work.lora_2, request.inter, request.hidden, false,
       forward);
  sm90::pack_factors(factors, cuda_stream);
}

sm90::Rows SonicLayer::rows() const {
  sm90::Rows rows;
  rows.num_experts = request.num_experts;
  rows.num_tokens = inputs.num_tokens;
  rows.top_k = request.top_k;
  rows.max_rows = work.rows.capacity;
  rows.offsets = work.rows.offsets;
  rows.row_token = work.rows.token_of;
  rows.row_weight = work.rows.weight_of;
  rows.slot_row = work.rows.row_of;
  rows.tiles = work.tiles;
  return rows;
}

sm90::Activation SonicLayer::activation() const {
  constexpr float kNone = std::numeric_limits<float>::infinity();
  const ActivationSpec& spec = request.activation;
  sm90::Activation act;
  switch (spec.kind) {
    case ActivationKind::kSilu:
      act.kind = sm90::ActivationKind::kSilu;
      break;
    case ActivationKind::kGelu:
      act.kind = sm90::ActivationKind::kGelu;
      break;
    case ActivationKind::kGeluTanh:
      act.kind = sm90::ActivationKind::kGeluTanh;
      break;
    case ActivationKind::kRelu:
      act.kind = sm90::ActivationKind::kRelu;
      break;
    case ActivationKind::kRelu2:
      act.kind = sm90::ActivationKind::kRelu2;
      break;
  }
  act.gated = spec.gated;
  act.gate_max = spec.gate_max.value_or(kNone);
  act.up_limit = spec.up_limit.value_or(kNone);
  act.alpha = spec.alpha;
  act.up_shift = spec.up_shift;
  return act;
}

namespace {

// Base and span over all matrices of the given projections.
sm90::Weights over(const ProjectionWeights& first, const ProjectionWeights* second) {
  std::uintptr_t low = std::numeric_limits<std::uintptr_t>::max(), high = 0;
  const auto see = [&](const ProjectionWeights& projection) {
    for (const void* base : projection.base) {
      low = std::min(low, reinterpret_cast<std::uintptr_t>(base));
      high = std::max(high, reinterpret_cast<std::uintptr_t>(base));
    }
  };
  see(first);
  if (second != nullptr) see(*second);
  sm90::Weights weights;
  weights.base = reinterpret_cast<const void*>(low);
  weights.span = static_cast<std::int64_t>(high - low) / kBf16;
  weights.row_stride = first.row_stride;
  return weights;
}

void check_reach(const char* what, const sm90::Weights& weights) {
  const std::string why = sm90::refusal(weights);
  if (!why.empty()) {
    throw Error(ErrorCode::kInvalidInput, str("experts call: sonicmoe: ", what, ": ", why));
  }
}

}  // namespace

sm90::Weights SonicLayer::gate_up() const {
  const ProjectionWeights& first = inputs.weights.gate_up;
  sm90::Weights weights = over(first, separate() ? &inputs.weights.up : nullptr);
  weights.table = work.pointers;
  if (separate()) {
    weights.pair_table = work.pointers + 2 * request.num_experts;
  } else if (mixed()) {
    weights.pair_stride = first.row_stride;
    weights.row_stride = 2 * first.row_stride;
  } else if (pairs() == 2 && !interleaved()) {
    weights.pair_stride = request.transposed ? request.inter : request.inter * first.row_stride;
  }
  check_reach("weights.gate_up", weights);
  return weights;
}

sm90::Weights SonicLayer::down() const {
  sm90::Weights weights = over(inputs.weights.down, nullptr);
  weights.table = work.pointers + request.num_experts;
  check_reach("weights.down", weights);
  return weights;
}

void SonicLayer::pre_activation(void* u_1, bool compute_u_1, void* h, void* a) const {
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  const std::int64_t rank = work.lora_1.rank;
  if (rank > 0 && compute_u_1) {
    sm90::skinny({.rows = rows(),
                  .cols = request.hidden,
                  .rank = rank,
                  .gathered = true,
                  .p = inputs.hidden,
                  .q = work.lora_1.a,
                  .scale = request.gate_up_lora.lora_scale,
                  .narrow = u_1},
                 cuda_stream);
  }
  sm90::UpArgs args;
  args.rows = rows();
  args.hidden = request.hidden;
  args.inter = request.inter;
  args.x = inputs.hidden;
  args.weights = gate_up();
  args.layout = layout();
  if (request.gate_up_bias) {
    args.bias = inputs.weights.gate_up_bias;
    args.bias_stride = mixed() ? 2 : 1;
    args.bias_pair_stride = mixed() ? 1 : request.inter;
    args.bias_expert_stride = request.gate_up_width();
  }
  if (rank > 0) args.low_rank = {u_1, work.lora_1.with_weights(request.transposed), rank};
  args.activation = activation();
  args.h = h;
  args.a = a;
  sm90::up_projection(args, cuda_stream);
}

}  // namespace moesmith::experts::on_cuda
