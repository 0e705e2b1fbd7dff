// SPDX-License-Identifier: Apache-2.0
// v2 = s2 dy B2; dA' = dy W2 + v2 A2; d_h, a, w a and <dA', a> from it; v1 = s1 d_h B1; per row dx
// = d_h W1 + v1 A1; then the sums over rows. Formulas: docs/experts.md.
#include "cuda/launch.h"
#include "experts/cuda/unfused.h"
#include "experts/routing.h"
#include "kernels/cuda/common/unfused.h"

namespace moesmith::experts::on_cuda {
namespace {

namespace gpu = kernels::gpu;

struct Backward {
  const UnfusedLayer& to;
  const BackwardArgs& args;
  const Needs needs;
  const void* h;
  const SavedState& saved;

  const Layer& layer() const { return to.layer; }
  const ExpertsRequest& request() const { return to.request(); }
  const UnfusedWork& work() const { return to.work; }
  const gpu::Rows& rows() const { return layer().work.rows; }
  const Factors& lora_1() const { return layer().work.lora_1; }
  const Factors& lora_2() const { return layer().work.lora_2; }
  bool d_output_is_f32() const { return request().d_output_dtype == DType::kF32; }

  void run() const {
    const WantedGradients& want = request().wanted;
    const std::int64_t width = request().gate_up_width(), hidden = request().hidden;
    to.gather(args.d_output, d_output_is_f32(), work().dy);
    if (needs.v_2) {
      to.rank_product(work().dy, hidden, Layer::flipped(layer().factor_b(lora_2(), hidden)),
                      lora_2().padded_rank, request().down_lora.lora_scale, work().v_2,
                      work().weighted_v_2);
    }
    if (needs.d_a) {
      d_activation();
    } else if (needs.a_again) {
      gpu::activate_rows(rows(), gpu::Activation::of(request()), h, work().a, work().weighted_a,
                         request().inter, layer().f32(), layer().stream);
    }
    if (want.top_k_weights.wanted()) d_top_k_weights();
    if (needs.v_1) {
      to.rank_product(work().d_h, width, Layer::flipped(layer().factor_b(lora_1(), width)),
                      lora_1().padded_rank, request().gate_up_lora.lora_scale, work().v_1);
    }
    if (want.hidden.wanted()) d_hidden();
    if (want.down_b.wanted()) {
      gpu::weigh_rows(rows(), saved.u_2, work().weighted_u_2, lora_2().padded_rank, layer().f32(),
                      layer().stream);
    }
    weights();
    factors();
    biases();
  }

  void d_activation() const {
    const std::int64_t hidden = request().hidden, inter = request().inter;
    to.multiply(work().dy, hidden, Layer::flipped(layer().down()), layer().inputs.weights.down.base,
                inter, hidden, false);
    if (needs.lora_2) {
      const int rank = lora_2().padded_rank;
      to.multiply(work().v_2, rank, Layer::flipped(layer().factor_a(lora_2(), inter)), {}, inter,
                  rank, true);
    }
    gpu::activation_gradient(rows(),
                             {gpu::Activation::of(request()), inter, work().sums, h, work().d_h,
                              work().a, work().weighted_a, work().d_weights},
                             layer().f32(), layer().stream);
  }

  void d_top_k_weights() const {
    gpu::RouteGradient gradient;
    gradient.parts = work().d_weights;
    gradient.num_parts = 1;
    gradient.dy = args.d_output;
    if (request().down_bias) gradient.bias = layer().inputs.weights.down_bias;
    gradient.bias_is_f32 = request().weight_dtype == DType::kF32;
    gradient.hidden = request().hidden;
    gradient.target = Layer::target(request().wanted.top_k_weights, args.gradients.top_k_weights);
    gpu::route_gradient(rows(), gradient, d_output_is_f32(), layer().stream);
  }

  void d_hidden() const {
    const std::int64_t width = request().gate_up_width(), hidden = request().hidden;
    const std::int64_t inter = request().inter;
    const ExpertsWeights& weights = layer().inputs.weights;
    const gpu::ExpertOperand first = Layer::flipped(layer().gate_up_matrix(layer().work.gate_up));
    if (layer().separate()) {
      const auto* d_up =
          static_cast<const char*>(work().d_h) + inter * dtype_size(request().compute_dtype);
      to.multiply(work().d_h, width, first, weights.gate_up.base, hidden, inter, false);
      to.multiply(d_up, width, Layer::flipped(layer().gate_up_matrix(layer().work.up)),
                  weights.up.base, hidden, inter, true);
    } else {
      to.multiply(work().d_h, width, first, weights.gate_up.base, hidden, width, false);
    }
    if (needs.lora_1) {
      const int rank = lora_1().padded_rank;
      to.multiply(work().v_1, rank, Layer::flipped(layer().factor_a(lora_1(), hidden)), {}, hidden,
                  rank, true);
    }
    gpu::combine(rows(),
                 {work().sums, hidden, layer().inputs.num_tokens, false,
                  Layer::target(request().wanted.hidden, args.gradients.hidden)},
                 true, layer().stream);
  }

  // target [E, m, n] = left^T right over an expert's rows; transposed weights take [E, n, m].
  void weight_gradient(const GradSpec& spec,
                       void* data,
                       const void* left,
                       std::int64_t m,
                       const void* right,
                       std::int64_t n) const {
    if (!spec.wanted()) return;
    const gpu::GradientTarget target = Layer::target(spec, data);
    if (!target.accumulate) {  // experts without rows
      cuda::set_bytes(data, 0, request().num_experts * m * n * dtype_size(spec.dtype),
                      layer().stream);
    }
    GroupedProducts::ByRows product{left, right, m, n, data, target.is_f32, target.accumulate};
    if (request().transposed) {
      std::swap(product.left, product.right), std::swap(product.m, product.n);
    }
    to.products.run(product);
  }

  void weights() const {
    const WantedGradients& want = request().wanted;
    const ExpertsGradients& into = args.gradients;
    weight_gradient(want.gate_up, into.gate_up, work().d_h, request().gate_up_width(), work().x,
                    request().hidden);
    weight_gradient(want.down, into.down, work().dy, request().hidden, work().weighted_a,
                    request().inter);
  }

  // wide^T narrow per expert, then into PEFT's layout.
  void factor_gradient(const GradSpec& spec,
                       void* data,
                       gpu::SumLayout layout,
                       const LoraSpec& lora,
                       const void* wide,
                       std::int64_t num_wide,
                       const void* narrow) const {
    if (!spec.wanted()) return;
    const auto rank = static_cast<int>(padded_lora_rank(lora));
    const auto num_experts = static_cast<int>(request().num_experts);
    cuda::set_bytes(work().parts, 0, request().num_experts * num_wide * rank * 4, layer().stream);
    to.products.run(
        GroupedProducts::ByRows{wide, narrow, num_wide, rank, work().parts, true, false});
    gpu::sum_parts({work().parts,
                    {},
                    num_experts,
                    num_wide,
                    rank,
                    static_cast<int>(lora.lora_rank),
                    layout,
                    Layer::target(spec, data)},
                   layer().stream);
  }

  void factors() const {
    const WantedGradients& want = request().wanted;
    const ExpertsGradients& into = args.gradients;
    factor_gradient(want.gate_up_a, into.gate_up_a, gpu::SumLayout::kA, request().gate_up_lora,
                    work().x, request().hidden, work().v_1);
    factor_gradient(want.gate_up_b, into.gate_up_b, gpu::SumLayout::kB, request().gate_up_lora,
                    work().d_h, request().gate_up_width(), saved.u_1);
    factor_gradient(want.down_a, into.down_a, gpu::SumLayout::kA, request().down_lora, work().a,
                    request().inter, work().weighted_v_2);
    factor_gradient(want.down_b, into.down_b, gpu::SumLayout::kB, request().down_lora, work().dy,
                    request().hidden, work().weighted_u_2);
  }

  void bias_gradient(const GradSpec& spec,
                     void* data,
                     const void* of_rows,
                     std::int64_t width,
                     bool weighted) const {
    if (!spec.wanted()) return;
    gpu::column_sums(rows(), {of_rows, width, false, weighted, work().parts}, layer().f32(),
                     layer().stream);
    gpu::sum_parts({work().parts, rows().tiles[gpu::kSumTiles], rows().num_experts, width, 1, 0,
                    gpu::SumLayout::kDense, Layer::target(spec, data)},
                   layer().stream);
  }

  void biases() const {
    bias_gradient(request().wanted.gate_up_bias, args.gradients.gate_up_bias, work().d_h,
                  request().gate_up_width(), false);
    bias_gradient(request().wanted.down_bias, args.gradients.down_bias, work().dy, request().hidden,
                  true);
  }
};

}  // namespace

void unfused_backward(const ExpertsRequest& request,
                      const BackwardArgs& args,
                      const CudaStream& stream,
                      GroupedProducts& products) {
  const cuda::DeviceGuard guard(stream.device);
  const ExpertsInputs& inputs = args.inputs;
  Carver carver(args.scratch.data());
  const UnfusedWork work = UnfusedWork::backward(carver, request, inputs.num_tokens);
  products.carve(carver, request);
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, inputs.num_tokens));
  const UnfusedLayer to{{request, inputs, work.common, stream.stream}, work, products};
  to.layer.prepare();
  products.begin(work.common.rows, stream);
  if (work.x != nullptr) to.gather(inputs.hidden, to.layer.f32(), work.x);
  if (work.h != nullptr) to.pre_activation(saved.u_1, work.h);
  const void* h = work.h != nullptr ? work.h : saved.h;
  Backward{to, args, Needs(request), h, saved}.run();
}

}  // namespace moesmith::experts::on_cuda
