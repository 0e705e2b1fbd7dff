// SPDX-License-Identifier: Apache-2.0
#include "experts/cuda/layer.h"

#include <vector>

#include "core/text.h"
#include "kernels/cuda/common/routing.h"
#include "moesmith/error.h"

namespace moesmith::experts::on_cuda {

namespace gpu = kernels::gpu;

void Layer::prepare() const {
  if (separate() && inputs.weights.up.row_stride != inputs.weights.gate_up.row_stride) {
    throw Error(ErrorCode::kInvalidInput,
                str("experts call: weights.up.row_stride: got ", inputs.weights.up.row_stride,
                    ", expected the gate's on CUDA, ", inputs.weights.gate_up.row_stride));
  }
  std::vector<const void*> pointers(inputs.weights.gate_up.base.begin(),
                                    inputs.weights.gate_up.base.end());
  const auto append = [&](const ProjectionWeights& weights) {
    pointers.insert(pointers.end(), weights.base.begin(), weights.base.end());
  };
  append(inputs.weights.down);
  if (separate()) append(inputs.weights.up);
  gpu::write_pointers(pointers, work.gate_up, stream);
  gpu::build_rows(work.rows,
                  {inputs.top_k_index, request.index_dtype == DType::kI64, inputs.top_k_weights,
                   request.route_weights_dtype == DType::kBF16},
                  stream);
  const auto pack = [&](const LoraSpec& lora, const LoraFactors& factors, const Factors& packed,
                        std::int64_t in, std::int64_t out) {
    if (lora.lora_rank == 0) return;
    gpu::pack_lora(
        {factors.a, factors.b, lora.dtype == DType::kF32, static_cast<int>(lora.lora_rank),
         packed.padded_rank, work.rows.num_experts, in, out, request.transposed,
         packed.a_in_place ? nullptr : packed.a, packed.b, f32()},
        stream);
  };
  pack(request.gate_up_lora, inputs.gate_up_lora, work.lora_1, request.hidden,
       request.gate_up_width());
  pack(request.down_lora, inputs.down_lora, work.lora_2, request.inter, request.hidden);
}

gpu::RowOperand Layer::by_row(const void* data, std::int64_t ld) const {
  return {data, ld, false, f32()};
}
gpu::RowOperand Layer::by_token(const void* data, std::int64_t ld) const {
  return {data, ld, true, f32()};
}

gpu::ExpertOperand Layer::gate_up_matrix(const void* const* table) const {
  gpu::ExpertOperand operand;
  operand.table = table;
  operand.stride = inputs.weights.gate_up.row_stride;
  operand.k_major = !request.transposed;
  operand.is_f32 = request.weight_dtype == DType::kF32;
  return operand;
}

gpu::ExpertOperand Layer::gate_up_pairs() const {
  gpu::ExpertOperand operand = gate_up_matrix(work.gate_up);
  if (!paired()) return operand;
  if (separate()) {
    operand.up_table = work.up;
  } else if (!interleaved()) {
    operand.up_offset = request.inter * (request.transposed ? 1 : operand.stride);
  } else if (!request.transposed) {
    operand.row_step = 2;
    operand.up_offset = operand.stride;
  }
  return operand;
}

gpu::ExpertOperand Layer::down() const {
  gpu::ExpertOperand operand;
  operand.table = work.down;
  operand.stride = inputs.weights.down.row_stride;
  operand.k_major = !request.transposed;
  operand.is_f32 = request.weight_dtype == DType::kF32;
  return operand;
}

gpu::ExpertOperand Layer::factor_a(const Factors& factors, std::int64_t in) const {
  gpu::ExpertOperand operand;
  operand.data = factors.a;
  operand.expert_stride = in * factors.padded_rank;
  operand.stride = request.transposed ? factors.padded_rank : in;
  operand.k_major = !request.transposed;
  operand.is_f32 = f32();
  return operand;
}

gpu::ExpertOperand Layer::factor_b(const Factors& factors, std::int64_t out) const {
  gpu::ExpertOperand operand;
  operand.data = factors.b;
  operand.expert_stride = out * factors.padded_rank;
  operand.stride = request.transposed ? out : factors.padded_rank;
  operand.k_major = !request.transposed;
  operand.is_f32 = f32();
  return operand;
}

gpu::ExpertOperand Layer::gate_up_factor_b_pairs() const {
  gpu::ExpertOperand operand = factor_b(work.lora_1, request.gate_up_width());
  if (!paired()) return operand;
  if (!interleaved()) {
    operand.up_offset = request.inter * (request.transposed ? 1 : operand.stride);
  } else if (!request.transposed) {
    operand.row_step = 2;
    operand.up_offset = operand.stride;
  }
  return operand;
}

gpu::ExpertOperand Layer::flipped(gpu::ExpertOperand operand) {
  operand.k_major = !operand.k_major;
  return operand;
}

void Layer::run(gpu::RowProduct& product, bool base_weight) const {
  const int columns = product.pairing == gpu::Pairing::kNone ? product.n : 2 * product.n;
  const gpu::TileShape shape = gpu::row_product_shape(
      on_tensor_cores(request, base_weight), columns, work.rows.capacity, work.rows.num_experts);
  product.token_of = work.rows.token_of;
  product.tiles = work.rows.tiles[shape.rows];
  product.epilogue.weight_of = work.rows.weight_of;
  gpu::run_row_product(product, shape, f32(), stream);
}

void Layer::rank_product(const gpu::RowOperand& a,
                         const gpu::ExpertOperand& factor,
                         std::int64_t k,
                         int rank,
                         float scale,
                         void* out,
                         void* weighted) const {
  gpu::RowProduct product;
  product.segment[product.num_segments++] = {a, factor, static_cast<int>(k)};
  product.n = rank;
  product.epilogue.scale = scale;
  product.epilogue.out = out;
  product.epilogue.ld = rank;
  product.epilogue.weighted = weighted;
  run(product, false);
}

void Layer::pre_activation(const void* u_1, void* h, void* a) const {
  gpu::RowProduct product;
  product.segment[product.num_segments++] = {by_token(inputs.hidden, request.hidden),
                                             gate_up_pairs(), static_cast<int>(request.hidden)};
  if (work.lora_1.padded_rank > 0) {
    product.segment[product.num_segments++] = {by_row(u_1, work.lora_1.padded_rank),
                                               gate_up_factor_b_pairs(), work.lora_1.padded_rank};
  }
  product.n = static_cast<int>(request.inter);
  if (paired()) {
    product.pairing =
        interleaved() && request.transposed ? gpu::Pairing::kAdjacent : gpu::Pairing::kHalves;
  }
  gpu::Epilogue& epilogue = product.epilogue;
  epilogue.kind = gpu::EpilogueKind::kActivation;
  epilogue.activation = gpu::Activation::of(request);
  epilogue.width = request.gate_up_width();
  epilogue.h = h;
  epilogue.a = a;
  if (request.gate_up_bias) epilogue.bias = inputs.weights.gate_up_bias;
  epilogue.bias_is_f32 = request.weight_dtype == DType::kF32;
  run(product, true);
}

gpu::GradientTarget Layer::target(const GradSpec& spec, void* data) {
  return {data, spec.dtype == DType::kF32, spec.mode == GradMode::kAccumulate};
}

}  // namespace moesmith::experts::on_cuda
