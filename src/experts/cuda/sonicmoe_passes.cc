// SPDX-License-Identifier: Apache-2.0
// sonicmoe's two passes. Formulas: docs/experts.md; the kernels and what bounds them:
// docs/cuda-sonicmoe.md.
#include "cuda/launch.h"
#include "experts/cuda/sonicmoe.h"
#include "experts/cuda/sonicmoe_layer.h"
#include "experts/routing.h"
#include "kernels/cuda/common/elementwise.h"
#include "kernels/cuda/common/lora.h"
#include "kernels/cuda/sm90/weight_gradient.h"

namespace moesmith::experts::on_cuda {
namespace {

namespace gpu = kernels::gpu;
namespace sm90 = kernels::sm90;

gpu::GradientTarget target_of(const GradSpec& spec, void* data) {
  return {data, spec.dtype == DType::kF32, spec.mode == GradMode::kAccumulate};
}

struct SonicBackward {
  const SonicLayer& layer;
  const BackwardArgs& args;
  const Needs needs;
  const void* dy;  // [T, H] bf16
  const void* h;
  const SavedState& saved;

  const ExpertsRequest& request() const { return layer.request; }
  const SonicWork& work() const { return layer.work; }
  const WantedGradients& want() const { return layer.request.wanted; }
  cudaStream_t stream() const { return static_cast<cudaStream_t>(layer.stream); }

  void run() const {
    // v2 and dB2 in one pass over dy.
    wide_pass(dy, request().hidden, true, needs.v_2 ? work().lora_2.b_by_rank : nullptr,
              request().down_lora, work().v_2, want().down_b, saved.u_2, true,
              args.gradients.down_b, false, false);
    if (needs.d_a || needs.a_again) d_activation();
    wide_pass(work().a, request().inter, false, nullptr, request().down_lora, nullptr,
              want().down_a, work().v_2, true, args.gradients.down_a, true, false);
    // v1 and dB1 in one pass over dh.
    wide_pass(work().d_h, request().gate_up_width(), false,
              needs.v_1 ? work().lora_1.b_by_rank : nullptr, request().gate_up_lora, work().v_1,
              want().gate_up_b, saved.u_1, false, args.gradients.gate_up_b, false, layer.mixed());
    wide_pass(layer.inputs.hidden, request().hidden, true, nullptr, request().gate_up_lora, nullptr,
              want().gate_up_a, work().v_1, false, args.gradients.gate_up_a, true, false);
    if (want().hidden.wanted()) d_hidden();
    weights();
    biases();
  }

  // One pass over wide rows: narrow = s wide q^T where q is given, and where it is wanted the
  // gradient of a factor, wide^T n.
  void wide_pass(const void* wide,
                 std::int64_t cols,
                 bool gathered,
                 const void* q,
                 const LoraSpec& lora,
                 void* narrow,
                 const GradSpec& spec,
                 const void* n,
                 bool weighted,
                 void* out,
                 bool is_a,
                 bool mixed) const {
    if (q == nullptr && !spec.wanted()) return;
    const std::int64_t rank = padded_lora_rank(lora);
    sm90::skinny({.rows = layer.rows(),
                  .cols = cols,
                  .rank = rank,
                  .gathered = gathered,
                  .weighted = weighted,
                  .p = wide,
                  .q = q,
                  .scale = lora.lora_scale,
                  .narrow = narrow,
                  .n = spec.wanted() ? n : nullptr,
                  .parts = work().parts},
                 stream());
    if (!spec.wanted()) return;
    sm90::factor_gradient({.rows = layer.rows(),
                           .cols = cols,
                           .rank = rank,
                           .lora_rank = lora.lora_rank,
                           .parts = work().parts,
                           .is_a = is_a,
                           .interleaved = mixed,
                           .out = out,
                           .out_f32 = spec.dtype == DType::kF32,
                           .accumulate = spec.mode == GradMode::kAccumulate},
                          stream());
  }

  void d_activation() const {
    sm90::DActivationArgs d;
    d.rows = layer.rows();
    d.hidden = request().hidden;
    d.inter = request().inter;
    d.dy = dy;
    d.weights = layer.down();
    d.layout = layer.layout();
    if (needs.v_2) {
      d.low_rank = {work().v_2, work().lora_2.with_flipped(request().transposed),
                    work().lora_2.rank};
    }
    d.activation = layer.activation();
    d.h = h;
    d.dh = work().d_h;
    d.a = work().a;
    d.weigh_a = want().down.wanted() && work().weighted_a == nullptr;
    d.row_parts = work().row_parts;
    const int parts = sm90::d_activation(d, stream());
    if (!want().top_k_weights.wanted()) return;
    gpu::RouteGradient gradient;
    gradient.parts = work().row_parts;
    gradient.num_parts = parts;
    gradient.dy = dy;
    if (request().down_bias) gradient.bias = layer.inputs.weights.down_bias;
    gradient.bias_is_f32 = false;
    gradient.hidden = request().hidden;
    gradient.target = target_of(want().top_k_weights, args.gradients.top_k_weights);
    gpu::route_gradient(work().rows, gradient, false, layer.stream);
  }

  void d_hidden() const {
    sm90::DHiddenArgs d;
    d.rows = layer.rows();
    d.hidden = request().hidden;
    d.inter = request().inter;
    d.gated = request().activation.gated;
    d.dh = work().d_h;
    d.weights = layer.gate_up();
    d.layout = layer.layout();
    if (needs.v_1) {
      d.low_rank = {work().v_1, work().lora_1.with_flipped(request().transposed),
                    work().lora_1.rank};
    }
    d.dx = work().per_row;
    sm90::d_hidden(d, stream());
    const GradSpec& spec = want().hidden;
    sm90::combine({.rows = layer.rows(),
                   .hidden = request().hidden,
                   .weighted = false,
                   .in = work().per_row,
                   .out = args.gradients.hidden,
                   .out_f32 = spec.dtype == DType::kF32,
                   .accumulate = spec.mode == GradMode::kAccumulate},
                  stream());
  }

  // out [E, m, n] = by_row^T by_token or, `flipped`, by_token^T by_row over an expert's rows.
  void weight_gradient(const GradSpec& spec,
                       void* data,
                       const void* by_row,
                       std::int64_t row_width,
                       const void* by_token,
                       bool flipped,
                       bool interleaved) const {
    if (!spec.wanted()) return;
    const std::int64_t hidden = request().hidden;
    sm90::weight_gradient({.rows = layer.rows(),
                           .m = flipped ? hidden : row_width,
                           .n = flipped ? row_width : hidden,
                           .left = flipped ? by_token : by_row,
                           .right = flipped ? by_row : by_token,
                           .left_gathered = flipped,
                           .interleaved = interleaved,
                           .out = data,
                           .out_f32 = spec.dtype == DType::kF32,
                           .accumulate = spec.mode == GradMode::kAccumulate},
                          stream());
  }
  // dW1 = dh^T x and dW2 = dy^T (w a), or their transposes.
  void weights() const {
    weight_gradient(want().gate_up, args.gradients.gate_up, work().d_h, request().gate_up_width(),
                    layer.inputs.hidden, request().transposed, layer.mixed());
    const void* weighted_a = work().a;
    if (work().weighted_a != nullptr) {
      gpu::weigh_rows(work().rows, work().a, work().weighted_a, request().inter, false,
                      layer.stream);
      weighted_a = work().weighted_a;
    }
    weight_gradient(want().down, args.gradients.down, weighted_a, request().inter, dy,
                    !request().transposed, false);
  }

  void bias_gradient(const GradSpec& spec,
                     void* data,
                     const void* rows,
                     std::int64_t width,
                     bool of_output) const {
    if (!spec.wanted()) return;
    gpu::column_sums(work().rows, {rows, width, of_output, of_output, work().parts}, false,
                     layer.stream);
    gpu::sum_parts({work().parts, work().rows.tiles[gpu::kSumTiles], work().rows.num_experts, width,
                    1, 0, gpu::SumLayout::kDense, target_of(spec, data)},
                   layer.stream);
  }
  void biases() const {
    bias_gradient(want().gate_up_bias, args.gradients.gate_up_bias, work().d_h,
                  request().gate_up_width(), false);
    bias_gradient(want().down_bias, args.gradients.down_bias, dy, request().hidden, true);
  }
};

}  // namespace

void sonic_forward(const ExpertsRequest& request,
                   const ForwardArgs& args,
                   const CudaStream& stream) {
  const cuda::DeviceGuard guard(stream.device);
  const ExpertsInputs& inputs = args.inputs;
  Carver carver(args.scratch.data());
  const SonicWork work = SonicWork::forward(carver, request, inputs.num_tokens);
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, inputs.num_tokens));
  const SonicLayer layer{request, inputs, work, stream.stream};
  layer.check();
  check_aligned("output", args.output);
  check_aligned("saved", args.saved.data());
  check_aligned("scratch", args.scratch.data());
  layer.prepare(true);
  const Needs needs(request);
  void* u_1 = needs.save_u_1 ? saved.u_1 : work.u_1;
  void* u_2 = needs.save_u_2 ? saved.u_2 : work.u_2;
  const auto cuda_stream = static_cast<cudaStream_t>(stream.stream);
  layer.pre_activation(u_1, true, saved.h, work.a);
  sm90::DownArgs down;
  down.rows = layer.rows();
  down.hidden = request.hidden;
  down.inter = request.inter;
  down.a = work.a;
  down.weights = layer.down();
  down.transposed = request.transposed;
  if (request.down_bias) down.bias = inputs.weights.down_bias;
  if (work.lora_2.rank > 0) {
    sm90::skinny({.rows = layer.rows(),
                  .cols = request.inter,
                  .rank = work.lora_2.rank,
                  .p = work.a,
                  .q = work.lora_2.a,
                  .scale = request.down_lora.lora_scale,
                  .narrow = u_2},
                 cuda_stream);
    down.low_rank = {u_2, work.lora_2.with_weights(request.transposed), work.lora_2.rank};
  }
  down.y = work.per_row;
  sm90::down_projection(down, cuda_stream);
  sm90::combine({.rows = layer.rows(),
                 .hidden = request.hidden,
                 .weighted = true,
                 .in = work.per_row,
                 .out = args.output},
                cuda_stream);
}

void sonic_backward(const ExpertsRequest& request,
                    const BackwardArgs& args,
                    const CudaStream& stream) {
  const cuda::DeviceGuard guard(stream.device);
  const ExpertsInputs& inputs = args.inputs;
  Carver carver(args.scratch.data());
  const SonicWork work = SonicWork::backward(carver, request, inputs.num_tokens);
  const SavedState saved =
      SavedState::at(args.saved.data(), request, row_capacity(request, inputs.num_tokens));
  const SonicLayer layer{request, inputs, work, stream.stream};
  layer.check();
  check_aligned("d_output", args.d_output);
  check_aligned("saved", args.saved.data());
  check_aligned("scratch", args.scratch.data());
  if (request.wanted.hidden.wanted()) check_aligned("d_hidden", args.gradients.hidden);
  if (request.wanted.gate_up.wanted()) check_aligned("d_gate_up", args.gradients.gate_up);
  if (request.wanted.down.wanted()) check_aligned("d_down", args.gradients.down);
  layer.prepare(false);
  const void* h = saved.h;
  if (work.h != nullptr) {
    layer.pre_activation(saved.u_1, false, work.h, nullptr);
    h = work.h;
  }
  const void* dy = args.d_output;
  if (work.dy != nullptr) {
    gpu::round_to_bf16(args.d_output, work.dy, inputs.num_tokens * request.hidden, stream.stream);
    dy = work.dy;
  }
  SonicBackward{layer, args, Needs(request), dy, h, saved}.run();
}

}  // namespace moesmith::experts::on_cuda
