// SPDX-License-Identifier: Apache-2.0
// v2 = s2 dy B2; dA' = dy W2 + v2 A2, from which the epilogue makes d_h, a, w a and the parts of
// <dA', a>; v1 = s1 d_h B1; per row dx = d_h W1 + v1 A1; then the sums over rows. Formulas:
// docs/experts.md.
#include "cuda/launch.h"
#include "experts/cuda/layer.h"
#include "experts/cuda/passes.h"
#include "experts/routing.h"

namespace moesmith::experts::on_cuda {
namespace {

namespace gpu = kernels::gpu;

struct Backward {
  const Layer& layer;
  const BackwardArgs& args;
  const Needs needs;
  const void* dy;  // [T, H] compute dtype
  const void* h;
  const SavedState& saved;

  const ExpertsRequest& request() const { return layer.request; }
  const Work& work() const { return layer.work; }

  void run() const {
    const WantedGradients& want = request().wanted;
    if (needs.v_2) {
      layer.rank_product(layer.by_token(dy, request().hidden),
                         Layer::flipped(layer.factor_b(work().lora_2, request().hidden)),
                         request().hidden, work().lora_2.padded_rank,
                         request().down_lora.lora_scale, work().v_2, work().weighted_v_2);
    }
    if (needs.d_a) {
      d_activation();
    } else if (needs.a_again) {
      gpu::activate_rows(work().rows, gpu::Activation::of(request()), h, work().a,
                         work().weighted_a, request().inter, layer.f32(), layer.stream);
    }
    if (want.top_k_weights.wanted()) d_top_k_weights();
    if (needs.v_1) {
      const std::int64_t width = request().gate_up_width();
      layer.rank_product(layer.by_row(work().d_h, width),
                         Layer::flipped(layer.factor_b(work().lora_1, width)), width,
                         work().lora_1.padded_rank, request().gate_up_lora.lora_scale, work().v_1);
    }
    if (want.hidden.wanted()) d_hidden();
    if (want.down_b.wanted()) {
      gpu::weigh_rows(work().rows, saved.u_2, work().weighted_u_2, work().lora_2.padded_rank,
                      layer.f32(), layer.stream);
    }
    weights();
    factors();
    biases();
  }

  void d_activation() const {
    gpu::RowProduct product;
    product.segment[product.num_segments++] = {layer.by_token(dy, request().hidden),
                                               Layer::flipped(layer.down()),
                                               static_cast<int>(request().hidden)};
    if (needs.lora_2) {
      const int rank = work().lora_2.padded_rank;
      product.segment[product.num_segments++] = {
          layer.by_row(work().v_2, rank),
          Layer::flipped(layer.factor_a(work().lora_2, request().inter)), rank};
    }
    product.n = static_cast<int>(request().inter);
    gpu::Epilogue& epilogue = product.epilogue;
    epilogue.kind = gpu::EpilogueKind::kActivationBackward;
    epilogue.activation = gpu::Activation::of(request());
    epilogue.width = request().gate_up_width();
    epilogue.h = const_cast<void*>(h);
    epilogue.d_h = work().d_h;
    epilogue.a = work().a;
    epilogue.weighted_a = work().weighted_a;
    epilogue.d_weight_parts = work().d_weights;
    layer.run(product, true);
  }

  void d_top_k_weights() const {
    gpu::RouteGradient gradient;
    gradient.parts = work().d_weights;
    gradient.num_parts = work().d_weight_tiles;
    gradient.dy = dy;
    if (request().down_bias) gradient.bias = layer.inputs.weights.down_bias;
    gradient.bias_is_f32 = request().weight_dtype == DType::kF32;
    gradient.hidden = request().hidden;
    gradient.target = Layer::target(request().wanted.top_k_weights, args.gradients.top_k_weights);
    gpu::route_gradient(work().rows, gradient, layer.f32(), layer.stream);
  }

  void d_hidden() const {
    const std::int64_t width = request().gate_up_width();
    gpu::RowProduct product;
    const auto add = [&](const void* rows, std::int64_t ld, const gpu::ExpertOperand& operand,
                         std::int64_t k) {
      product.segment[product.num_segments++] = {layer.by_row(rows, ld), Layer::flipped(operand),
                                                 static_cast<int>(k)};
    };
    if (layer.separate()) {
      const auto* up = static_cast<const char*>(work().d_h) +
                       request().inter * dtype_size(request().compute_dtype);
      add(work().d_h, width, layer.gate_up_matrix(work().gate_up), request().inter);
      gpu::ExpertOperand up_matrix = layer.gate_up_matrix(work().up);
      up_matrix.stride = layer.inputs.weights.up.row_stride;
      add(up, width, up_matrix, request().inter);
    } else {
      add(work().d_h, width, layer.gate_up_matrix(work().gate_up), width);
    }
    if (needs.lora_1) {
      const int rank = work().lora_1.padded_rank;
      add(work().v_1, rank, layer.factor_a(work().lora_1, request().hidden), rank);
    }
    product.n = static_cast<int>(request().hidden);
    product.epilogue.out = work().per_row;
    product.epilogue.ld = request().hidden;
    layer.run(product, true);
    gpu::combine(work().rows,
                 {work().per_row, request().hidden, layer.inputs.num_tokens, false,
                  Layer::target(request().wanted.hidden, args.gradients.hidden)},
                 layer.f32(), layer.stream);
  }

  // target [E, m, n] = left^T right over an expert's rows; transposed weights take [E, n, m].
  void weight_gradient(const GradSpec& spec,
                       void* data,
                       const gpu::RowOperand& left,
                       std::int64_t m,
                       const gpu::RowOperand& right,
                       std::int64_t n) const {
    if (!spec.wanted()) return;
    gpu::RowSum sum;
    sum.left = left, sum.right = right;
    sum.m = static_cast<int>(m), sum.n = static_cast<int>(n);
    if (request().transposed) std::swap(sum.left, sum.right), std::swap(sum.m, sum.n);
    sum.token_of = work().rows.token_of;
    sum.offsets = work().rows.offsets;
    sum.num_experts = work().rows.num_experts;
    const gpu::GradientTarget target = Layer::target(spec, data);
    sum.out = target.data, sum.out_is_f32 = target.is_f32, sum.accumulate = target.accumulate;
    gpu::run_row_sum(sum, layer.stream);
  }

  void weights() const {
    const std::int64_t hidden = request().hidden, width = request().gate_up_width();
    weight_gradient(request().wanted.gate_up, args.gradients.gate_up,
                    layer.by_row(work().d_h, width), width,
                    layer.by_token(layer.inputs.hidden, hidden), hidden);
    weight_gradient(request().wanted.down, args.gradients.down, layer.by_token(dy, hidden), hidden,
                    layer.by_row(work().weighted_a, request().inter), request().inter);
  }

  // wide^T narrow by tiles of rows, then added up in PEFT's layout.
  void factor_gradient(const GradSpec& spec,
                       void* data,
                       gpu::SumLayout layout,
                       const LoraSpec& lora,
                       const gpu::RowOperand& wide,
                       std::int64_t num_wide,
                       const void* narrow) const {
    if (!spec.wanted()) return;
    const auto rank = static_cast<int>(padded_lora_rank(lora));
    gpu::RowSum sum;
    sum.left = wide, sum.right = layer.by_row(narrow, rank);
    sum.m = static_cast<int>(num_wide), sum.n = rank;
    sum.token_of = work().rows.token_of;
    sum.tiles = work().rows.tiles[gpu::kSumTiles];
    sum.out = work().parts;
    gpu::run_row_sum(sum, layer.stream);
    gpu::sum_parts(
        {work().parts, work().rows.tiles[gpu::kSumTiles], work().rows.num_experts, num_wide, rank,
         static_cast<int>(lora.lora_rank), layout, Layer::target(spec, data)},
        layer.stream);
  }

  void factors() const {
    const WantedGradients& want = request().wanted;
    const ExpertsGradients& to = args.gradients;
    const std::int64_t hidden = request().hidden, inter = request().inter;
    const std::int64_t width = request().gate_up_width();
    factor_gradient(want.gate_up_a, to.gate_up_a, gpu::SumLayout::kA, request().gate_up_lora,
                    layer.by_token(layer.inputs.hidden, hidden), hidden, work().v_1);
    factor_gradient(want.gate_up_b, to.gate_up_b, gpu::SumLayout::kB, request().gate_up_lora,
                    layer.by_row(work().d_h, width), width, saved.u_1);
    factor_gradient(want.down_a, to.down_a, gpu::SumLayout::kA, request().down_lora,
                    layer.by_row(work().a, inter), inter, work().weighted_v_2);
    factor_gradient(want.down_b, to.down_b, gpu::SumLayout::kB, request().down_lora,
                    layer.by_token(dy, hidden), hidden, work().weighted_u_2);
  }

  void bias_gradient(const GradSpec& spec,
                     void* data,
                     const void* rows,
                     std::int64_t width,
                     bool of_output) const {
    if (!spec.wanted()) return;
    gpu::column_sums(work().rows, {rows, width, of_output, of_output, work().parts}, layer.f32(),
                     layer.stream);
    gpu::sum_parts({work().parts, work().rows.tiles[gpu::kSumTiles], work().rows.num_experts, width,
                    1, 0, gpu::SumLayout::kDense, Layer::target(spec, data)},
                   layer.stream);
  }

  void biases() const {
    bias_gradient(request().wanted.gate_up_bias, args.gradients.gate_up_bias, work().d_h,
                  request().gate_up_width(), false);
    bias_gradient(request().wanted.down_bias, args.gradients.down_bias, dy, request().hidden, true);
  }
};

}  // namespace

void run_backward(const ExpertsRequest& request,
                  const BackwardArgs& args,
                  const CudaStream& stream) {
  const cuda::DeviceGuard guard(stream.device);
  const ExpertsInputs& inputs = args.inputs;
  Carver carver(args.scratch.data());
  Work work = Work::backward(carver, request, inputs.num_tokens);
  work.use_factors(request, inputs);
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, inputs.num_tokens));
  const Layer layer{request, inputs, work, stream.stream};
  layer.prepare();
  const void* h = saved.h;
  if (work.h != nullptr) {
    layer.pre_activation(saved.u_1, work.h, nullptr);
    h = work.h;
  }
  const void* dy = args.d_output;
  if (work.dy != nullptr) {
    gpu::round_to_bf16(args.d_output, work.dy, inputs.num_tokens * request.hidden, stream.stream);
    dy = work.dy;
  }
  Backward{layer, args, Needs(request), dy, h, saved}.run();
}

}  // namespace moesmith::experts::on_cuda
